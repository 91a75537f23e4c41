"""Sharing the processor's cores with experiments, and processes of a training, that run at the same time."""

import os
import re

from cvae.support.errors import UserError

SPINS = "10000"


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_of(variable: str) -> int:
    """How many processes train together, by one of torchrun's variables: WORLD_SIZE in all, LOCAL_WORLD_SIZE here.

    Raises:
        UserError: it is no number.
    """
    text = os.environ.get(variable, "1")
    if not re.fullmatch("[1-9][0-9]{0,5}", text):
        raise UserError(f"{variable}: {text!r:.40} is no number of processes; torchrun sets it, else `unset` it")
    return int(text)


def share_cores(threads: int, experiments: int = 1) -> None:
    """Choose how this process's `threads` wait for each other, by what else runs: `experiments` at the same time.

    OpenMP's threads spin while they wait. By default they spin for so long that one thread whose core does other work
    holds up all: beside one busy process, an epoch on two cores took 9 to 15 s instead of 0.8. With `SPINS` turns
    before they sleep it takes 3 s, and alone no longer than before. Where there are more threads than cores, counting
    those of all experiments and of all processes of this training, they sleep at once: two trainings then take 1.4 s
    an epoch, not 3. Results are the same to the bit.

    Call it before torch is imported, since OpenMP reads these variables once. Variables that are set already are kept.

    Raises:
        UserError: LOCAL_WORLD_SIZE is not a number.
    """
    at_once = experiments * processes_of("LOCAL_WORLD_SIZE")
    if at_once > 1 and at_once * threads > cores():
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    elif "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
