"""The stages of dvc.yaml, a module each: `python -m stages.train`, from the root of the repository.

Importing this package puts the src/ beside it first on sys.path. A DVC experiment may run in a temporary
copy of the repository, and must import the code of that copy, whatever is installed.
"""

import gc
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

WORKSPACE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(WORKSPACE / "src"))
import cvae  # noqa: E402  from here on, Ctrl-C ends a stage quietly

MEMORY = {  # the parameters that a stage's need of memory grows with, what weighs most first
    "train": ("hidden_dims", "batch_size", "latent_dims"),
    "evaluate": ("hidden_dims",),
    "embed": ("hidden_dims", "latent_dims"),
    "render": ("hidden_dims", "latent_dims", "grid_size"),
}


def run(stage: Callable[[], None], *options: str) -> None:
    """Run `stage`; an error that a person can put right ends it with one line and exit status 1.

    An argument other than one of `options` starts nothing: it gets one line and exit status 2; --help, what it does.

    SIGTERM, by which torchrun ends the processes of one that failed, interrupts it as Ctrl-C does.

    Python's garbage collector rests: its passes over all that torch, matplotlib and MLflow import, and the last one
    at exit, take up to two seconds a stage. It is not off, because a long training would grow without it.
    """
    gc.set_threshold(100_000)  # objects made since the last pass; Python's own is 700
    from cvae.support.faults import explained, memory_shortage
    from cvae.support.streams import open_streams

    name = Path(sys.argv[0]).stem
    signal.signal(signal.SIGTERM, _interrupt)
    open_streams()
    try:
        _check_arguments(name, options)
        stage()
        print(end="", flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if (told := explained(error)) is None:
            raise
        sys.exit(f"{name}: {told}{_smaller(name) if memory_shortage(error) else ''}")
    finally:
        gc.freeze()  # the last pass, at exit, skips what is frozen


def _check_arguments(name: str, options: Sequence[str]) -> None:
    usage = " ".join([f"usage: python -m stages.{name}", *(f"[{option}]" for option in options)])
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"{usage}\n\n{sys.modules['__main__'].__doc__}\nIts parameters are in params.yaml.", flush=True)
        sys.exit(0)
    if unknown := [argument for argument in sys.argv[1:] if argument not in options]:
        told = ascii(unknown[0])[1:-1]
        print(f"{name}: unknown argument {told}; parameters are set in params.yaml ({usage})", file=sys.stderr)
        sys.exit(2)


def _smaller(stage: str) -> str:
    """Which lines of params.yaml to lower where memory is too small for `stage`."""
    from cvae.pipeline.parameters import read_parameters

    params = read_parameters()
    present = [f"{key} (now {getattr(params, key)})" for key in MEMORY.get(stage, ())]
    return f"; in params.yaml, lower {' or '.join(present)}" if present else ""


def _interrupt(number: int, frame: FrameType | None) -> None:
    cvae.interrupt(number, frame, "ended by SIGTERM")
