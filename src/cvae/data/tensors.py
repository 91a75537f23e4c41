"""Convert a data set to the tensors that the model takes."""

import torch
from torch import Tensor

from cvae.data.dataset import Split


def to_device(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the images, (n, image_dims) float32 in [0, 1], and labels, (n,) int64, of `split` on `device`."""
    images = torch.tensor(split.images, device=device).to(torch.float32).div_(255)
    return images, torch.tensor(split.labels, device=device).to(torch.int64)
