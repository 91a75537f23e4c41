"""Fetching by HTTP: failing servers, redirects, certificates, proxies and secrets in addresses."""

import base64
import datetime
import re
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from helpers.mirror import CHECKSUMS, CONTENT, PAGE, Server, contents, downloaded, failure, serving

from cvae.data import transfer
from cvae.data.dataset import FILES
from cvae.data.download import download, fetch, reachable

pytestmark = pytest.mark.usefixtures("small_mnist")


FAILURES = {
    "403": "HTTP 403 Forbidden",
    "404": "HTTP 404 Not Found",
    "500": "HTTP 500 Internal Server Error",
    "511": "HTTP 511 Network Authentication Required",
    "writes-to-the-terminal": f"HTTP 404 [2J]0;owned{'!' * 178}",
    "hangs-up": "Remote end closed connection without response",
    "silent": "stalled: no data for 0.4 s",
    "stalls": "stalled: no data for 0.4 s",
    "truncates": "cut short after 50 bytes",
    "truncates-unannounced": f"wrong checksum for {FILES[0]} (50 bytes)",
    "corrupts": f"wrong checksum for {FILES[0]} ({len(CONTENT[FILES[0]])} bytes)",
    "sends-a-page": f"wrong checksum for {FILES[0]} ({len(PAGE)} bytes): "
    "a web page came instead; this network may need a login in a browser",
    "sends-nothing": f"wrong checksum for {FILES[0]} (0 bytes)",
    "trickles": "too slow: ",
    "is-endless": "larger than 1,000,000 bytes",
    "says-less": f"wrong checksum for {FILES[0]} (50 bytes)",
    "encodes-again": f"wrong checksum for {FILES[0]} (",
    "round-and-round": "more than 10 redirects",
}


@pytest.mark.parametrize("way", FAILURES)
def test_a_failing_source_is_reported_and_the_next_one_is_tried(way, server, tmp_path, monkeypatch, list_mirrors):
    monkeypatch.setattr(transfer, "READ_TIMEOUT", 0.4)
    monkeypatch.setattr(transfer, "MAXIMUM_SIZE", 10**6)
    bad = server.url(way)
    started = time.monotonic()
    first, second, *_ = failure(tmp_path, bad)
    assert time.monotonic() - started < 3
    assert first == f"{FILES[0]} of mnist could not be downloaded from any source:"
    assert second.startswith(f"  {bad}: {FAILURES[way]}")
    assert contents(tmp_path) == {}

    list_mirrors(server.url("good"))
    download("mnist", tmp_path, bad)
    assert downloaded(tmp_path) == CONTENT


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A key and a self-signed certificate for localhost."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    return path


@pytest.fixture
def secure(certificate):
    """A server that uses HTTPS with `certificate`."""
    server = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.url = lambda way: f"https://localhost:{server.server_port}/{way}"
    with serving(server):
        yield server


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_redirect_to_another_host_is_followed_without_the_password(server, other, tmp_path):
    server.location = other.url("good") + f"/{FILES[0]}"
    mirror = server.url("redirects").replace("//", "//someone:pa%24s@")
    fetch(mirror, tmp_path / FILES[0], CHECKSUMS[FILES[0]])
    assert server.authorised == {f"/redirects/{FILES[0]}": basic("someone", "pa$s")}
    assert other.authorised == {f"/good/{FILES[0]}": None}


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_redirect_on_the_same_host_keeps_the_password(server, tmp_path, is_complete):
    server.location = f"{server.url('good') if is_complete else '/good'}/{FILES[0]}"
    mirror = server.url("redirects").replace("//", "//someone:pa%24s@")
    fetch(mirror, tmp_path / FILES[0], CHECKSUMS[FILES[0]])
    assert server.authorised[f"/good/{FILES[0]}"] == basic("someone", "pa$s")


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", "redirects to file:///etc/passwd: refused, since it is not HTTP"),
        ("ftp://u:secret@host/x?token=secret", "redirects to ftp://host/x?…: refused, since it is not HTTP"),
        ("http://u:secret@[nowhere/x", "redirects to http://[nowhere/x, which is not a valid URL"),
        ("http://nowhere:port/x", "redirects to http://nowhere:port/x, which is not a valid URL"),
    ],
)
def test_a_redirect_to_anything_but_a_web_address_is_refused(server, tmp_path, location, reason):
    server.location = location
    assert failure(tmp_path, server.url("redirects"))[1] == f"  {server.url('redirects')}: {reason}"
    assert contents(tmp_path) == {}


def test_the_body_of_a_redirect_is_not_read(server, other, tmp_path):
    server.location = other.url("good") + f"/{FILES[0]}"
    started = time.monotonic()
    fetch(server.url("redirects-endlessly"), tmp_path / FILES[0], CHECKSUMS[FILES[0]])
    assert time.monotonic() - started < 2


def test_an_untrusted_certificate_is_refused(secure, certificate, tmp_path, monkeypatch):
    (reason,) = [line for line in failure(tmp_path, secure.url("good")) if line.startswith(f"  {secure.url('good')}: ")]
    assert "certificate verify failed: self-signed certificate" in reason
    assert secure.asked == []

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))  # now it is trusted
    download("mnist", tmp_path, secure.url("good"))
    assert downloaded(tmp_path) == CONTENT


UNUSABLE = {  # certificates, each with the reason reported
    "missing": "No such file or directory",
    "an empty folder": "no certificates in it",
    "empty": "no certificates in it",
    "garbage": "no certificates in it",
    "a page": "no certificates in it",
}


@pytest.fixture
def unusable(tmp_path) -> Path:
    folder = tmp_path / "certificates"
    (folder / "an empty folder").mkdir(parents=True)
    (folder / "empty").touch()
    (folder / "garbage").write_text("-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n")
    (folder / "a page").write_bytes(PAGE)
    return folder


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_certificates_are_named_and_the_next_source_is_tried(
    variable, kind, unusable, secure, server, tmp_path, monkeypatch, list_mirrors
):
    monkeypatch.setenv(variable, str(unusable / kind))
    reason = f": {variable}={unusable / kind}: {UNUSABLE[kind]}; correct or unset the variable"
    assert failure(tmp_path / "raw", secure.url("good"))[1] == f"  {secure.url('good')}{reason}"
    assert not reachable("mnist", secure.url("good"))

    list_mirrors(server.url("good"))  # HTTP, which needs no certificates
    download("mnist", tmp_path / "raw", secure.url("good"))
    assert downloaded(tmp_path / "raw") == CONTENT
    assert secure.asked == []


def test_certificates_may_be_in_a_folder_named_by_their_hash(secure, certificate, tmp_path, monkeypatch):
    (tmp_path / "certificates").mkdir()
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(certificate)]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    shutil.copy(certificate, tmp_path / "certificates" / f"{name}.0")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificates"))
    download("mnist", tmp_path / "raw", secure.url("good"))
    assert downloaded(tmp_path / "raw") == CONTENT


@pytest.mark.parametrize(
    ("variable", "reason"),
    [
        ("NETRC", "{}: not a text file; correct it or move it away"),
        ("SSLKEYLOGFILE", "SSLKEYLOGFILE={}: Not a directory"),
    ],
)
def test_any_other_unusable_file_named_by_the_environment_is_reported(variable, reason, secure, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"\xff\xfe\x00")
    path = str(file if variable == "NETRC" else file / "keys")
    monkeypatch.setenv(variable, path)
    assert failure(tmp_path / "raw", secure.url("good"))[1] == f"  {secure.url('good')}: {reason.format(path)}"
    assert not reachable("mnist", secure.url("good"))


def test_missing_certificates_of_requests_count_as_the_sources_failure(secure, tmp_path, monkeypatch):
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(tmp_path / "cacert.pem"))
    reason = f"Could not find a suitable TLS CA certificate bundle, invalid path: {tmp_path}/cacert.pem"
    assert failure(tmp_path / "raw", secure.url("good"))[1] == f"  {secure.url('good')}: {reason}"


@pytest.mark.parametrize("content", ["garbage", None])
def test_a_netrc_that_cannot_be_parsed_or_opened_is_ignored(content, server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text(content) if content else (tmp_path / "netrc").mkdir()
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    download("mnist", tmp_path / "raw", server.url("good"))


def test_a_redirect_from_https_to_http_is_refused(secure, server, certificate, tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    secure.location = f"{server.url('good')}/{FILES[0]}"
    reason = failure(tmp_path, secure.url("redirects"))[1]
    assert reason.endswith(f": redirects to {secure.location}: refused, since it is not HTTPS")
    assert server.asked == []

    server.location = f"{secure.url('good')}/{FILES[0]}"  # the other way round is allowed
    fetch(server.url("redirects"), tmp_path / FILES[0], CHECKSUMS[FILES[0]])


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_is_used_unless_no_proxy_names_the_host(server, other, tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, server.url(""))
    download("mnist", tmp_path / "through", "http://mirror.invalid/good")
    assert downloaded(tmp_path / "through") == CONTENT
    assert server.asked == [f"http://mirror.invalid/good/{name}" for name in FILES]

    monkeypatch.setenv("NO_PROXY", "localhost")
    download("mnist", tmp_path / "past", other.url("good"))
    assert downloaded(tmp_path / "past") == CONTENT
    assert len(server.asked) == len(FILES)


@pytest.mark.parametrize(
    ("variable", "mirror", "reason"),
    [
        ("HTTP_PROXY", "http://mirror.invalid/407", "HTTP 407 Proxy Authentication Required"),
        ("HTTPS_PROXY", "https://mirror.invalid/good", "Tunnel connection failed: 407 Proxy Authentication Required"),
    ],
)
def test_a_proxy_that_rejects_its_password_is_named_without_it(server, tmp_path, monkeypatch, variable, mirror, reason):
    monkeypatch.setenv(variable, server.url("").replace("//", "//someone:secret@"))
    assert failure(tmp_path, mirror)[1] == f"  {mirror}: {reason} (through the proxy {server.url('')})"


@pytest.mark.parametrize(
    ("proxy", "reason"),
    [
        ("http://someone:secret@127.0.0.1:1", "Connection refused (through the proxy http://127.0.0.1:1)"),
        ("http://someone:sec/ret@127.0.0.1:1", "not a valid URL (through the proxy http://127.0.0.1:1)"),
        ("http://someone:secret@", "not a valid URL (through the proxy http://)"),
        ("someone:secret@127.0.0.1:1", "not a valid URL (through the proxy http://127.0.0.1:1)"),
        ("socks5://someone:secret@127.0.0.1:1", "Missing dependencies for SOCKS support. (through the proxy socks5://"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_down_or_misspelt_is_named_without_its_password(tmp_path, monkeypatch, scheme, proxy, reason):
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    mirror = f"{scheme}://mirror.invalid"
    assert failure(tmp_path, mirror)[1].startswith(f"  {mirror}: {reason}")
    assert "sec" not in "".join(failure(tmp_path, mirror))


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        ("http://someone:secret@127.0.0.1:1/x", "http://127.0.0.1:1/x: Connection refused"),
        ("http://someone:sec%2Fret@127.0.0.1:1/x", "http://127.0.0.1:1/x: Connection refused"),
        ("http://someone:sec@ret@127.0.0.1:1/x", "http://127.0.0.1:1/x: Connection refused"),
        ("http://secret@127.0.0.1:1/x", "http://127.0.0.1:1/x: Connection refused"),
        ("http://127.0.0.1:1/x?token=secret&X-Amz-Signature=secret", "http://127.0.0.1:1/x?…: Connection refused"),
        ("http://someone:sec/ret@127.0.0.1:1/x", "http://127.0.0.1:1/x: not a valid URL; in a password, write / # ? @"),
        ("http://someone:sec#ret@127.0.0.1:1/x", "http://127.0.0.1:1/x: not a valid URL; in a password, write / # ? @"),
        ("http://someone:sec?ret@127.0.0.1:1/x", "http://127.0.0.1:1/x: not a valid URL; in a password, write / # ? @"),
        ("http://someone:sec ret@127.0.0.1:1/x", "http://127.0.0.1:1/x: not a valid URL; in a password, write / # ? @"),
        ("ftp://someone:secret@host/x", "ftp://host/x: neither a folder nor a URL with file://, http://"),
    ],
)
def test_a_failing_mirror_is_named_without_its_secrets(mirror, reason, tmp_path, monkeypatch, capsys):
    printed = failure(tmp_path, mirror)
    assert printed[1].startswith(f"  {reason}")
    assert not reachable("mnist", mirror)
    assert not re.search("sec|ret|someone", "".join(printed) + capsys.readouterr().err)


def test_a_mirrors_query_is_sent_with_every_file(server, tmp_path):
    download("mnist", tmp_path, server.url("good/?sig=a%2Bb"))
    assert server.asked == [f"/good/{name}?sig=a%2Bb" for name in FILES]
    assert downloaded(tmp_path) == CONTENT


def test_a_refused_connection_is_reported_and_the_next_source_is_tried(closed, server, tmp_path, list_mirrors):
    assert failure(tmp_path, closed)[1] == f"  {closed}: Connection refused"
    list_mirrors(server.url("good"))
    download("mnist", tmp_path, closed)
    assert downloaded(tmp_path) == CONTENT


def test_a_connection_to_a_silent_host_times_out(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "CONNECT_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        queue = [socket.socket() for _ in range(8)]  # fills the backlog, so that the next connection gets no answer
        for waiting in queue:
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        assert failure(tmp_path, url)[1] == f"  {url}: no connection within 0.2 s"
        assert time.monotonic() - started < 3
        for waiting in queue:
            waiting.close()


@pytest.mark.parametrize("way", ["good", "moved", "length-unknown", "length-nonsense", "chunks", "encoding-declared"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_may_send_files_in_any_way_that_keeps_their_bytes(way, slash, server, tmp_path):
    download("mnist", tmp_path, server.url(way) + slash)
    assert downloaded(tmp_path) == CONTENT
    assert server.asked[0] == f"/{way}/{FILES[0]}"


def test_a_fetch_may_take_longer_than_the_read_timeout(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "READ_TIMEOUT", 0.4)
    monkeypatch.setattr(transfer, "MINIMUM_RATE", 10)
    started = time.monotonic()
    download("mnist", tmp_path, server.url("slow"))
    assert downloaded(tmp_path) == CONTENT
    assert time.monotonic() - started > 0.4


def test_the_scheme_of_a_mirror_may_be_in_capitals(server, tmp_path):
    download("mnist", tmp_path, server.url("good").replace("http", "HTTP"))
    assert downloaded(tmp_path) == CONTENT
