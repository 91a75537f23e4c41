"""Sharing the processor's cores with experiments, and processes of a training, that run at the same time."""

import os
import re
from pathlib import Path

from cvae.pipeline.repository import EXPERIMENTS, main_repository
from cvae.support.errors import UserError

SPINS = "10000"


def experiments_at_once() -> int:
    """How many experiments run in temporary copies now, if this is one of them; 1 in the repository itself."""
    repository = main_repository()
    copies = repository.joinpath(*EXPERIMENTS)
    return len([*copies.glob("tmp*"), *copies.glob("standalone/tmp*")]) if Path.cwd() != repository else 1


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


def share_cores(threads: int) -> None:
    """Have this process's `threads` wait for each other in a way that suits what else runs.

    OpenMP's threads spin while they wait, by default for so long that one whose core does other work holds up all:
    beside one busy process, an epoch on two cores took 9 to 15 s instead of 0.8. With `SPINS` turns and then sleep
    it takes 3 s, and alone no longer than before. If the threads of experiments, and of processes of one training,
    outnumber the cores, they sleep at once: two trainings then take 1.4 s an epoch, not 3. Results are the same to
    the bit. It must be called before torch, whose OpenMP reads these variables once, is imported; what a person
    has set is kept.

    Raises:
        UserError: LOCAL_WORLD_SIZE is no number.
    """
    at_once = experiments_at_once() * processes_of("LOCAL_WORLD_SIZE")
    if at_once > 1 and at_once * threads > cores():
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    elif "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
