import numpy as np
import pytest

from cvae.data import dataset
from cvae.data.binarisation import as_seen, binarised, sample_thresholds, threshold_generator
from cvae.data.dataset import Split
from cvae.data.digits import write_digits
from cvae.data.validation import hold_out

LEVELS, PIXELS = 256, 784


@pytest.fixture(scope="module")
def grey() -> Split:
    """A thousand images, each with all grey levels."""
    return Split(np.tile(np.arange(PIXELS) % LEVELS, (1000, 1)).astype(np.uint8), np.zeros(1000, np.uint8))


def test_a_pixel_is_ink_with_the_probability_of_its_grey_level(grey):
    binary = binarised(grey, "test").images
    assert set(np.unique(binary)) == {0, 255}
    share = (binary[:, :LEVELS] == 255).mean(0)
    expected = np.arange(LEVELS) / 255
    spread = np.sqrt(expected * (1 - expected) / 1000)
    assert (np.abs(share - expected) <= 4.5 * spread).all(), "empty pixels stay empty, and full ones full"
    assert abs(np.mean((share - expected)[1:255] / spread[1:255])) < 0.2


def test_the_fixed_sample_repeats_and_differs_between_splits(grey):
    first, again, other = (binarised(grey, name).images for name in ("test", "test", "train"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(binarised(grey, "test").labels, grey.labels)


def test_thresholds_differ_between_epochs_and_seeds():
    shape = (3, PIXELS)
    numbers = threshold_generator(0)
    first, second, other = (sample_thresholds(each, shape) for each in (numbers, numbers, threshold_generator(1)))
    assert np.array_equal(first, sample_thresholds(threshold_generator(0), shape))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("binarize", ["none", "static", "dynamic"])
def test_a_data_set_is_seen_grey_or_in_the_fixed_sample_of_each_split(binarize, tmp_path):
    write_digits(tmp_path)
    original = hold_out(dataset.load(tmp_path), 300, seed=0)
    data = as_seen(original, binarize)
    assert data.schema == original.schema
    assert list(data.splits) == ["train", "validation", "test"]
    for name, grey in original.splits.items():
        loaded = data.splits[name]
        expected = grey if binarize == "none" else binarised(grey, name)
        assert np.array_equal(loaded.images, expected.images)
        assert np.array_equal(loaded.labels, grey.labels)
