"""Download the files of a built-in data set, each from the first source that serves it complete."""

import hashlib
import io
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from cvae.data import emnist
from cvae.data.dataset import TEST_LABELS, Schema, save_schema, spellings
from cvae.data.digits import write_digits
from cvae.data.emnist import EMNIST
from cvae.data.names import LABEL_NAMES, TITLES
from cvae.data.transfer import SourceError, address, fetch_body, shown_source
from cvae.support.errors import UserError
from cvae.support.faults import file_error

AS_PUBLISHED = "use the published .gz file"
A_PAGE = "a web page came instead; this network may need a login in a browser"


def sources(dataset: str, mirror: str | None) -> tuple[list[str], dict[str, str]]:
    """Return the places to try for the files of `dataset`, in order, and the MD5 sum of each file.

    `mirror`, a URL or a directory, comes first. Then come the mirrors that torchvision lists, HTTPS before HTTP.
    """
    if dataset in EMNIST:
        place, name, checksum = emnist.archive()
        return ([mirror] if mirror else []) + [place], {name: checksum}
    listed = _listed()[dataset]
    urls = sorted(listed.mirrors, key=lambda url: not url.startswith("https://"))
    return ([mirror] if mirror else []) + urls, dict(listed.resources)


def _listed() -> dict[str, type]:
    """Return torchvision's class for each data set, with its `mirrors` and `resources`."""
    from torchvision.datasets import KMNIST, MNIST, FashionMNIST

    return {"mnist": MNIST, "fashion-mnist": FashionMNIST, "kmnist": KMNIST}


def download(dataset: str, folder: str | Path, mirror: str | None = None, cache: Path | None = None) -> None:
    """Download the four files of `dataset` into `folder` and verify them; keep files that are already there and valid.

    A file gets its name only after its checksum is verified. `digits` is generated, not downloaded. EMNIST's files are
    unpacked from one archive. `cache`: a folder like DVC's cache, which may hold the files under their checksums.

    Raises:
        UserError: no source serves one of the files (one line per source says why), or `folder` is not writable.
    """
    folder = Path(folder)
    found = None if dataset == "digits" else sources(dataset, mirror)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not found:
            write_digits(folder)
        elif dataset in EMNIST:
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                _fetch_files(dataset, Path(temporary), *found, cache)
                (archive,) = Path(temporary).iterdir()
                emnist.unpack(archive, dataset, folder)
        else:
            _fetch_files(dataset, folder, *found, cache)
            save_schema(Schema((28, 28, 1), LABEL_NAMES[dataset], TITLES[dataset], ink=True), folder)
    except OSError as error:
        raise file_error(error, error.filename or folder) or error from None


def _fetch_files(
    dataset: str, folder: Path, candidates: list[str], checksums: dict[str, str], cache: Path | None
) -> None:
    for name, checksum in checksums.items():
        target = folder / name
        if target.exists() and _md5(target) == checksum:
            continue
        kept = cache and cache / checksum[:2] / checksum[2:]
        if kept and kept.is_file() and _md5(kept) == checksum:
            shutil.copyfile(kept, target)
            continue
        reasons = []
        for source in list(candidates):
            try:
                fetch(source, target, checksum)
            except SourceError as error:
                reasons.append(f"  {shown_source(source)}: {error}")
                continue
            candidates.remove(source)  # try the source that worked first for the next file
            candidates.insert(0, source)
            break
        else:
            raise UserError(
                f"{name} of {dataset} could not be downloaded from any source:\n" + "\n".join(reasons) + "\n"
                f"  If you have the {'four files' if len(checksums) > 1 else 'archive'}: "
                f"MNIST_MIRROR=<{'their' if len(checksums) > 1 else 'its'} folder or URL> dvc repro\n"
                "  Without a network:          dvc exp run -S dataset=digits"
            )


def fetch(source: str, target: Path, checksum: str) -> None:
    """Fetch the file called `target.name` from `source`, a URL or a directory.

    It is renamed to `target` once its MD5 `checksum` is verified.

    Raises:
        SourceError: the source is unreachable, refuses, stalls, is too slow, or sends part of the file or another one.
    """
    part = target.with_name(target.name + ".part")
    try:
        with part.open("wb") as file:
            _send(source, target.name, file)
        came = _md5(part)
        if came != checksum:
            raise SourceError(_other_content(part, came, target.name, checksum))
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _send(source: str, name: str, file: BinaryIO, is_probe: bool = False) -> None:
    """Write the file `name` from `source`, or only its first bytes to probe the source, to `file`."""
    scheme, separator, rest = source.partition("://")
    if not separator:
        _copy(Path(source, name), file, is_probe)
    elif scheme.lower() == "file":
        _copy(Path(unquote(rest), name), file, is_probe)
    elif scheme.lower() in ("http", "https"):
        fetch_body(address(source, name), file, emnist.LARGEST if name == emnist.ARCHIVE else None, is_probe)
    else:
        raise SourceError("neither a folder nor a URL with file://, http:// or https://")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _other_content(path: Path, md5: str, name: str, checksum: str) -> str:
    """Describe the content of `path`, whose sum is `md5`, which came instead of `name`, whose sum is `checksum`."""
    known = {md5: (dataset, file) for dataset, listed in _listed().items() for file, md5 in listed.resources}
    dataset, _ = known.get(checksum, ("", ""))
    came_dataset, came_file = known.get(md5, ("", ""))
    if came_dataset not in ("", dataset):
        return f"holds {came_dataset}, not {dataset}"
    if came_file:
        return f"{name} there is {came_file} under the wrong name"
    reason = ""
    with path.open("rb") as file:
        start = file.read(512)
    if _is_page(start):
        reason = f": {A_PAGE}"
    elif start.startswith(b"\0\0\x08"):  # an IDX file of bytes
        reason = f": it is already unpacked; {AS_PUBLISHED}"
    return f"wrong checksum for {name} ({path.stat().st_size:,} bytes){reason}"


def _is_page(start: bytes) -> bool:
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def _copy(path: Path, file: BinaryIO, is_probe: bool) -> None:
    try:
        source = path.open("rb")
    except FileNotFoundError:
        names = [name for name in spellings(path.name) if not name.endswith(".gz")]
        unpacked = next((name for name in names if path.with_name(name).exists()), None)
        there = f", only {unpacked}, unpacked; {AS_PUBLISHED}" if unpacked else ""
        raise SourceError(f"no {path.name} there{there}") from None
    except OSError as error:
        raise SourceError(error.strerror) from None
    except ValueError as error:  # a NUL character in the path
        raise SourceError(f"not a folder ({error})") from None
    with source:
        file.write(source.read(4)) if is_probe else shutil.copyfileobj(source, file)


def reachable(dataset: str, mirror: str | None = None) -> bool:
    """Return whether any source serves the smallest file of `dataset`; if not, `make run` falls back to `digits`.

    Of EMNIST's large archive, it looks only at the beginning.
    """
    if dataset == "digits":
        return True
    candidates, checksums = sources(dataset, mirror)
    with tempfile.TemporaryDirectory() as folder:
        for source in candidates:
            try:
                if dataset in EMNIST:
                    _probe(source)
                else:
                    fetch(source, Path(folder) / TEST_LABELS, checksums[TEST_LABELS])
                return True
            except SourceError as error:
                print(f"  {shown_source(source)}: {error}", file=sys.stderr)
    return False


def _probe(source: str) -> None:
    """Raise a `SourceError` unless `source` starts to send EMNIST's archive."""
    start = io.BytesIO()
    start.name = emnist.ARCHIVE
    _send(source, emnist.ARCHIVE, start, is_probe=True)
    if not start.getvalue().startswith(b"PK"):
        raise SourceError(A_PAGE if _is_page(start.getvalue()) else f"{emnist.ARCHIVE} there is not a zip archive")
