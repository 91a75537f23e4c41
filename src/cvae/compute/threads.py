"""Share the CPU cores with other experiments, and with other processes of the same training."""

import os
import re

from cvae.support.errors import UserError

SPINS = "10000"  # how often a waiting thread checks again before it sleeps


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_of(variable: str) -> int:
    """Return how many processes train together according to torchrun's `variable`.

    WORLD_SIZE counts all of them, LOCAL_WORLD_SIZE those on this machine.

    Raises:
        UserError: the variable is not a number.
    """
    text = os.environ.get(variable, "1")
    if not re.fullmatch("[1-9][0-9]{0,5}", text):
        raise UserError(f"{variable}: {text!r:.40} is not a number of processes; torchrun sets it, otherwise unset it")
    return int(text)


def share_cores(threads: int, experiments: int = 1) -> None:
    """Choose how this process's `threads` wait for each other when `experiments` run at the same time.

    OpenMP threads spin while they wait. By default they spin so long that one thread on a busy core holds up all the
    others: beside one busy process, an epoch on two cores took 9 to 15 s instead of 0.8 s. If they spin `SPINS` times
    and then sleep, it takes 3 s, and still 0.8 s on an idle machine. If all experiments and all processes of this
    training together have more threads than there are cores, threads sleep at once: two trainings then take 1.4 s an
    epoch, not 3 s. Results are the same to the bit.

    Call this before importing torch, since OpenMP reads these variables once. Variables that are already set are kept.

    Raises:
        UserError: LOCAL_WORLD_SIZE is not a number.
    """
    at_once = experiments * processes_of("LOCAL_WORLD_SIZE")
    if at_once > 1 and at_once * threads > cores():
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    elif "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
