"""Fetch a file by HTTP, with limits on time and size. Every failure is reported in one line."""

import os
import ssl
import time
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from tqdm import tqdm

from cvae.support.errors import one_line, shown

CONNECT_TIMEOUT = 4  # seconds, for each IP address of a host; S3 has eight
READ_TIMEOUT = 15  # seconds without a byte
MINIMUM_RATE = 2048  # bytes per second, on average after the first READ_TIMEOUT
MAXIMUM_SIZE = 2**28  # bytes
MAXIMUM_REDIRECTS = 10
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # the variables that requests reads, in its order


class SourceError(Exception):
    """One source could not serve one file; the message says why."""


def address(source: str, name: str) -> str:
    """Return the URL of the file `name` at the URL `source`, keeping its query if it has one."""
    try:
        parts = urlsplit(source)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or " " in source:
        raise SourceError("not a valid URL; in a password, write / # ? @ and a space as %2F %23 %3F %40 %20")
    return parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl()


def shown_source(source: str) -> str:
    """Return `source` without secrets, for a message."""
    return shown(source.replace(" ", "%20") if "://" in source else source)


def fetch_body(url: str, file: BinaryIO, most: int | None = None, is_probe: bool = False) -> None:
    """Write the body at `url` to `file` without decoding it, with a progress bar on a terminal.

    A body of more than `most` bytes (MAXIMUM_SIZE unless given) is refused. A probe stops after the first bytes.

    Follows redirects itself, since requests would read the body of each to its end, and would follow one from HTTPS to
    HTTP.
    """
    with requests.Session() as session:
        session.get_redirect_target = lambda response: None
        for _ in range(MAXIMUM_REDIRECTS + 1):
            location = _request(session, url, file, most or MAXIMUM_SIZE, is_probe)
            if location is None:
                return
            url = _redirected(url, location)
    raise SourceError(f"more than {MAXIMUM_REDIRECTS} redirects")


def _redirected(url: str, location: str) -> str:
    """Return the URL for `location`, to which `url` redirects. Only the same host gets the user name and password."""
    try:
        old, new = urlsplit(url), urlsplit(urljoin(url, location))
        same = (old.scheme, old.hostname, old.port) == (new.scheme, new.hostname, new.port)
    except ValueError:
        raise SourceError(f"redirects to {shown(location)[:200]}, which is not a valid URL") from None
    if new.scheme not in ("https", old.scheme):
        raise SourceError(f"redirects to {shown(new.geturl())[:200]}: refused, since it is not {old.scheme.upper()}")
    return (new._replace(netloc=old.netloc) if same else new).geturl()


def _request(session: requests.Session, url: str, file: BinaryIO, most: int, is_probe: bool) -> str | None:
    """Write the body at `url` to `file` and return None, or return the `Location` header of a redirect."""
    try:
        started = time.monotonic()
        with _get(session, url) as response:
            if response.is_redirect:  # a redirect's status code and a Location header
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
                    if size > most:
                        raise SourceError(f"larger than {most:,} bytes")
                    if is_probe:
                        break
        return None
    except requests.HTTPError as error:
        reason = f"HTTP {error.response.status_code} {error.response.reason}"
    except requests.ConnectTimeout:
        reason = f"no connection within {CONNECT_TIMEOUT} s"
    except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError):
        reason = f"stalled: no data for {READ_TIMEOUT} s"
    except urllib3.exceptions.ProtocolError:
        reason = f"cut short after {file.tell():,} bytes"
    except (requests.exceptions.InvalidURL, urllib3.exceptions.LocationParseError, UnicodeError, TypeError):
        reason = "not a valid URL"  # probably the proxy's; the error itself might quote its password
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        reason = _innermost(error)
    raise SourceError(one_line(shown(reason))[:200] + _through(url))


def _get(session: requests.Session, url: str) -> requests.Response:
    """Request `url`. Raise a `SourceError` if a local file it needs, such as certificates or .netrc, is unusable."""
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
        raise SourceError(f"{shown(netrc)}: not a text file; correct it or move it away") from None
    except OSError as error:  # for instance, requests' own list of certificates is missing
        raise SourceError(one_line(shown(_innermost(error)))[:200]) from None


def _require_certificates(variable: str, path: str) -> None:
    """Raise a `SourceError` if `path`, the value of `variable`, holds no certificates.

    Without this check, requests' message would be vague, and a missing file would raise a plain OSError.
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
    raise SourceError(one_line(f"{variable}={shown(path)}: {reason}; correct or unset the variable"))


def _through(url: str) -> str:
    """Return the end of a message, which names the proxy used for `url`; empty if there is none."""
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if not proxy:
        return ""
    return f" (through the proxy {shown_source(proxy if '://' in proxy else f'http://{proxy}')})"


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
