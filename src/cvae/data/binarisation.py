"""Sample binary images from grey ones: a pixel becomes ink with a probability equal to its grey level.

In a colour image, each channel of a pixel is sampled on its own, as the likelihood takes them to be independent: a
pixel becomes one of eight colours.

Salakhutdinov and Murray 2008, "On the quantitative analysis of deep belief networks", section 5, sample each image
once. Burda, Grosse and Salakhutdinov 2016, section 5, sample training images again each time they are used.
"""

from dataclasses import replace

import numpy as np

from cvae.compute.seeding import numpy_generator
from cvae.data.dataset import Dataset, Split


def as_seen(data: Dataset, binarize: str) -> Dataset:
    """Return `data` as the model sees it: unchanged if `binarize` is "none", otherwise with binary pixels."""
    if binarize == "none":
        return data
    return replace(data, **{name: binarised(split, name) for name, split in data.splits.items()})


def binarised(split: Split, name: str) -> Split:
    """Return `split` with binary pixels, 0 or 255: always the same ones for a `name` and a number of images."""
    thresholds = sample_thresholds(numpy_generator(0, f"binarisation/{name}"), split.images.shape)
    return replace(split, images=np.where(split.images > thresholds, 255, 0).astype(np.uint8))


def threshold_generator(seed: int) -> np.random.RandomState:
    """Return the generator that samples the thresholds of one epoch after another."""
    return numpy_generator(seed, "binarisation")


def sample_thresholds(numbers: np.random.RandomState, shape: tuple[int, ...]) -> np.ndarray:
    """Sample a uint8 threshold for each pixel of `shape`; a pixel becomes ink if its grey level is above it."""
    return numbers.randint(0, 255, shape, np.uint8)  # 0 to 254, so 255 is always ink and 0 never
