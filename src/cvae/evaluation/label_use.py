"""Measure how much a model uses the label: does it know an image's label by its likelihood?"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvae.evaluation.likelihood import bounds_of_labels
from cvae.model import VAE

SAMPLES = 10  # of z per image and label


@dataclass(frozen=True)
class LabelUse:
    """Results for n test images; `evaluate` defines the figures.

    `predicted`: the label with the highest ELBO, (n,) int64. `is_right`, `is_right_iw`: whether it, or the one with the
    highest importance-weighted bound, is the true one, (n,) bool. `gaps`: by how many nats the negative ELBO rises
    under a shuffled label, on average, (n,).
    """

    predicted: Tensor
    is_right: Tensor
    is_right_iw: Tensor
    gaps: Tensor

    def figures(self, picked: Tensor) -> dict[str, float]:
        """Return the figures over the images with numbers `picked`, (m,)."""
        return {
            "label_accuracy": float(self.is_right[picked].double().mean()),
            "label_accuracy_iw": float(self.is_right_iw[picked].double().mean()),
            "label_gap": float(self.gaps[picked].mean()),
        }

    def confusion(self, classes: Sequence[str], labels: Tensor) -> list[dict[str, str]]:
        """Return a row for each image: its actual and its predicted class. `labels`: the true ones, (n,)."""
        pairs = zip(labels.tolist(), self.predicted.tolist(), strict=True)
        return [{"actual": classes[actual], "predicted": classes[predicted]} for actual, predicted in pairs]


def measure_label_use(model: VAE, images: Tensor, labels: Tensor, seed: int) -> LabelUse:
    """Measure the use of labels on `images`, (n, image_dims), whose true labels are `labels`, (n,)."""
    elbos, iw_bounds = bounds_of_labels(model, images, SAMPLES, seed)  # a column for each label
    labels = labels.cpu()
    shares = torch.bincount(labels, minlength=model.label_count).double() / len(labels)
    gaps = elbos.gather(1, labels[:, None])[:, 0] - elbos @ shares  # own label, minus a shuffled one on average
    predicted = elbos.argmax(1)
    return LabelUse(predicted, predicted == labels, iw_bounds.argmax(1) == labels, gaps)
