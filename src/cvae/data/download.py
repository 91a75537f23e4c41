"""Download a data set's four files, each from the first source that serves it complete."""

import hashlib
import os
import shutil
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urljoin, urlsplit

import requests
import urllib3
from tqdm import tqdm

from cvae.data import idx
from cvae.support.errors import UserError, one_line, shown
from cvae.support.faults import file_error

CONNECT_TIMEOUT = 4  # seconds, for each IP address of a host; S3 has eight
READ_TIMEOUT = 15  # seconds without a byte
MINIMUM_RATE = 2048  # bytes per second, on average after the first READ_TIMEOUT
MAXIMUM_SIZE = 2**28  # bytes
MAXIMUM_REDIRECTS = 10
AS_PUBLISHED = "the .gz file as published is needed, for its checksum"
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # the variables that requests reads, in its order


class SourceError(Exception):
    """One source could not serve one file; the message says why."""


def sources(dataset: str, mirror: str | None) -> tuple[list[str], dict[str, str]]:
    """Return the places to try for the files of `dataset`, in order, and the MD5 sum of each file.

    `mirror`, a URL or a directory, comes first. Then come the mirrors that torchvision lists, HTTPS before HTTP.
    """
    listed = _listed()[dataset]
    urls = sorted(listed.mirrors, key=lambda url: not url.startswith("https://"))
    return ([mirror] if mirror else []) + urls, dict(listed.resources)


def _listed() -> dict[str, type]:
    """Return torchvision's class for each data set, with its `mirrors` and `resources`."""
    from torchvision.datasets import KMNIST, MNIST, FashionMNIST

    return {"mnist": MNIST, "fashion-mnist": FashionMNIST, "kmnist": KMNIST}


def download(dataset: str, folder: str | Path, mirror: str | None = None) -> None:
    """Download the four files of `dataset` into `folder` and verify them; keep files that are already there and valid.

    A file gets its name only after its checksum is verified. `digits` is generated, not downloaded.

    Raises:
        UserError: no source serves one of the files (one line per source says why), or `folder` is not writable.
    """
    folder = Path(folder)
    found = None if dataset == "digits" else sources(dataset, mirror)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if found:
            _fetch_files(dataset, folder, *found)
        else:
            idx.write_digits(folder)
    except OSError as error:
        raise file_error(error, error.filename or folder) or error from None


def _fetch_files(dataset: str, folder: Path, candidates: list[str], checksums: dict[str, str]) -> None:
    for name in idx.FILES:
        target = folder / name
        if target.exists() and hashlib.md5(target.read_bytes()).hexdigest() == checksums[name]:
            continue
        reasons = []
        for source in list(candidates):
            try:
                fetch(source, target, checksums[name])
            except SourceError as error:
                reasons.append(f"  {_shown(source)}: {error}")
                continue
            candidates.remove(source)  # try the source that worked first for the next file
            candidates.insert(0, source)
            break
        else:
            raise UserError(
                f"{name} of {dataset} could be had from none of its sources:\n" + "\n".join(reasons) + "\n"
                "  With the four files at hand: MNIST_MIRROR=<their folder or URL> dvc repro\n"
                "  Without a network:           dvc exp run -S dataset=digits"
            )


def fetch(source: str, target: Path, checksum: str) -> None:
    """Fetch the file called `target.name` from `source`, a URL or a directory.

    It is renamed to `target` once its MD5 `checksum` is verified.

    Raises:
        SourceError: the source is unreachable, refuses, stalls, is too slow, sends only part, or sends another file.
    """
    part = target.with_name(target.name + ".part")
    scheme, separator, rest = source.partition("://")
    try:
        with part.open("wb") as file:
            if not separator:
                _copy(Path(source, target.name), file)
            elif scheme.lower() == "file":
                _copy(Path(unquote(rest), target.name), file)
            elif scheme.lower() in ("http", "https"):
                _stream(_address(source, target.name), file)
            else:
                raise SourceError("neither a folder nor an address with file://, http:// or https://")
        content = part.read_bytes()
        if hashlib.md5(content).hexdigest() != checksum:
            raise SourceError(_other_content(content, target.name, checksum))
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _other_content(content: bytes, name: str, checksum: str) -> str:
    """Describe what came instead of the file `name` with the MD5 sum `checksum`."""
    known = {md5: (dataset, file) for dataset, listed in _listed().items() for file, md5 in listed.resources}
    dataset, _ = known.get(checksum, ("", ""))
    came_dataset, came_file = known.get(hashlib.md5(content).hexdigest(), ("", ""))
    if came_dataset not in ("", dataset):
        return f"holds {came_dataset}, not {dataset}"
    if came_file:
        return f"{name} there is {came_file} under a wrong name"
    reason = ""
    if content[:512].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        reason = ": a web page came instead; this network may want a login, in a browser"
    elif content.startswith(b"\0\0\x08"):  # an IDX file of bytes
        reason = f": it is unpacked already; {AS_PUBLISHED}"
    return f"wrong checksum for {name} ({len(content):,} bytes){reason}"


def _copy(path: Path, file: BinaryIO) -> None:
    try:
        source = path.open("rb")
    except FileNotFoundError:
        names = (path.stem, path.stem.replace("-idx", ".idx"))  # some archives use the second spelling
        unpacked = next((name for name in names if path.with_name(name).exists()), None)
        there = f", only {unpacked}, unpacked; {AS_PUBLISHED}" if unpacked else ""
        raise SourceError(f"no {path.name} there{there}") from None
    except OSError as error:
        raise SourceError(error.strerror) from None
    except ValueError as error:  # a NUL character in the path
        raise SourceError(f"not a folder ({error})") from None
    with source:
        shutil.copyfileobj(source, file)


def _address(source: str, name: str) -> str:
    """Return the URL of the file `name` at the URL `source`, keeping its query if it has one."""
    try:
        parts = urlsplit(source)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or " " in source:
        raise SourceError("not an address; in a password, write / # ? @ and a space as %2F %23 %3F %40 %20")
    return parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl()


def _shown(source: str) -> str:
    """Return `source` without secrets, for a message."""
    return shown(source.replace(" ", "%20") if "://" in source else source)


def _stream(url: str, file: BinaryIO) -> None:
    """Write the body at `url` to `file` as it was sent, with a progress bar on a terminal.

    Follows redirects itself, since requests would read each one's body to its end and would allow HTTPS to HTTP.
    """
    with requests.Session() as session:
        session.get_redirect_target = lambda response: None
        for _ in range(MAXIMUM_REDIRECTS + 1):
            location = _request(session, url, file)
            if location is None:
                return
            url = _redirected(url, location)
    raise SourceError(f"more than {MAXIMUM_REDIRECTS} redirects")


def _redirected(url: str, location: str) -> str:
    """Return the URL that `url` redirects to with `location`; user name and password stay with the same host."""
    try:
        old, new = urlsplit(url), urlsplit(urljoin(url, location))
        same = (old.scheme, old.hostname, old.port) == (new.scheme, new.hostname, new.port)
    except ValueError:
        raise SourceError(f"redirects to {shown(location)[:200]}, which is not an address") from None
    if new.scheme not in ("https", old.scheme):
        raise SourceError(f"redirects to {shown(new.geturl())[:200]}: refused, for that is not {old.scheme.upper()}")
    return (new._replace(netloc=old.netloc) if same else new).geturl()


def _request(session: requests.Session, url: str, file: BinaryIO) -> str | None:
    """Write the body at `url` to `file`, or return the `Location` header if the answer is a redirect."""
    try:
        started = time.monotonic()
        with _get(session, url) as response:
            if response.is_redirect:  # such a status code, and a Location header
                return response.headers["Location"]
            response.raise_for_status()
            form = "{desc}|{bar}| {n_fmt}/{total_fmt} {rate_fmt}"  # fits 60 columns
            bar = {"unit": "B", "unit_scale": True, "disable": None, "leave": False, "bar_format": form}
            with tqdm(desc=Path(file.name).stem, total=response.raw.length_remaining, **bar) as progress:
                # read1 returns whatever has arrived, so a trickle is noticed; read would wait for a full buffer.
                while chunk := response.raw.read1(2**16, decode_content=False):
                    file.write(chunk)
                    progress.update(len(chunk))
                    size, seconds = file.tell(), time.monotonic() - started
                    if seconds > READ_TIMEOUT and size < MINIMUM_RATE * seconds:
                        raise SourceError(f"too slow: {size:,} bytes in {seconds:.0f} s")
                    if size > MAXIMUM_SIZE:
                        raise SourceError(f"larger than {MAXIMUM_SIZE:,} bytes")
        return None
    except requests.HTTPError as error:
        reason = f"HTTP {error.response.status_code} {error.response.reason}"
    except requests.ConnectTimeout:
        reason = f"no connection within {CONNECT_TIMEOUT} s"
    except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError):
        reason = f"stalled: nothing came for {READ_TIMEOUT} s"
    except urllib3.exceptions.ProtocolError:
        reason = f"cut short after {file.tell():,} bytes"
    except (requests.exceptions.InvalidURL, urllib3.exceptions.LocationParseError, UnicodeError, TypeError):
        reason = "not an address"  # probably the proxy's; the error itself might quote its password
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        reason = _innermost(error)
    raise SourceError(one_line(shown(reason))[:200] + _through(url))


def _get(session: requests.Session, url: str) -> requests.Response:
    """Request `url`. A local file that this needs but cannot use (certificates, .netrc) raises a `SourceError`."""
    variable = next((name for name in CERTIFICATES if os.environ.get(name)), None)
    if variable and url.startswith("https:"):
        _require_certificates(variable, os.environ[variable])
    try:
        return session.get(
            url,
            stream=True,
            timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
            headers={"Accept-Encoding": "identity"},
        )
    except requests.RequestException:
        raise
    except UnicodeDecodeError:  # requests skips a .netrc it cannot open or parse, but not one with invalid bytes
        netrc = os.environ.get("NETRC") or "~/.netrc"
        raise SourceError(f"{shown(netrc)}: not a text file; put that right, or move it away") from None
    except OSError as error:  # for instance, requests' own list of certificates is missing
        raise SourceError(one_line(shown(_innermost(error)))[:200]) from None


def _require_certificates(variable: str, path: str) -> None:
    """Raise a `SourceError` if `path`, the value of `variable`, holds no certificates.

    requests' own errors are vague about this, and for a missing file it raises none of its network errors.
    """
    reason = "no certificates in it"
    try:
        if os.path.isdir(path):
            if any(Path(path).glob("*.[0-9]")):  # names that `openssl rehash` gives
                return
        else:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
            return
    except ssl.SSLError:
        pass
    except OSError as error:
        reason = error.strerror
    raise SourceError(one_line(f"{variable}={shown(path)}: {reason}; put that right, or unset the variable"))


def _through(url: str) -> str:
    """Return the words that name the proxy used for `url`, if any, for the end of a message."""
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if not proxy:
        return ""
    return f" (through the proxy {_shown(proxy if '://' in proxy else f'http://{proxy}')})"


def _innermost(error: BaseException) -> str:
    """Return the reason at the bottom of a chain of network errors, such as `Connection refused`.

    If it concerns a local file, name the file, and the environment variable that points to it.
    """
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    if path := getattr(error, "filename", None):
        variable = next((f"{name}=" for name, value in os.environ.items() if value == path), "")
        return f"{variable}{path}: {error.strerror}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def reachable(dataset: str, mirror: str | None = None) -> bool:
    """Return whether any source of `dataset` serves its smallest file; `make run` falls back to `digits` if not."""
    if dataset == "digits":
        return True
    name = idx.TEST_LABELS
    candidates, checksums = sources(dataset, mirror)
    with tempfile.TemporaryDirectory() as folder:
        for source in candidates:
            try:
                fetch(source, Path(folder) / name, checksums[name])
                return True
            except SourceError as error:
                print(f"  {_shown(source)}: {error}", file=sys.stderr)
    return False
