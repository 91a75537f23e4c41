"""Share the CPU cores with other experiments, other programs, and other processes of the same training."""

import copy
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from cvae.support.errors import UserError

if TYPE_CHECKING:
    import torch

Item, Result, Model = TypeVar("Item"), TypeVar("Result"), TypeVar("Model", bound="torch.nn.Module")

SPINS = "10000"  # how often a waiting thread checks again before it sleeps
MOMENT = 0.1  # seconds for which other programs are watched


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy_cores() -> int:
    """Return how many of this process's cores are busy now, while it waits a moment itself; 0 if it may not look."""
    import psutil

    try:
        shares = psutil.cpu_percent(MOMENT, percpu=True)
    except (psutil.Error, OSError):
        return 0
    if hasattr(os, "sched_getaffinity"):
        own = os.sched_getaffinity(0)
        shares = [share for core, share in enumerate(shares) if core in own]
    return round(sum(shares) / 100)


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

    Threads wait for each other some thirty times in a training step. OpenMP lets them spin, that is, check again and
    again, which is fast on an idle machine: an epoch on two cores takes 0.7 s. But when another program takes the core
    of one thread, a spinning thread keeps that thread from moving to its own core. Beside one busy program, the epoch
    then takes 2.6 s. If threads sleep at once instead, it takes 1.2 s, with the other program and without.

    So they sleep at once if this training, other experiments, and programs that are busy now need more cores than
    there are. Otherwise they spin `SPINS` times and then sleep, in case a program starts later: by default they would
    spin on, and the epoch would take 9 to 15 s. Results are the same to the bit.

    Call this before importing torch, since OpenMP reads these variables once. Variables that are already set are kept.

    Raises:
        UserError: LOCAL_WORLD_SIZE is not a number.
    """
    own = threads * processes_of("LOCAL_WORLD_SIZE")
    if "OMP_WAIT_POLICY" in os.environ:
        return
    if own * experiments > cores() or (threads > 1 and own + busy_cores() > cores()):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    else:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def in_parallel(model: Model, work: Callable[[Model, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield `work(model, item)` for each item, in their order, without gradients.

    On a CPU, as many threads as torch uses share out the items, and each computes its own alone. Each has a copy of the
    model, with the same weights, since a model may keep state. If all threads shared every operation instead, they
    would wait for each other after each one: beside a busy program, that takes two to three times as long.
    """
    import torch

    threads = torch.get_num_threads()
    if threads == 1 or next(model.parameters()).device.type != "cpu":
        yield from map(torch.no_grad()(partial(work, model)), items)
        return
    weights = {id(weight): weight for weight in model.parameters()}
    own = threading.local()

    def start() -> None:
        torch.set_num_threads(1)
        own.model = copy.deepcopy(model, weights.copy())

    @torch.no_grad()
    def computed(item: Item) -> Result:
        return work(own.model, item)

    pool = ThreadPoolExecutor(threads, initializer=start)
    try:
        yield from pool.map(computed, items)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # torch gives threads that start later the number that was set last
