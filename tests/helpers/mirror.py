"""A server for a small MNIST, which answers correctly or with one of many faults."""

import contextlib
import gzip
import hashlib
import http.server
import random
import threading
import time
from pathlib import Path

import pytest

from cvae.data.dataset import FILES, SCHEMA
from cvae.data.download import download
from cvae.support.errors import UserError

CONTENT = {name: gzip.compress(random.Random(name).randbytes(300), mtime=0) for name in FILES}
CHECKSUMS = {name: hashlib.md5(content).hexdigest() for name, content in CONTENT.items()}
PAGE = b"\n<!DOCTYPE html><html>Sign in to the network</html>"


class Server(http.server.ThreadingHTTPServer):
    """Serve `CONTENT` at /<way>/<file>, for each way in `Handler.do_GET`: /good/train-images-idx3-ubyte.gz."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []  # the path of each request
        self.stopped = threading.Event()
        self.listed = None  # a folder whose file names go into `listings` half way through each body
        self.listings = []
        self.location = ""  # the target of /redirects/
        self.authorised = {}  # the Authorization header of each request, by its path

    def endless(self, file) -> None:
        """Write 512 MiB, or until the reader hangs up."""
        with contextlib.suppress(OSError):
            for _ in range(2**13):
                file.write(bytes(2**16))

    def url(self, way: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{way}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.authorised[self.path] = self.headers["Authorization"]
        *_, way, name = self.path.partition("?")[0].split("/")  # a proxy is sent the complete URL
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
    """Run `server` in a thread."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.stopped.set()
        server.shutdown()
        thread.join()


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of each file in `folder`, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def downloaded(folder: Path) -> dict[str, bytes]:
    """Return the content of each file in `folder` but schema.json."""
    return {name: content for name, content in contents(folder).items() if name != SCHEMA}


def failure(folder: Path, mirror: str | None = None) -> list[str]:
    """Return the lines of the error that downloading from `mirror` ends with."""
    with pytest.raises(UserError) as raised:
        download("mnist", folder, mirror)
    return str(raised.value).splitlines()
