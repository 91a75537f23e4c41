"""Processes and servers that tests start and end."""

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


def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def is_served(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=1).status == 200
    except OSError:
        return False


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for what takes a few seconds, and many on a machine with other work."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def kill_group(process: subprocess.Popen) -> None:
    """Kill `process`, which leads a process group, and all of the group."""
    with suppress(ProcessLookupError):  # it has ended, and every child of it
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end(process: subprocess.Popen) -> None:
    """End a program of ours, which ends what it has started."""
    process.terminate()
    process.wait(60)


@contextmanager
def mlflow_server(folder: Path, port: int, *options: str) -> Iterator[subprocess.Popen]:
    """A real `mlflow server` on the database in `folder`, from when it answers: its process, which leads a group."""
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


FOREIGN = ("DVC_", "GIT_", "MLFLOW_", "MNIST_MIRROR", "PYTHONPATH")


def environment(**variables: str) -> dict[str, str]:
    """The caller's environment less what DVC, git and our stages read from it, with this Python's programs first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return kept | {"PATH": path, **variables}
