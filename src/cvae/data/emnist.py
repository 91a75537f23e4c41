"""EMNIST (Cohen et al. 2017), which is published as one archive of 560 MB for its six splits."""

import shutil
import zipfile
import zlib
from pathlib import Path

import numpy as np

from cvae.data.dataset import Dataset, Schema, Split, save
from cvae.data.idx import read_idx
from cvae.data.names import LABEL_NAMES, TITLES
from cvae.support.errors import UserError

EMNIST = ("emnist-letters", "emnist-balanced")
ARCHIVE = "gzip.zip"
LARGEST = 2**30  # bytes of the archive that are accepted


def archive() -> tuple[str, str, str]:
    """Return the URL of the folder that holds the archive, the archive's name and its MD5 sum, from torchvision."""
    from torchvision.datasets import EMNIST as LISTED

    return LISTED.url.rpartition("/")[0], ARCHIVE, LISTED.md5


def unpack(archive: Path, dataset: str, folder: Path) -> None:
    """Write the four files and schema.json of `dataset` to `folder`, with images the right way round.

    The archive's images are transposed, and the labels of its letters start from 1.
    """
    first = 1 if dataset == "emnist-letters" else 0
    splits = []
    for split in ("train", "test"):
        images = _member(archive, f"{dataset}-{split}-images-idx3-ubyte.gz", 3)
        labels = _member(archive, f"{dataset}-{split}-labels-idx1-ubyte.gz", 1)
        splits.append(Split(images.transpose(0, 2, 1).reshape(len(images), -1), labels - first))
    save(Dataset(*splits, Schema((28, 28, 1), LABEL_NAMES[dataset], TITLES[dataset], ink=True)), folder)


def _member(archive: Path, name: str, dimensions: int) -> np.ndarray:
    """Read the IDX file `name` in the archive, unpacked beside it."""
    path = archive.with_name(name)
    try:
        with zipfile.ZipFile(archive) as file, file.open(f"gzip/{name}") as packed, path.open("wb") as target:
            shutil.copyfileobj(packed, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, LookupError) as error:
        raise UserError(f"{archive}: damaged ({error})") from None
    return read_idx(path, dimensions)
