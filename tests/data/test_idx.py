import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cvae.data import idx, names
from cvae.data.idx import FILES, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, load, read_idx, write_idx
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
    ("content", "told"),
    [
        (header(6) + bytes(6), "not an IDX file of bytes with 3 dimensions (starts 00000801)"),
        (header(1, 2, 3, kind=0x0D) + bytes(24), "not an IDX file of bytes with 3 dimensions (starts 00000d03)"),
        (b"<!DOCTYPE html>", "not an IDX file of bytes with 3 dimensions (starts 3c21444f)"),
        (b"", "not an IDX file of bytes with 3 dimensions (starts )"),
        (header(1, 2, 3)[:9], "damaged ("),
        (header(1, 2, 3) + bytes(5), "holds fewer than the 6 bytes that its header announces"),
        (header(1, 2, 3), "holds fewer than the 6 bytes that its header announces"),
        (header(1, 2, 3) + bytes(7), "holds more than the 6 bytes that its header announces"),
        (header(0, 28, 28), "its header announces no values"),
        (header(0, 2**32 - 1, 2**32 - 1), "its header announces no values"),
        (header(2**32 - 1, 2**32 - 1, 2**32 - 1), "its header announces 79,228,162,458,924,105,385,300,197,375 bytes"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:30],
)
def test_content_that_is_not_what_was_asked_for_is_refused(file, content, told):
    file.write_bytes(gzip.compress(content))
    assert refusal(file).startswith(told)


@pytest.mark.parametrize(
    "damage",
    {
        "cut short": lambda whole: whole[:-20],
        "cut in its header": lambda whole: whole[:5],
        "wrong checksum": lambda whole: whole[:-8] + bytes(4) + whole[-4:],
        "not deflated": lambda whole: whole[:10] + b"\xff" * 20 + whole[30:],
        "not gzip": gzip.decompress,
        "a web page": lambda whole: b"<html>",
        "something after it": lambda whole: whole + b"more",
    }.items(),
    ids=lambda item: item[0],
)
def test_a_damaged_file_is_refused_with_the_way_to_mend_it(file, damage):
    whole = gzip.compress(header(1, 50, 50) + bytes(range(250)) * 10)
    file.write_bytes(damage[1](whole))
    told = refusal(file)
    assert told.startswith("damaged (")
    assert told.endswith("`dvc repro -sf download` brings it back")


def test_a_missing_file_is_told_with_the_way_to_get_it(file):
    assert refusal(file) == "missing; `dvc repro download` brings it back"


def test_a_folder_in_place_of_a_file_is_told(file):
    file.mkdir()
    assert refusal(file) == "cannot be read (Is a directory)"


@pytest.mark.parametrize(
    "content",
    [header(2**32 - 1, 28, 28) + bytes(784), header(1, 28, 28) + bytes(2**25)],
    ids=["announces 3 TB", "announces 784 bytes and holds 32 MB"],
)
def test_a_file_with_a_lying_header_costs_no_memory(file, content):
    file.write_bytes(gzip.compress(content, 1))
    tracemalloc.start()
    refusal(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("shape", [(7,), (2, 3), (3, 28, 28)])
def test_what_is_written_is_read_back(file, shape):
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_idx(file, values)
    assert np.array_equal(read_idx(file, values.ndim), values)


def test_writing_goes_by_values_not_by_memory_layout(file):
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
        write_idx(tmp_path / images, random.integers(0, 256, (length, 28, 28), np.uint8))
        write_idx(tmp_path / labels, random.integers(0, 10, length, np.uint8))
    return tmp_path


def test_a_data_set_is_loaded_as_flat_images_beside_their_labels(folder):
    train, test = load(folder)
    assert (len(train), len(test)) == (5, 3)
    for split, images, labels in ((train, TRAIN_IMAGES, TRAIN_LABELS), (test, TEST_IMAGES, TEST_LABELS)):
        assert np.array_equal(split.images, read_idx(folder / images, 3).reshape(-1, 784))
        assert np.array_equal(split.labels, read_idx(folder / labels, 1))


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        (TEST_LABELS, np.array([3, 10, 0]), "label 10 of image 1 is not a digit from 0 to 9"),
        (TEST_LABELS, np.zeros(4), f"3 images, but 4 labels in {TEST_LABELS}"),
        (TRAIN_IMAGES, np.zeros((4, 28, 28)), f"4 images, but 5 labels in {TRAIN_LABELS}"),
        (TRAIN_IMAGES, np.zeros((5, 32, 28)), "images are 32 by 28 pixels, not 28 by 28"),
        (TEST_IMAGES, np.zeros((3, 28)), "not an IDX file of bytes with 3 dimensions (starts 00000802)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_data_set_that_does_not_fit_together_is_refused(folder, name, values, told):
    write_idx(folder / name, values.astype(np.uint8))
    with pytest.raises(UserError, match=r"^[^\n]*$") as raised:
        load(folder)
    assert str(raised.value).endswith(f"{told}; `dvc repro -sf download` brings it back")


@pytest.mark.parametrize("name", FILES)
def test_each_of_the_four_files_is_needed(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: missing"):
        load(folder)


def test_every_data_set_has_a_title_and_a_name_for_each_label():
    from typing import get_args

    from cvae.pipeline.parameters import Parameters

    data_sets = get_args(Parameters.model_fields["dataset"].annotation)
    assert set(data_sets) == set(names.TITLES) == set(names.LABEL_NAMES)
    assert {len(set(labels)) for labels in names.LABEL_NAMES.values()} == {idx.LABELS}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    idx.write_digits(folder)
    return folder


def test_digits_are_split_in_two_that_share_no_image(digits):
    train, test = load(digits)
    assert (len(train), len(test)) == (1500, 297)
    both = np.concatenate([train.images, test.images])
    assert len(np.unique(both, axis=0)) == 1797


def test_digits_hold_every_class_in_both_splits(digits):
    from sklearn.datasets import load_digits

    train, test = load(digits)
    counts = [np.bincount(split.labels, minlength=10) for split in (train, test)]
    assert np.array_equal(sum(counts), np.bincount(load_digits().target))
    assert min(counts[0]) > 130
    assert min(counts[1]) > 15


def test_digits_stand_in_the_middle_of_an_empty_border_like_mnists(digits):
    for split in load(digits):
        images = split.images.reshape(-1, 28, 28)
        inside = images[:, 4:24, 4:24]
        assert images.sum(dtype=int) == inside.sum(dtype=int)
        assert (inside.reshape(len(inside), -1).max(axis=1) > 200).all()
        for edge in (inside[:, 0], inside[:, -1], inside[:, :, 0], inside[:, :, -1]):
            assert edge.any()


def test_digits_keep_their_labels(digits):
    """An image shrunk back to 8×8 is nearest to an original of the same label."""
    from sklearn.datasets import load_digits

    test = load(digits)[1]
    pixels = test.images.reshape(-1, 28, 28)[:, 4:24, 4:24].astype(float)
    rows = np.arange(20) * 8 // 20
    averaging = np.eye(8)[rows] / np.bincount(rows)[rows][:, None]
    shrunk = np.einsum("nij,ia,jb->nab", pixels, averaging, averaging).reshape(len(pixels), 64)
    originals = load_digits()
    distances = ((shrunk[:, None] - originals.data[None] * (255 / 16)) ** 2).sum(axis=2)
    assert np.array_equal(originals.target[distances.argmin(axis=1)], test.labels)


def test_digits_are_written_with_the_same_bytes_each_time(digits, tmp_path):
    idx.write_digits(tmp_path / "a" / "new" / "folder")
    for name in FILES:
        assert (tmp_path / "a" / "new" / "folder" / name).read_bytes() == (digits / name).read_bytes()


def test_real_mnist_holds_its_known_images_and_labels():
    mirror = Path(os.environ.get("MNIST_MIRROR") or "unset")
    if not all((mirror / name).is_file() for name in FILES):
        pytest.skip("MNIST_MIRROR names no folder with the four files of MNIST")
    train, test = load(mirror)
    assert train.images.shape == (60_000, 784)
    assert test.images.shape == (10_000, 784)
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert train.images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
