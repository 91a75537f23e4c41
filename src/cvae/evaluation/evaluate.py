"""What a trained model is worth: its likelihood, whether it listens to its label, and what it draws."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from cvae.artifacts.tables import csv_bytes, rounded
from cvae.data.binarisation import binarised
from cvae.data.idx import LABELS, PIXELS, Split
from cvae.data.tensors import to_device
from cvae.evaluation.latents import active, aggregate_moments, posteriors, prior_distance
from cvae.evaluation.likelihood import bounds_of_labels, importance_weighted_nll
from cvae.evaluation.samples import draw_samples, mean_distance, nearest_labels, wilson_interval
from cvae.model import CVAE
from cvae.objective import held_out_noise, held_out_sums, means
from cvae.support.errors import UserError
from cvae.support.files import write_whole

LABEL_SAMPLES = 10  # draws of z for an image and a label, of the bounds that images are classified by
DRAWN = 300  # images of each label

MEANINGS = {
    "loss": "negative ELBO: reconstruction + beta * kl",
    "reconstruction": "-ln p(image | z, label)",
    "kl": "of the posterior of z from the prior",
    "nll": "bound of -ln p(image | label)",
    "bits_per_dim": "nll as a code: bits per pixel",
    "likelihood_constant": "which loss and nll leave out",
    "label_accuracy": "share whose label has the highest ELBO",
    "label_accuracy_iw": "the same by the importance-weighted bound",
    "label_gap": "rise of the loss if labels are shuffled",
    "sample_accuracy": "share of samples that look like their label",
    "sample_accuracy_low": "its 95 % interval, from",
    "sample_accuracy_high": "to",
    "sample_diversity": "1: samples differ as much as real images",
    "active_units": "latents in use",
    "prior_distance": "of the latents, in the prior's deviations",
}

Row = dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """Figures of all test images; the same `per_digit`, a row a label; a row a latent `per_latent`; and the label of
    each test image beside the one that the model takes it for.

    `likelihood` of which `pixels` ("grey" or "binary") the nats are: others do not compare with them.
    """

    likelihood: str
    pixels: str
    figures: Row
    per_digit: list[Row]
    per_latent: list[Row]
    confusion: list[dict[str, int]]


def evaluate(
    model: CVAE, train: Split, test: Split, *, binarize: str, beta: float, seed: int, nll_samples: int
) -> Evaluation:
    """Measure `model` on the images of `test`, grey as they are or, unless `binarize` is none, in their fixed draw.

    Nats are per image: summed over pixels and latents, a mean over images. They leave out the constant of the
    Gaussian likelihood, as training does; `likelihood_constant` is what to add to `loss`, `reconstruction` or `nll`
    for the exact density: 784 · ½ ln π = 448.73 of a Gaussian of variance ½, 0 of a Bernoulli.

    - `loss`: reconstruction + beta · kl; with a beta of 1 the negative ELBO under the model's own prior and
      likelihood (Kingma and Welling 2014, equation 3). One draw of z an image, the one of the curves of training; of
      the images of one label alone, it may come out below `nll` by chance.
    - `reconstruction`: -ln p(x|z,y); of a Gaussian the squared error, of a Bernoulli the cross-entropy.
    - `kl`: KL(q(z|x,y) ‖ p(z)), in closed form.
    - `nll`: the importance-weighted bound of -ln p(x|y) with `nll_samples` draws of z an image
      (`importance_weighted_nll`). Of a Bernoulli and grey pixels it is a score, and no likelihood.
    - `bits_per_dim`: the bits a pixel that a code of that likelihood takes; absent where there is none
      (`bits_per_dim`).
    - `label_accuracy`: the share of images whose own label has the highest ELBO of the ten: what the decoder knows
      of its label. This is Bayes' rule for equally frequent labels, with the ELBO for ln p(x|y).
      `label_accuracy_iw`: the same with the importance-weighted bound. Both of 10 draws of z.
    - `label_gap`: how many nats the negative ELBO rises by when labels are shuffled among the images, a mean over all
      shuffles; 0 of a model that ignores its label.
    - `sample_accuracy`: of 300 images of each label, decoded from draws of the prior, the share whose five nearest
      training images call them by that label (`nearest_labels`); `sample_accuracy_low` and `sample_accuracy_high`
      are its 95 % Wilson interval, over draws of z from this one model. These neighbours know 96.9 % of MNIST's own
      test images, but what the decoder draws is smoother than those.
    - `sample_diversity`: the mean distance between two of these images of one label, divided by that between two test
      images of the label; a mean over labels. Below 1, samples are more alike than real images.
    - `active_units`: the latents whose posterior mean varies by more than 0.01 (`latent_usage.active`).
    - `prior_distance`: of the aggregate posterior from the prior, in the prior's standard deviations; a mean over
      latents (`latent_usage.prior_distance`).

    Of one label, all of these are over its own test images and samples. Samples are measured against grey images
    whatever `binarize` is, because what the decoder gives is grey.

    Raises:
        UserError: a figure is not finite, as of a model whose weights are not.
    """
    device = next(model.parameters()).device
    images, labels = to_device(test if binarize == "none" else binarised(test, "test"), device)
    own_labels = labels.cpu()
    noise = held_out_noise(model, len(test), seed).to(device)
    mu, sigma = posteriors(model, images, labels)
    latents = _measure_latents(model, mu, sigma)

    nll = importance_weighted_nll(model, images, labels, nll_samples, seed)
    elbos, tighter = bounds_of_labels(model, images, LABEL_SAMPLES, seed)
    shares = torch.bincount(own_labels, minlength=LABELS).double() / len(test)
    gaps = elbos.gather(1, own_labels[:, None])[:, 0] - elbos @ shares
    predicted = elbos.argmax(1)
    is_right, is_right_iw = predicted == own_labels, tighter.argmax(1) == own_labels

    samples = draw_samples(model, DRAWN, seed)
    recognised, diversity = _judge_samples(samples, train, test)

    def measure(those: Tensor, digits: Sequence[int], latents: list[Row]) -> Row:
        """Of the test images with the numbers `those`, (m,), all images of the labels `digits`, and their `latents`."""
        here = those.to(device)
        sums = held_out_sums(model, images[here], labels[here], noise[here]).cpu().double()
        hits, drawn = int(recognised[digits].sum()), DRAWN * len(digits)
        low, high = wilson_interval(hits, drawn)
        return {
            **means(model, sums, len(those), beta),
            "nll": float(nll[those].mean()),
            **bits_per_dim(model, float(nll[those].mean()), binarize),
            "likelihood_constant": likelihood_constant(model),
            "label_accuracy": float(is_right[those].double().mean()),
            "label_accuracy_iw": float(is_right_iw[those].double().mean()),
            "label_gap": float(gaps[those].mean()),
            "sample_accuracy": hits / drawn,
            "sample_accuracy_low": low,
            "sample_accuracy_high": high,
            "sample_diversity": float(diversity[digits].mean()),
            "active_units": sum(latent["active"] for latent in latents),
            "prior_distance": sum(latent["prior_distance"] for latent in latents) / len(latents),
        }

    per_digit = []
    for digit in range(LABELS):
        own = (own_labels == digit).nonzero()[:, 0]
        own_latents = _measure_latents(model, mu[own], sigma[own])
        per_digit.append({"digit": digit, "images": len(own), **measure(own, [digit], own_latents)})
    figures = measure(torch.arange(len(test)), range(LABELS), latents)
    for name, value in figures.items():
        if not math.isfinite(value):
            raise UserError(f"{name} of the test images is {value}: the model's weights or latents are out of range")
    return Evaluation(
        model.likelihood,
        "grey" if binarize == "none" else "binary",
        figures,
        per_digit,
        latents,
        [{"actual": a, "predicted": p} for a, p in zip(own_labels.tolist(), predicted.tolist(), strict=True)],
    )


def likelihood_constant(model: CVAE) -> float:
    """What `loss`, `reconstruction` and `nll` leave out of -ln p(x|z,y), in nats per image.

    Of a Gaussian of variance ½ over 784 pixels, 784 · ½ ln(2π · ½); of a Bernoulli nothing.
    """
    return PIXELS / 2 * math.log(math.pi) if model.likelihood == "gaussian" else 0.0


def bits_per_dim(model: CVAE, nll: float, binarize: str) -> Row:
    """`bits_per_dim`: the bits a pixel of a code whose lengths are -log₂ p(x|y), from an `nll` in nats; else nothing.

    A Bernoulli codes binary pixels. A Gaussian codes pixels of 256 grey levels k/255, the probability of each being
    density times 1/255 (Theis, van den Oord and Bethge 2016, "A note on the evaluation of generative models", section
    3.1); of variance ½ it is so wide that the code takes more than the 8 bits of no model at all. A Bernoulli of grey
    pixels is no distribution over them, and a Gaussian's density says nothing of binary ones.
    """
    is_grey, is_gaussian = binarize == "none", model.likelihood == "gaussian"
    if is_grey != is_gaussian:
        return {}
    bits = (nll + likelihood_constant(model)) / (PIXELS * math.log(2))
    return {"bits_per_dim": bits + math.log2(255) if is_gaussian else bits}


def _judge_samples(samples: Tensor, train: Split, test: Split) -> tuple[Tensor, Tensor]:
    """Whether each of `samples`, (10, n, 784) looks like its label: (10, n) bool, and each label's diversity: (10,)."""
    called = nearest_labels(samples.flatten(0, 1), *to_device(train, samples.device)).view(LABELS, -1).cpu()
    originals, labels = to_device(test, samples.device)
    ratios = [mean_distance(own) / mean_distance(originals[labels == label]) for label, own in enumerate(samples)]
    return called == torch.arange(LABELS)[:, None], torch.tensor(ratios)


def _measure_latents(model: CVAE, mu: Tensor, sigma: Tensor) -> list[Row]:
    """A row a latent: whether it is active, and its aggregate posterior's moments and distance from the prior."""
    columns = {
        "active": active(mu).int(),
        "variance_of_mean": mu.double().var(0, correction=0),
        **aggregate_moments(mu, sigma),
        "prior_distance": prior_distance(mu, sigma, model.prior_std),
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [{"latent": latent, **dict(zip(columns, row, strict=True))} for latent, row in enumerate(rows)]


def format_figures(evaluation: Evaluation) -> str:
    """The figures of all test images as a table for a terminal of 80 columns, with a few words on each."""
    rows = [(name, f"{value:.6g}", MEANINGS.get(name, "")) for name, value in evaluation.figures.items()]
    title = f"Test images, {evaluation.likelihood} likelihood of {evaluation.pixels} pixels, nats per image:"
    return f"{title}\n{tabulate(rows, tablefmt='plain', disable_numparse=True, colalign=('left', 'right', 'left'))}"


def write_evaluation(evaluation: Evaluation, metrics: str | Path, plots: str | Path) -> None:
    """Write test.json, per_digit.csv and per_latent.csv to `metrics`, and confusion.csv to `plots`."""
    metrics, plots = Path(metrics), Path(plots)
    of = {"likelihood": evaluation.likelihood, "pixels": evaluation.pixels}
    figures = json.dumps(of | rounded(evaluation.figures), indent=2) + "\n"
    tables = {
        metrics / "per_digit.csv": [of | row for row in evaluation.per_digit],
        metrics / "per_latent.csv": evaluation.per_latent,
        plots / "confusion.csv": evaluation.confusion,
    }
    contents = {path: csv_bytes([rounded(row) for row in rows]) for path, rows in tables.items()}
    write_whole({metrics / "test.json": figures.encode(), **contents})
