"""Where the arithmetic runs, and that it repeats to the bit there."""

import os
import re

import torch
from torch import Tensor

from cvae.datasets import Split
from cvae.errors import UserError


def open_device(name: str, threads: int) -> torch.device:
    """Choose the device called `name` (`auto`: CUDA, then MPS, then CPU) and make its results repeatable.

    Sets, for this process: the number of CPU `threads`; deterministic algorithms; denormal numbers to zero,
    because Adam's moments of rarely lit pixels decay into them and CPUs are slow at those.

    Raises:
        UserError: this machine, or this build of torch, has no such device.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.set_flush_denormal(True)  # before the first parallel work: pool threads inherit it
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid, at the price of a fill
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = re.split(r"\.\s|\n", str(error).strip(), maxsplit=1)[0]
        raise UserError(f"params.yaml: device is {name!r}, which torch cannot use here ({reason}); try auto") from None
    return device


def describe(device: torch.device) -> str:
    """The device as a person knows it: `NVIDIA H200`, or `CPU, 2 threads`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else "Apple GPU (MPS)"


def to_device(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """`split` as images (n, 784) float32 in [0, 1] and labels (n,) int64 on `device`."""
    images = torch.tensor(split.images, device=device).to(torch.float32).div_(255)
    return images, torch.tensor(split.labels, device=device).to(torch.int64)
