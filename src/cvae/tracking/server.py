"""MLflow's own servers in the place of this process, for this machine only."""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from cvae.errors import UserError

HOST = "127.0.0.1"


def address(port: int) -> str:
    """Where a server on `port` is found; raises `UserError` if another program has the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else the last server's connections count
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(f"port {port} of {HOST}: {error.strerror}; --port (make: PORT=) takes another") from None
    return f"http://{HOST}:{port}"


def become(*arguments: str, port: int) -> NoReturn:
    """Go on as `mlflow` with `arguments`, listening on `port` of this machine's own address."""
    programs = str(Path(sys.executable).parent)  # where mlflow looks for uvicorn
    os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    print("Ctrl-C ends the server.", flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments, "--host", HOST, "--port", str(port)])
