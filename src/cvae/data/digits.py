"""scikit-learn's handwritten digits, as a small data set that needs no network."""

from pathlib import Path

import numpy as np

from cvae.data.dataset import Dataset, Schema, Split, save
from cvae.data.names import LABEL_NAMES, TITLES


def write_digits(folder: str | Path) -> None:
    """Write scikit-learn's 1,797 handwritten digits to `folder`.

    Each 8×8 image of 17 grey levels is enlarged to 20×20 pixels and centred in 28×28, as MNIST's are. A fixed
    permutation assigns 1,500 images to the training split and 297 to the test split.
    Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI, 1998.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    images = np.zeros((len(small), 28, 28), np.uint8)
    for image, source in zip(images, small, strict=True):
        image[4:24, 4:24] = Image.fromarray(source).resize((20, 20), Image.Resampling.BICUBIC)
    order = np.random.RandomState(0).permutation(len(images))  # NumPy promises not to change RandomState's numbers
    images, labels = images[order].reshape(len(images), -1), digits.target.astype(np.uint8)[order]
    schema = Schema((28, 28, 1), LABEL_NAMES["digits"], TITLES["digits"], ink=True)
    save(Dataset(Split(images[:1500], labels[:1500]), Split(images[1500:], labels[1500:]), schema), folder)
