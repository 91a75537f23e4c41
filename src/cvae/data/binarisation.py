"""Sample binary images from grey ones: a pixel becomes ink with a probability equal to its grey level.

Salakhutdinov and Murray 2008, "On the quantitative analysis of deep belief networks", section 5, sample them once.
Burda, Grosse and Salakhutdinov 2016, section 5, sample training images again each time they are used.
"""

import numpy as np

from cvae.compute.seeding import frozen_stream
from cvae.data.idx import Split


def binarised(split: Split, name: str) -> Split:
    """Return the fixed binary sample of the split called `name` ("train" or "test"): 0 or 255, whatever the seed."""
    levels = draw_levels(frozen_stream(0, f"binarisation/{name}"), split.images.shape)
    return Split(np.where(split.images > levels, 255, 0).astype(np.uint8), split.labels)


def epochs_stream(seed: int) -> np.random.RandomState:
    """Return the random generator for the levels of all epochs, sampled one epoch after another."""
    return frozen_stream(seed, "binarisation")


def draw_levels(stream: np.random.RandomState, shape: tuple[int, ...]) -> np.ndarray:
    """Sample a uint8 threshold for each pixel of `shape`; a pixel is ink if its grey level, 0 to 255, is above it."""
    return stream.randint(0, 255, shape, np.uint8)  # 0 to 254, so 255 is always ink and 0 never
