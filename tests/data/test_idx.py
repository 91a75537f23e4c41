import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cvae.data.idx import read_idx, write_idx
from cvae.support.errors import UserError

SIDE, PIXELS = 28, 784


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


@pytest.mark.parametrize("shape", [(7,), (2, 3), (3, SIDE, SIDE), (2, 8, 9, 3)])
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


def test_an_unpacked_file_is_read_and_bounded_by_its_size(file):
    unpacked = file.with_suffix("")
    unpacked.write_bytes(header(2, 3, 4) + bytes(range(24)))
    assert read_idx(unpacked, 3).tolist() == np.arange(24).reshape(2, 3, 4).tolist()
    unpacked.write_bytes(header(2, 30, 40) + bytes(range(24)))
    assert refusal(unpacked).startswith("its header announces 2,400 bytes, which it cannot hold")


def test_the_message_about_a_file_of_ones_own_has_another_remedy(file):
    for content in (b"", gzip.compress(b"")):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"; replace it$"):
            read_idx(file, 3, "replace it")
    with pytest.raises(UserError, match=r"missing; replace it$"):
        read_idx(file.with_name("absent"), 3, "replace it")
