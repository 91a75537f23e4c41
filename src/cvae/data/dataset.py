"""A data set: images and labels in splits, and a schema that says what they are. Stored as files in one folder.

Everything that depends on the data, such as the width of the network or the number of pictures, follows from its
`Schema`; nothing else in the project knows how large an image is or how many classes there are.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cvae.data.idx import REMEDY, idx_bytes, read_idx
from cvae.support.errors import UserError, one_line
from cvae.support.files import write_whole

SCHEMA = "schema.json"
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES = (  # MNIST's own names
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
MOST_CLASSES = 256  # labels are stored in one byte
MOST_PIXELS = 1024  # along one side of an image


@dataclass(frozen=True)
class Schema:
    """What the images and labels of a data set are.

    `shape`: height, width and channels (1 or 3) of an image. `classes`: the name of each label. `title`: the data
    set's name in pictures and tables. `ink`: high values are ink, as in MNIST, so grey images are drawn dark on white.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    title: str = ""
    ink: bool = False

    @property
    def image_dims(self) -> int:
        """The number of values in an image: height · width · channels."""
        return math.prod(self.shape)

    @property
    def picture_shape(self) -> tuple[int, ...]:
        """The shape of an image to look at: (height, width) if it is grey, (height, width, 3) in colour."""
        return self.shape if self.shape[2] > 1 else self.shape[:2]

    def as_json(self) -> dict:
        """Return a JSON object that `from_json` turns back into this schema."""
        return asdict(self) | {"shape": list(self.shape), "classes": list(self.classes)}

    @classmethod
    def from_json(cls, content: object) -> "Schema":
        """Return the schema that `as_json` described; raise a `ValueError` if `content` does not describe one."""
        if not isinstance(content, dict) or content.keys() != {"shape", "classes", "title", "ink"}:
            raise ValueError("a schema has the keys shape, classes, title and ink")
        shape, classes = content["shape"], content["classes"]
        is_shape = isinstance(shape, list) and len(shape) == 3 and all(type(size) is int for size in shape)
        if not is_shape or not all(1 <= side <= MOST_PIXELS for side in shape[:2]) or shape[2] not in (1, 3):
            raise ValueError(f"shape is {f'{shape!r}':.60}, not [height, width, channels]")
        is_list = isinstance(classes, list) and all(isinstance(name, str) and name.isprintable() for name in classes)
        if not is_list or not 1 <= len(set(classes)) == len(classes) <= MOST_CLASSES:
            raise ValueError(f"classes are not 1 to {MOST_CLASSES} different printable names")
        title = content["title"]
        if not (isinstance(title, str) and title.isprintable() and isinstance(content["ink"], bool)):
            raise ValueError("title is not printable text, or ink is neither true nor false")
        return cls(tuple(shape), tuple(classes), title, content["ink"])


def mnist_like(classes: int = 10) -> Schema:
    """Return the schema of files that come without one: MNIST's, with the labels' numbers as names."""
    return Schema((28, 28, 1), tuple(map(str, range(classes))), ink=True)


@dataclass(frozen=True)
class Split:
    """Images, (n, image_dims) uint8 from 0 to 255, and their labels, (n,) uint8: positions in `Schema.classes`.

    The values of an image are in the order height, width, channel. `positions`: where the images are among the training
    images in the data set's files, (n,), if some of these are held out.
    """

    images: np.ndarray
    labels: np.ndarray
    positions: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A training split and a test split, what they are, and a validation split if `validation.hold_out` made one."""

    train: Split
    test: Split
    schema: Schema
    validation: Split | None = None

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name: train, then validation if there is one, then test."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    @property
    def held_out(self) -> str:
        """The name of the split to compare models on: validation if there is one, else test."""
        return "test" if self.validation is None else "validation"


def load(folder: str | Path, remedy: str = REMEDY) -> Dataset:
    """Read the data set in `folder`: four IDX files, and schema.json, without which they are like MNIST's.

    The files may be unpacked, and named `train-images.idx3-ubyte`. `remedy` ends the message about a file at fault.

    Raises:
        UserError: a file is missing, damaged or not what its name says, or the files do not belong together.
    """
    folder = Path(folder)
    schema = _read_schema(folder / SCHEMA, remedy)
    files = [_present(folder / name) for name in FILES]
    (train, train_shape), (test, test_shape) = _split(*files[:2], remedy), _split(*files[2:], remedy)
    if train_shape != test_shape:
        found, expected = shape_in_words(test_shape), shape_in_words(train_shape)
        raise UserError(f"{files[2]}: images are {found}, but training images {expected}; {remedy}")
    if schema is None:
        count = 1 + int(max(train.labels.max(), test.labels.max()))
        schema = Schema(train_shape, mnist_like(max(count, 10)).classes, ink=train_shape[2] == 1)
    for split, images, labels in ((train, *files[:2]), (test, *files[2:])):
        if train_shape != schema.shape:
            found, expected = shape_in_words(train_shape), shape_in_words(schema.shape)
            raise UserError(f"{images}: images are {found}, not {expected}; {remedy}")
        if split.labels.max() >= len(schema.classes):
            message = f"label {split.labels.max()} of image {split.labels.argmax()} is none of the classes"
            raise UserError(f"{labels}: {message} 0 to {len(schema.classes) - 1}; {remedy}")
    return Dataset(train, test, schema)


def save(dataset: Dataset, folder: str | Path) -> None:
    """Write `dataset` to `folder`, which `load` reads; the same data set gives the same bytes."""
    folder = Path(folder)
    contents = {folder / SCHEMA: _schema_bytes(dataset.schema)}
    for split, images, labels in ((dataset.train, *FILES[:2]), (dataset.test, *FILES[2:])):
        height, width, channels = dataset.schema.shape
        shape = (-1, height, width, channels)[: 4 if channels > 1 else 3]
        path = _colour(folder / images) if channels > 1 else folder / images
        contents[path] = idx_bytes(split.images.reshape(shape))
        contents[folder / labels] = idx_bytes(split.labels)
    write_whole(contents)
    for images in (TRAIN_IMAGES, TEST_IMAGES):  # of an earlier data set
        for path in {folder / images, _colour(folder / images)} - contents.keys():
            path.unlink(missing_ok=True)


def save_schema(schema: Schema, folder: str | Path) -> None:
    """Write schema.json to `folder`."""
    write_whole({Path(folder) / SCHEMA: _schema_bytes(schema)})


def _schema_bytes(schema: Schema) -> bytes:
    return (json.dumps(schema.as_json(), indent=2, ensure_ascii=False) + "\n").encode()


def require_same(model: Schema, data: Schema, folder: str | Path) -> None:
    """Raise a `UserError` if images of the schema `data`, in `folder`, cannot be given to a model of another one."""
    if model.shape != data.shape:
        own, other = shape_in_words(model.shape), shape_in_words(data.shape)
        raise UserError(f"the model takes images of {own}, but those in {folder} are {other}")
    if len(model.classes) != len(data.classes):
        own, other = classes_in_words(model.classes), classes_in_words(data.classes)
        raise UserError(f"the model knows {own}, but {folder} has {other}")
    for number, (own, other) in enumerate(zip(model.classes, data.classes, strict=True)):
        if own != other:
            raise UserError(f"the model's class {number} is {own}, but that of {folder} is {other}")


def classes_in_words(classes: tuple[str, ...]) -> str:
    """Return the number of classes and the first names, for messages."""
    shown = ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
    return f"{len(classes)} class{'es' if len(classes) > 1 else ''} ({shown})"


def shape_in_words(shape: tuple[int, ...]) -> str:
    """Return a shape in words: 28 × 28, or 28 × 28 × 3."""
    return " × ".join(map(str, shape[:2] if shape[2:] == (1,) else shape))


def _read_schema(path: Path, remedy: str) -> Schema | None:
    try:
        return Schema.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({one_line(error)[:200]}); {remedy}") from None


def _colour(images: Path) -> Path:
    """Return the name that colour images have instead, since their file has four dimensions."""
    return images.with_name(images.name.replace("idx3", "idx4"))


def _present(path: Path) -> Path:
    """Return the file that is there in place of `path`: unpacked, in colour or in another spelling; else `path`."""
    return next((file for file in map(path.with_name, spellings(path.name)) if file.exists()), path)


def spellings(name: str) -> list[str]:
    """Return the names that one of `FILES` may have, packed or unpacked; images may be in colour (idx4)."""
    names = [name, name.replace("idx3", "idx4")] if "idx3" in name else [name]
    names += [each.replace("-idx", ".idx") for each in names]
    return names + [each.removesuffix(".gz") for each in names]


def _split(images_path: Path, labels_path: Path, remedy: str) -> tuple[Split, tuple[int, int, int]]:
    """Read a split, and the shape of its images."""
    images = read_idx(images_path, 4 if "idx4" in images_path.name else 3, remedy)
    labels = read_idx(labels_path, 1, remedy)
    if len(images) != len(labels):
        message = f"{len(images)} images, but {len(labels)} labels in {labels_path.name}"
        raise UserError(f"{images_path}: {message}; {remedy}")
    shape = (*images.shape[1:], 1)[:3]
    if shape[2] not in (1, 3) or max(shape) > MOST_PIXELS:
        raise UserError(f"{images_path}: images are {shape_in_words(shape)}; {remedy}")
    return Split(images.reshape(len(images), -1), labels), shape
