"""Find the image files of each class in a folder with a sub-folder for each class."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cvae.data.dataset import FILES, MOST_CLASSES, spellings
from cvae.support.errors import UserError, one_line

PASSED_OVER = re.compile(
    r"\..*|readme(\.(md|txt|rst|html?))?|.*\.dvc|thumbs\.db|desktop\.ini|__macosx|@eadir", re.IGNORECASE | re.DOTALL
)
VALIDATION = {"val", "valid", "validation", "dev"}
SPLITS = {"train", "test", "training", "testing"} | VALIDATION
IDX_NAMES = {name for file in FILES for name in spellings(file)}


@dataclass(frozen=True)
class Listing:
    """The files of each class, by its name, for "train" and "test" or, undivided, for "all". `left_out`: other files
    and the reasons."""

    classes: tuple[str, ...]
    files: dict[str, dict[str, list[Path]]]
    left_out: dict[Path, str]


def find_images(source: str | Path) -> Listing | None:
    """List the images in the folder `source` without reading them; None if it holds IDX files instead.

    Raises:
        UserError: it has neither.
    """
    source = Path(source)
    folders, files = _entries(source)
    if any(file.name in IDX_NAMES for file in files):
        if folders:
            raise UserError(f"{source}: holds IDX files and the folder {folders[0].name}; keep only one kind of data")
        return None
    named = {folder.name.casefold(): folder for folder in folders}
    left_out = dict.fromkeys(files, "not in the folder of a class")
    if "train" in named and "test" in named:
        splits = {split: _class_files(named[split], left_out) for split in ("train", "test")}
        others = [folder for folder in folders if folder.name.casefold() not in splits]
        left_out |= dict.fromkeys(others, "beside train and test, whose images are used")
        for split, other in (("train", "test"), ("test", "train")):
            if only := splits[split].keys() - splits[other].keys():
                first = min(only, key=_natural)
                raise UserError(f"{source}: {split} has the class {first}, but {other} does not; both need every class")
    elif "train" in named and (VALIDATION & named.keys() or len(named) == 1) and not _entries(named["train"])[1]:
        raise UserError(f"{source}: has a folder train, but none called test; add it, or move the class folders up")
    elif len(named) > 1 and named.keys() <= SPLITS and not any(_entries(folder)[1] for folder in folders):
        raise UserError(f"{source}: its folders are called {', '.join(sorted(named))}; call them train and test")
    else:
        splits = {"all": _class_files(source, left_out)}
    classes = sorted(next(iter(splits.values())), key=_natural)
    if len(classes) > MOST_CLASSES:
        raise UserError(f"{source}: has {len(classes)} class folders; at most {MOST_CLASSES} are possible")
    return Listing(tuple(classes), splits, left_out)


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the sub-folders and the files in `folder`, without those that are passed over."""
    try:
        entries = sorted(path for path in folder.iterdir() if not PASSED_OVER.fullmatch(path.name))
    except FileNotFoundError:
        raise UserError(f"{folder}: no such folder; `images` in params.yaml names the folder of your images") from None
    except NotADirectoryError:
        raise UserError(f"{folder}: not a folder; `images` in params.yaml names the folder of your images") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
    folders = [path for path in entries if path.is_dir()]
    return folders, [path for path in entries if path not in folders]


def _class_files(folder: Path, left_out: dict[Path, str]) -> dict[str, list[Path]]:
    """Return the files of each class folder in `folder`, those in folders within it too."""
    folders, files = _entries(folder)
    if not folders:
        there = f"has {len(files)} files, but no folders" if files else "has no images yet"
        raise UserError(f"{folder}: {there}; give each class a folder, such as {folder / 'cat' / '1.png'}")
    left_out |= dict.fromkeys(files, "not in the folder of a class")
    classes = defaultdict(list)
    for each in folders:
        classes[class_name(each)] += _files_below(each)
    return classes


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not PASSED_OVER.fullmatch(name))
        yield from (Path(parent, name) for name in sorted(files) if not PASSED_OVER.fullmatch(name))
        yield from (link for name in folders if (link := Path(parent, name)).is_symlink())  # not followed, but reported


def class_name(folder: Path) -> str:
    """Return the name of a class: its folder's, spelt in the same way on every system."""
    return one_line(unicodedata.normalize("NFC", folder.name))


def _natural(name: str) -> tuple[list[str | int], str]:
    """Return a key that sorts 2 before 10, and a before B."""
    parts = re.split(r"([0-9]+)", name.casefold())  # text and numbers alternate, so like is compared with like
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name
