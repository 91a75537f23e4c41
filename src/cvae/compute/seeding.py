"""One seed, many independent streams of random numbers, the same on every device."""

import hashlib

import numpy as np
import torch


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator for one `purpose` ("weights", "shuffles", ...) under `seed`.

    Purposes have streams of their own, so that drawing more for one changes no other. Numbers are drawn
    on the CPU and moved, so that every device sees the same.
    """
    return torch.Generator().manual_seed(int.from_bytes(_digest(seed, purpose)[:8], "little"))


def frozen_stream(seed: int, purpose: str) -> np.random.RandomState:
    """A stream likewise of NumPy's old generator, frozen by NumPy's policy, and fast at small whole numbers."""
    return np.random.RandomState(np.frombuffer(_digest(seed, purpose), "<u4"))


def pack(stream: np.random.RandomState) -> torch.Tensor:
    """Where a frozen stream is: its 624 words and its position among them, (625,) int64."""
    _, words, position, *_ = stream.get_state()
    return torch.from_numpy(np.append(words, position).astype(np.int64))


def unpack(stream: np.random.RandomState, packed: torch.Tensor) -> None:
    """Put `stream` to where `pack` found one."""
    *words, position = packed.tolist()
    stream.set_state(("MT19937", np.array(words, np.uint32), position))


def _digest(seed: int, purpose: str) -> bytes:
    return hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
