"""MLflow's own servers, for this machine only."""

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
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, `kill`, the end of the terminal
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
    """Run a server of MLflow's, Python with `arguments`, on `port` of this machine's own address; end when it ends.

    Ctrl-C, SIGTERM and the end of the terminal end it quietly at any moment. They do not reach MLflow's processes,
    which answer with tracebacks while they start, but end them from here.
    """
    programs = str(Path(sys.executable).parent)  # where mlflow looks for uvicorn
    os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    print("Ctrl-C ends the server.", flush=True)
    command = [sys.executable, *arguments, "--host", HOST, "--port", str(port)]
    process, asked = None, []

    def interrupt(number: int, _: FrameType | None) -> None:
        asked.append(number)
        if process is not None:  # else it may be about to be one, and would be left alone
            raise KeyboardInterrupt

    for each in ENDINGS:
        if signal.getsignal(each) is not signal.SIG_IGN:  # as behind nohup
            signal.signal(each, interrupt)
    try:
        process = psutil.Popen(command, start_new_session=True)
        if asked:
            raise KeyboardInterrupt
        sys.exit(process.wait())
    except KeyboardInterrupt:
        for each in ENDINGS:
            signal.signal(each, signal.SIG_IGN)  # it is being done
        _end(process)
        sys.exit(130)


def _end(leader: psutil.Popen) -> None:
    """End `leader` and the rest of its process group, by force if they take long."""
    with suppress(psutil.NoSuchProcess):
        family = [leader, *leader.children(recursive=True)]
        for how in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(leader.pid, how)
            if not psutil.wait_procs(family, timeout=PATIENCE)[1]:
                return
