"""Runs as train and track make them, in this process or in another."""

import http.server
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import psutil

from cvae.pipeline.parameters import read_parameters
from cvae.tracking import run_keys, runs
from cvae.tracking.live import LiveRun
from helpers.processes import environment
from helpers.repository import Repository

MEASURED = {"device": "an abacus", "torch.version": "0.0"}

# A training in another process. Its argument is JSON: parameters, tags, rows to log, and how long it lasts in seconds.
LIVE = """
import json, sys, time
from cvae.tracking.live import LiveRun
params, tags, rows, seconds = json.loads(sys.argv[1])
with LiveRun(params, tags) as live:
    for row in rows:
        live.log(row)
    time.sleep(seconds)
"""


def rows() -> list[dict]:
    return pd.read_csv("plots/training.csv").astype({"epoch": int}).to_dict("records")


def train(params: dict, seconds: str = "1.0") -> None:
    """Log the history in the workspace as stages/train.py logs its epochs."""
    with LiveRun(params, MEASURED) as run:
        for row in rows():
            run.log(row)
        run.complete({"train.seconds": seconds})


def interrupt_training(params: dict) -> None:
    """Start a training that Ctrl-C ends after one epoch."""
    with suppress(KeyboardInterrupt), LiveRun(params, MEASURED | {runs.CHECKPOINT: json.dumps(params)}) as run:
        run.log(rows()[0])
        raise KeyboardInterrupt


@contextmanager
def live_training(params: dict, count: int = 1, launcher: tuple = (), folder: Path | None = None, **variables: str):
    """Run a process that logs `count` epochs and then trains without end; kill it on leaving."""
    work = json.dumps([params, {**MEASURED, runs.CHECKPOINT: "of this training"}, rows()[:count], 600])
    command = [*launcher, sys.executable, "-c", LIVE, work]
    process = subprocess.Popen(command, cwd=folder, env=environment(PYTHONPATH="src", **variables))
    try:
        yield process
    finally:
        if process.poll() is None:
            for each in [*psutil.Process(process.pid).children(recursive=True), process]:
                each.kill()
            process.wait()


def history(client, run, name: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name))


def steps_of_all(workspace: Repository) -> int:
    """Return how many epochs all runs in the store have together."""
    return sum(len(history(workspace.client, run, "train/loss")) for run in workspace.runs())


def status_of(workspace, name: str) -> str:
    (run,) = [run for run in workspace.runs() if run.info.run_name == name]
    return run.info.status


def registered(workspace: Repository) -> list:
    """Return every version in the workspace's registry, oldest first."""
    return sorted(workspace.client.search_model_versions(), key=lambda version: int(version.version))


def best(workspace: Repository) -> str | None:
    """Return the version that has the alias."""
    found = workspace.client.get_registered_model("cvae").aliases.get("best")
    return None if found is None else str(found)


def assert_complete(client, run) -> None:
    """Check that `run` has all that track logs: the parameters, every epoch once, the files and the model."""
    assert run.info.status == "FINISHED"
    assert "pipeline.key" in run.data.tags
    params = run_keys.recorded(read_parameters().model_dump())
    assert run.data.params == {name: str(value) for name, value in params.items()}
    for column in rows()[0].keys() - {"epoch"}:
        name = "train/article_loss" if column == "article_loss" else column.replace("_", "/", 1)
        assert history(client, run, name) == [(row["epoch"], row[column]) for row in rows()]
    files = {Path(file).name for file in os.listdir(run.info.artifact_uri)}
    results = {Path(place).name for place in run_keys.results()} - {"model", "thumbnails"}  # MLflow has its own places
    assert files >= results | {"images", "params.yaml"}
    assert len(run.outputs.model_outputs) == 1


def raising(error: BaseException):
    """Return a function that raises `error`, whatever its arguments."""

    def fail(*_, **__):
        raise error

    return fail


class FaultyServer(http.server.ThreadingHTTPServer):
    """A server that answers every request with `status` and `body`, or not at all if `status` is None."""

    daemon_threads = True

    def __init__(self, status: int | None, body: str = ""):
        super().__init__(("127.0.0.1", 0), FaultyHandler)
        self.status, self.body = status, body.encode()
        self.asked, self.stopped = threading.Event(), threading.Event()
        self.uri = f"http://someone:pa%24s@127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


class FaultyHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.set()
        if self.server.status is None:
            self.server.stopped.wait(60)
            return
        self.send_response(self.server.status)
        self.send_header("Retry-After", "15")
        self.end_headers()
        self.wfile.write(self.server.body.replace(b"REQUEST", str(self.headers).encode()))

    do_POST = do_GET

    def log_message(self, *_):
        pass
