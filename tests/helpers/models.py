"""Small models and batches with fixed random numbers."""

import torch

from cvae.compute.seeding import generator
from cvae.data.idx import LABELS, PIXELS
from cvae.model import CVAE


def make_model(**settings) -> CVAE:
    return CVAE(**settings).initialise(generator(3, "weights"))


def make_batch(count: int, latent_dims: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images (count, 784), labels (count,) and noise (count, latent_dims)."""
    numbers = torch.Generator().manual_seed(1)
    x = torch.rand(count, PIXELS, generator=numbers)
    y = torch.randint(LABELS, (count,), generator=numbers)
    return x, y, torch.randn(count, latent_dims, generator=numbers)
