"""Your own images as a data set: a folder with a sub-folder for each class, or the four IDX files.

The content of a file alone decides whether it is for testing, so renaming or adding files moves no other: an image is
a test image if the hash of its file, as a number from 0 to 1, is below `test_share`. If a class would get no test image
or no training image, one is moved, for as long as that is so. Sub-folders `train` and `test`, each with the class
folders, divide the images themselves.
"""

import warnings
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tabulate import tabulate

from cvae.data.class_folders import Listing, class_name, find_images
from cvae.data.dataset import MOST_CLASSES, SCHEMA, Dataset, Schema, Split, load, save, shape_in_words
from cvae.data.pictures import Picture, read_or_say_why
from cvae.support.errors import UserError, one_line
from cvae.support.progress import progress

CLASSES = "classes.txt"
SHOWN = 20  # files that are left out, in the report


def import_images(source: str, folder: str | Path, image_size: int, channels: int, test_share: float) -> str:
    """Write the images in the folder `source` to `folder` as a data set, and return a table of what it holds.

    Raises:
        UserError: `source` is not such a folder, or not enough of its images can be used.
    """
    listing = find_images(source)
    if listing is None:
        data = _load_idx(Path(source))
        if channels != (found := data.schema.shape[2]):  # it names the kind of pixels wherever results are compared
            kind = "grey" if found == 1 else "colour"
            raise UserError(f"{source}: its images are {kind}; set channels: {found} in params.yaml")
        sizes = {name: [data.schema.shape[1::-1]] for name in data.schema.classes}
        report = _table(data, sizes, {}) + "\nFrom IDX files, unchanged: image_size and test_share do not apply"
    else:
        data, report = _read_images(listing, Path(source), image_size, channels, test_share)
    save(data, folder)
    return report


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
            lacking[name] = (
                f"no {missing} image (different usable images: {count}); a class needs one for training and one for "
                "testing that no other class has"
            )
    classes = tuple(name for name in listing.classes if name not in lacking)
    left_out = [f"{_shown(path, source)}: {reason}" for path, reason in (listing.left_out | unreadable).items()]
    left_out += [f"{name}: {reason}" for name, reason in lacking.items()]
    if not classes:
        raise UserError(f"{source}: no class has a training image and a test image ({(left_out or ['no images'])[0]})")
    data = Dataset(
        *(_split(splits[name], classes) for name in ("train", "test")),
        Schema((image_size, image_size, channels), classes, class_name(source.absolute())),
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
    read = partial(read_or_say_why, image_size=image_size, channels=channels)
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
        data.schema.classes if (folder / SCHEMA).exists() else tuple(map(str, range(1 + max(seen[0] | seen[1]))))
    )
    for split, labels in zip(("training", "test"), seen, strict=True):
        if absent := set(range(len(classes))) - labels:
            label = min(absent)
            raise UserError(f"{folder}: no {split} image has label {label} ({classes[label]}); labels count from 0")
        if max(labels) >= len(classes):
            raise UserError(f"{folder / CLASSES}: names {len(classes)} classes, but labels go up to {max(labels)}")
    return replace(data, schema=replace(data.schema, classes=classes, title=class_name(folder.absolute())))


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
    return f"{table}\nEach image is {shape_in_words(data.schema.shape[1::-1])} pixels, {kind}"


def _range(sizes: list[tuple[int, int]]) -> str:
    """Return the smallest and largest width, and the smallest and largest height."""
    return " × ".join(
        f"{min(each)}–{max(each)}" if len(set(each)) > 1 else f"{each[0]}" for each in zip(*sizes, strict=True)
    )


def _shown(path: Path, source: Path) -> str:
    return one_line(path.relative_to(source))
