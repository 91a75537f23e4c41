"""Turn one seed into many independent random generators, the same on every device."""

import hashlib

import numpy as np
import torch


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return a CPU generator for one `purpose` ("weights", "shuffles", ...) under `seed`.

    Each purpose has its own generator, so sampling more for one does not change another. Sample on the CPU and move the
    numbers to the device: then every device gets the same ones.
    """
    return torch.Generator().manual_seed(int.from_bytes(_digest(seed, purpose)[:8], "little"))


def numpy_generator(seed: int, purpose: str) -> np.random.RandomState:
    """Return such a generator from NumPy: a `RandomState`, whose numbers NumPy promises never to change."""
    return np.random.RandomState(np.frombuffer(_digest(seed, purpose), "<u4"))


def pack(numbers: np.random.RandomState) -> torch.Tensor:
    """Return the state of a `numpy_generator`: 624 words and the position among them, (625,) int64."""
    _, words, position, *_ = numbers.get_state()
    return torch.from_numpy(np.append(words, position).astype(np.int64))


def unpack(numbers: np.random.RandomState, packed: torch.Tensor) -> None:
    """Set `numbers` to the state that `pack` returned."""
    *words, position = packed.tolist()
    numbers.set_state(("MT19937", np.array(words, np.uint32), position))


def _digest(seed: int, purpose: str) -> bytes:
    return hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
