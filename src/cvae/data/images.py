"""Your own images as a data set: a folder with a sub-folder for each class, or the four IDX files.

An image of any size is cropped to the square in its middle and resized to `image_size` × `image_size`, as generative
models usually see photographs. EXIF orientation is applied, and transparent parts become white.

Which images are for testing depends on their content alone, so renaming a file or adding one moves no other: an image
is a test image if the hash of its file, as a number from 0 to 1, is below `test_share`. Only a class that would have no
test image, or no training image, takes one against this rule, and gives it up once it has grown. Sub-folders `train`
and `test`, each with the class folders, decide it themselves.
"""

import hashlib
import io
import os
import re
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tabulate import tabulate

from cvae.data.dataset import FILES, MOST_CLASSES, Dataset, Schema, Split, by, load, save, spellings
from cvae.support.errors import UserError, one_line
from cvae.support.progress import progress

PASSED_OVER = re.compile(r"\..*|readme.*|.*\.dvc|thumbs\.db|desktop\.ini|__macosx|@eadir", re.IGNORECASE | re.DOTALL)
VALIDATION = {"val", "valid", "validation", "dev"}
CLASSES = "classes.txt"
IDX_NAMES = {name for file in FILES for name in spellings(file)}
SHOWN = 20  # files that are left out, in the report


@dataclass(frozen=True)
class Listing:
    """The files of each class, by its name, for "train" and "test" or, undivided, for "all". `left_out`: other files
    and the reasons."""

    classes: tuple[str, ...]
    files: dict[str, dict[str, list[Path]]]
    left_out: dict[Path, str]


@dataclass(frozen=True)
class Picture:
    """One image: its file and the hash of the file, its width and height there, and its pixels, (image_dims,)."""

    path: Path
    digest: bytes
    size: tuple[int, int]
    pixels: np.ndarray = field(repr=False)

    @property
    def position(self) -> float:
        """The hash as a number from 0 to 1."""
        return int.from_bytes(self.digest[:8]) / 2**64


def import_images(source: str, folder: str | Path, image_size: int, channels: int, test_share: float) -> str:
    """Write the images in the folder `source` to `folder` as a data set, and return a table of what it holds.

    Raises:
        UserError: `source` is not such a folder, or not enough of its images can be used.
    """
    listing = find_images(source)
    if listing is None:
        data = _load_idx(Path(source))
        sizes = {name: [data.schema.shape[1::-1]] for name in data.schema.classes}
        report = (
            _table(data, sizes, {}) + "\nFrom IDX files, as they are: image_size, channels and test_share do not apply"
        )
    else:
        data, report = _read_images(listing, Path(source), image_size, channels, test_share)
    save(data, folder)
    return report


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
        classes[_name(each)] += _files_below(each)
    return classes


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not PASSED_OVER.fullmatch(name))
        yield from (Path(parent, name) for name in sorted(files) if not PASSED_OVER.fullmatch(name))


def _name(folder: Path) -> str:
    """Return the name of a class: its folder's, spelt in the same way on every system."""
    return one_line(unicodedata.normalize("NFC", folder.name))


def _natural(name: str) -> tuple[list[str | int], str]:
    """Return a key that sorts 2 before 10, and a before B."""
    parts = re.split(r"([0-9]+)", name.casefold())  # text and numbers alternate, so like is compared with like
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name


def _read_images(
    listing: Listing, source: Path, image_size: int, channels: int, test_share: float
) -> tuple[Dataset, str]:
    pictures, unreadable = _read_all(listing, image_size, channels)
    notes = _repeated(pictures, source)
    splits = _divide(pictures["all"], test_share) if "all" in pictures else pictures
    lacking = {}
    for name in listing.classes:
        if not splits["test"][name] or not splits["train"][name]:
            count = len({picture.digest for split in pictures.values() for picture in split[name]})
            missing = "test" if splits["train"][name] else "training"
            lacking[name] = f"no {missing} image, out of {count} that can be used and differ; a class needs both kinds"
    classes = tuple(name for name in listing.classes if name not in lacking)
    left_out = [f"{_shown(path, source)}: {reason}" for path, reason in (listing.left_out | unreadable).items()]
    left_out += [f"{name}: {reason}" for name, reason in lacking.items()]
    if not classes:
        raise UserError(f"{source}: no class has a training image and a test image ({(left_out or ['no images'])[0]})")
    data = Dataset(
        *(_split(splits[name], classes) for name in ("train", "test")),
        Schema((image_size, image_size, channels), classes, _name(source.absolute())),
    )
    sizes = {name: [picture.size for split in splits.values() for picture in split[name]] for name in classes}
    unread = {
        name: sum(path in unreadable for split in listing.files.values() for path in split[name]) for name in classes
    }
    lines = [_table(data, sizes, unread), *notes]
    if left_out:
        lines += [f"Left out ({len(left_out)}):", *(f"  {line}" for line in left_out[:SHOWN])]
        lines += [f"  … and {len(left_out) - SHOWN} more"] if len(left_out) > SHOWN else []
    return data, "\n".join(lines)


def _read_all(
    listing: Listing, image_size: int, channels: int
) -> tuple[dict[str, dict[str, list[Picture]]], dict[Path, str]]:
    """Return the images of each split and class, and the files that cannot be used, with the reasons."""
    pictures = {split: {name: [] for name in listing.classes} for split in listing.files}
    places = [
        (path, pictures[split][name])
        for split, classes in listing.files.items()
        for name in listing.classes
        for path in classes[name]
    ]
    left_out = {}
    read = partial(_read_or_say_why, image_size=image_size, channels=channels)
    Image.init()  # before threads do
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool, progress("reading images", len(places)) as advance:
        warnings.simplefilter("ignore")  # Pillow's, about files that it can read
        for (path, chosen), result in zip(places, pool.map(read, [path for path, _ in places]), strict=True):
            if isinstance(result, Picture):
                chosen.append(result)
            else:
                left_out[path] = result
            advance(1)
    return pictures, left_out


def _read_or_say_why(path: Path, image_size: int, channels: int) -> Picture | str:
    """Return the image in `path`, or the reason why it cannot be used."""
    try:
        if not path.is_file():
            return "not a file"
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # cameras add previews to a JPEG as MPO
                return "animated, or of several pages"
            size = image.size
            image.draft(None, (3 * image_size, 3 * image_size))  # a JPEG need not be decoded at full size
            pixels = np.asarray(_resized(_eight_bits(image), image_size, channels)).reshape(-1)
        return Picture(path, hashlib.sha256(content).digest(), size, pixels)
    except UnidentifiedImageError:
        is_named_image = path.suffix.lower() in Image.registered_extensions()
        return "broken: no image in it" if is_named_image else "not an image"
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise almost anything on a damaged file
        return f"broken: {one_line(error)[:100]}"


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return `image` with 8 bits for each value, if it is grey with 16."""
    if image.mode == "F":
        raise ValueError("its pixels are real numbers, whose range is unknown")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels have 32 bits")
    eight = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    eight.info["exif"] = image.getexif().tobytes()
    return eight


def _resized(image: Image.Image, image_size: int, channels: int) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB" if channels == 3 else "L")
    side = min(image.size)
    left, top = ((length - side) / 2 for length in image.size)
    square = (left, top, left + side, top + side)
    return image.resize((image_size, image_size), Image.Resampling.BICUBIC, square, reducing_gap=3)


def _divide(pictures: dict[str, list[Picture]], test_share: float) -> dict[str, dict[str, list[Picture]]]:
    """Divide the images of each class between "train" and "test" by the hash of their files.

    Equal files are on the same side, also those in several classes: these always follow the rule.
    """
    classes_with = Counter(digest for group in pictures.values() for digest in {picture.digest for picture in group})
    splits = {"train": {}, "test": {}}
    for name, group in pictures.items():
        position = {picture.digest: picture.position for picture in group}
        chosen = {digest for digest in position if position[digest] < test_share}
        own = [digest for digest in position if classes_with[digest] == 1]
        if len(position) > 1 and own:
            if not chosen:
                chosen = {min(own, key=position.get)}
            elif len(chosen) == len(position):
                chosen -= {max(own, key=position.get)}
        splits["train"][name] = [picture for picture in group if picture.digest not in chosen]
        splits["test"][name] = [picture for picture in group if picture.digest in chosen]
    return splits


def _split(pictures: dict[str, list[Picture]], classes: tuple[str, ...]) -> Split:
    """Return the images of `classes`, mixed: in the order of their hashes, whatever their files are called."""
    labelled = [
        (picture.digest, label, picture.pixels) for label, name in enumerate(classes) for picture in pictures[name]
    ]
    labelled.sort(key=lambda each: each[:2])
    return Split(np.stack([pixels for *_, pixels in labelled]), np.array([label for _, label, _ in labelled], np.uint8))


def _repeated(pictures: dict[str, dict[str, list[Picture]]], source: Path) -> list[str]:
    """Describe files with equal content: in a class, in several classes, and in both splits."""
    places = defaultdict(list)
    for split, classes in pictures.items():
        for name, group in classes.items():
            for picture in group:
                places[picture.digest].append((split, name, picture.path))
    lines = []
    for what, is_such in (
        ("twice in a class", lambda found: len({path for *_, path in found}) > len({each[:2] for each in found})),
        ("in several classes", lambda found: len({name for _, name, _ in found}) > 1),
        ("in both train and test", lambda found: len({split for split, *_ in found}) > 1),
    ):
        if such := [found for found in places.values() if is_such(found)]:
            example = " and ".join(_shown(path, source) for *_, path in such[0][:2])
            lines.append(f"Images {what}: {len(such)}, such as {example}")
    return lines


def _load_idx(folder: Path) -> Dataset:
    """Read the four IDX files in `folder`, and classes.txt if it is there: the name of a class on each line."""
    data = load(folder, "replace it")
    seen = [set(split.labels.tolist()) for split in (data.train, data.test)]
    classes = _class_names(folder / CLASSES) or (
        data.schema.classes if (folder / "schema.json").exists() else tuple(map(str, range(1 + max(seen[0] | seen[1]))))
    )
    for split, labels in zip(("training", "test"), seen, strict=True):
        if absent := set(range(len(classes))) - labels:
            label = min(absent)
            raise UserError(f"{folder}: no {split} image has label {label} ({classes[label]}); labels count from 0")
        if max(labels) >= len(classes):
            raise UserError(f"{folder / CLASSES}: names {len(classes)} classes, but labels go up to {max(labels)}")
    return replace(data, schema=replace(data.schema, classes=classes, title=_name(folder.absolute())))


def _class_names(path: Path) -> tuple[str, ...]:
    try:
        names = [one_line(line) for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)[:100]})") from None
    while names and not names[-1]:
        del names[-1]
    if not 1 <= len(set(names)) == len(names) <= MOST_CLASSES or "" in names:
        raise UserError(f"{path}: must have 1 to {MOST_CLASSES} lines, each with the name of another class")
    return tuple(names)


def _table(data: Dataset, sizes: dict[str, list[tuple[int, int]]], unread: dict[str, int]) -> str:
    """Return the numbers of images in each class, their original sizes and how many files were left out."""
    counts = [np.bincount(split.labels, minlength=len(data.schema.classes)) for split in (data.train, data.test)]
    rows = [
        (name, int(train), int(test), _range(sizes[name]), unread.get(name, 0))
        for name, train, test in zip(data.schema.classes, *counts, strict=True)
    ]
    every = [size for group in sizes.values() for size in group]
    rows.append(("all classes", len(data.train), len(data.test), _range(every), sum(unread.values())))
    table = tabulate(rows, ("class", "training", "test", "width × height", "left out"), disable_numparse=[0, 3])
    kind = "colour" if data.schema.shape[2] == 3 else "grey"
    return f"{table}\nEach image becomes {by(data.schema.shape[:2])} pixels, {kind}"


def _range(sizes: list[tuple[int, int]]) -> str:
    """Return the smallest and largest width, and the smallest and largest height."""
    return " × ".join(
        f"{min(each)}–{max(each)}" if len(set(each)) > 1 else f"{each[0]}" for each in zip(*sizes, strict=True)
    )


def _shown(path: Path, source: Path) -> str:
    return one_line(path.relative_to(source))
