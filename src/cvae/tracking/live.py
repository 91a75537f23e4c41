"""Train's MLflow run, written as training goes and never in its way."""

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
from cvae.tracking.store import (
    INPUTS,
    TRAINING_KEY,
    close_killed_runs,
    create_run,
    delete_superseded,
    import_mlflow,
    locate,
    locked,
    open_store,
    reopen_run,
    writer,
)

PATIENCE = 60.0  # seconds to wait at the end for a local store, which other stages may hold
SAMPLING = 10.0  # seconds between two system metrics
SERVER_PATIENCE = 5.0  # seconds to wait at the end for a server, which may be down


class LiveRun:
    """An open MLflow run: `with LiveRun(params, tags) as live`, then `live.log(row)` after each epoch.

    A thread of its own opens the store and writes, so that training waits for neither. When the store
    cannot be used, one line says so and the rest is dropped: track logs it all from plots/training.csv.
    The run ends FINISHED, FAILED on an error, KILLED on Ctrl-C.

    `tags`: of the run. An interrupted run with the same `CHECKPOINT` tag is resumed, unless another process may still
    write to it; epochs that it has are not logged again.
    """

    def __init__(self, params: dict, tags: dict[str, str]):
        self._params = run_keys.recorded(params)
        self._tags = tags
        self._rows: queue.SimpleQueue[dict | None] = queue.SimpleQueue()
        self._status = "FINISHED"
        self._warned = False
        self._last_tags: dict[str, str] = {}
        self._started = int(time.time() * 1000)
        self._location = locate()  # here: at the end, the folder of an experiment that was killed is gone
        self._thread = threading.Thread(target=self._write, name="mlflow", daemon=True)

    def __enter__(self) -> "LiveRun":
        import_mlflow()  # here: imported by the thread, it would hold up the first epochs
        self._thread.start()
        return self

    def log(self, row: dict[str, float]) -> None:
        """Log one epoch's figures; `row["epoch"]` is the step. Returns at once."""
        self._rows.put(row | {"time": time.time()})

    def complete(self, tags: dict[str, str]) -> None:
        """Say that what training made is written, so that track can find this run; `tags` are added to it."""
        self._last_tags = {**tags, TRAINING_KEY: run_keys.training_key(self._params)}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is not None:
            self._status = "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
            self._last_tags = {"error": shown(str(error)).splitlines()[0][:500]} if str(error) else {}
        self._rows.put(None)
        patience = SERVER_PATIENCE if self._location.is_server else PATIENCE
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it when another process fails too
        self._thread.join(patience)
        signal.signal(signal.SIGTERM, before)
        if self._thread.is_alive():
            self._warn(self._location.complaint(TimeoutError(f"not done within {patience:g} s")))

    def _write(self) -> None:
        location = self._location
        try:
            with writer() as own:
                with locked():
                    client, experiment = open_store(location)
                    close_killed_runs(client, experiment)
                    tags = self._tags | {"dvc.stage": "train", INPUTS: run_keys.inputs_key(self._params)}
                    former = reopen_run(client, experiment, self._params, tags, own)
                    run_id = former
                    if former is None:
                        run = create_run(client, experiment, self._params, tags, self._started, own)
                        run_id = run.info.run_id
                with _system_metrics(run_id, location.uri, goes_on=bool(former)):
                    self._write_to(client, run_id, logged_epochs(client, run_id) if former else set())
                own.leave(client, run_id)
            if self._status == "KILLED":
                with suppress(Exception):  # else the next stage does it
                    delete_superseded(client, experiment)
        except Exception as error:  # whatever ails a store must not end a training
            self._warn(location.complaint(error))

    def _write_to(self, client, run_id: str, logged: set[int]) -> None:
        from mlflow.entities import Param, RunTag

        own = ["dataset", *run_keys.training_parameters()]  # others may still change before these results are tracked
        client.log_batch(run_id, params=[Param(name, str(self._params[name])) for name in own])
        rows: list[dict] = []
        while True:
            rows.append(self._rows.get())
            while not self._rows.empty() and len(rows) < 50:  # whatever has come while the last batch was written
                rows.append(self._rows.get())
            ended = rows[-1] is None
            log_rows(client, run_id, [row for row in rows if row is not None and row["epoch"] not in logged])
            rows.clear()
            if ended:
                break
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in self._last_tags.items()])
        client.set_terminated(run_id, self._status)

    def _warn(self, complaint: str) -> None:
        if not self._warned:  # once: the store may fail just when the wait for it has ended
            self._warned = True
            print(f"train: {complaint}; training goes on, and track will log it", file=sys.stderr, flush=True)


@contextmanager
def _system_metrics(run_id: str, uri: str, goes_on: bool):
    """MLflow's own measure of processor, memory, disk and GPU, every ten seconds of a training that takes as long.

    Whatever ails it, the losses are logged.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)  # a server that is gone is told of once
    monitor = None
    with suppress(Exception):
        monitor = SystemMetricsMonitor(run_id, sampling_interval=SAMPLING, resume_logging=goes_on, tracking_uri=uri)
        monitor.start()
    try:
        yield
    finally:
        with suppress(Exception):
            if monitor:
                monitor.finish()


def log_rows(client, run_id: str, rows: list[dict[str, float]]) -> None:
    """Log rows of plots/training.csv, all their columns but `epoch`, which is the step; `time` is in seconds.

    MLflow's pages group metrics by what stands before a slash: `train_loss` becomes `train/loss`.
    """
    from mlflow.entities import Metric

    metrics = []
    for row in rows:
        values = dict(row)
        step, milliseconds = int(values.pop("epoch")), int(values.pop("time", time.time()) * 1000)
        metrics += [Metric(metric_name(column), value, milliseconds, step) for column, value in values.items()]
    for start in range(0, len(metrics), 1000):  # MLflow's limit of one call
        client.log_batch(run_id, metrics=metrics[start : start + 1000])


def logged_epochs(client, run_id: str) -> set[int]:
    """The epochs whose figures the run has."""
    return {metric.step for metric in client.get_metric_history(run_id, "test/loss")}


def metric_name(column: str) -> str:
    """MLflow's name of a column of plots/training.csv: its split, a slash, and what was measured."""
    split, _, part = column.partition("_")
    return f"{split}/{part}" if split in ("train", "test") else f"train/{column}"
