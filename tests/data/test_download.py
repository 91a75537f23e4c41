import base64
import contextlib
import datetime
import gzip
import hashlib
import http.server
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from cvae.data import idx, transfer
from cvae.data.download import download, fetch, reachable, sources
from cvae.data.idx import FILES
from cvae.support.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONTENT = {name: gzip.compress(random.Random(name).randbytes(300), mtime=0) for name in FILES}
FILES_NAMED = ("MNIST_MIRROR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC", "SSLKEYLOGFILE")
PAGE = b"\n<!DOCTYPE html><html>Sign in to the network</html>"


class Server(http.server.ThreadingHTTPServer):
    """Serves `CONTENT` in as many ways as there are first parts of a path: /good/train-images-idx3-ubyte.gz."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.stopped = threading.Event()
        self.listed = None  # a folder to look into half way through each body
        self.listings = []
        self.location = ""  # where /redirects/ leads
        self.authorised = {}  # user names and passwords, by the path that they came with

    def endless(self, file) -> None:
        """Write 512 MiB, unless nobody reads them."""
        with contextlib.suppress(OSError):
            for _ in range(2**13):
                file.write(bytes(2**16))

    def url(self, way: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{way}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.authorised[self.path] = self.headers["Authorization"]
        *_, way, name = self.path.partition("?")[0].split("/")  # of a whole address, where it is asked as a proxy
        body = CONTENT[name]
        match way:
            case "403" | "404" | "407" | "500" | "511":
                self.send_error(int(way))
            case "writes-to-the-terminal":
                self.send_error(404, "\x1b[2J\x1b]0;owned\x07" + "!" * 10_000)
            case "good":
                self.answer(body[:50], len(body))
                if self.server.listed:
                    self.server.listings.append({path.name for path in self.server.listed.iterdir()})
                self.wfile.write(body[50:])
            case "moved":
                self.send_response(302)
                self.send_header("Location", f"/good/{name}")
                self.end_headers()
            case "round-and-round":
                self.send_response(302)
                self.send_header("Location", self.path)
                self.end_headers()
            case "redirects" | "redirects-endlessly":
                self.send_response(302)
                self.send_header("Location", self.server.location)
                self.end_headers()
                if way == "redirects-endlessly":
                    self.server.endless(self.wfile)
            case "hangs-up":
                self.close_connection = True
            case "silent":
                self.server.stopped.wait(5)
            case "stalls":
                self.answer(body[:50], len(body))
                self.server.stopped.wait(5)
            case "truncates":
                self.answer(body[:50], len(body))
            case "truncates-unannounced":
                self.answer(body[:50], None)
            case "corrupts":
                self.answer(body[:50] + b"?" + body[51:], len(body))
            case "sends-a-page":
                self.answer(PAGE, len(PAGE), kind="text/html")
            case "sends-nothing":
                self.answer(b"", 0)
            case "trickles":
                self.answer(b"", 10**6)
                for _ in range(250):
                    self.server.stopped.wait(0.02)
                    self.wfile.write(b".")
                    self.wfile.flush()
            case "is-endless":
                self.answer(b"", None)
                self.server.endless(self.wfile)
            case "says-less":
                self.answer(body, 50)
            case "encodes-again":
                self.answer(gzip.compress(body), None, ("Content-Encoding", "gzip"))
            case "slow":
                self.answer(b"", len(body))
                for start in range(0, len(body), 80):
                    self.wfile.write(body[start : start + 80])
                    self.wfile.flush()
                    time.sleep(0.15 if name == FILES[0] else 0)
            case "length-unknown":
                self.answer(body, None)
            case "length-nonsense":
                self.answer(body, "abc")
            case "chunks":
                self.protocol_version = "HTTP/1.1"
                self.answer(b"32\r\n" + body[:50] + b"\r\n", None, ("Transfer-Encoding", "chunked"))
                self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body) - 50, body[50:]))
            case "encoding-declared":
                self.answer(body, len(body), ("Content-Encoding", "gzip"))

    def answer(self, body, length, *headers, kind="application/gzip"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        for name, value in (*headers, ("Content-Length", length)):
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def do_CONNECT(self):
        self.server.asked.append(self.path)
        self.send_error(407)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(server: Server):
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.stopped.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def server():
    with serving(Server()) as server:
        yield server


@pytest.fixture
def other():
    """Another server, whose host has another name."""
    with serving(Server()) as other:
        other.url = lambda way: f"http://localhost:{other.server_port}/{way}"
        yield other


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A key and the certificate of this machine that it signed itself."""
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
    """A server that speaks HTTPS, with that certificate."""
    server = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.url = lambda way: f"https://localhost:{server.server_port}/{way}"
    with serving(server):
        yield server


@pytest.fixture
def closed():
    """The address of a port that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """No proxy, and an MNIST that is small and listed at no mirror."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name in FILES_NAMED:
            monkeypatch.delenv(name)
    listed(monkeypatch)
    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in CONTENT.items()]
    monkeypatch.setattr("torchvision.datasets.MNIST.resources", resources)


def listed(monkeypatch, *mirrors: str) -> None:
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", list(mirrors))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def failure(folder: Path, mirror: str | None = None) -> list[str]:
    with pytest.raises(UserError) as raised:
        download("mnist", folder, mirror)
    return str(raised.value).splitlines()


FAILURES = {
    "403": "HTTP 403 Forbidden",
    "404": "HTTP 404 Not Found",
    "500": "HTTP 500 Internal Server Error",
    "511": "HTTP 511 Network Authentication Required",
    "writes-to-the-terminal": f"HTTP 404 [2J]0;owned{'!' * 178}",
    "hangs-up": "Remote end closed connection without response",
    "silent": "stalled: nothing came for 0.4 s",
    "stalls": "stalled: nothing came for 0.4 s",
    "truncates": "cut short after 50 bytes",
    "truncates-unannounced": f"wrong checksum for {FILES[0]} (50 bytes)",
    "corrupts": f"wrong checksum for {FILES[0]} ({len(CONTENT[FILES[0]])} bytes)",
    "sends-a-page": f"wrong checksum for {FILES[0]} ({len(PAGE)} bytes): "
    "a web page came instead; this network may want a login, in a browser",
    "sends-nothing": f"wrong checksum for {FILES[0]} (0 bytes)",
    "trickles": "too slow: ",
    "is-endless": "larger than 1,000,000 bytes",
    "says-less": f"wrong checksum for {FILES[0]} (50 bytes)",
    "encodes-again": f"wrong checksum for {FILES[0]} (",
    "round-and-round": "more than 10 redirects",
}


@pytest.mark.parametrize("way", FAILURES)
def test_a_source_that_fails_is_told_and_the_next_one_is_asked(way, server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "READ_TIMEOUT", 0.4)
    monkeypatch.setattr(transfer, "MAXIMUM_SIZE", 10**6)
    bad = server.url(way)
    started = time.monotonic()
    first, told, *_ = failure(tmp_path, bad)
    assert time.monotonic() - started < 3
    assert first == f"{FILES[0]} of mnist could be had from none of its sources:"
    assert told.startswith(f"  {bad}: {FAILURES[way]}")
    assert contents(tmp_path) == {}

    listed(monkeypatch, server.url("good"))
    download("mnist", tmp_path, bad)
    assert contents(tmp_path) == CONTENT


# Redirects, HTTPS and proxies


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_redirect_is_followed_to_another_host_which_does_not_get_the_password(server, other, tmp_path):
    server.location = other.url("good") + f"/{FILES[0]}"
    mirror = server.url("redirects").replace("//", "//someone:pa%24s@")
    fetch(mirror, tmp_path / FILES[0], hashlib.md5(CONTENT[FILES[0]]).hexdigest())
    assert server.authorised == {f"/redirects/{FILES[0]}": basic("someone", "pa$s")}
    assert other.authorised == {f"/good/{FILES[0]}": None}


@pytest.mark.parametrize("whole", [True, False])
def test_a_redirect_on_the_same_host_keeps_the_password(server, tmp_path, whole):
    server.location = f"{server.url('good') if whole else '/good'}/{FILES[0]}"
    mirror = server.url("redirects").replace("//", "//someone:pa%24s@")
    fetch(mirror, tmp_path / FILES[0], hashlib.md5(CONTENT[FILES[0]]).hexdigest())
    assert server.authorised[f"/good/{FILES[0]}"] == basic("someone", "pa$s")


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("file:///etc/passwd", "redirects to file:///etc/passwd: refused, for that is not HTTP"),
        ("ftp://u:secret@host/x?token=secret", "redirects to ftp://host/x?…: refused, for that is not HTTP"),
        ("http://u:secret@[nowhere/x", "redirects to http://[nowhere/x, which is not an address"),
        ("http://nowhere:port/x", "redirects to http://nowhere:port/x, which is not an address"),
    ],
)
def test_a_redirect_to_what_is_no_web_address_is_refused(server, tmp_path, location, told):
    server.location = location
    assert failure(tmp_path, server.url("redirects"))[1] == f"  {server.url('redirects')}: {told}"
    assert contents(tmp_path) == {}


def test_the_body_of_a_redirect_is_not_read(server, other, tmp_path):
    server.location = other.url("good") + f"/{FILES[0]}"
    started = time.monotonic()
    fetch(server.url("redirects-endlessly"), tmp_path / FILES[0], hashlib.md5(CONTENT[FILES[0]]).hexdigest())
    assert time.monotonic() - started < 2


def test_a_certificate_that_nobody_vouches_for_is_refused(secure, certificate, tmp_path, monkeypatch):
    (told,) = [line for line in failure(tmp_path, secure.url("good")) if line.startswith(f"  {secure.url('good')}: ")]
    assert "certificate verify failed: self-signed certificate" in told
    assert secure.asked == []

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))  # now somebody does
    download("mnist", tmp_path, secure.url("good"))
    assert contents(tmp_path) == CONTENT


UNUSABLE = {  # certificates, and what is reported of them
    "missing": "No such file or directory",
    "a folder without any": "no certificates in it",
    "empty": "no certificates in it",
    "garbage": "no certificates in it",
    "a page": "no certificates in it",
}


@pytest.fixture
def unusable(tmp_path) -> Path:
    folder = tmp_path / "certificates"
    (folder / "a folder without any").mkdir(parents=True)
    (folder / "empty").touch()
    (folder / "garbage").write_text("-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n")
    (folder / "a page").write_bytes(PAGE)
    return folder


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("kind", UNUSABLE)
def test_certificates_that_cannot_be_used_are_named_and_the_next_source_is_asked(
    variable, kind, unusable, secure, server, tmp_path, monkeypatch
):
    monkeypatch.setenv(variable, str(unusable / kind))
    told = f": {variable}={unusable / kind}: {UNUSABLE[kind]}; put that right, or unset the variable"
    assert failure(tmp_path / "raw", secure.url("good"))[1] == f"  {secure.url('good')}{told}"
    assert not reachable("mnist", secure.url("good"))

    listed(monkeypatch, server.url("good"))  # of HTTP, which needs none
    download("mnist", tmp_path / "raw", secure.url("good"))
    assert contents(tmp_path / "raw") == CONTENT
    assert secure.asked == []


def test_certificates_may_be_a_folder_as_openssl_wants_it(secure, certificate, tmp_path, monkeypatch):
    (tmp_path / "certificates").mkdir()
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(certificate)]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    shutil.copy(certificate, tmp_path / "certificates" / f"{name}.0")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificates"))
    download("mnist", tmp_path / "raw", secure.url("good"))
    assert contents(tmp_path / "raw") == CONTENT


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("NETRC", "{}: not a text file; put that right, or move it away"),
        ("SSLKEYLOGFILE", "SSLKEYLOGFILE={}: Not a directory"),
    ],
)
def test_another_file_of_the_environment_that_cannot_be_used_is_named(variable, told, secure, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"\xff\xfe\x00")
    path = str(file if variable == "NETRC" else file / "keys")
    monkeypatch.setenv(variable, path)
    assert failure(tmp_path / "raw", secure.url("good"))[1] == f"  {secure.url('good')}: {told.format(path)}"
    assert not reachable("mnist", secure.url("good"))


def test_requests_own_certificates_missing_is_the_sources_failure(secure, tmp_path, monkeypatch):
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(tmp_path / "cacert.pem"))
    told = f"Could not find a suitable TLS CA certificate bundle, invalid path: {tmp_path}/cacert.pem"
    assert failure(tmp_path / "raw", secure.url("good"))[1] == f"  {secure.url('good')}: {told}"


@pytest.mark.parametrize("content", ["garbage", None])
def test_a_netrc_that_says_nothing_is_skipped(content, server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text(content) if content else (tmp_path / "netrc").mkdir()
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    download("mnist", tmp_path / "raw", server.url("good"))


def test_a_redirect_from_https_to_http_is_refused(secure, server, certificate, tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    secure.location = f"{server.url('good')}/{FILES[0]}"
    told = failure(tmp_path, secure.url("redirects"))[1]
    assert told.endswith(f": redirects to {secure.location}: refused, for that is not HTTPS")
    assert server.asked == []

    server.location = f"{secure.url('good')}/{FILES[0]}"  # the other way round is common, and welcome
    fetch(server.url("redirects"), tmp_path / FILES[0], hashlib.md5(CONTENT[FILES[0]]).hexdigest())


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment_is_asked_unless_no_proxy_names_the_host(
    server, other, tmp_path, monkeypatch, variable
):
    monkeypatch.setenv(variable, server.url(""))
    download("mnist", tmp_path / "through", "http://mirror.invalid/good")
    assert contents(tmp_path / "through") == CONTENT
    assert server.asked == [f"http://mirror.invalid/good/{name}" for name in FILES]

    monkeypatch.setenv("NO_PROXY", "localhost")
    download("mnist", tmp_path / "past", other.url("good"))
    assert contents(tmp_path / "past") == CONTENT
    assert len(server.asked) == len(FILES)


@pytest.mark.parametrize(
    ("variable", "mirror", "told"),
    [
        ("HTTP_PROXY", "http://mirror.invalid/407", "HTTP 407 Proxy Authentication Required"),
        ("HTTPS_PROXY", "https://mirror.invalid/good", "Tunnel connection failed: 407 Proxy Authentication Required"),
    ],
)
def test_a_proxy_that_wants_a_password_is_named_without_the_one_it_got(
    server, tmp_path, monkeypatch, variable, mirror, told
):
    monkeypatch.setenv(variable, server.url("").replace("//", "//someone:secret@"))
    assert failure(tmp_path, mirror)[1] == f"  {mirror}: {told} (through the proxy {server.url('')})"


@pytest.mark.parametrize(
    ("proxy", "told"),
    [
        ("http://someone:secret@127.0.0.1:1", "Connection refused (through the proxy http://127.0.0.1:1)"),
        ("http://someone:sec/ret@127.0.0.1:1", "not an address (through the proxy http://127.0.0.1:1)"),
        ("http://someone:secret@", "not an address (through the proxy http://)"),
        ("someone:secret@127.0.0.1:1", "not an address (through the proxy http://127.0.0.1:1)"),
        ("socks5://someone:secret@127.0.0.1:1", "Missing dependencies for SOCKS support. (through the proxy socks5://"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_down_or_none_is_named_without_its_password(tmp_path, monkeypatch, scheme, proxy, told):
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    mirror = f"{scheme}://mirror.invalid"
    assert failure(tmp_path, mirror)[1].startswith(f"  {mirror}: {told}")
    assert "sec" not in "".join(failure(tmp_path, mirror))


@pytest.mark.parametrize(
    ("mirror", "told"),
    [
        ("http://someone:secret@127.0.0.1:1/x", "http://127.0.0.1:1/x: Connection refused"),
        ("http://someone:sec%2Fret@127.0.0.1:1/x", "http://127.0.0.1:1/x: Connection refused"),
        ("http://someone:sec@ret@127.0.0.1:1/x", "http://127.0.0.1:1/x: Connection refused"),
        ("http://secret@127.0.0.1:1/x", "http://127.0.0.1:1/x: Connection refused"),
        ("http://127.0.0.1:1/x?token=secret&X-Amz-Signature=secret", "http://127.0.0.1:1/x?…: Connection refused"),
        ("http://someone:sec/ret@127.0.0.1:1/x", "http://127.0.0.1:1/x: not an address; in a password, write / # ? @"),
        ("http://someone:sec#ret@127.0.0.1:1/x", "http://127.0.0.1:1/x: not an address; in a password, write / # ? @"),
        ("http://someone:sec?ret@127.0.0.1:1/x", "http://127.0.0.1:1/x: not an address; in a password, write / # ? @"),
        ("http://someone:sec ret@127.0.0.1:1/x", "http://127.0.0.1:1/x: not an address; in a password, write / # ? @"),
        ("ftp://someone:secret@host/x", "ftp://host/x: neither a folder nor an address with file://, http://"),
    ],
)
def test_a_mirror_that_fails_is_named_without_its_secrets(mirror, told, tmp_path, monkeypatch, capsys):
    printed = failure(tmp_path, mirror)
    assert printed[1].startswith(f"  {told}")
    assert not reachable("mnist", mirror)
    assert not re.search("sec|ret|someone", "".join(printed) + capsys.readouterr().err)


def test_the_query_of_a_mirror_goes_with_every_file(server, tmp_path):
    download("mnist", tmp_path, server.url("good/?sig=a%2Bb"))
    assert server.asked == [f"/good/{name}?sig=a%2Bb" for name in FILES]
    assert contents(tmp_path) == CONTENT


def test_a_refused_connection_is_told_and_the_next_source_is_asked(closed, server, tmp_path, monkeypatch):
    assert failure(tmp_path, closed)[1] == f"  {closed}: Connection refused"
    listed(monkeypatch, server.url("good"))
    download("mnist", tmp_path, closed)
    assert contents(tmp_path) == CONTENT


def test_a_host_that_does_not_answer_is_given_up_in_time(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "CONNECT_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        queue = [socket.socket() for _ in range(8)]  # fills the backlog, so that the next connection gets no answer
        for waiting in queue:
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        started = time.monotonic()
        assert failure(tmp_path, url)[1] == f"  {url}: no connection within 0.2 s"
        assert time.monotonic() - started < 3
        for waiting in queue:
            waiting.close()


@pytest.mark.parametrize("way", ["good", "moved", "length-unknown", "length-nonsense", "chunks", "encoding-declared"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_may_send_the_files_in_any_way_that_keeps_their_bytes(way, slash, server, tmp_path):
    download("mnist", tmp_path, server.url(way) + slash)
    assert contents(tmp_path) == CONTENT
    assert server.asked[0] == f"/{way}/{FILES[0]}"


def test_a_fetch_may_take_longer_than_the_read_timeout(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "READ_TIMEOUT", 0.4)
    monkeypatch.setattr(transfer, "MINIMUM_RATE", 10)
    started = time.monotonic()
    download("mnist", tmp_path, server.url("slow"))
    assert contents(tmp_path) == CONTENT
    assert time.monotonic() - started > 0.4


def test_the_scheme_of_a_mirror_may_be_in_capitals(server, tmp_path):
    download("mnist", tmp_path, server.url("good").replace("http", "HTTP"))
    assert contents(tmp_path) == CONTENT


def test_a_file_has_its_name_only_when_it_is_whole_and_verified(server, tmp_path):
    server.listed = tmp_path
    download("mnist", tmp_path, server.url("good"))
    whole = [set(FILES[:count]) for count in range(4)]
    assert server.listings == [before | {f"{name}.part"} for before, name in zip(whole, FILES, strict=True)]


def test_when_every_source_failed_each_is_told_with_its_reason_and_two_ways_out(closed, server, tmp_path, monkeypatch):
    listed(monkeypatch, server.url("404"), closed, server.url("corrupts"))
    absent = tmp_path / "absent"
    assert failure(tmp_path / "raw", str(absent)) == [
        f"{FILES[0]} of mnist could be had from none of its sources:",
        f"  {absent}: no {FILES[0]} there",
        f"  {server.url('404')}: HTTP 404 Not Found",
        f"  {closed}: Connection refused",
        f"  {server.url('corrupts')}: {FAILURES['corrupts']}",
        "  With the four files at hand: MNIST_MIRROR=<their folder or URL> dvc repro",
        "  Without a network:           dvc exp run -S dataset=digits",
    ]
    assert contents(tmp_path / "raw") == {}


def test_a_failure_leaves_the_files_of_an_earlier_download_as_they_were(server, tmp_path):
    earlier = {FILES[0]: CONTENT[FILES[0]], FILES[1]: b"of another data set"}
    for name, content in earlier.items():
        (tmp_path / name).write_bytes(content)
    assert failure(tmp_path, server.url("corrupts"))[0].startswith(FILES[1])
    assert contents(tmp_path) == earlier


def test_the_source_that_served_a_file_is_asked_first_for_the_next(server, tmp_path, monkeypatch):
    listed(monkeypatch, server.url("500"), server.url("good"))
    download("mnist", tmp_path)
    assert server.asked == [f"/500/{FILES[0]}", *(f"/good/{name}" for name in FILES)]


def test_a_source_that_lacks_a_file_gives_way_for_that_file(server, tmp_path, monkeypatch):
    half = tmp_path / "half"
    half.mkdir()
    (half / FILES[0]).write_bytes(CONTENT[FILES[0]])
    assert failure(tmp_path / "raw", str(half))[:3] == [
        f"{FILES[1]} of mnist could be had from none of its sources:",
        f"  {half}: no {FILES[1]} there",
        "  With the four files at hand: MNIST_MIRROR=<their folder or URL> dvc repro",
    ]
    listed(monkeypatch, server.url("good"))
    download("mnist", tmp_path / "raw", str(half))
    assert server.asked == [f"/good/{name}" for name in FILES[1:]]
    assert contents(tmp_path / "raw") == CONTENT


def test_files_at_hand_are_not_fetched_again(server, tmp_path):
    download("mnist", tmp_path, server.url("good"))
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    server.asked.clear()
    download("mnist", tmp_path, server.url("good"))
    assert server.asked == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"damaged")])
def test_a_missing_or_damaged_file_alone_is_fetched_again(spoil, server, tmp_path):
    download("mnist", tmp_path, server.url("good"))
    spoil(tmp_path / FILES[2])
    server.asked.clear()
    download("mnist", tmp_path, server.url("good"))
    assert server.asked == [f"/good/{FILES[2]}"]
    assert contents(tmp_path) == CONTENT


@pytest.fixture
def at_hand(tmp_path):
    folder = tmp_path / "at hand"
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("written", [str, lambda path: f"{path}/", lambda path: f"file://{path}", Path.as_uri])
def test_a_mirror_may_be_a_folder_or_its_file_url(written, at_hand, tmp_path):
    download("mnist", tmp_path / "raw", written(at_hand))
    assert contents(tmp_path / "raw") == contents(at_hand) == CONTENT


def test_a_mirror_that_is_no_folder_with_the_files_is_told(at_hand, tmp_path):
    def told(mirror):
        return failure(tmp_path / "raw", mirror)[1].removeprefix(f"  {mirror}: ")

    assert told(f"file://{tmp_path}/absent") == f"no {FILES[0]} there"
    assert told(str(at_hand / FILES[1])) == "Not a directory"
    assert told("ftp://127.0.0.1/mnist") == "neither a folder nor an address with file://, http:// or https://"
    assert told("http://") == "not an address; in a password, write / # ? @ and a space as %2F %23 %3F %40 %20"
    (at_hand / FILES[0]).write_bytes(b"damaged")
    assert told(str(at_hand)) == f"wrong checksum for {FILES[0]} (7 bytes)"
    (at_hand / FILES[0]).unlink()
    (at_hand / FILES[0]).mkdir()
    assert told(str(at_hand)) == "Is a directory"
    assert contents(tmp_path / "raw") == {}


@pytest.mark.parametrize("dataset", ["fashion-mnist", "kmnist"])
def test_a_source_of_another_data_set_is_named_as_such(dataset, at_hand, server, tmp_path, monkeypatch, capsys):
    for name in ("FashionMNIST", "KMNIST"):
        monkeypatch.setattr(f"torchvision.datasets.{name}.mirrors", [])
    for mirror in (str(at_hand), server.url("good")):
        with pytest.raises(UserError) as raised:
            download(dataset, tmp_path / "raw", mirror)
        assert str(raised.value).splitlines()[1] == f"  {mirror}: holds mnist, not {dataset}"
        assert not reachable(dataset, mirror)
        assert capsys.readouterr().err == f"  {mirror}: holds mnist, not {dataset}\n"
    assert contents(tmp_path / "raw") == {}


def test_files_that_changed_names_or_were_unpacked_are_told(at_hand, tmp_path):
    def told():
        return failure(tmp_path / "raw", str(at_hand))[1].removeprefix(f"  {at_hand}: ")

    images, labels = at_hand / FILES[0], at_hand / FILES[1]
    images.write_bytes(CONTENT[FILES[1]])
    labels.write_bytes(CONTENT[FILES[0]])
    assert told() == f"{FILES[0]} there is {FILES[1]} under a wrong name"

    needed = "the .gz file as published is needed, for its checksum"
    images.write_bytes(b"\0\0\x08\3" + bytes(12))
    assert told() == f"wrong checksum for {FILES[0]} (16 bytes): it is unpacked already; {needed}"
    for name in ("train-images-idx3-ubyte", "train-images.idx3-ubyte"):
        images = images.rename(at_hand / name)
        assert told() == f"no {FILES[0]} there, only {name}, unpacked; {needed}"
    assert contents(tmp_path / "raw") == {}


@pytest.mark.parametrize("dataset", ["mnist", "digits"])
def test_a_folder_that_cannot_be_written_is_told_as_such(dataset, at_hand, tmp_path):
    (tmp_path / "raw").write_text("a file where the folder should be")
    told = f"{tmp_path}/raw: File exists; move it away, then run it again"
    with pytest.raises(UserError, match=f"^{re.escape(told)}$"):
        download(dataset, tmp_path / "raw", str(at_hand))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_not_blamed_on_the_source(at_hand, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / f"{FILES[0]}.part").symlink_to("/dev/full")
    told = f"{tmp_path}/raw: No space left on device; free some space, then run it again"
    with pytest.raises(UserError, match=f"^{re.escape(told)}$"):
        download("mnist", tmp_path / "raw", str(at_hand))
    assert contents(tmp_path / "raw") == {}


def test_an_interrupted_fetch_leaves_nothing_behind(server, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(server.url("good"), tmp_path / FILES[0], hashlib.md5(CONTENT[FILES[0]]).hexdigest())
    assert contents(tmp_path) == {}


def test_digits_are_made_without_asking_any_source(server, tmp_path):
    download("digits", tmp_path, server.url("good"))
    assert server.asked == []
    assert [len(split) for split in idx.load(tmp_path)] == [1500, 297]
    assert set(contents(tmp_path)) == set(FILES)


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


def test_https_sources_come_before_http_ones_in_their_order(monkeypatch):
    listed(monkeypatch, "http://a/", "https://b/", "http://c/", "https://d/")
    assert sources("mnist", None)[0] == ["https://b/", "https://d/", "http://a/", "http://c/"]


def test_a_data_set_is_within_reach_when_any_source_serves_its_smallest_file(closed, server, monkeypatch, capsys):
    listed(monkeypatch, server.url("500"), server.url("good"))
    assert reachable("mnist", closed)
    assert server.asked == [f"/{way}/{idx.TEST_LABELS}" for way in ("500", "good")]
    assert capsys.readouterr().err.splitlines() == [
        f"  {closed}: Connection refused",
        f"  {server.url('500')}: HTTP 500 Internal Server Error",
    ]


def test_a_data_set_is_out_of_reach_when_no_source_serves_it(closed, server, monkeypatch):
    listed(monkeypatch, server.url("sends-a-page"))
    assert not reachable("mnist", closed)


def test_digits_are_always_within_reach(closed):
    assert reachable("digits", closed)


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A copy of the workspace in which the download stage runs, with every way to the network closed to it."""
    for folder in ("src", "stages"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "PYTHON", "no_", "NO_"))}
    refusing = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:1")

    def run(*arguments, dataset="mnist", folder=tmp_path, **variables):
        from cvae.pipeline.parameters import Parameters

        params = Parameters(dataset=dataset).model_dump()
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        command = [sys.executable, "-m", "stages.download", *arguments]
        return subprocess.run(
            command, cwd=folder, env=env | refusing | variables, capture_output=True, text=True, timeout=60
        )

    return run


def test_the_stage_ends_with_the_reasons_and_no_traceback_when_no_source_answers(stage, tmp_path):
    copy = tmp_path / "main/.dvc/tmp/exps/tmp1"
    copy.mkdir(parents=True)
    done = stage(MNIST_MIRROR="my/mnist", folder=copy, PYTHONPATH=str(tmp_path), HOME=str(tmp_path))
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == f"download: {FILES[0]} of mnist could be had from none of its sources:"
    assert lines[1] == f"  ~/main/my/mnist: no {FILES[0]} there"
    assert len(lines) == 2 + 2 + 2, "a line for each of torchvision's two mirrors, and the two ways out"
    told = ": Connection refused (through the proxy http://127.0.0.1:1)"
    assert all(line.endswith(told) for line in lines[2:4])
    assert contents(copy / "data" / "raw") == {}


def test_the_stage_makes_digits_where_there_is_no_network(stage, tmp_path):
    done = stage(dataset="digits")
    assert (done.returncode, done.stderr) == (0, "")
    assert [len(split) for split in idx.load(tmp_path / "data" / "raw")] == [1500, 297]


def test_the_stage_asked_whether_the_data_can_be_had_answers_by_its_exit_status(stage, tmp_path):
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
