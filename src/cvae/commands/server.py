"""Run one of MLflow's servers, reachable from this machine only."""

import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil

from cvae.support.errors import UserError

HOST = "127.0.0.1"
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, `kill`, a closed terminal
PATIENCE = 5  # seconds for a server to close its connections


def address(port: int) -> str:
    """Return the address of a server on `port`; raise a `UserError` if another program uses the port."""
    with socket.socket() as probe:
        # Otherwise, old connections of the last server block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(f"port {port} of {HOST}: {error.strerror}; use --port (make: PORT=)") from None
    return f"http://{HOST}:{port}"


def serve(*arguments: str, port: int) -> NoReturn:
    """Run Python with `arguments`, which start one of MLflow's servers, on `port`. Exit when it ends.

    Ctrl-C, SIGTERM and closing the terminal end it quietly at any moment. The signals do not reach MLflow's
    processes, which would print tracebacks while they start; this process ends them instead.
    """
    programs = str(Path(sys.executable).parent)  # mlflow looks for uvicorn there
    os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    print("Ctrl-C ends the server.", flush=True)
    command = [sys.executable, *arguments, "--host", HOST, "--port", str(port)]
    process, asked = None, []

    def interrupt(number: int, _: FrameType | None) -> None:
        asked.append(number)
        if process is not None:  # otherwise, it may be starting, and would be left running
            raise KeyboardInterrupt

    for each in ENDINGS:
        if signal.getsignal(each) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(each, interrupt)
    try:
        process = psutil.Popen(command, start_new_session=True)
        if asked:
            raise KeyboardInterrupt
        sys.exit(process.wait())
    except KeyboardInterrupt:
        for each in ENDINGS:
            signal.signal(each, signal.SIG_IGN)  # already ending
        _end(process)
        sys.exit(130)


def _end(leader: psutil.Popen) -> None:
    """End `leader` and its process group, by force after `PATIENCE`."""
    with suppress(psutil.NoSuchProcess):
        family = [leader, *leader.children(recursive=True)]
        for how in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(leader.pid, how)
            if not psutil.wait_procs(family, timeout=PATIENCE)[1]:
                return
