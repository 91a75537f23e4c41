"""Binary images, drawn from grey ones: a pixel is ink with the probability of its grey level.

Salakhutdinov and Murray 2008, "On the quantitative analysis of deep belief networks", section 5, draw them once;
Burda, Grosse and Salakhutdinov 2016, section 5, draw training images anew whenever they are used.
"""

import numpy as np

from cvae.compute.seeding import frozen_stream
from cvae.data.idx import Split


def binarised(split: Split, name: str) -> Split:
    """The one fixed draw of the split called `name` ("train" or "test"): pixels 0 or 255, whatever a run's seed."""
    levels = draw_levels(frozen_stream(0, f"binarisation/{name}"), split.images.shape)
    return Split(np.where(split.images > levels, 255, 0).astype(np.uint8), split.labels)


def epochs_stream(seed: int) -> np.random.RandomState:
    """The stream from which each epoch's levels are drawn, one epoch after another."""
    return frozen_stream(seed, "binarisation")


def draw_levels(stream: np.random.RandomState, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 of `shape`: a pixel is ink where its grey level, 0 to 255, is above it."""
    return stream.randint(0, 255, shape, np.uint8)  # 0 to 254: full ink is always above, no ink never
