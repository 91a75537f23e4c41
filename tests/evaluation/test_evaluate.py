"""The figures of metrics/test.json, each compared with its definition on a known case."""

import copy
import csv
import json
import math
import re

import numpy as np
import pytest
import torch
from helpers.models import MNIST
from torch import nn
from torch.distributions import Independent, Normal

from cvae.compute.devices import open_device
from cvae.compute.seeding import generator
from cvae.data.dataset import Schema, Split
from cvae.evaluation.evaluate import (
    bits_per_dim,
    evaluate,
    format_figures,
    likelihood_constant,
    write_evaluation,
)
from cvae.model import CVAE
from cvae.support.errors import UserError
from cvae.training.loop import Training

LABELS, PIXELS = len(MNIST.classes), MNIST.image_dims
KEYS = [
    "loss",
    "reconstruction",
    "kl",
    "nll",
    "bits_per_dim",
    "likelihood_constant",
    "label_accuracy",
    "label_accuracy_iw",
    "label_gap",
    "sample_accuracy",
    "sample_accuracy_low",
    "sample_accuracy_high",
    "sample_diversity",
    "active_units",
    "prior_distance",
]
SETTINGS = {"binarize": "none", "beta": 1.0, "seed": 0, "nll_samples": 20}


@pytest.fixture(scope="module")
def model(digits) -> CVAE:
    """A model that was trained long enough to know its labels."""
    device = open_device("cpu", threads=1)
    model = CVAE(MNIST, hidden_dims=64).initialise(generator(0, "weights")).to(device)
    for _ in Training(model, *digits, epochs=40, batch_size=32, learning_rate=3e-3, beta=1.0, seed=0):
        pass
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def evaluation(model, digits):
    return evaluate(model, *digits, **SETTINGS)


def test_every_figure_is_present_and_finite(evaluation):
    assert list(evaluation.figures) == KEYS
    assert all(map(math.isfinite, evaluation.figures.values()))


def test_figures_are_consistent(evaluation):
    figures = evaluation.figures
    assert figures["loss"] == pytest.approx(figures["reconstruction"] + figures["kl"])
    assert figures["loss"] - 3 < figures["nll"] < figures["loss"]
    assert figures["bits_per_dim"] == pytest.approx(
        (figures["nll"] + figures["likelihood_constant"]) / PIXELS / math.log(2) + math.log2(255)
    )
    assert figures["sample_accuracy_low"] < figures["sample_accuracy"] < figures["sample_accuracy_high"]


def test_a_trained_model_knows_its_labels_and_draws_them(evaluation):
    figures = evaluation.figures
    assert figures["label_accuracy"] > 0.8
    assert figures["label_accuracy_iw"] > 0.8
    assert figures["sample_accuracy"] > 0.8
    assert figures["label_gap"] > 3
    assert 0.2 < figures["sample_diversity"] < 1


def test_a_model_that_ignores_its_label_scores_like_chance(model, digits):
    ignoring = CVAE(MNIST, hidden_dims=64)
    ignoring.load_state_dict(model.state_dict())
    ignoring.requires_grad_(False)
    for layer in (ignoring.encoder, ignoring.decoder):
        layer.label_weight.copy_(layer.label_weight.mean(0).expand(LABELS, -1))
    figures = evaluate(ignoring, *digits, **SETTINGS).figures
    zeros = np.mean(digits[1].labels == 0)
    assert figures["label_accuracy"] == pytest.approx(zeros), "all labels are equally likely, so the first is chosen"
    assert figures["label_gap"] == pytest.approx(0, abs=1e-5)
    assert figures["sample_accuracy"] < 0.3


def test_label_gap_is_the_mean_rise_over_shuffles(model, digits, evaluation):
    """The reference uses torch.distributions and twenty shuffles of the labels."""
    images, labels = torch.tensor(digits[1].images) / 255, torch.tensor(digits[1].labels).long()
    numbers = torch.Generator().manual_seed(5)

    def negative_elbo(y: torch.Tensor) -> float:
        mu, log_sigma = model.encode(images, y)
        posterior = Independent(Normal(mu, log_sigma.exp()), 1)
        prior = Independent(Normal(torch.zeros_like(mu), torch.full_like(mu, model.prior_std)), 1)
        kl = torch.distributions.kl_divergence(posterior, prior)
        rows = []
        for _ in range(10):
            z = mu + log_sigma.exp() * torch.randn(mu.shape, generator=numbers)
            rows.append(-Normal(model.decode(z, y), 0.5**0.5).log_prob(images).sum(1))
        return float((torch.stack(rows).mean(0) + kl).mean())

    shuffled = [negative_elbo(labels[torch.randperm(len(labels), generator=numbers)]) for _ in range(20)]
    assert evaluation.figures["label_gap"] == pytest.approx(np.mean(shuffled) - negative_elbo(labels), rel=0.05)


def test_the_rows_of_classes_average_to_the_totals(evaluation, digits):
    rows, figures = evaluation.per_class, evaluation.figures
    assert tuple(row["label"] for row in rows) == MNIST.classes
    assert [list(row) for row in rows] == [["label", "images", *KEYS]] * LABELS
    counts = np.array([row["images"] for row in rows])
    assert counts.tolist() == np.bincount(digits[1].labels).tolist()
    for key in ("loss", "reconstruction", "kl", "nll", "label_accuracy", "label_accuracy_iw", "label_gap"):
        assert np.average([row[key] for row in rows], weights=counts) == pytest.approx(figures[key], rel=1e-5), key
    for key in ("sample_accuracy", "sample_diversity"):
        assert np.mean([row[key] for row in rows]) == pytest.approx(figures[key]), key


def test_confusion_pairs_actual_and_predicted_classes(evaluation, digits):
    assert [pair["actual"] for pair in evaluation.confusion] == [MNIST.classes[label] for label in digits[1].labels]
    right = np.mean([pair["actual"] == pair["predicted"] for pair in evaluation.confusion])
    assert right == evaluation.figures["label_accuracy"]


def test_binary_pixels_are_measured_in_their_fixed_sample(model, digits, evaluation):
    first = evaluate(model, *digits, **SETTINGS | {"binarize": "static"})
    again = evaluate(model, *digits, **SETTINGS | {"binarize": "dynamic"})
    assert first == again, "the test images are the same"
    assert (first.pixels, evaluation.pixels) == ("binary", "grey")
    assert first.figures["reconstruction"] > evaluation.figures["reconstruction"] + 1
    assert first.figures["sample_accuracy"] == evaluation.figures["sample_accuracy"], "samples are grey either way"


@pytest.mark.parametrize(
    ("likelihood", "binarize", "expected"),
    [
        ("bernoulli", "static", 87 / PIXELS / math.log(2)),
        ("bernoulli", "dynamic", 87 / PIXELS / math.log(2)),
        ("gaussian", "none", (87 + PIXELS / 2 * math.log(math.pi)) / PIXELS / math.log(2) + math.log2(255)),
        ("bernoulli", "none", None),
        ("gaussian", "static", None),
    ],
)
def test_bits_per_dim_is_only_reported_if_the_likelihood_fits_the_pixels(likelihood, binarize, expected):
    figure = bits_per_dim(CVAE(MNIST, likelihood=likelihood), 87.0, binarize)
    assert figure == ({} if expected is None else {"bits_per_dim": pytest.approx(expected)})


def test_the_constant_is_the_one_of_torchs_gaussian():
    x = torch.rand(PIXELS)
    nll = -float(Normal(torch.zeros(PIXELS), 0.5**0.5).log_prob(x).sum())
    assert likelihood_constant(CVAE(MNIST)) == pytest.approx(nll - float(x.square().sum()), rel=1e-5)
    assert likelihood_constant(CVAE(MNIST, likelihood="bernoulli")) == 0


def table(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_evaluation_repeats_and_is_written_with_every_figure(model, digits, evaluation, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    write_evaluation(evaluation, tmp_path / "a", tmp_path / "a")
    write_evaluation(evaluate(model, *digits, **SETTINGS), tmp_path / "b", tmp_path / "b")
    names = ["confusion.csv", "per_class.csv", "per_latent.csv", "test.json", "validation.json"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    written = json.loads((tmp_path / "a/test.json").read_text())
    assert (written.pop("likelihood"), written.pop("pixels")) == ("gaussian", "grey")
    assert written == pytest.approx(evaluation.figures, rel=1e-7)
    rows = table(tmp_path / "a/per_class.csv")
    assert tuple(row["label"] for row in rows) == MNIST.classes
    assert {(row["likelihood"], row["pixels"]) for row in rows} == {("gaussian", "grey")}


def test_a_model_with_nan_weights_is_refused_and_the_figure_named(digits):
    model = CVAE(MNIST, hidden_dims=8).initialise(generator(0, "weights")).requires_grad_(False)
    model.pixel_logits.bias.fill_(math.nan)
    with pytest.raises(UserError, match=r"^loss of the test images is nan: [^\n]*$"):
        evaluate(model, *digits, **SETTINGS)


def test_the_rows_of_latents_agree_with_the_figures(evaluation, model):
    columns = ["latent", "active", "variance_of_mean", "mean", "std", "prior_distance"]
    assert [list(row) for row in evaluation.per_latent] == [columns] * model.latent_dims
    assert sum(row["active"] for row in evaluation.per_latent) == evaluation.figures["active_units"]
    distances = [row["prior_distance"] for row in evaluation.per_latent]
    assert np.mean(distances) == pytest.approx(evaluation.figures["prior_distance"])


def test_a_few_images_of_each_label_are_enough(model, digits):
    """Such a split comes from trying a subset."""
    few = np.concatenate([np.flatnonzero(digits[1].labels == label)[:3] for label in range(LABELS)])
    figures = evaluate(model, digits[0], Split(digits[1].images[few], digits[1].labels[few]), **SETTINGS).figures
    assert all(map(math.isfinite, figures.values()))


OF_LABELS = [key for key in KEYS if key.startswith(("label_", "sample_accuracy"))]


def made_up(schema: Schema, counts: list[int]) -> Split:
    """Return images of noise, as many of each class as `counts` says."""
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.uint8)
    return Split(np.random.RandomState(0).randint(0, 256, (len(labels), schema.image_dims)).astype(np.uint8), labels)


def schema_of(count: int, shape: tuple[int, int, int] = (4, 6, 1)) -> Schema:
    return Schema(shape, tuple(f"class {number}" for number in range(count)))


def untrained(schema: Schema, **settings) -> CVAE:
    return CVAE(schema, **{"hidden_dims": 8} | settings).initialise(generator(0, "weights")).requires_grad_(False)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_without_labels_the_figures_about_labels_are_absent(likelihood, tmp_path):
    schema = schema_of(3)
    train, test = made_up(schema, [9, 9, 9]), made_up(schema, [6, 1, 5])
    settings = SETTINGS | {"binarize": "none" if likelihood == "gaussian" else "static"}
    evaluation = evaluate(untrained(schema, labels="none", likelihood=likelihood), train, test, **settings)
    rest = [key for key in KEYS if key not in OF_LABELS]
    assert list(evaluation.figures) == rest
    assert all(map(math.isfinite, evaluation.figures.values()))

    write_evaluation(evaluation, tmp_path, tmp_path)
    assert (tmp_path / "confusion.csv").read_text() == "actual,predicted\n"
    rows = table(tmp_path / "per_class.csv")
    assert [row["label"] for row in rows] == list(schema.classes)
    rest.remove("sample_diversity")
    assert list(rows[0]) == ["likelihood", "pixels", "label", "images", *rest]
    losses = [float(row["loss"]) for row in rows]
    assert np.average(losses, weights=[6, 1, 5]) == pytest.approx(evaluation.figures["loss"], rel=1e-5)

    printed = format_figures(evaluation)
    assert "-ln p(image | z)\n" in printed
    assert re.search(r"upper bound on -ln p\(image\)$", printed, re.MULTILINE)
    assert "label" not in printed


def test_a_model_that_is_given_labels_is_explained_with_them(evaluation):
    printed = format_figures(evaluation)
    assert "-ln p(image | z, label)\n" in printed
    assert "upper bound on -ln p(image | label)\n" in printed


@pytest.mark.parametrize("labels", ["given", "none"])
@pytest.mark.parametrize("count", [1, 2, 47, 200])
def test_any_number_of_classes_is_measured(count, labels):
    schema = schema_of(count)
    train, test = made_up(schema, [2] * count), made_up(schema, [1] * count)
    evaluation = evaluate(untrained(schema, labels=labels), train, test, **SETTINGS)
    assert [row["label"] for row in evaluation.per_class] == list(schema.classes)
    assert all(map(math.isfinite, evaluation.figures.values()))
    if labels == "given":
        assert {pair["actual"] for pair in evaluation.confusion} == set(schema.classes)
        assert {pair["predicted"] for pair in evaluation.confusion} <= set(schema.classes)
        if count == 1:
            assert (evaluation.figures["label_accuracy"], evaluation.figures["label_gap"]) == (1, 0)
            assert evaluation.figures["sample_accuracy"] == 1


def test_a_class_without_test_images_has_no_row_and_one_with_a_single_image_no_diversity(tmp_path):
    schema = schema_of(4)
    train = made_up(schema, [2, 2, 2, 2])
    evaluation = evaluate(untrained(schema), train, made_up(schema, [1, 0, 3, 1]), **SETTINGS)
    write_evaluation(evaluation, tmp_path, tmp_path)
    rows = table(tmp_path / "per_class.csv")
    assert [row["label"] for row in rows] == ["class 0", "class 2", "class 3"]
    assert list(rows[0])[4:] == KEYS, "in the order of test.json"
    assert [row["sample_diversity"] == "" for row in rows] == [True, False, True]
    assert float(rows[1]["sample_diversity"]) == pytest.approx(evaluation.figures["sample_diversity"], rel=1e-6)


@pytest.mark.parametrize("labels", ["given", "none"])
@pytest.mark.parametrize("kind", ["one image", "the same image twice"])
def test_two_training_images_and_too_few_test_images_for_a_diversity_are_enough(kind, labels):
    schema = schema_of(2)
    test = made_up(schema, [1])
    if kind == "the same image twice":
        test = Split(test.images.repeat(2, axis=0), test.labels.repeat(2))
    evaluation = evaluate(untrained(schema, labels=labels), made_up(schema, [1, 1]), test, **SETTINGS)
    assert "sample_diversity" not in evaluation.figures
    assert all(map(math.isfinite, evaluation.figures.values()))


@pytest.mark.parametrize("binarize", ["none", "static"])
def test_colour_images_are_measured_per_pixel_and_channel(binarize):
    schema = schema_of(2, (64, 64, 3))
    model = untrained(schema, likelihood="gaussian" if binarize == "none" else "bernoulli")
    train, test = made_up(schema, [3, 3]), made_up(schema, [2, 2])
    evaluation = evaluate(model, train, test, **SETTINGS | {"binarize": binarize})
    figures = evaluation.figures
    values = 64 * 64 * 3
    if binarize == "none":
        assert evaluation.pixels == "colour"
        assert figures["likelihood_constant"] == pytest.approx(values / 2 * math.log(math.pi))
        bits = (figures["nll"] + figures["likelihood_constant"]) / values / math.log(2) + math.log2(255)
    else:
        assert evaluation.pixels == "binary"
        assert figures["likelihood_constant"] == 0
        bits = figures["nll"] / values / math.log(2)
        assert bits == pytest.approx(1, abs=0.1), "binary noise has one bit per pixel and channel"
    assert figures["bits_per_dim"] == pytest.approx(bits)


class OnDevice(torch.Tensor):
    """A tensor as on Apple's MPS: no operation may make it float64. `cpu` turns it into an ordinary tensor."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        result = super().__torch_function__(function, types, args, kwargs)
        if function is torch.Tensor.cpu:
            return result.as_subclass(torch.Tensor)
        assert getattr(result, "dtype", None) != torch.float64, f"{function} makes float64 on the device"
        return result


def on_device(model: CVAE) -> CVAE:
    """Return a copy of `model` whose parameters, and so all of its results, are `OnDevice`."""
    model = copy.deepcopy(model)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            module.register_parameter(name, nn.Parameter(parameter.detach().as_subclass(OnDevice), requires_grad=False))
    return model


def test_nothing_becomes_float64_on_the_device(model, digits, evaluation):
    """MPS has no float64."""
    copied = on_device(model)
    assert isinstance(copied.decode(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)), OnDevice)
    with pytest.raises(AssertionError, match="float64"):
        copied.pixel_logits.bias.double()
    assert evaluate(copied, *digits, **SETTINGS) == evaluation
