"""One seed, many independent streams of random numbers, the same on every device."""

import hashlib

import torch


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator for one `purpose` ("weights", "shuffles", ...) under `seed`.

    Purposes have streams of their own, so that drawing more for one changes no other. Numbers are drawn
    on the CPU and moved, so that every device sees the same.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
