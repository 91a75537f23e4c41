"""Choose the device, and make its results repeatable to the bit."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cvae.support.errors import UserError


def open_device(name: str, threads: int, precision: str = "float32") -> torch.device:
    """Return the device called `name` (`auto`: CUDA, then MPS, then CPU) and make its results repeatable.

    Under torchrun, each process on a machine gets its own GPU.

    For this process, sets the number of CPU `threads`, turns on deterministic algorithms, and flushes denormal numbers
    to zero: Adam's moments for pixels that are rarely ink decay into denormals, which CPUs handle slowly.

    Raises:
        UserError: the device is missing here or in this build of torch, or cannot multiply in `precision`.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.set_flush_denormal(True)  # before any parallel work, so that pool threads inherit it
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms, without its import of torch._inductor
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that costs time
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    own = f":{os.environ.get('LOCAL_RANK', '0')}" if name == "cuda" else ""
    try:
        device = torch.device(name + own)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = re.split(r"\.\s|\n", str(error).strip(), maxsplit=1)[0]
        raise UserError(f"params.yaml: device is {name!r}, which torch cannot use here ({reason}); try auto") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)  # streams, graphs and pinned memory use the current device
        torch.backends.cuda.matmul.fp32_precision = "ieee"  # overrides environment variables
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # torch's default is tf32
    if precision not in precisions(device):
        able = " and ".join(precisions(device))
        raise UserError(f"params.yaml: precision is {precision!r}, but {describe(device)} supports only {able}")
    return device


def precisions(device: torch.device) -> list[str]:
    """Return the precisions that `products_in` supports on `device`."""
    reduced = []
    if device.type == "cuda":
        reduced += ["tf32"] if torch.cuda.get_device_capability(device) >= (8, 0) else []
        reduced += ["bfloat16"] if torch.cuda.is_bf16_supported(including_emulation=False) else []
    elif device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        reduced += ["bfloat16"]
    return ["float32", *reduced]


@contextmanager
def products_in(precision: str, device: torch.device) -> Iterator[None]:
    """Multiply matrices in `precision`: float32, tf32 or bfloat16. Weights, sums and metrics stay in float32.

    On CUDA, bfloat16 uses autocast, which also leaves some results of products in bfloat16.
    """
    if precision == "bfloat16" and device.type == "cuda":
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):  # a cache would outlive a CUDA graph's memory
            yield
        return
    backend = torch.backends.cuda.matmul if device.type == "cuda" else torch.backends.mkldnn.matmul
    before, backend.fp32_precision = (
        backend.fp32_precision,
        {"float32": "ieee", "tf32": "tf32", "bfloat16": "bf16"}[precision],
    )
    try:
        yield
    finally:
        backend.fp32_precision = before


def describe(device: torch.device, processes: int = 1) -> str:
    """Return a readable name: `NVIDIA H200`, `CPU, 2 threads`, or for two processes `2 × CPU, 1 thread`."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        threads = torch.get_num_threads()
        name = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    else:
        name = "Apple GPU (MPS)"
    return name if processes == 1 else f"{processes} × {name}"
