"""Judge images sampled from the model: do they look like their label, and vary as much as real images?"""

import torch
from torch import Tensor

from cvae.compute.seeding import generator
from cvae.data.idx import LABELS
from cvae.evaluation.likelihood import rows_at_once
from cvae.model import CVAE, sample_prior
from cvae.support.progress import progress

NEIGHBOURS = 5
CHUNK = 250  # samples at a time; their distances to MNIST's training images take 60 MB


@torch.no_grad()
def sample_images(model: CVAE, count: int, seed: int) -> Tensor:
    """Sample `count` z from the prior per label and return their mean images, (10, count, 784) on its device."""
    device = next(model.parameters()).device
    z = sample_prior(model, LABELS * count, generator(seed, "drawn samples"))
    labels = torch.arange(LABELS).repeat_interleave(count)
    size = rows_at_once(model)
    parts = zip(z.to(device).split(size), labels.to(device).split(size), strict=True)
    return torch.cat([model.decode(*part) for part in parts]).view(LABELS, count, -1)


def nearest_labels(samples: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """Return, for each of `samples` (m, 784), the commonest label among its 5 nearest `images` (n, 784): (m,) int64.

    The search uses Euclidean distance and is exact. In a tie, the label with the nearest neighbour wins.
    """
    parts = []
    with progress("sample_accuracy", len(samples)) as advance:
        for chunk in samples.split(CHUNK):
            nearest = torch.cdist(chunk, images).topk(NEIGHBOURS, largest=False, sorted=True).indices
            voters = labels[nearest]  # (c, 5), nearest first
            votes = (voters[:, :, None] == voters[:, None, :]).sum(2)  # for each neighbour's label
            order = votes * NEIGHBOURS - torch.arange(NEIGHBOURS, device=votes.device)
            parts.append(voters.gather(1, order.argmax(1, keepdim=True))[:, 0])
            advance(len(chunk))
    return torch.cat(parts)


def confidence_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share (Wilson 1927, "Probable inference", JASA 22)."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mean_distance(images: Tensor) -> float:
    """Return the mean Euclidean distance over all pairs of `images` (n, 784), n at least 2."""
    return float(torch.pdist(images.cpu()).mean())  # MPS has no pdist
