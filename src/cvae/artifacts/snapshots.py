"""Write and read what the decoder made of the same latents in the course of the training."""

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cvae.support.errors import UserError, one_line
from cvae.support.files import write_whole


def write_snapshots(images: np.ndarray, epochs: Sequence[int], path: str | Path) -> None:
    """Write `images`, (snapshots, rows, columns, height, width[, 3]) uint8, and the epoch of each snapshot as .npz.

    The same snapshots give the same bytes.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images, epochs=np.array(epochs, np.int64))
    write_whole({path: buffer.getvalue()})


def read_snapshots(path: str | Path, picture_shape: tuple[int, ...]) -> tuple[np.ndarray, list[int]]:
    """Return the images that `write_snapshots` wrote, and their epochs.

    Raises:
        UserError: the file is missing or damaged, or its images do not have the shape `picture_shape`.
    """
    remedy = "`dvc repro -sf train` makes it again"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, epochs = arrays["images"], arrays["epochs"]
    except FileNotFoundError:
        raise UserError(f"{path}: missing; `dvc repro train` makes it") from None
    except (OSError, EOFError, KeyError, ValueError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged ({one_line(error)[:200]}); {remedy}") from None
    if images.dtype != np.uint8 or images.shape[3:] != picture_shape or not 0 < len(images) == epochs.size:
        raise UserError(f"{path}: damaged (its images are not of this model); {remedy}")
    return images, epochs.tolist()
