"""Start and end processes and servers."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


def closed_port() -> int:
    """Return a port of this machine on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def is_served(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=1).status == 200
    except OSError:
        return False


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait until `condition` is true; fail after `seconds`, which allow for a busy machine."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


def stage_process(dvc: subprocess.Popen, stage: str) -> psutil.Process:
    """Return the process of `stage` below `dvc`, once it has started."""

    def found() -> list[psutil.Process]:
        below = psutil.Process(dvc.pid).children(recursive=True)
        return [process for process in below if process.cmdline()[1:] == ["-m", f"stages.{stage}"]]

    wait_for(lambda: dvc.poll() is not None or found())
    return found()[0]


def kill_group(process: subprocess.Popen) -> None:
    """Kill the process group that `process` leads."""
    with suppress(ProcessLookupError):  # all of the group has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end(process: subprocess.Popen) -> None:
    """Terminate one of our programs, which then ends its children."""
    process.terminate()
    process.wait(60)


@contextmanager
def mlflow_server(folder: Path, port: int, *options: str) -> Iterator[subprocess.Popen]:
    """Run a real `mlflow server` on the database in `folder`; yield its process, a group leader, once it answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", *options]
    variables = environment(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    with open(folder / "server.log", "a") as log:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(lambda: process.poll() is not None or is_served(f"http://127.0.0.1:{port}/health"))
            assert process.poll() is None, (folder / "server.log").read_text()
            yield process
        finally:
            kill_group(process)


FOREIGN = ("AWS_", "CHECKPOINT_SECONDS", "DVC_", "GIT_", "MLFLOW_", "MNIST_MIRROR", "PG", "PYTHONPATH")


def environment(**variables: str) -> dict[str, str]:
    """Return the environment without what DVC, git and our stages read, with this Python's programs first on PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return kept | {"PATH": path, **variables}
