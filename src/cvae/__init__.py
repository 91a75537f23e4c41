"""A conditional variational autoencoder on MNIST-like images: what the pipeline's stages do."""

import os
import signal
import sys
from types import FrameType, TracebackType


def interrupt(_: int, frame: FrameType | None, message: str = "") -> None:
    """Raise what Ctrl-C raises, but not into an import: some make another error of it, torch's an abort of Python."""
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt(message)


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.stdout.flush()
        os._exit(130)
    sys.__excepthook__(kind, error, trace)


# Ctrl-C ends `python -m cvae.…` and `python -m stages.…` without a traceback, with exit status 130, from their first
# moment on. While Python imports their package, argv[0] is "-m". In other programs Ctrl-C is not ours to answer.
if (
    sys.argv[0] == "-m"
    and any(argument.startswith(("cvae.", "stages.")) for argument in sys.orig_argv)
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is ignored, as behind nohup
):
    signal.signal(signal.SIGINT, interrupt)
    sys.excepthook = _tell
