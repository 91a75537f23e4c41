"""Compute all metrics of a trained model on held-out images, and print and write them."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from cvae.artifacts.tables import csv_bytes, rounded
from cvae.data.binarisation import binarised
from cvae.data.dataset import Split
from cvae.data.names import kind_of_pixels
from cvae.data.tensors import to_device
from cvae.evaluation.label_use import measure_label_use
from cvae.evaluation.latents import active, aggregate_moments, posteriors, prior_distance
from cvae.evaluation.likelihood import importance_weighted_nll
from cvae.evaluation.samples import judge_samples
from cvae.model import VAE
from cvae.objective import held_out_noise, held_out_sums, means
from cvae.support.errors import UserError
from cvae.support.files import write_whole

MEANINGS = {
    "loss": "negative ELBO: reconstruction + beta * kl",
    "reconstruction": "-ln p(image | z, label)",
    "kl": "KL divergence of posterior from prior",
    "nll": "upper bound on -ln p(image | label)",
    "bits_per_dim": "bits per pixel and channel of a code by nll",
    "likelihood_constant": "constant that loss and nll leave out",
    "label_accuracy": "share of images whose label has the top ELBO",
    "label_accuracy_iw": "label_accuracy by importance-weighted bound",
    "label_gap": "rise in negative ELBO with shuffled labels",
    "sample_accuracy": "share of samples that look like their label",
    "sample_accuracy_low": "sample_accuracy: low end of 95 % interval",
    "sample_accuracy_high": "sample_accuracy: high end of 95 % interval",
    "sample_diversity": "1 if samples differ as much as real images",
    "active_units": "number of latents in use",
    "prior_distance": "mean distance of latents to prior, in its SD",
}
WITHOUT_LABELS = {"reconstruction": "-ln p(image | z)", "nll": "upper bound on -ln p(image)"}

Row = dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """Hold all metrics on one split.

    `split`: its name, "test" or "validation". `figures`: over all its images. `per_class`: the same, one row per class.
    `per_latent`: one row per latent. `confusion`: the actual and the predicted class of each image; empty if the model
    has no labels. `likelihood` and `pixels` ("grey", "colour" or "binary"): what the nats refer to; compare them only
    between models that share both.
    """

    split: str
    likelihood: str
    pixels: str
    figures: Row
    per_class: list[Row]
    per_latent: list[Row]
    confusion: list[dict[str, str]]


def evaluate(
    model: VAE,
    train: Split,
    held_out: Split,
    name: str = "test",
    *,
    binarize: str,
    beta: float,
    seed: int,
    nll_samples: int,
) -> Evaluation:
    """Measure `model` on the images of `held_out`: as they are if `binarize` is "none", otherwise binary (`binarised`).

    `name`: that of the split, "test" or "validation". `train`: images that samples are compared with.

    Nats are summed over pixels and latents, and averaged over images. Like the training loss, they leave out the
    constant of the Gaussian likelihood. For the exact density, add `likelihood_constant` to `loss`, `reconstruction`
    or `nll`: ½ ln π per pixel and channel for the Gaussian of variance ½, on MNIST 448.73; 0 for the Bernoulli.

    - `loss`: reconstruction + beta · kl. With beta = 1, the negative ELBO under the model's own prior and likelihood
      (Kingma and Welling 2014, equation 3). Uses one sample of z per image, the same as the training curves; for a
      single label it may fall below `nll` by chance.
    - `reconstruction`: -ln p(x|z,y), which is the squared error for a Gaussian and the cross-entropy for a Bernoulli.
    - `kl`: KL(q(z|x,y) ‖ p(z)), in closed form.
    - `nll`: the importance-weighted bound on -ln p(x|y) from `nll_samples` samples of z per image
      (`importance_weighted_nll`). For a Bernoulli with pixels that are not binary it is a score, not a likelihood.
    - `bits_per_dim`: the bits per pixel and channel of a code based on that likelihood; absent if there is none
      (`bits_per_dim`).
    - `label_accuracy`: the share of images whose true label has the highest ELBO of all. It shows how much the
      decoder depends on the label. This is Bayes' rule for equally frequent labels, with the ELBO in place of
      ln p(x|y). `label_accuracy_iw`: the same with the importance-weighted bound. Both use 10 samples of z.
    - `label_gap`: by how many nats the negative ELBO rises when labels are shuffled among the images, averaged over
      all shuffles; 0 for a model that ignores the label.
    - `sample_accuracy`: decode samples of the prior for each label, 300 if there are up to ten labels, fewer if there
      are more; this is the share of images for which that label is the most common one among the five nearest training
      images (`nearest_labels`). `sample_accuracy_low` and `sample_accuracy_high`: its 95 % Wilson interval, over
      samples of z from this one model. Real MNIST test images score 96.9 %, but decoded images are smoother than those.
    - `sample_diversity`: the mean distance between two of these images with the same label, divided by that between
      two held-out images with it, averaged over labels. Below 1, samples are more alike than real images. Absent if no
      label has two held-out images that differ.
    - `active_units`: the number of latents whose posterior mean has a variance above 0.01 (`latents.active`).
    - `prior_distance`: the distance between the aggregate posterior and the prior, in standard deviations of the
      prior, averaged over latents (`latents.prior_distance`).

    For a model without labels, p(x|y) is p(x), and the figures that involve labels are absent. `sample_diversity` then
    compares all samples with all held-out images, so no class has one.

    The figures of one class use only its own images and samples; a class without held-out images has none. Samples are
    always compared with images as they are, whatever `binarize` is, because the decoder's output is not binary.

    Raises:
        UserError: a figure is not finite, for instance because the model's weights are not.
    """
    device = next(model.parameters()).device
    images, labels = to_device(held_out if binarize == "none" else binarised(held_out, name), device)
    true_labels = labels.cpu()
    noise = held_out_noise(model, len(held_out), seed).to(device)
    mu, sigma = posteriors(model, images, labels)
    nll = importance_weighted_nll(model, images, labels, nll_samples, seed)
    use = measure_label_use(model, images, labels, seed) if model.label_count else None
    samples = judge_samples(model, train, held_out, seed)

    def measure(picked: Tensor, label: int | None, latents: list[Row]) -> Row:
        """Measure the held-out images with numbers `picked`, (m,): those with this label, or all if it is None.

        `latents`: the rows of `_measure_latents` for these images.
        """
        index = picked.to(device)
        sums = held_out_sums(model, images[index], labels[index], noise[index]).cpu().double()
        return {
            **means(model, sums, len(picked), beta),
            "nll": float(nll[picked].mean()),
            **bits_per_dim(model, float(nll[picked].mean()), binarize),
            "likelihood_constant": likelihood_constant(model),
            **(use.figures(picked) if use else {}),
            **samples.figures(label),
            "active_units": sum(latent["active"] for latent in latents),
            "prior_distance": sum(latent["prior_distance"] for latent in latents) / len(latents),
        }

    per_class = []
    for label, class_name in enumerate(model.schema.classes):
        own = (true_labels == label).nonzero()[:, 0]
        if len(own):
            own_latents = _measure_latents(model, mu[own], sigma[own])
            per_class.append({"label": class_name, "images": len(own), **measure(own, label, own_latents)})
    latents = _measure_latents(model, mu, sigma)
    figures = measure(torch.arange(len(held_out)), None, latents)
    for figure, value in figures.items():
        if not math.isfinite(value):
            what = f"{figure} of the {name} images is {value}"
            raise UserError(f"{what}: the model's weights or latents are out of range")
    return Evaluation(
        name,
        model.likelihood,
        kind_of_pixels(binarize, model.schema.shape[2]),
        figures,
        per_class,
        latents,
        use.confusion(model.schema.classes, true_labels) if use else [],
    )


def likelihood_constant(model: VAE) -> float:
    """Return the constant that `loss`, `reconstruction` and `nll` leave out of -ln p(x|z,y), in nats per image.

    For a Gaussian of variance ½, this is ½ ln(2π · ½) per pixel and channel; for a Bernoulli, 0.
    """
    return model.schema.image_dims / 2 * math.log(math.pi) if model.likelihood == "gaussian" else 0.0


def bits_per_dim(model: VAE, nll: float, binarize: str) -> Row:
    """Return `bits_per_dim`, the bits per pixel and channel of a code of length -log₂ p(x|y), if such a code exists.

    `nll`: in nats. A Bernoulli codes binary pixels. A Gaussian codes pixels whose channels have 256 levels k/255: the
    probability of a level is the density times 1/255 (Theis, van den Oord and Bethge 2016, "A note on the evaluation
    of generative models", section 3.1). A variance of ½ is so wide that this takes more than the 8 bits needed without
    any model. A Bernoulli is not a distribution over 256 levels, and a Gaussian density does not code binary pixels.
    """
    has_levels, is_gaussian = binarize == "none", model.likelihood == "gaussian"
    if has_levels != is_gaussian:
        return {}
    bits = (nll + likelihood_constant(model)) / (model.schema.image_dims * math.log(2))
    return {"bits_per_dim": bits + math.log2(255) if is_gaussian else bits}


def _measure_latents(model: VAE, mu: Tensor, sigma: Tensor) -> list[Row]:
    """Return one row per latent: whether it is active, and the aggregate posterior's moments and prior distance."""
    columns = {
        "active": active(mu).int(),
        "variance_of_mean": mu.double().var(0, correction=0),
        **aggregate_moments(mu, sigma),
        "prior_distance": prior_distance(mu, sigma, model.prior_std),
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [{"latent": latent, **dict(zip(columns, row, strict=True))} for latent, row in enumerate(rows)]


def format_figures(evaluation: Evaluation) -> str:
    """Return the figures for all images as a table with explanations, for a terminal of 80 columns."""
    meanings = MEANINGS if "label_gap" in evaluation.figures else MEANINGS | WITHOUT_LABELS
    rows = [(name, f"{value:.6g}", meanings.get(name, "")) for name, value in evaluation.figures.items()]
    title = f"{evaluation.split.capitalize()} images, {evaluation.likelihood} likelihood of {evaluation.pixels} pixels"
    table = tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=("left", "right", "left"))
    return f"{title}, nats per image:\n{table}"


def write_evaluation(
    test: Evaluation, metrics: str | Path, plots: str | Path, validation: Evaluation | None = None
) -> None:
    """Write test.json, validation.json, per_class.csv and per_latent.csv to `metrics`, and confusion.csv to `plots`.

    validation.json is an empty object if there are no validation images; all other files are of the test images.
    """
    metrics, plots = Path(metrics), Path(plots)
    context = _context(test)
    per_class = [context | rounded(row) for row in test.per_class]
    known = set().union(*per_class)  # a class with one test image has no `sample_diversity`, so its cell stays empty
    columns = (*context, "label", "images", *(name for name in test.figures if name in known))
    tables = {
        metrics / "per_class.csv": csv_bytes(per_class, columns),
        metrics / "per_latent.csv": csv_bytes([rounded(row) for row in test.per_latent]),
        plots / "confusion.csv": csv_bytes(test.confusion, ("actual", "predicted")),
    }
    figures = {"test": context | rounded(test.figures), "validation": {}}
    if validation:
        figures["validation"] = _context(validation) | rounded(validation.figures)
    files = {metrics / f"{name}.json": (json.dumps(each, indent=2) + "\n").encode() for name, each in figures.items()}
    write_whole(files | tables)


def _context(evaluation: Evaluation) -> dict[str, str]:
    return {"likelihood": evaluation.likelihood, "pixels": evaluation.pixels}
