import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cvae.data import idx
from cvae.data.idx import (
    FILES,
    LABELS,
    PIXELS,
    SIDE,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    load,
    read_idx,
    write_idx,
)
from cvae.support.errors import UserError


def header(*shape: int, kind: int = 8) -> bytes:
    return struct.pack(f">4B{len(shape)}I", 0, 0, kind, len(shape), *shape)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "images.gz"


def refusal(file: Path, dimensions: int = 3) -> str:
    with pytest.raises(UserError) as raised:
        read_idx(file, dimensions)
    message = str(raised.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message.removeprefix(f"{file}: ")


def test_values_are_read_in_the_order_of_the_format(file):
    file.write_bytes(gzip.compress(b"\0\0\x08\x03" + b"\0\0\0\x02" + b"\0\0\0\x03" + b"\0\0\0\x04" + bytes(range(24))))
    images = read_idx(file, dimensions=3)
    assert images.dtype == np.uint8
    assert images.tolist() == np.arange(24).reshape(2, 3, 4).tolist()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (header(6) + bytes(6), "not an IDX file of bytes with 3 dimensions (starts 00000801)"),
        (header(1, 2, 3, kind=0x0D) + bytes(24), "not an IDX file of bytes with 3 dimensions (starts 00000d03)"),
        (b"<!DOCTYPE html>", "not an IDX file of bytes with 3 dimensions (starts 3c21444f)"),
        (b"", "not an IDX file of bytes with 3 dimensions (starts )"),
        (header(1, 2, 3)[:9], "damaged ("),
        (header(1, 2, 3) + bytes(5), "holds fewer than the 6 bytes that its header announces"),
        (header(1, 2, 3), "holds fewer than the 6 bytes that its header announces"),
        (header(1, 2, 3) + bytes(7), "holds more than the 6 bytes that its header announces"),
        (header(0, SIDE, SIDE), "its header announces no values"),
        (header(0, 2**32 - 1, 2**32 - 1), "its header announces no values"),
        (header(2**32 - 1, 2**32 - 1, 2**32 - 1), "its header announces 79,228,162,458,924,105,385,300,197,375 bytes"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:30],
)
def test_content_that_contradicts_the_format_is_refused(file, content, reason):
    file.write_bytes(gzip.compress(content))
    assert refusal(file).startswith(reason)


@pytest.mark.parametrize(
    "damage",
    {
        "cut short": lambda content: content[:-20],
        "cut in its header": lambda content: content[:5],
        "wrong checksum": lambda content: content[:-8] + bytes(4) + content[-4:],
        "not deflated": lambda content: content[:10] + b"\xff" * 20 + content[30:],
        "not gzip": gzip.decompress,
        "a web page": lambda content: b"<html>",
        "something after it": lambda content: content + b"more",
    }.items(),
    ids=lambda item: item[0],
)
def test_a_damaged_file_is_refused_with_the_command_that_restores_it(file, damage):
    content = gzip.compress(header(1, 50, 50) + bytes(range(250)) * 10)
    file.write_bytes(damage[1](content))
    reason = refusal(file)
    assert reason.startswith("damaged (")
    assert reason.endswith("`dvc repro -sf download` brings it back")


def test_a_missing_file_is_reported_with_the_command_that_downloads_it(file):
    assert refusal(file) == "missing; `dvc repro download` brings it back"


def test_a_folder_in_place_of_a_file_is_reported(file):
    file.mkdir()
    assert refusal(file) == "cannot be read (Is a directory)"


@pytest.mark.parametrize(
    "content",
    [header(2**32 - 1, SIDE, SIDE) + bytes(PIXELS), header(1, SIDE, SIDE) + bytes(2**25)],
    ids=["announces terabytes", "announces one image and holds 32 MB"],
)
def test_a_file_with_a_wrong_header_takes_no_memory(file, content):
    file.write_bytes(gzip.compress(content, 1))
    tracemalloc.start()
    refusal(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("shape", [(7,), (2, 3), (3, SIDE, SIDE)])
def test_written_values_are_read_back(file, shape):
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_idx(file, values)
    assert np.array_equal(read_idx(file, values.ndim), values)


def test_writing_does_not_depend_on_the_memory_layout(file):
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write_idx(file, values.T)
    assert np.array_equal(read_idx(file, 2), values.T)


def test_the_same_values_make_the_same_bytes(tmp_path, monkeypatch):
    values = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    write_idx(tmp_path / "one.gz", values)
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_idx(tmp_path / "another.gz", values)
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "another.gz").read_bytes()


@pytest.fixture
def folder(tmp_path):
    """A data set of five training and three test images."""
    random = np.random.default_rng(0)
    for images, labels, length in ((TRAIN_IMAGES, TRAIN_LABELS, 5), (TEST_IMAGES, TEST_LABELS, 3)):
        write_idx(tmp_path / images, random.integers(0, 256, (length, SIDE, SIDE), np.uint8))
        write_idx(tmp_path / labels, random.integers(0, LABELS, length, np.uint8))
    return tmp_path


def test_a_data_set_is_loaded_as_flat_images_beside_their_labels(folder):
    train, test = load(folder)
    assert (len(train), len(test)) == (5, 3)
    for split, images, labels in ((train, TRAIN_IMAGES, TRAIN_LABELS), (test, TEST_IMAGES, TEST_LABELS)):
        assert np.array_equal(split.images, read_idx(folder / images, 3).reshape(-1, PIXELS))
        assert np.array_equal(split.labels, read_idx(folder / labels, 1))


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        (TEST_LABELS, np.array([3, LABELS, 0]), f"label {LABELS} of image 1 is not a digit from 0 to 9"),
        (TEST_LABELS, np.zeros(4), f"3 images, but 4 labels in {TEST_LABELS}"),
        (TRAIN_IMAGES, np.zeros((4, SIDE, SIDE)), f"4 images, but 5 labels in {TRAIN_LABELS}"),
        (TRAIN_IMAGES, np.zeros((5, 32, SIDE)), f"images are 32 by {SIDE} pixels, not {SIDE} by {SIDE}"),
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
    idx.write_digits(folder)
    return folder


def test_the_splits_of_digits_share_no_image(digits):
    train, test = load(digits)
    assert (len(train), len(test)) == (1500, 297)
    both = np.concatenate([train.images, test.images])
    assert len(np.unique(both, axis=0)) == 1797


def test_digits_hold_every_class_in_both_splits(digits):
    from sklearn.datasets import load_digits

    train, test = load(digits)
    counts = [np.bincount(split.labels, minlength=LABELS) for split in (train, test)]
    assert np.array_equal(sum(counts), np.bincount(load_digits().target))
    assert min(counts[0]) > 130
    assert min(counts[1]) > 15


def test_digits_are_centred_in_an_empty_border_like_mnist(digits):
    for split in load(digits):
        images = split.images.reshape(-1, SIDE, SIDE)
        inside = images[:, 4:24, 4:24]
        assert images.sum(dtype=int) == inside.sum(dtype=int)
        assert (inside.reshape(len(inside), -1).max(axis=1) > 200).all()
        for edge in (inside[:, 0], inside[:, -1], inside[:, :, 0], inside[:, :, -1]):
            assert edge.any()


def test_digits_keep_their_labels(digits):
    """An image shrunk back to 8×8 is nearest to an original of the same label."""
    from sklearn.datasets import load_digits

    test = load(digits)[1]
    pixels = test.images.reshape(-1, SIDE, SIDE)[:, 4:24, 4:24].astype(float)
    rows = np.arange(20) * 8 // 20
    averaging = np.eye(8)[rows] / np.bincount(rows)[rows][:, None]
    shrunk = np.einsum("nij,ia,jb->nab", pixels, averaging, averaging).reshape(len(pixels), 64)
    originals = load_digits()
    distances = ((shrunk[:, None] - originals.data[None] * (255 / 16)) ** 2).sum(axis=2)
    assert np.array_equal(originals.target[distances.argmin(axis=1)], test.labels)


def test_digits_are_written_with_the_same_bytes_every_time(digits, tmp_path):
    idx.write_digits(tmp_path / "a" / "new" / "folder")
    for name in FILES:
        assert (tmp_path / "a" / "new" / "folder" / name).read_bytes() == (digits / name).read_bytes()


def test_real_mnist_holds_its_known_images_and_labels():
    mirror = Path(os.environ.get("MNIST_MIRROR") or "unset")
    if not all((mirror / name).is_file() for name in FILES):
        pytest.skip("MNIST_MIRROR is not a folder with the four files of MNIST")
    train, test = load(mirror)
    assert train.images.shape == (60_000, PIXELS)
    assert test.images.shape == (10_000, PIXELS)
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert train.images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
