import numpy as np
import pytest

from cvae.data.binarisation import binarised, sample_thresholds, threshold_generator
from cvae.data.idx import Split


@pytest.fixture(scope="module")
def grey() -> Split:
    """A thousand images, each of all grey levels."""
    return Split(np.tile(np.arange(784) % 256, (1000, 1)).astype(np.uint8), np.zeros(1000, np.uint8))


def test_a_pixel_is_ink_with_the_probability_of_its_grey_level(grey):
    drawn = binarised(grey, "test").images
    assert set(np.unique(drawn)) == {0, 255}
    share = (drawn[:, :256] == 255).mean(0)
    expected = np.arange(256) / 255
    spread = np.sqrt(expected * (1 - expected) / 1000)
    assert (np.abs(share - expected) <= 4.5 * spread).all(), "empty pixels stay empty, and full ones full"
    assert abs(np.mean((share - expected)[1:255] / spread[1:255])) < 0.2


def test_the_fixed_draw_repeats_and_each_split_has_its_own(grey):
    first, again, other = (binarised(grey, name).images for name in ("test", "test", "train"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(binarised(grey, "test").labels, grey.labels)


def test_each_epoch_and_each_seed_draws_anew():
    shape = (3, 784)
    stream = threshold_generator(0)
    first, second, other = (sample_thresholds(each, shape) for each in (stream, stream, threshold_generator(1)))
    assert np.array_equal(first, sample_thresholds(threshold_generator(0), shape))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)
