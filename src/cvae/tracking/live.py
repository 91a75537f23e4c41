"""Log to MLflow while training runs, without ever slowing or stopping it."""

import logging
import queue
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from types import TracebackType

from cvae.support.errors import shown
from cvae.tracking import run_keys
from cvae.tracking.location import locate
from cvae.tracking.quiet_mlflow import import_mlflow
from cvae.tracking.runs import (
    INPUTS,
    TRAINING_KEY,
    close_killed_runs,
    create_run,
    delete_superseded,
    reopen_run,
    writer,
)
from cvae.tracking.store import locked, open_store
from cvae.tracking.store_errors import explain
from cvae.tracking.tasks import split_of

PATIENCE = 60.0  # seconds to wait at the end for a local store, because other stages may have locked it
SERVER_PATIENCE = 5.0  # seconds to wait at the end for a server, because it may be down
BATCHING = 3.0  # seconds to collect the rows of several epochs, since each write takes some of the CPU's time
SAMPLING = 10.0  # seconds between two system metrics


class LiveRun:
    """An open MLflow run: `with LiveRun(params, tags) as live`, then `live.log(row)` after each epoch.

    A separate thread opens the store and writes to it, so training waits for neither. If the store cannot be used,
    one line says so and live logging stops; track logs everything later, from plots/training.csv. The run ends
    FINISHED, FAILED after an error, or KILLED after Ctrl-C.

    `tags` are set on the run. An interrupted run with the same `CHECKPOINT` tag is resumed, unless another process may
    still write to it. Epochs that it already has are not logged again.
    """

    def __init__(self, params: dict, tags: dict[str, str]):
        self._params = run_keys.recorded(params)
        self._tags = tags
        self._rows: queue.SimpleQueue[dict | None] = queue.SimpleQueue()
        self._status = "FINISHED"
        self._warned = False
        self._last_tags: dict[str, str] = {}
        self._started = int(time.time() * 1000)
        self._location = locate()  # now, because DVC may delete the folder of a killed experiment before the end
        self._thread = threading.Thread(target=self._write, name="mlflow", daemon=True)

    def __enter__(self) -> "LiveRun":
        import_mlflow()  # now, because an import in the thread would slow the first epochs
        self._thread.start()
        return self

    def log(self, row: dict[str, float]) -> None:
        """Log one epoch's figures. `row["epoch"]` is the step. Returns immediately."""
        self._rows.put(row | {"time": time.time()})

    def complete(self, tags: dict[str, str]) -> None:
        """Mark the training and its outputs as complete, so that track finds this run. Add `tags` to the run."""
        self._last_tags = {**tags, TRAINING_KEY: run_keys.training_key(self._params)}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is not None:
            self._status = "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
            self._last_tags = {"error": shown(str(error)).splitlines()[0][:500]} if str(error) else {}
        self._rows.put(None)
        patience = SERVER_PATIENCE if self._location.is_server else PATIENCE
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it if another process fails too
        self._thread.join(patience)
        signal.signal(signal.SIGTERM, before)
        if self._thread.is_alive():
            self._warn(explain(self._location, TimeoutError(f"not done within {patience:g} s")))

    def _write(self) -> None:
        location = self._location
        try:
            with writer() as own:
                with locked():
                    client, experiment = open_store(location, split_of(self._params))
                    close_killed_runs(client, experiment)
                    tags = self._tags | {"dvc.stage": "train", INPUTS: run_keys.inputs_key(self._params)}
                    described = (client, experiment, self._params, tags, own)
                    resumed = reopen_run(*described)
                    run_id = resumed or create_run(*described, self._started).info.run_id
                with _system_metrics(run_id, location.uri, resumed=bool(resumed)):
                    self._write_to(client, run_id, logged_epochs(client, run_id) if resumed else set())
                own.release(client, run_id)
            if self._status == "KILLED":
                with suppress(Exception):  # the next stage tries again
                    delete_superseded(client, experiment)
        except Exception as error:  # no error of the store may end a training
            self._warn(explain(location, error))

    def _write_to(self, client, run_id: str, logged: set[int]) -> None:
        from mlflow.entities import Param, RunTag

        own = ["dataset", *run_keys.training_parameters()]  # other parameters may change before track runs
        client.log_batch(run_id, params=[Param(name, str(self._params[name])) for name in own])
        ended = False
        while not ended:
            rows = self._next_rows()
            ended = rows[-1] is None
            log_rows(client, run_id, [row for row in rows if row is not None and row["epoch"] not in logged])
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in self._last_tags.items()])
        client.set_terminated(run_id, self._status)

    def _next_rows(self) -> list[dict | None]:
        """Wait for a row, and return it with those that follow soon. None marks the end."""
        rows, until = [self._rows.get()], time.monotonic() + BATCHING
        while rows[-1] is not None and len(rows) < 50:
            try:
                rows.append(self._rows.get(timeout=max(0, until - time.monotonic())))
            except queue.Empty:
                break
        return rows

    def _warn(self, problem: str) -> None:
        if not self._warned:  # the store may still fail after the wait for it has ended
            self._warned = True
            print(f"train: {problem}; training goes on, and track will log it", file=sys.stderr, flush=True)


@contextmanager
def _system_metrics(run_id: str, uri: str, resumed: bool):
    """Log MLflow's system metrics (processor, memory, disk, GPU) every ten seconds, if they can be measured."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)  # LiveRun reports a lost server, once
    monitor = None
    with suppress(Exception):
        monitor = SystemMetricsMonitor(run_id, sampling_interval=SAMPLING, resume_logging=resumed, tracking_uri=uri)
        monitor.start()
    try:
        yield
    finally:
        with suppress(Exception):
            if monitor:
                monitor.finish()


def log_rows(client, run_id: str, rows: list[dict[str, float]]) -> None:
    """Log rows of plots/training.csv as metrics. Their `epoch` is the step, and `time` (optional) is in seconds."""
    from mlflow.entities import Metric

    metrics = []
    for row in rows:
        values = dict(row)
        step, milliseconds = int(values.pop("epoch")), int(values.pop("time", time.time()) * 1000)
        metrics += [Metric(metric_name(column), value, milliseconds, step) for column, value in values.items()]
    for start in range(0, len(metrics), 1000):  # MLflow's limit for one call
        client.log_batch(run_id, metrics=metrics[start : start + 1000])


def logged_epochs(client, run_id: str) -> set[int]:
    """Return the epochs whose figures the run has. The article's loss is the last one of an epoch to be logged."""
    return {metric.step for metric in client.get_metric_history(run_id, "train/article_loss")}


def metric_name(column: str) -> str:
    """Return MLflow's name for a column of plots/training.csv: `train_loss` becomes `train/loss`.

    MLflow's pages group metrics by the part before the slash.
    """
    split, _, part = column.partition("_")
    return f"{split}/{part}" if split in ("train", "validation", "test") else f"train/{column}"
