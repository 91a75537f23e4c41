"""The figures of metrics/test.json, each against what it is defined to be on a case that is known."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch.distributions import Independent, Normal

from cvae.compute.devices import open_device
from cvae.compute.seeding import generator
from cvae.data.idx import LABELS, PIXELS, Split
from cvae.evaluation import samples
from cvae.evaluation.evaluate import bits_per_dim, evaluate, likelihood_constant, write_evaluation
from cvae.evaluation.latents import active, aggregate_moments, posteriors, prior_distance
from cvae.evaluation.samples import confidence_interval, mean_distance, nearest_labels
from cvae.model import CVAE
from cvae.support.errors import UserError
from cvae.training.loop import Training

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
    """Trained for long enough to know its labels."""
    device = open_device("cpu", threads=1)
    model = CVAE(hidden_dims=64).initialise(generator(0, "weights")).to(device)
    for _ in Training(model, *digits, epochs=40, batch_size=32, learning_rate=3e-3, beta=1.0, seed=0):
        pass
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def evaluation(model, digits):
    return evaluate(model, *digits, **SETTINGS)


def test_every_figure_is_there_and_finite(evaluation):
    assert list(evaluation.figures) == KEYS
    assert all(map(math.isfinite, evaluation.figures.values()))


def test_figures_hold_together(evaluation):
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


def test_a_model_that_ignores_its_label_scores_as_chance_does(model, digits):
    deaf = CVAE(hidden_dims=64)
    deaf.load_state_dict(model.state_dict())
    deaf.requires_grad_(False)
    for layer in (deaf.encoder, deaf.decoder):
        layer.label_weight.copy_(layer.label_weight.mean(0).expand(LABELS, -1))
    figures = evaluate(deaf, *digits, **SETTINGS).figures
    zeros = np.mean(digits[1].labels == 0)
    assert figures["label_accuracy"] == pytest.approx(zeros), "all labels are as likely, and the first is taken"
    assert figures["label_gap"] == pytest.approx(0, abs=1e-5)
    assert figures["sample_accuracy"] < 0.3


def test_label_gap_is_the_mean_rise_over_shuffles(model, digits, evaluation):
    """By torch.distributions, with the labels of one shuffle after another."""
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


def test_a_row_a_digit_adds_up_to_the_whole(evaluation, digits):
    rows, figures = evaluation.per_digit, evaluation.figures
    assert [row["digit"] for row in rows] == list(range(LABELS))
    assert [list(row) for row in rows] == [["digit", "images", *KEYS]] * LABELS
    counts = np.array([row["images"] for row in rows])
    assert counts.tolist() == np.bincount(digits[1].labels).tolist()
    for key in ("loss", "reconstruction", "kl", "nll", "label_accuracy", "label_accuracy_iw", "label_gap"):
        assert np.average([row[key] for row in rows], weights=counts) == pytest.approx(figures[key], rel=1e-5), key
    for key in ("sample_accuracy", "sample_diversity"):
        assert np.mean([row[key] for row in rows]) == pytest.approx(figures[key]), key


def test_confusion_has_the_label_of_each_image_beside_what_it_is_taken_for(evaluation, digits):
    assert [pair["actual"] for pair in evaluation.confusion] == digits[1].labels.tolist()
    right = np.mean([pair["actual"] == pair["predicted"] for pair in evaluation.confusion])
    assert right == evaluation.figures["label_accuracy"]


def test_binary_pixels_are_measured_in_their_fixed_draw(model, digits, evaluation):
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
        ("gaussian", "none", (87 + 448.734115) / PIXELS / math.log(2) + math.log2(255)),
        ("bernoulli", "none", None),
        ("gaussian", "static", None),
    ],
)
def test_bits_per_dim_is_there_where_the_likelihood_is_of_such_pixels(likelihood, binarize, expected):
    figure = bits_per_dim(CVAE(likelihood=likelihood), 87.0, binarize)
    assert figure == ({} if expected is None else {"bits_per_dim": pytest.approx(expected)})


def test_the_constant_is_what_torchs_gaussian_has_more():
    x = torch.rand(PIXELS)
    whole = -float(Normal(torch.zeros(PIXELS), 0.5**0.5).log_prob(x).sum())
    assert likelihood_constant(CVAE()) == pytest.approx(whole - float(x.square().sum()), rel=1e-5)
    assert likelihood_constant(CVAE(likelihood="bernoulli")) == 0


def test_evaluation_repeats_and_is_written_with_every_figure(model, digits, evaluation, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    write_evaluation(evaluation, tmp_path / "a", tmp_path / "a")
    write_evaluation(evaluate(model, *digits, **SETTINGS), tmp_path / "b", tmp_path / "b")
    names = ["confusion.csv", "per_digit.csv", "per_latent.csv", "test.json"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    written = json.loads((tmp_path / "a/test.json").read_text())
    assert (written.pop("likelihood"), written.pop("pixels")) == ("gaussian", "grey")
    assert written == pytest.approx(evaluation.figures, rel=1e-7)
    with open(tmp_path / "a/per_digit.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["digit"]) for row in rows] == list(range(LABELS))
    assert {(row["likelihood"], row["pixels"]) for row in rows} == {("gaussian", "grey")}


def test_a_model_of_no_numbers_is_refused_with_the_figure(digits):
    model = CVAE(hidden_dims=8).initialise(generator(0, "weights")).requires_grad_(False)
    model.pixel_logits.bias.fill_(math.nan)
    with pytest.raises(UserError, match=r"^loss of the test images is nan: [^\n]*$"):
        evaluate(model, *digits, **SETTINGS)


# Samples


def test_neighbours_are_those_of_scikit_learn(digits, monkeypatch):
    monkeypatch.setattr(samples, "CHUNK", 100)
    train_split, test = digits
    known, asked = train_split.images / 255, test.images / 255
    theirs = KNeighborsClassifier(5, algorithm="brute").fit(known, train_split.labels)
    ours = nearest_labels(
        torch.tensor(asked).float(), torch.tensor(known).float(), torch.tensor(train_split.labels).long()
    )
    votes = theirs.predict_proba(asked)
    clear = np.sort(votes)[:, -1] > np.sort(votes)[:, -2]
    assert clear.mean() > 0.95
    assert np.array_equal(ours.numpy()[clear], theirs.predict(asked)[clear])


def test_a_tie_goes_to_the_nearest():
    known = torch.tensor([[0.1], [0.2], [0.3], [0.4], [0.5], [9.0]])
    votes = torch.tensor([4, 7, 7, 4, 1, 4])
    assert nearest_labels(torch.tensor([[0.0]]), known, votes).tolist() == [4]
    assert nearest_labels(torch.tensor([[0.21]]), known, votes).tolist() == [7]


def test_confidence_interval_is_the_published_one():
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    for successes, trials, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert confidence_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_mean_distance_is_of_different_images():
    assert mean_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])) == pytest.approx(10 / 3)


# Latents


def test_active_units_are_the_dimensions_whose_mean_varies():
    model = CVAE(latent_dims=3).initialise(generator(0, "weights"))
    with torch.no_grad():
        model.posterior.weight[1:3] = 0  # two of three posterior means are constant
        model.posterior.weight[0] *= 100
    images = torch.rand(50, PIXELS, generator=torch.Generator().manual_seed(0))
    mu, _ = posteriors(model, images, torch.zeros(50, dtype=torch.int64))
    assert active(mu).tolist() == [True, False, False]


def test_the_prior_itself_is_no_distance_away_and_a_shift_is_its_size():
    sigma = torch.full((10, 3), 0.5)
    mu = torch.tensor([0.0, 0.5, -2.0]).expand(10, 3)
    assert prior_distance(mu, sigma, 0.5).tolist() == pytest.approx([0, 1, 4], abs=1e-3)


def test_distance_is_that_of_scipy_between_samples():
    from scipy.stats import wasserstein_distance

    numbers = np.random.default_rng(0)
    mu, sigma = numbers.normal(0.3, 1.5, (400, 2)), numbers.uniform(0.1, 0.4, (400, 2))
    drawn = mu + sigma * numbers.normal(size=(500, 400, 2))
    theirs = [wasserstein_distance(drawn[:, :, d].ravel(), numbers.normal(0, 0.7, 200_000)) / 0.7 for d in range(2)]
    ours = prior_distance(torch.tensor(mu).float(), torch.tensor(sigma).float(), 0.7)
    assert ours.tolist() == pytest.approx(theirs, abs=0.02)


def test_moments_of_the_aggregate_posterior_are_those_of_its_samples():
    numbers = np.random.default_rng(0)
    mu, sigma = numbers.normal(0.3, 1.5, (400, 2)), numbers.uniform(0.1, 2, (400, 2))
    drawn = (mu + sigma * numbers.normal(size=(2000, 400, 2))).reshape(-1, 2)
    moments = aggregate_moments(torch.tensor(mu), torch.tensor(sigma))
    np.testing.assert_allclose(moments["mean"], drawn.mean(0), atol=0.01)
    np.testing.assert_allclose(moments["std"], drawn.std(0), atol=0.01)


def test_a_row_a_latent_says_what_it_is_used_for(evaluation, model):
    columns = ["latent", "active", "variance_of_mean", "mean", "std", "prior_distance"]
    assert [list(row) for row in evaluation.per_latent] == [columns] * model.latent_dims
    assert sum(row["active"] for row in evaluation.per_latent) == evaluation.figures["active_units"]
    distances = [row["prior_distance"] for row in evaluation.per_latent]
    assert np.mean(distances) == pytest.approx(evaluation.figures["prior_distance"])


def test_a_few_images_of_each_label_will_do(model, digits):
    """A split of few images of each label, as when someone tries a subset."""
    few = np.concatenate([np.flatnonzero(digits[1].labels == label)[:3] for label in range(LABELS)])
    figures = evaluate(model, digits[0], Split(digits[1].images[few], digits[1].labels[few]), **SETTINGS).figures
    assert all(map(math.isfinite, figures.values()))
