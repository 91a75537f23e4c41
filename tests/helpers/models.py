"""Small models and batches with fixed random numbers."""

import torch

from cvae.compute.seeding import generator
from cvae.data.dataset import Split, mnist_like
from cvae.model import CVAE

MNIST = mnist_like()  # the schema that tests use unless they are about another


def make_model(schema=MNIST, **settings) -> CVAE:
    return CVAE(schema, **settings).initialise(generator(3, "weights"))


def make_batch(count: int, latent_dims: int, schema=MNIST) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images (count, image_dims), labels (count,) and noise (count, latent_dims)."""
    numbers = torch.Generator().manual_seed(1)
    x = torch.rand(count, schema.image_dims, generator=numbers)
    y = torch.randint(len(schema.classes), (count,), generator=numbers)
    return x, y, torch.randn(count, latent_dims, generator=numbers)


def with_pale_test(train: Split, test: Split) -> tuple[Split, Split]:
    """Return splits whose test images are so pale that training fits them less and less after a few epochs."""
    return train, Split(test.images // 3, test.labels)
