"""Images drawn from the model under each label: do they look like it, and do they differ as real ones do?"""

import math

import torch
from torch import Tensor

from cvae.compute.seeding import generator
from cvae.data.idx import LABELS
from cvae.evaluation.likelihood import rows_at_once
from cvae.model import CVAE
from cvae.support.progress import progress

NEIGHBOURS = 5
CHUNK = 250  # samples whose distances to all training images are held at once: 60 MB for MNIST


@torch.no_grad()
def draw_samples(model: CVAE, count: int, seed: int) -> Tensor:
    """`count` mean images p(x|z,y) of each label, z from the prior: (10, count, 784) in [0, 1], where the model is."""
    device = next(model.parameters()).device
    z = torch.randn(LABELS * count, model.latent_dims, generator=generator(seed, "drawn samples")) * model.prior_std
    labels = torch.arange(LABELS).repeat_interleave(count)
    size = rows_at_once(model)
    parts = zip(z.to(device).split(size), labels.to(device).split(size), strict=True)
    return torch.cat([model.decode(*part) for part in parts]).view(LABELS, count, -1)


def nearest_labels(samples: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """For each of `samples` (m, 784), the label that most of the 5 nearest of `images` (n, 784) have: (m,) int64.

    Nearest by Euclidean distance, searched exactly; of labels with equally many neighbours, the nearest one's.
    """
    parts = []
    with progress("sample_accuracy", len(samples)) as advance:
        for chunk in samples.split(CHUNK):
            nearest = torch.cdist(chunk, images).topk(NEIGHBOURS, largest=False, sorted=True).indices
            voters = labels[nearest]  # (c, 5), nearest first
            votes = (voters[:, :, None] == voters[:, None, :]).sum(2)  # for the label of each of the five
            order = votes * NEIGHBOURS - torch.arange(NEIGHBOURS, device=votes.device)
            parts.append(voters.gather(1, order.argmax(1, keepdim=True))[:, 0])
            advance(len(chunk))
    return torch.cat(parts)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson 1927, "Probable inference, the law of succession", JASA 22)."""
    z = 1.959964
    share = successes / trials
    centre = share + z**2 / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return max(0.0, centre - half) / (1 + z**2 / trials), (centre + half) / (1 + z**2 / trials)


def mean_distance(images: Tensor) -> float:
    """The mean Euclidean distance between two different ones of `images` (n, 784), of which there are two or more."""
    return float(torch.pdist(images.cpu()).mean())  # MPS has no pdist
