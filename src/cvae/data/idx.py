"""The data sets: four gzipped IDX files each, read from a folder into arrays."""

import gzip
import io
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvae.support.errors import UserError
from cvae.support.files import write_whole

MOST_DEFLATED = 1032  # times as long as its gzip file are the values at most: 258 bytes from two bits
AGAIN = "`dvc repro -sf download` brings it back"

SIDE = 28
PIXELS = SIDE * SIDE
LABELS = 10

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "kmnist": "Kuzushiji-MNIST", "digits": "UCI digits"}
_FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
LABEL_NAMES = {
    "mnist": tuple("0123456789"),
    "digits": tuple("0123456789"),
    "fashion-mnist": tuple(f"{label} {name}" for label, name in enumerate(_FASHION)),
    "kmnist": tuple(f"{label} {name}" for label, name in enumerate(_KUZUSHIJI)),
}


@dataclass(frozen=True)
class Split:
    """`images`: (n, 784) uint8, 0 is background and 255 full ink. `labels`: (n,) uint8, 0 to 9."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def load(folder: str | Path) -> tuple[Split, Split]:
    """Read the training and the test split from the four IDX files in `folder`.

    Raises:
        UserError: a file is missing, cut short or not what its name says.
    """
    folder = Path(folder)
    return (
        _split(folder / TRAIN_IMAGES, folder / TRAIN_LABELS),
        _split(folder / TEST_IMAGES, folder / TEST_LABELS),
    )


def _split(images_path: Path, labels_path: Path) -> Split:
    images, labels = read_idx(images_path, dimensions=3), read_idx(labels_path, dimensions=1)
    if images.shape[1:] != (SIDE, SIDE):
        raise UserError(
            f"{images_path}: images are {images.shape[1]} by {images.shape[2]} pixels, not {SIDE} by {SIDE}; {AGAIN}"
        )
    if len(images) != len(labels):
        told = f"{len(images)} images, but {len(labels)} labels in {labels_path.name}"
        raise UserError(f"{images_path}: {told}; {AGAIN}")
    if labels.max() >= LABELS:
        told = f"label {labels.max()} of image {labels.argmax()} is not a digit from 0 to 9"
        raise UserError(f"{labels_path}: {told}; {AGAIN}")
    return Split(images.reshape(-1, PIXELS), labels)


def read_idx(path: str | Path, dimensions: int) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes with `dimensions` dimensions.

    The format: two zero bytes, 0x08 for unsigned bytes, the number of dimensions, each dimension
    as a big-endian uint32, then the values (LeCun, Cortes and Burges, "The MNIST database").
    No more is decompressed than the header announces, nor than a file of this length can hold: that bounds memory.

    Raises:
        UserError: missing, not gzip, another type of file, or of another length than its header says.
    """
    path = Path(path)
    try:
        with gzip.open(path) as file:
            magic = file.read(4)
            if magic != bytes((0, 0, 8, dimensions)):
                raise ValueError(f"not an IDX file of bytes with {dimensions} dimensions (starts {magic.hex()})")
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            if 0 in shape:
                raise ValueError("its header announces no values")
            size = math.prod(shape)
            if size > min(2**30, MOST_DEFLATED * path.stat().st_size):  # reading takes memory for all at once
                raise ValueError(f"its header announces {size:,} bytes, which it cannot hold")
            values = file.read(size)
            if len(values) < size or file.read(1):
                more_or_less = "fewer" if len(values) < size else "more"
                raise ValueError(f"holds {more_or_less} than the {size:,} bytes that its header announces")
    except FileNotFoundError:
        raise UserError(f"{path}: missing; `dvc repro download` brings it back") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, struct.error) as error:
        raise UserError(f"{path}: damaged ({error}); {AGAIN}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}; {AGAIN}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return np.frombuffer(values, np.uint8).reshape(shape)


def write_idx(path: str | Path, values: np.ndarray) -> None:
    """Write `values` (uint8, any shape) as a gzipped IDX file; the same values give the same bytes."""
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
        file.write(header + np.ascontiguousarray(values, np.uint8).tobytes())
    write_whole({path: packed.getvalue()})


def write_digits(folder: str | Path) -> None:
    """Write scikit-learn's 1,797 handwritten digits as the four files of an MNIST-like data set.

    Each 8×8 image of 17 grey levels becomes 20×20 pixels, centred in 28×28 as MNIST's are. A fixed
    permutation puts 1,500 into the training split and 297 into the test split.
    Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI, 1998.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    images = np.zeros((len(small), SIDE, SIDE), np.uint8)
    for image, source in zip(images, small, strict=True):
        image[4:24, 4:24] = Image.fromarray(source).resize((20, 20), Image.Resampling.BICUBIC)
    order = np.random.RandomState(0).permutation(len(images))  # RandomState's stream is frozen by NumPy's policy
    images, labels = images[order], digits.target.astype(np.uint8)[order]

    folder = Path(folder)
    write_idx(folder / TRAIN_IMAGES, images[:1500])
    write_idx(folder / TRAIN_LABELS, labels[:1500])
    write_idx(folder / TEST_IMAGES, images[1500:])
    write_idx(folder / TEST_LABELS, labels[1500:])
