"""Choosing a source for each file, checking what came, and the download stage."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.mirror import CHECKSUMS, CONTENT, contents, downloaded, failure
from helpers.repository import PROJECT
from PIL import Image

from cvae.data.dataset import FILES, SCHEMA, TEST_LABELS, load
from cvae.data.download import download, fetch, reachable, sources
from cvae.support.errors import UserError

pytestmark = pytest.mark.usefixtures("small_mnist")


def test_a_file_gets_its_name_only_once_it_is_complete_and_verified(server, tmp_path):
    server.listed = tmp_path
    download("mnist", tmp_path, server.url("good"))
    complete = [set(FILES[:count]) for count in range(4)]
    assert server.listings == [before | {f"{name}.part"} for before, name in zip(complete, FILES, strict=True)]


def test_files_in_dvcs_cache_need_no_network(tmp_path):
    for name, checksum in CHECKSUMS.items():
        kept = tmp_path / "cache" / checksum[:2] / checksum[2:]
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(CONTENT[name])
    download("mnist", tmp_path / "raw", cache=tmp_path / "cache")
    assert all((tmp_path / "raw" / name).read_bytes() == CONTENT[name] for name in FILES)
    kept.write_bytes(b"damaged")
    (tmp_path / "raw" / name).unlink()
    with pytest.raises(UserError, match=f"^{name} of mnist could not be downloaded"):
        download("mnist", tmp_path / "raw", cache=tmp_path / "cache")


def test_if_every_source_fails_each_reason_and_two_remedies_are_reported(closed, server, tmp_path, list_mirrors):
    list_mirrors(server.url("404"), closed, server.url("corrupts"))
    absent = tmp_path / "absent"
    assert failure(tmp_path / "raw", str(absent)) == [
        f"{FILES[0]} of mnist could not be downloaded from any source:",
        f"  {absent}: no {FILES[0]} there",
        f"  {server.url('404')}: HTTP 404 Not Found",
        f"  {closed}: Connection refused",
        f"  {server.url('corrupts')}: wrong checksum for {FILES[0]} ({len(CONTENT[FILES[0]])} bytes)",
        "  If you have the four files: MNIST_MIRROR=<their folder or URL> dvc repro",
        "  Without a network:          dvc exp run -S dataset=digits",
    ]
    assert contents(tmp_path / "raw") == {}


def test_a_failure_leaves_the_files_of_an_earlier_download_unchanged(server, tmp_path):
    earlier = {FILES[0]: CONTENT[FILES[0]], FILES[1]: b"of another data set"}
    for name, content in earlier.items():
        (tmp_path / name).write_bytes(content)
    assert failure(tmp_path, server.url("corrupts"))[0].startswith(FILES[1])
    assert contents(tmp_path) == earlier


def test_the_source_that_served_a_file_is_tried_first_for_the_next(server, tmp_path, list_mirrors):
    list_mirrors(server.url("500"), server.url("good"))
    download("mnist", tmp_path)
    assert server.asked == [f"/500/{FILES[0]}", *(f"/good/{name}" for name in FILES)]


def test_a_source_that_lacks_a_file_is_skipped_for_that_file(server, tmp_path, list_mirrors):
    half = tmp_path / "half"
    half.mkdir()
    (half / FILES[0]).write_bytes(CONTENT[FILES[0]])
    assert failure(tmp_path / "raw", str(half))[:3] == [
        f"{FILES[1]} of mnist could not be downloaded from any source:",
        f"  {half}: no {FILES[1]} there",
        "  If you have the four files: MNIST_MIRROR=<their folder or URL> dvc repro",
    ]
    list_mirrors(server.url("good"))
    download("mnist", tmp_path / "raw", str(half))
    assert server.asked == [f"/good/{name}" for name in FILES[1:]]
    assert downloaded(tmp_path / "raw") == CONTENT


def test_valid_files_are_not_fetched_again(server, tmp_path):
    download("mnist", tmp_path, server.url("good"))
    written = {name: (tmp_path / name).stat().st_mtime_ns for name in FILES}
    server.asked.clear()
    download("mnist", tmp_path, server.url("good"))
    assert server.asked == []
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in FILES} == written


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"damaged")])
def test_only_a_missing_or_damaged_file_is_fetched_again(spoil, server, tmp_path):
    download("mnist", tmp_path, server.url("good"))
    spoil(tmp_path / FILES[2])
    server.asked.clear()
    download("mnist", tmp_path, server.url("good"))
    assert server.asked == [f"/good/{FILES[2]}"]
    assert downloaded(tmp_path) == CONTENT


@pytest.fixture
def files(tmp_path):
    """A folder with the four files."""
    folder = tmp_path / "four files"
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("written", [str, lambda path: f"{path}/", lambda path: f"file://{path}", Path.as_uri])
def test_a_mirror_may_be_a_folder_or_its_file_url(written, files, tmp_path):
    download("mnist", tmp_path / "raw", written(files))
    assert downloaded(tmp_path / "raw") == contents(files) == CONTENT


def test_a_mirror_without_usable_files_is_reported(files, tmp_path):
    def reason(mirror):
        return failure(tmp_path / "raw", mirror)[1].removeprefix(f"  {mirror}: ")

    assert reason(f"file://{tmp_path}/absent") == f"no {FILES[0]} there"
    assert reason(str(files / FILES[1])) == "Not a directory"
    assert reason("ftp://127.0.0.1/mnist") == "neither a folder nor a URL with file://, http:// or https://"
    assert reason("http://") == "not a valid URL; in a password, write / # ? @ and a space as %2F %23 %3F %40 %20"
    (files / FILES[0]).write_bytes(b"damaged")
    assert reason(str(files)) == f"wrong checksum for {FILES[0]} (7 bytes)"
    (files / FILES[0]).unlink()
    (files / FILES[0]).mkdir()
    assert reason(str(files)) == "Is a directory"
    assert contents(tmp_path / "raw") == {}


@pytest.mark.parametrize("dataset", ["fashion-mnist", "kmnist"])
def test_a_source_of_another_data_set_is_reported_as_such(dataset, files, server, tmp_path, monkeypatch, capsys):
    for name in ("FashionMNIST", "KMNIST"):
        monkeypatch.setattr(f"torchvision.datasets.{name}.mirrors", [])
    for mirror in (str(files), server.url("good")):
        with pytest.raises(UserError) as raised:
            download(dataset, tmp_path / "raw", mirror)
        assert str(raised.value).splitlines()[1] == f"  {mirror}: holds mnist, not {dataset}"
        assert not reachable(dataset, mirror)
        assert capsys.readouterr().err == f"  {mirror}: holds mnist, not {dataset}\n"
    assert contents(tmp_path / "raw") == {}


def test_swapped_or_unpacked_files_are_reported(files, tmp_path):
    def reason():
        return failure(tmp_path / "raw", str(files))[1].removeprefix(f"  {files}: ")

    images, labels = files / FILES[0], files / FILES[1]
    images.write_bytes(CONTENT[FILES[1]])
    labels.write_bytes(CONTENT[FILES[0]])
    assert reason() == f"{FILES[0]} there is {FILES[1]} under the wrong name"

    remedy = "use the published .gz file"
    images.write_bytes(b"\0\0\x08\3" + bytes(12))
    assert reason() == f"wrong checksum for {FILES[0]} (16 bytes): it is already unpacked; {remedy}"
    for name in ("train-images-idx3-ubyte", "train-images.idx3-ubyte"):
        images = images.rename(files / name)
        assert reason() == f"no {FILES[0]} there, only {name}, unpacked; {remedy}"
    assert contents(tmp_path / "raw") == {}


@pytest.mark.parametrize("dataset", ["mnist", "digits"])
def test_an_unwritable_folder_is_reported(dataset, files, tmp_path):
    (tmp_path / "raw").write_text("a file where the folder should be")
    reason = f"{tmp_path}/raw: File exists; move it away, then run it again"
    with pytest.raises(UserError, match=f"^{re.escape(reason)}$"):
        download(dataset, tmp_path / "raw", str(files))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_not_blamed_on_the_source(files, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / f"{FILES[0]}.part").symlink_to("/dev/full")
    reason = f"{tmp_path}/raw: No space left on device; free some space, then run it again"
    with pytest.raises(UserError, match=f"^{re.escape(reason)}$"):
        download("mnist", tmp_path / "raw", str(files))
    assert contents(tmp_path / "raw") == {}


def test_an_interrupted_fetch_leaves_nothing_behind(server, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(server.url("good"), tmp_path / FILES[0], CHECKSUMS[FILES[0]])
    assert contents(tmp_path) == {}


def test_digits_are_generated_without_contacting_a_source(server, tmp_path):
    download("digits", tmp_path, server.url("good"))
    assert server.asked == []
    assert sizes(tmp_path) == [1500, 297]
    assert set(contents(tmp_path)) == {*FILES, SCHEMA}


@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist", "kmnist"])
def test_sources_are_the_mirror_then_torchvisions_with_https_first(dataset, monkeypatch):
    monkeypatch.undo()
    checksums = {  # of the training images
        "mnist": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "fashion-mnist": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "kmnist": "bdb82020997e1d708af4cf47b453dcf7",
    }
    urls, sums = sources(dataset, None)
    assert tuple(sums) == FILES
    assert sums[FILES[0]] == checksums[dataset]
    assert all(re.fullmatch("[0-9a-f]{32}", sum) for sum in sums.values())
    assert urls
    assert all(re.match("https?://", url) for url in urls)
    assert urls == sorted(urls, key=lambda url: url.startswith("http://"))
    assert sources(dataset, "/a/folder")[0] == ["/a/folder", *urls]
    assert sources(dataset, "")[0] == urls


def test_https_sources_come_before_http_ones_in_their_order(list_mirrors):
    list_mirrors("http://a/", "https://b/", "http://c/", "https://d/")
    assert sources("mnist", None)[0] == ["https://b/", "https://d/", "http://a/", "http://c/"]


def test_a_data_set_is_reachable_if_any_source_serves_its_smallest_file(closed, server, list_mirrors, capsys):
    list_mirrors(server.url("500"), server.url("good"))
    assert reachable("mnist", closed)
    assert server.asked == [f"/{way}/{TEST_LABELS}" for way in ("500", "good")]
    assert capsys.readouterr().err.splitlines() == [
        f"  {closed}: Connection refused",
        f"  {server.url('500')}: HTTP 500 Internal Server Error",
    ]


def test_a_data_set_is_unreachable_if_no_source_serves_it(closed, server, list_mirrors):
    list_mirrors(server.url("sends-a-page"))
    assert not reachable("mnist", closed)


def test_digits_are_always_reachable(closed):
    assert reachable("digits", closed)


@pytest.fixture
def stage(tmp_path):
    """A function that runs the download stage in a copy of the workspace, without a network."""
    for folder in ("src", "stages"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "PYTHON", "no_", "NO_"))}
    refusing = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:1")

    def run(*arguments, dataset="mnist", images="data/own", folder=tmp_path, **variables):
        from cvae.pipeline.parameters import Parameters

        params = Parameters(dataset=dataset, images=images).model_dump()
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        command = [sys.executable, "-m", "stages.download", *arguments]
        return subprocess.run(
            command, cwd=folder, env=env | refusing | variables, capture_output=True, text=True, timeout=60
        )

    return run


def test_the_stage_reports_the_reasons_without_a_traceback_if_no_source_answers(stage, tmp_path):
    copy = tmp_path / "main/.dvc/tmp/exps/tmp1"
    copy.mkdir(parents=True)
    done = stage(MNIST_MIRROR="my/mnist", folder=copy, PYTHONPATH=str(tmp_path), HOME=str(tmp_path))
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == f"download: {FILES[0]} of mnist could not be downloaded from any source:"
    assert lines[1] == f"  ~/main/my/mnist: no {FILES[0]} there"
    assert len(lines) == 2 + 2 + 2, "a line for each of torchvision's two mirrors, and two remedies"
    reason = ": Connection refused (through the proxy http://127.0.0.1:1)"
    assert all(line.endswith(reason) for line in lines[2:4])
    assert contents(copy / "data" / "raw") == {}


def test_the_stage_generates_digits_without_a_network(stage, tmp_path):
    done = stage(dataset="digits")
    assert (done.returncode, done.stderr) == (0, "")
    assert sizes(tmp_path / "data" / "raw") == [1500, 297]


def test_the_exit_status_of_check_says_whether_the_data_can_be_downloaded(stage, tmp_path):
    assert stage("--check", dataset="digits").returncode == 0
    done = stage("--check", MNIST_MIRROR="http://someone:pa%24s@127.0.0.1:1/?token=hush")
    assert done.returncode == 3
    assert done.stderr.startswith("  http://127.0.0.1:1/?…: Connection refused")
    assert not re.search("Traceback|someone|pa%24s|pa\\$s|hush", done.stdout + done.stderr)
    done = stage("--check", MNIST_MIRROR="https://127.0.0.1:1", CURL_CA_BUNDLE="/nowhere/ca.pem")
    assert done.returncode == 3
    assert done.stderr.startswith("  https://127.0.0.1:1: CURL_CA_BUNDLE=/nowhere/ca.pem: No such file or directory; ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def sizes(folder: Path) -> list[int]:
    """Return the numbers of training and test images in `folder`."""
    data = load(folder)
    return [len(data.train), len(data.test)]


def test_the_stage_makes_a_data_set_of_a_folder_or_says_what_is_wrong_with_it(stage, tmp_path):
    for check in ([], ["--check"]):
        done = stage(*check, dataset="images", images="my pictures")
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"download: my pictures: no such folder; [^\n]*\n", done.stderr)
    for name in ("a cat", "dog"):
        (tmp_path / "my pictures" / name).mkdir(parents=True)
        for grey in range(4):
            Image.new("L", (20, 20), grey + len(name)).save(tmp_path / "my pictures" / name / f"{grey}.png")
    done = stage("--check", dataset="images", images="my pictures")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "data").exists()
    for images in ("my pictures", str(tmp_path / "my pictures")):
        done = stage(dataset="images", images=images)
        assert (done.returncode, done.stderr) == (0, "")
        assert "a cat" in done.stdout
        data = load(tmp_path / "data/raw")
        assert (data.schema.classes, data.schema.title) == (("a cat", "dog"), "my pictures")
        assert str(tmp_path) not in (tmp_path / "data/raw" / SCHEMA).read_text()
