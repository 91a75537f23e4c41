"""Run a command or a stage. Ctrl-C ends it quietly, and an error that the user can fix is one line."""

import gc
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType

from cvae.support.errors import one_line
from cvae.support.faults import explained, memory_shortage
from cvae.support.streams import open_streams

MEMORY = {  # the parameters that decide how much memory a stage needs, the most important first
    "train": ("hidden_dims", "batch_size", "latent_dims"),
    "evaluate": ("hidden_dims",),
    "embed": ("hidden_dims", "latent_dims"),
    "render": ("hidden_dims", "latent_dims", "grid_size"),
}


def run(name: str, main: Callable[[], None], is_stage: bool = False) -> None:
    """Run `main`. An error that the user can fix ends it with `name: message` on stderr and exit status 1.

    A stage's message may have several lines. If memory is too small, it names the parameters to lower.
    """
    end_quietly_when_interrupted()
    open_streams()
    try:
        main()
        print(end="", flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if (fault := explained(error)) is None:
            raise
        if not is_stage:
            fault = one_line(fault)
        elif memory_shortage(error):
            fault += _smaller(name)
        sys.exit(f"{name}: {fault}")
    finally:
        gc.freeze()  # saves 0.4 to 1 second: at exit, Python would search all of torch and MLflow for garbage


def run_stage(main: Callable[[], None], *options: str) -> None:
    """Run the `main` of a stage's module. Any argument that is not among `options` is refused.

    SIGTERM interrupts the stage as Ctrl-C does; torchrun sends it to the other processes when one has failed.
    """
    name = Path(sys.argv[0]).stem
    signal.signal(signal.SIGTERM, _terminate)

    def checked() -> None:
        _check_arguments(name, options)
        try:
            main()
        except BaseException:
            # DVC leaves a failed experiment's settings in params.yaml. If it has written them in the second in which
            # git last looked at the file, git takes it for unchanged, and `git checkout` does not restore it.
            with suppress(OSError):
                os.utime("params.yaml")
            raise

    run(name, checked, is_stage=True)


def end_quietly_when_interrupted() -> None:
    """Let Ctrl-C end this program without a traceback, with exit status 130, unless it is ignored, as under nohup."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
        sys.excepthook = _report


def _interrupt(_: int, frame: FrameType | None, message: str = "") -> None:
    """Raise `KeyboardInterrupt`, or exit at once during an import: some turn it into other errors, and torch aborts."""
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt(message)


def _terminate(number: int, frame: FrameType | None) -> None:
    _interrupt(number, frame, "ended by SIGTERM")


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.stdout.flush()
        os._exit(130)
    sys.__excepthook__(kind, error, trace)


def _check_arguments(stage: str, options: tuple[str, ...]) -> None:
    usage = " ".join([f"usage: python -m stages.{stage}", *(f"[{option}]" for option in options)])
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"{usage}\n\n{sys.modules['__main__'].__doc__}\nIts parameters are in params.yaml.", flush=True)
        sys.exit(0)
    if unknown := [argument for argument in sys.argv[1:] if argument not in options]:
        shown = ascii(unknown[0])[1:-1]
        print(f"{stage}: unknown argument {shown}; parameters are set in params.yaml ({usage})", file=sys.stderr)
        sys.exit(2)


def _smaller(stage: str) -> str:
    """Name the parameters to lower if memory is too small for `stage`."""
    from cvae.pipeline.parameters import read_parameters

    params = read_parameters()
    present = [f"{key} (now {getattr(params, key)})" for key in MEMORY.get(stage, ())]
    return f"; in params.yaml, lower {' or '.join(present)}" if present else ""
