"""Judge images sampled from the model: do they look like their label, and vary as much as real images?"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from cvae.compute.seeding import generator
from cvae.data.dataset import Split
from cvae.data.tensors import to_device
from cvae.evaluation.likelihood import rows_at_once
from cvae.model import VAE, sample_prior
from cvae.support.progress import progress

NEIGHBOURS = 5
SAMPLES = 3000  # in all, but 30 to 300 of each label
PAIRED = 1200  # images, at most, whose distances from each other are measured; a label of MNIST has fewer
DISTANCES = 15_000_000  # at a time, from samples to training images: 60 MB


@dataclass(frozen=True)
class SampleQuality:
    """Results for samples; `evaluate` defines the figures.

    `recognised`: whether each sample looks like its label, (labels, count) bool, or None if the model has no labels.
    `diversity`: (labels,), NaN for a label without two test images that differ; one value for all without labels.
    """

    recognised: Tensor | None
    diversity: Tensor

    def figures(self, label: int | None) -> dict[str, float]:
        """Return the figures of one label, or over all if it is None. Without labels, a single label has none."""
        figures, own = {}, slice(None) if label is None else slice(label, label + 1)
        if self.recognised is not None:
            hits, tries = int(self.recognised[own].sum()), self.recognised[own].numel()
            low, high = confidence_interval(hits, tries)
            figures = {"sample_accuracy": hits / tries, "sample_accuracy_low": low, "sample_accuracy_high": high}
        elif label is not None:
            return {}
        diversity = float(self.diversity[own].nanmean())
        return figures if math.isnan(diversity) else figures | {"sample_diversity": diversity}


def judge_samples(model: VAE, train: Split, test: Split, seed: int) -> SampleQuality:
    """Compare samples with the nearest images of `train`, and their distances with those in `test`."""
    count = min(300, max(30, SAMPLES // model.label_count)) if model.label_count else PAIRED
    samples = sample_images(model, count, seed)
    originals, labels = to_device(test, samples.device)
    if not model.label_count:
        return SampleQuality(None, torch.tensor([diversity(samples[0], originals)]))
    predicted = nearest_labels(samples.flatten(0, 1), *to_device(train, samples.device)).view(len(samples), -1).cpu()
    ratios = [diversity(own, originals[labels == label]) for label, own in enumerate(samples)]
    return SampleQuality(predicted == torch.arange(len(samples))[:, None], torch.tensor(ratios))


@torch.no_grad()
def sample_images(model: VAE, count: int, seed: int) -> Tensor:
    """Sample `count` z from the prior per label and return their mean images on the model's device.

    Shape: (labels, count, image_dims), with one row for all if the model has no labels.
    """
    device = next(model.parameters()).device
    rows = max(1, model.label_count)
    z = sample_prior(model, rows * count, generator(seed, "drawn samples"))
    labels = torch.arange(rows).repeat_interleave(count)
    size = rows_at_once(model)
    parts = zip(z.to(device).split(size), labels.to(device).split(size), strict=True)
    return torch.cat([model.decode(*part) for part in parts]).view(rows, count, -1)


def nearest_labels(samples: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """Return, for each of `samples`, the commonest label among its 5 nearest `images`: (m,) int64.

    Shapes: samples (m, image_dims), images (n, image_dims), labels (n,).

    The search uses Euclidean distance and is exact. In a tie, the label with the nearest neighbour wins.
    """
    parts, voters_each = [], min(NEIGHBOURS, len(images))
    squares = images.square().sum(1)
    with progress("sample_accuracy", len(samples)) as advance:
        for chunk in samples.split(max(1, DISTANCES // len(images))):
            distances = torch.addmm(squares, chunk, images.t(), alpha=-2)  # squared, but for each sample's own square
            nearest = distances.topk(voters_each, largest=False, sorted=True).indices
            voters = labels[nearest]  # (c, voters), nearest first
            votes = (voters[:, :, None] == voters[:, None, :]).sum(2)  # for each neighbour's label
            order = votes * voters_each - torch.arange(voters_each, device=votes.device)
            parts.append(voters.gather(1, order.argmax(1, keepdim=True))[:, 0])
            advance(len(chunk))
    return torch.cat(parts)


def confidence_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share (Wilson 1927, "Probable inference", JASA 22).

    `scipy.stats` has it too, but takes a second to import.
    """
    share, z = successes / trials, NormalDist().inv_cdf(0.975)
    centre = share + z**2 / (2 * trials)
    margin = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    low, high = ((centre + side) / (1 + z**2 / trials) for side in (-margin, margin))
    return max(0.0, low), min(1.0, high)


def diversity(samples: Tensor, originals: Tensor) -> float:
    """Return the mean distance between two of `samples`, divided by that between two of `originals`.

    Shapes: (n, image_dims) each. NaN if no two originals differ. Of many originals, evenly spaced ones are measured.
    """
    distance = mean_distance(originals[:: max(1, math.ceil(len(originals) / PAIRED))])
    return mean_distance(samples) / distance if distance > 0 else math.nan


def mean_distance(images: Tensor) -> float:
    """Return the mean Euclidean distance over all pairs of `images` (n, image_dims); NaN if there is only one."""
    return float(torch.pdist(images.cpu()).mean())  # MPS has no pdist
