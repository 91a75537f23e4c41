"""Sharing the processor's cores with experiments, and processes of a training, that run at the same time."""

import os
from pathlib import Path

from cvae.workspace import EXPERIMENTS, main_repository


def experiments_at_once() -> int:
    """How many experiments run in temporary copies now, if this is one of them; 1 in the repository itself."""
    repository = main_repository()
    copies = repository.joinpath(*EXPERIMENTS)
    return len([*copies.glob("tmp*"), *copies.glob("standalone/tmp*")]) if Path.cwd() != repository else 1


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores(threads: int) -> None:
    """Have this process's `threads` sleep between two pieces of work, if those of all at once outnumber the cores.

    OpenMP's threads spin while they wait, which is quickest where each has a core of its own, and where two
    share one keeps the other from its work: two trainings at once, of two threads each on two cores, took 5.7
    times as long as one alone, and 1.6 times as long with this. Results are the same to the bit. It must be
    called before torch, whose OpenMP reads the variable once, is imported.
    """
    at_once = experiments_at_once() * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if at_once > 1 and at_once * threads > cores():
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
