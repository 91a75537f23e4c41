"""Read and write data sets, each stored as four gzipped IDX files in a folder."""

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

MOST_DEFLATED = 1032  # gzip's highest compression ratio: 258 bytes from two bits
REMEDY = "`dvc repro -sf download` brings it back"

SIDE = 28
PIXELS = SIDE * SIDE
LABELS = 10

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@dataclass(frozen=True)
class Split:
    """Images, (n, 784) uint8 from 0 (background) to 255 (full ink), and their labels, (n,) uint8 from 0 to 9."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def load(folder: str | Path) -> tuple[Split, Split]:
    """Read the training and the test split from the four IDX files in `folder`.

    Raises:
        UserError: a file is missing, truncated or not what its name says.
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
            f"{images_path}: images are {images.shape[1]} by {images.shape[2]} pixels, not {SIDE} by {SIDE}; {REMEDY}"
        )
    if len(images) != len(labels):
        message = f"{len(images)} images, but {len(labels)} labels in {labels_path.name}"
        raise UserError(f"{images_path}: {message}; {REMEDY}")
    if labels.max() >= LABELS:
        message = f"label {labels.max()} of image {labels.argmax()} is not a digit from 0 to 9"
        raise UserError(f"{labels_path}: {message}; {REMEDY}")
    return Split(images.reshape(-1, PIXELS), labels)


def read_idx(path: str | Path, dimensions: int) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes with `dimensions` dimensions.

    The format: two zero bytes, 0x08 for unsigned bytes, the number of dimensions, the size of each dimension as a
    big-endian uint32, then the values (LeCun, Cortes and Burges, "The MNIST database"). To bound memory, this
    decompresses only as much as the header announces, and refuses a header that announces more than the file can hold.

    Raises:
        UserError: the file is missing, is not gzip or such an IDX file, or differs in length from its header.
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
            if size > min(2**30, MOST_DEFLATED * path.stat().st_size):  # read() below allocates this much at once
                raise ValueError(f"its header announces {size:,} bytes, which it cannot hold")
            values = file.read(size)
            if len(values) < size or file.read(1):
                more_or_less = "fewer" if len(values) < size else "more"
                raise ValueError(f"holds {more_or_less} than the {size:,} bytes that its header announces")
    except FileNotFoundError:
        raise UserError(f"{path}: missing; `dvc repro download` brings it back") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, struct.error) as error:
        raise UserError(f"{path}: damaged ({error}); {REMEDY}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}; {REMEDY}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return np.frombuffer(values, np.uint8).reshape(shape)


def write_idx(path: str | Path, values: np.ndarray) -> None:
    """Write `values` (uint8, any shape) to a gzipped IDX file; the same values give the same bytes."""
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
        file.write(header + np.ascontiguousarray(values, np.uint8).tobytes())
    write_whole({path: buffer.getvalue()})


def write_digits(folder: str | Path) -> None:
    """Write scikit-learn's 1,797 handwritten digits as the four files of an MNIST-like data set.

    Each 8×8 image of 17 grey levels is enlarged to 20×20 pixels and centred in 28×28, as MNIST's are. A fixed
    permutation assigns 1,500 images to the training split and 297 to the test split.
    Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI, 1998.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    images = np.zeros((len(small), SIDE, SIDE), np.uint8)
    for image, source in zip(images, small, strict=True):
        image[4:24, 4:24] = Image.fromarray(source).resize((20, 20), Image.Resampling.BICUBIC)
    order = np.random.RandomState(0).permutation(len(images))  # NumPy promises not to change RandomState's numbers
    images, labels = images[order], digits.target.astype(np.uint8)[order]

    folder = Path(folder)
    write_idx(folder / TRAIN_IMAGES, images[:1500])
    write_idx(folder / TRAIN_LABELS, labels[:1500])
    write_idx(folder / TEST_IMAGES, images[1500:])
    write_idx(folder / TEST_LABELS, labels[1500:])
