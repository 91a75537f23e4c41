"""The files of a data set, and its schema."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from cvae.data.dataset import (
    FILES,
    SCHEMA,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    Dataset,
    Schema,
    Split,
    load,
    mnist_like,
    require_same,
    save,
)
from cvae.data.digits import write_digits
from cvae.data.idx import read_idx, write_idx
from cvae.support.errors import UserError

SIDE, PIXELS = 28, 784


def made(*shape: int, classes: tuple[str, ...] = ("a", "b"), seed: int = 0) -> Dataset:
    """Return a data set of random images of `shape`, four for training and two for testing."""
    numbers = np.random.default_rng(seed)
    schema = Schema(shape, classes, "Noise")
    labels = np.arange(4, dtype=np.uint8) % len(classes)
    train, test = (numbers.integers(0, 256, (count, schema.image_dims), np.uint8) for count in (4, 2))
    return Dataset(Split(train, labels), Split(test, labels[:2]), schema)


@pytest.mark.parametrize("shape", [(28, 28, 1), (16, 64, 1), (8, 9, 3), (64, 64, 3), (1, 1, 1)])
@pytest.mark.parametrize("classes", [("only",), ("2 cats", "Äpfel, rot", "猫")])
def test_a_saved_data_set_is_loaded_with_its_schema(shape, classes, tmp_path):
    data = made(*shape, classes=classes)
    save(data, tmp_path)
    loaded = load(tmp_path)
    assert loaded.schema == data.schema
    for name in ("train", "test"):
        assert np.array_equal(getattr(loaded, name).images, getattr(data, name).images)
        assert np.array_equal(getattr(loaded, name).labels, getattr(data, name).labels)


def test_values_of_a_colour_image_are_stored_by_row_column_and_channel(tmp_path):
    data = made(8, 9, 3)
    save(data, tmp_path)
    stored = read_idx(tmp_path / TRAIN_IMAGES.replace("idx3", "idx4"), 4)
    assert np.array_equal(stored, data.train.images.reshape(4, 8, 9, 3))


def test_the_same_data_set_gives_the_same_bytes_whatever_was_there(tmp_path):
    for folder, earlier in (("a", made(8, 9, 3)), ("b", made(28, 28, 1))):
        save(earlier, tmp_path / folder)
        save(made(8, 9, 3, seed=1), tmp_path / folder)
    files = [{path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in "ab"]
    assert files[0] == files[1]
    assert len(files[0]) == 5


@pytest.mark.parametrize(
    "damage",
    [
        {"shape": [28, "x", 28, 1]},
        {"shape": [28, 28]},
        {"shape": [28, 28, 2]},
        {"shape": [28, 28, True]},
        {"shape": [0, 28, 1]},
        {"shape": [28, 1025, 1]},
        {"shape": [2.0, 28, 1]},
        {"shape": 28},
        {"classes": []},
        {"classes": ["a", "a"]},
        {"classes": ["a", 1]},
        {"classes": ["a", ["b"]]},
        {"classes": ["a\nb"]},
        {"classes": ["\ud800"]},
        {"classes": "ab"},
        {"classes": [str(number) for number in range(257)]},
        {"title": None},
        {"title": "\x1b[2J"},
        {"ink": 1},
        {"colour": True},
    ],
    ids=lambda damage: ascii(damage)[:40],
)
def test_a_schema_that_describes_nothing_is_refused_in_one_line(damage, tmp_path):
    save(made(28, 28, 1), tmp_path)
    content = json.loads((tmp_path / SCHEMA).read_text())
    assert Schema.from_json(content) == made(28, 28, 1).schema
    (tmp_path / SCHEMA).write_text(json.dumps(content | damage))
    with pytest.raises(
        UserError, match=r"^[^\n]*schema\.json: damaged \([^\n]*`dvc repro -sf download` brings it back$"
    ):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b"1" * 5000, b'{"shape": NaN}'])
def test_a_schema_that_is_not_json_is_refused_in_one_line(content, tmp_path):
    save(made(28, 28, 1), tmp_path)
    (tmp_path / SCHEMA).write_bytes(content)
    with pytest.raises(UserError, match=r"^[^\n]*schema\.json: damaged \([^\n]*$"):
        load(tmp_path)


def test_images_and_labels_that_contradict_the_schema_are_refused(tmp_path):
    def reason() -> str:
        with pytest.raises(UserError, match=r"^[^\n]*$") as raised:
            load(tmp_path)
        return str(raised.value).removeprefix(f"{tmp_path}/").removesuffix("; `dvc repro -sf download` brings it back")

    save(made(8, 9, 3), tmp_path)
    colour = TRAIN_IMAGES.replace("idx3", "idx4")
    write_idx(tmp_path / TRAIN_LABELS, np.array([0, 1, 2, 0]))
    assert reason() == f"{TRAIN_LABELS}: label 2 of image 2 is none of the classes 0 to 1"
    save(made(8, 9, 3), tmp_path)
    write_idx(tmp_path / colour, np.zeros((4, 8, 9, 4)))
    assert reason() == f"{colour}: images are 8 × 9 × 4"
    write_idx(tmp_path / colour, np.zeros((4, 9, 8, 3)))
    test_colour = TEST_IMAGES.replace("idx3", "idx4")
    assert reason() == f"{test_colour}: images are 8 × 9 × 3, but training images 9 × 8 × 3"
    write_idx(tmp_path / test_colour, np.zeros((2, 9, 8, 3)))
    assert reason() == f"{colour}: images are 9 × 8 × 3, not 8 × 9 × 3"
    save(made(1, 1, 1), tmp_path)
    (tmp_path / SCHEMA).unlink()
    for name, count in ((TRAIN_IMAGES, 4), (TEST_IMAGES, 2)):
        write_idx(tmp_path / name, np.zeros((count, 1, 1025)))
    assert reason() == f"{TRAIN_IMAGES}: images are 1 × 1025"


def test_a_model_of_other_images_or_classes_is_told_apart():
    schema = Schema((28, 28, 1), ("a", "b"))
    require_same(schema, Schema((28, 28, 1), ("a", "b"), "Another title", ink=True), "data/raw")
    with pytest.raises(UserError, match=r"^the model takes images of 28 × 28, but those in data/raw are 28 × 28 × 3$"):
        require_same(schema, Schema((28, 28, 3), ("a", "b")), "data/raw")
    with pytest.raises(UserError, match=r"^the model knows 2 classes \(a, b\), but data/raw has 1 class \(b\)$"):
        require_same(schema, Schema((28, 28, 1), ("b",)), "data/raw")


@pytest.fixture
def folder(tmp_path):
    """A data set of five training and three test images."""
    random = np.random.default_rng(0)
    for images, labels, length in ((TRAIN_IMAGES, TRAIN_LABELS, 5), (TEST_IMAGES, TEST_LABELS, 3)):
        write_idx(tmp_path / images, random.integers(0, 256, (length, SIDE, SIDE), np.uint8))
        write_idx(tmp_path / labels, random.integers(0, 10, length, np.uint8))
    return tmp_path


def test_a_data_set_is_loaded_as_flat_images_beside_their_labels(folder):
    data = load(folder)
    train, test = data.train, data.test
    assert (len(train), len(test)) == (5, 3)
    assert data.schema == mnist_like()
    for split, images, labels in ((train, TRAIN_IMAGES, TRAIN_LABELS), (test, TEST_IMAGES, TEST_LABELS)):
        assert np.array_equal(split.images, read_idx(folder / images, 3).reshape(-1, PIXELS))
        assert np.array_equal(split.labels, read_idx(folder / labels, 1))


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        (TEST_LABELS, np.zeros(4), f"3 images, but 4 labels in {TEST_LABELS}"),
        (TRAIN_IMAGES, np.zeros((4, SIDE, SIDE)), f"4 images, but 5 labels in {TRAIN_LABELS}"),
        (TRAIN_IMAGES, np.zeros((5, 32, SIDE)), "images are 28 × 28, but training images 32 × 28"),
        (TEST_IMAGES, np.zeros((3, SIDE)), "not an IDX file of bytes with 3 dimensions (starts 00000802)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_data_set_that_does_not_fit_together_is_refused(folder, name, values, reason):
    write_idx(folder / name, values.astype(np.uint8))
    with pytest.raises(UserError, match=r"^[^\n]*$") as raised:
        load(folder)
    assert str(raised.value).endswith(f"{reason}; `dvc repro -sf download` brings it back")


@pytest.mark.parametrize("name", FILES)
def test_each_of_the_four_files_is_needed(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: missing"):
        load(folder)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder)
    return folder


def test_the_splits_of_digits_share_no_image(digits):
    data = load(digits)
    train, test = data.train, data.test
    assert (len(train), len(test)) == (1500, 297)
    both = np.concatenate([train.images, test.images])
    assert len(np.unique(both, axis=0)) == 1797


def test_digits_hold_every_class_in_both_splits(digits):
    from sklearn.datasets import load_digits

    data = load(digits)
    train, test = data.train, data.test
    counts = [np.bincount(split.labels, minlength=10) for split in (train, test)]
    assert np.array_equal(sum(counts), np.bincount(load_digits().target))
    assert min(counts[0]) > 130
    assert min(counts[1]) > 15


def test_digits_are_centred_in_an_empty_border_like_mnist(digits):
    data = load(digits)
    for split in (data.train, data.test):
        images = split.images.reshape(-1, SIDE, SIDE)
        inside = images[:, 4:24, 4:24]
        assert images.sum(dtype=int) == inside.sum(dtype=int)
        assert (inside.reshape(len(inside), -1).max(axis=1) > 200).all()
        for edge in (inside[:, 0], inside[:, -1], inside[:, :, 0], inside[:, :, -1]):
            assert edge.any()


def test_digits_keep_their_labels(digits):
    """An image shrunk back to 8×8 is nearest to an original of the same label."""
    from sklearn.datasets import load_digits

    test = load(digits).test
    pixels = test.images.reshape(-1, SIDE, SIDE)[:, 4:24, 4:24].astype(float)
    rows = np.arange(20) * 8 // 20
    averaging = np.eye(8)[rows] / np.bincount(rows)[rows][:, None]
    shrunk = np.einsum("nij,ia,jb->nab", pixels, averaging, averaging).reshape(len(pixels), 64)
    originals = load_digits()
    distances = ((shrunk[:, None] - originals.data[None] * (255 / 16)) ** 2).sum(axis=2)
    assert np.array_equal(originals.target[distances.argmin(axis=1)], test.labels)


def test_digits_are_written_with_the_same_bytes_every_time(digits, tmp_path):
    write_digits(tmp_path / "a" / "new" / "folder")
    for name in (*FILES, SCHEMA):
        assert (tmp_path / "a" / "new" / "folder" / name).read_bytes() == (digits / name).read_bytes()


def test_real_mnist_holds_its_known_images_and_labels():
    mirror = Path(os.environ.get("MNIST_MIRROR") or "unset")
    if not all((mirror / name).is_file() for name in FILES):
        pytest.skip("MNIST_MIRROR is not a folder with the four files of MNIST")
    data = load(mirror)
    train, test = data.train, data.test
    assert train.images.shape == (60_000, PIXELS)
    assert test.images.shape == (10_000, PIXELS)
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert train.images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
