"""MLflow's own servers, for this machine only."""

import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import psutil

import cvae
from cvae.errors import UserError

HOST = "127.0.0.1"
PATIENCE = 5  # seconds for a server to end its connections


def address(port: int) -> str:
    """Where a server on `port` is found; raises `UserError` if another program has the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else the last server's connections count
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(f"port {port} of {HOST}: {error.strerror}; --port (make: PORT=) takes another") from None
    return f"http://{HOST}:{port}"


def serve(*arguments: str, port: int) -> NoReturn:
    """Run `mlflow` with `arguments`, listening on `port` of this machine's own address, and end when it ends.

    Ctrl-C and SIGTERM end it quietly at any moment: MLflow's processes do not get Ctrl-C before they are servers that
    answer it, and until then they are ended from here.
    """
    programs = str(Path(sys.executable).parent)  # where mlflow looks for uvicorn
    os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    print("Ctrl-C ends the server.", flush=True)
    command = [sys.executable, "-m", "mlflow", *arguments, "--host", HOST, "--port", str(port)]
    signal.signal(signal.SIGTERM, cvae.interrupt)
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the processes of `command` inherit
    process = psutil.Popen(command)
    try:
        signal.signal(signal.SIGINT, interrupt)
        sys.exit(process.wait())
    except KeyboardInterrupt:
        with suppress(psutil.NoSuchProcess):
            _end(process)
        sys.exit(130)


def _end(process: psutil.Process) -> None:
    """End `process` and all below it, by force if they take long."""
    family = [process, *process.children(recursive=True)]
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for each in family:
            with suppress(psutil.NoSuchProcess):
                ask(each)
        _, family = psutil.wait_procs(family, timeout=PATIENCE)
