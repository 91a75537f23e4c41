"""Validation images: which training images are held out."""

import numpy as np
import pytest

from cvae.data.dataset import Dataset, Schema, Split
from cvae.data.validation import hold_out
from cvae.support.errors import UserError

COUNTS = (100, 40, 7)  # training images of each class


@pytest.fixture(scope="module")
def data() -> Dataset:
    """A data set whose images are their own numbers, in random order of classes."""
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(3), COUNTS)).astype(np.uint8)
    train = Split(np.arange(len(labels), dtype=np.uint8)[:, None], labels)
    return Dataset(train, Split(train.images[:5], labels[:5]), Schema((1, 1, 1), ("a", "b", "c")))


def numbers(split: Split) -> list[int]:
    return split.images[:, 0].tolist()


@pytest.mark.parametrize("count", [1, 10, 50, 100])
def test_each_class_gives_its_share_rounded_up_or_down(data, count):
    held = hold_out(data, count, seed=0)
    assert len(held.validation) == count
    for label, images in enumerate(COUNTS):
        given = int((held.validation.labels == label).sum())
        assert abs(given - count * images / sum(COUNTS)) < 1


def test_every_training_image_is_either_trained_on_or_held_out_in_its_order_and_with_its_label(data):
    held = hold_out(data, 30, seed=0)
    assert sorted(numbers(held.train) + numbers(held.validation)) == numbers(data.train)
    for split in (held.train, held.validation):
        assert numbers(split) == sorted(numbers(split))
        assert np.array_equal(split.labels, data.train.labels[numbers(split)])
    assert held.test is data.test


def test_the_seed_decides_which_images(data):
    chosen = [numbers(hold_out(data, 30, seed).validation) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_images_of_a_class_are_chosen_at_random(data):
    """Over many seeds, each image is held out about equally often."""
    chosen = np.zeros(len(data.train))
    for seed in range(300):
        chosen[numbers(hold_out(data, 30, seed).validation)] += 1
    share = 30 / len(chosen)
    assert (np.abs(chosen / 300 - share) < 4.5 * np.sqrt(share * (1 - share) / 300)).all()


def test_without_validation_images_nothing_changes(data):
    assert hold_out(data, 0, seed=0) is data
    assert (list(data.splits), data.held_out) == (["train", "test"], "test")
    held = hold_out(data, 30, seed=0)
    assert (list(held.splits), held.held_out) == (["train", "validation", "test"], "validation")


@pytest.mark.parametrize("count", [147, 1000])
def test_as_many_as_there_are_training_images_are_refused(data, count):
    with pytest.raises(UserError, match=rf"^validation_images is {count}, but there are only 147 training images"):
        hold_out(data, count, seed=0)


def test_a_class_without_training_images_is_refused(data):
    with pytest.raises(UserError, match=r"^validation_images is 146, which leaves no training image of class "):
        hold_out(data, 146, seed=0)
