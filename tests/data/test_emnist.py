"""EMNIST, in an archive of the published form that holds a few images."""

import gzip
import hashlib
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.mirror import CONTENT, PAGE, contents

from cvae.data.dataset import FILES, SCHEMA, load
from cvae.data.download import download, reachable, sources
from cvae.data.idx import idx_bytes
from cvae.support.errors import UserError

pytestmark = pytest.mark.usefixtures("small_mnist")
CLASSES, FIRST = {"letters": 26, "balanced": 47}, {"letters": 1, "balanced": 0}


def stored(split: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images, as they are seen, and the labels, from 0, of which the archive is made."""
    count = CLASSES[split] * (2 if part == "train" else 1)
    images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)
    return images, np.arange(count, dtype=np.uint8) % CLASSES[split]


@pytest.fixture
def mirror(tmp_path, monkeypatch) -> Path:
    """A folder with the small archive, whose sum torchvision lists; its own URL refuses connections."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
        archive.writestr("gzip/emnist-letters-mapping.txt", "1 65 97\n")
        for split in CLASSES:
            for part in ("train", "test"):
                images, labels = stored(split, part)
                name = f"gzip/emnist-{split}-{part}"
                archive.writestr(f"{name}-images-idx3-ubyte.gz", idx_bytes(images.transpose(0, 2, 1)))
                archive.writestr(f"{name}-labels-idx1-ubyte.gz", idx_bytes(labels + FIRST[split]))
    use(folder, monkeypatch)
    return folder


def use(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr("torchvision.datasets.EMNIST.url", "http://127.0.0.1:1/EMNIST/gzip.zip")
    md5 = hashlib.md5((folder / "gzip.zip").read_bytes()).hexdigest()
    monkeypatch.setattr("torchvision.datasets.EMNIST.md5", md5)


@pytest.mark.parametrize("split", CLASSES)
def test_images_are_turned_upright_and_labels_count_from_0(split, mirror, tmp_path):
    download(f"emnist-{split}", tmp_path / "raw", str(mirror))
    data = load(tmp_path / "raw")
    assert set(contents(tmp_path / "raw")) == {*FILES, SCHEMA}
    assert (len(data.schema.classes), data.schema.title) == (CLASSES[split], f"EMNIST {split.title()}")
    assert data.schema.shape == (28, 28, 1)
    assert data.schema.ink
    for name in ("train", "test"):
        images, labels = stored(split, name)
        assert np.array_equal(getattr(data, name).images, images.reshape(len(images), -1))
        assert np.array_equal(getattr(data, name).labels, labels)


def test_the_archive_is_torchvisions(monkeypatch):
    monkeypatch.undo()
    places, sums = sources("emnist-letters", "/a/folder")
    assert places == ["/a/folder", "https://biometrics.nist.gov/cs_links/EMNIST"]
    assert sums == {"gzip.zip": "58c8d27c78d21e728a6bc7b3cc06412e"}
    assert sources("emnist-balanced", None)[1] == sums


def test_another_or_a_missing_archive_is_reported_and_leaves_nothing(mirror, tmp_path):
    def lines() -> list[str]:
        with pytest.raises(UserError) as raised:
            download("emnist-letters", tmp_path / "raw", str(mirror))
        assert contents(tmp_path / "raw") == {}
        return str(raised.value).splitlines()

    (mirror / "gzip.zip").write_bytes(PAGE)
    first, second, third, *remedies = lines()
    assert first == "gzip.zip of emnist-letters could not be downloaded from any source:"
    assert second == (
        f"  {mirror}: wrong checksum for gzip.zip ({len(PAGE)} bytes): "
        "a web page came instead; this network may need a login in a browser"
    )
    assert third == "  http://127.0.0.1:1/EMNIST: Connection refused"
    assert remedies[0] == "  If you have the archive: MNIST_MIRROR=<its folder or URL> dvc repro"
    (mirror / "gzip.zip").unlink()
    assert lines()[1] == f"  {mirror}: no gzip.zip there"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"PK no archive"),
        lambda path: path.write_bytes(path.read_bytes().replace(b"emnist-letters", b"emnist-ABCDEFG")),
        lambda path: zipfile.ZipFile(path, "w").writestr(
            "gzip/emnist-letters-train-images-idx3-ubyte.gz", gzip.compress(b"no IDX file")
        ),
    ],
    ids=["no archive", "without the file", "no IDX file"],
)
def test_an_archive_with_other_content_is_reported_in_one_line(spoil, mirror, tmp_path, monkeypatch):
    spoil(mirror / "gzip.zip")
    use(mirror, monkeypatch)
    with pytest.raises(UserError, match=r"^[^\n]*$"):
        download("emnist-letters", tmp_path / "raw", str(mirror))
    assert contents(tmp_path / "raw") == {}


def test_emnist_is_reachable_if_a_source_starts_to_send_the_archive(mirror, tmp_path, server, monkeypatch, capsys):
    assert reachable("emnist-letters", str(mirror))
    assert reachable("emnist-balanced", mirror.as_uri())
    monkeypatch.setitem(CONTENT, "gzip.zip", PAGE)
    assert not reachable("emnist-letters", server.url("good"))
    assert "a web page came instead" in capsys.readouterr().err
    monkeypatch.setitem(CONTENT, "gzip.zip", b"PK" + bytes(2**20))
    assert reachable("emnist-letters", server.url("good"))
    shutil.rmtree(mirror)
    assert not reachable("emnist-letters", str(mirror))
    assert re.search(r": no gzip\.zip there\n", capsys.readouterr().err)
