"""Keep what the decoder makes of the same latents in the course of a training, to show how a model learns."""

import numpy as np
import torch
from torch import Tensor

from cvae.compute.seeding import generator
from cvae.data.names import PANELS, spread
from cvae.model import VAE, sample_prior

COUNT = 12  # snapshots at most
SAMPLES = 10  # z in a row, of a model without labels to compare
MOST_VALUES = 2_000_000  # pixels in a snapshot, unless a single z has more


def snapshot_epochs(epochs: int) -> list[int]:
    """Return up to twelve epochs from the first to the last, closest at the start, where the model changes fastest."""
    return sorted(set(np.geomspace(1, epochs, COUNT).round().astype(int).tolist()))


class Snapshots:
    """Decoded images of the same z after some epochs of a training of `model`: `images` has those taken so far.

    Shape: (snapshots, rows, columns, height, width[, 3]) uint8. Each row is one z from the prior and each column a
    label, of at most 30. If there are no two labels to compare, each image has its own z.

    `epochs`: how many the whole training has. `taken`: the `images` of a training that now resumes.
    """

    def __init__(self, model: VAE, epochs: int, seed: int, taken: Tensor | None = None):
        self.epochs = snapshot_epochs(epochs)
        self._model = model
        labels = spread(model.label_count, PANELS) if model.label_count > 1 else [0] * SAMPLES
        rows = 10 if len(labels) < 5 else 5 if len(labels) <= 10 else 2
        rows = max(1, min(rows, MOST_VALUES // (len(labels) * model.schema.image_dims)))
        count = rows if model.label_count > 1 else rows * len(labels)
        device = next(model.parameters()).device
        self._z = (
            sample_prior(model, count, generator(seed, "snapshots"))
            .repeat_interleave(rows * len(labels) // count, dim=0)
            .to(device)
        )
        self._labels = torch.tensor(labels, device=device).repeat(rows)
        self._shape = (rows, len(labels), *model.schema.picture_shape)
        self.images = torch.zeros((0, *self._shape), dtype=torch.uint8) if taken is None else taken

    @torch.no_grad()
    def take(self, epoch: int) -> None:
        """Add a snapshot if one is due after `epoch`. The model must be in evaluation mode."""
        if epoch in self.epochs:
            pixels = self._model.decode(self._z, self._labels).clamp(0, 1) * 255
            taken = pixels.round().to("cpu", torch.uint8).view(1, *self._shape)
            self.images = torch.cat((self.images, taken))

    def end_with(self, epoch: int) -> None:
        """Make the last snapshot that of `epoch`, whose weights the model now has. Later ones are dropped."""
        earlier = [each for each in self.epochs if each < epoch]
        self.epochs, self.images = [*earlier, epoch], self.images[: len(earlier)]
        self.take(epoch)
