"""What a peer of the benchmark needs to train as this project does: the same data, weights and samples, as arrays."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from cvae.compute.seeding import generator
from cvae.data.dataset import Split
from cvae.model import CVAE


@dataclass(frozen=True)
class Inputs:
    """Hold the training images, (n, 784) float32 in [0, 1], their labels, (n,), and the initial weights.

    `weights`: for each of the article's layers, its matrix, (inputs, outputs), and its bias. The rows for the one-hot
    label follow those for the image, or for z.
    """

    images: np.ndarray
    labels: np.ndarray
    weights: dict[str, tuple[np.ndarray, np.ndarray]]
    batch_size: int
    seed: int

    def samples(self, epochs: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield for each epoch the order of the images, (n,), and the noise, (n, 2), of this project's training."""
        shuffles, noises = generator(self.seed, "shuffles"), generator(self.seed, "noise")
        for _ in range(epochs):
            order = torch.randperm(len(self.labels), generator=shuffles)
            yield order.int().numpy(), torch.randn(len(self.labels), 2, generator=noises).numpy()


def inputs_of(split: Split, model: CVAE, batch_size: int, seed: int) -> Inputs:
    """Return the inputs for training `model`, the article's, on `split`."""
    images, labels = split.images.astype(np.float32) / 255, split.labels.astype(np.int32)
    layers = {"encoder": model.encoder, "posterior": model.posterior, "decoder": model.decoder}
    layers |= {"pixels": model.pixel_logits}
    weights = {}
    for name, layer in layers.items():
        rows = [layer.weight.t()]
        rows += [layer.label_weight] if hasattr(layer, "label_weight") else []
        weights[name] = (torch.cat(rows).detach().numpy(), layer.bias.detach().numpy())
    return Inputs(images, labels, weights, batch_size, seed)
