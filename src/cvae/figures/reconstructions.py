"""Choose test images and reconstruct them."""

import numpy as np
import torch

from cvae.data.dataset import Split
from cvae.data.tensors import to_device
from cvae.figures.latent_plane import as_pictures, decode
from cvae.model import VAE


@torch.no_grad()
def reconstruct(model: VAE, test: Split, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a test image of each of `labels`, (n,), and its reconstruction from the posterior mean.

    Both are (n, height, width[, 3]) in [0, 1]. A label that occurs again has its next image. Where it has no more, both
    are NaN.
    """
    schema = model.schema
    places, numbers = [], []
    for place, label in enumerate(labels):
        own = np.flatnonzero(test.labels == label)
        if (number := int((labels[:place] == label).sum())) < len(own):
            places.append(place)
            numbers.append(own[number])
    originals = as_pictures(np.full((len(labels), schema.image_dims), np.nan), schema)
    reconstructions = originals.copy()
    if numbers:
        device = next(model.parameters()).device
        x, y = to_device(Split(test.images[numbers], test.labels[numbers]), device)
        originals[places] = as_pictures(x.cpu().numpy(), schema)
        mu, _ = model.encode(x, y)
        reconstructions[places] = decode(model, mu.cpu().numpy(), y.cpu().numpy())
    return originals, reconstructions
