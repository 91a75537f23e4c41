import math

import numpy as np
import pytest
import torch
from helpers.models import MNIST
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.neighbors import KNeighborsClassifier

from cvae.compute.seeding import generator
from cvae.data.dataset import Schema, Split
from cvae.evaluation import samples
from cvae.evaluation.samples import (
    confidence_interval,
    diversity,
    judge_samples,
    mean_distance,
    nearest_labels,
    sample_images,
)
from cvae.model import CVAE, sample_prior

LABELS, PIXELS = len(MNIST.classes), MNIST.image_dims


def test_sampled_images_repeat_and_are_decoded_with_their_label():
    model = CVAE(MNIST, hidden_dims=4).initialise(generator(0, "weights")).requires_grad_(False)
    model.decoder.weight.zero_()  # so that an image depends on its label alone
    images = sample_images(model, 3, seed=0)
    assert images.shape == (LABELS, 3, PIXELS)
    expected = model.decode(torch.zeros(LABELS, model.latent_dims), torch.arange(LABELS))
    torch.testing.assert_close(images, expected[:, None].expand(-1, 3, -1))
    assert torch.equal(images, sample_images(model, 3, seed=0))


def test_neighbours_equal_those_of_scikit_learn(digits, monkeypatch):
    monkeypatch.setattr(samples, "DISTANCES", 100 * len(digits[0]))
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


def test_a_tie_goes_to_the_nearest_neighbour():
    known = torch.tensor([[0.1], [0.2], [0.3], [0.4], [0.5], [9.0]])
    votes = torch.tensor([4, 7, 7, 4, 1, 4])
    assert nearest_labels(torch.tensor([[0.0]]), known, votes).tolist() == [4]
    assert nearest_labels(torch.tensor([[0.21]]), known, votes).tolist() == [7]


def test_confidence_interval_is_the_published_one():
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    for successes, trials, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert confidence_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(successes=st.integers(0, 10_000), failures=st.integers(0, 10_000))
def test_confidence_interval_equals_scipys(successes, failures):
    trials = successes + failures or 1
    theirs = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert confidence_interval(successes, trials) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_a_model_without_labels_is_sampled_once_for_all():
    model = CVAE(MNIST, labels="none", hidden_dims=4).initialise(generator(0, "weights")).requires_grad_(False)
    images = sample_images(model, 5, seed=0)
    assert images.shape == (1, 5, PIXELS)
    assert torch.equal(images[0], model.decode(sample_prior(model, 5, generator(0, "drawn samples")), None))


@pytest.mark.parametrize(("classes", "each"), [(1, 300), (2, 300), (10, 300), (47, 63), (200, 30)])
def test_many_classes_share_the_samples(classes, each, monkeypatch):
    asked = []
    monkeypatch.setattr(samples, "sample_images", lambda model, count, seed: asked.append(count) or torch.rand(1, 2, 4))
    schema = Schema((2, 2, 1), tuple(map(str, range(classes))))
    images = Split(np.zeros((3, 4), np.uint8), np.zeros(3, np.uint8))
    judge_samples(CVAE(schema, hidden_dims=2), images, images, seed=0)
    assert asked == [each]


def test_of_many_images_sorted_by_class_the_diversity_is_that_of_a_mixture():
    numbers = torch.Generator().manual_seed(0)
    originals = (torch.arange(3000) // 300)[:, None] + 0.1 * torch.rand(3000, 4, generator=numbers)
    mixed = originals[torch.randperm(3000, generator=numbers)[:500]]
    assert diversity(mixed, originals) == pytest.approx(1, rel=0.03)
    assert diversity(2 * mixed, originals) == pytest.approx(2, rel=0.03)


def test_no_diversity_is_measured_if_no_two_originals_differ():
    images = torch.rand(3, 4)
    assert all(math.isnan(diversity(images, originals)) for originals in (images[:0], images[:1], images[[1, 1]]))


def test_mean_distance_is_over_pairs_of_different_images():
    assert mean_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])) == pytest.approx(10 / 3)
