"""Servers to download from, and an MNIST that is small and has no mirrors."""

import os
import socket

import pytest
from helpers.mirror import CHECKSUMS, Server, serving

FILES_NAMED = ("MNIST_MIRROR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC", "SSLKEYLOGFILE")


@pytest.fixture
def server():
    with serving(Server()) as server:
        yield server


@pytest.fixture
def other():
    """A second server, under another host name."""
    with serving(Server()) as other:
        other.url = lambda way: f"http://localhost:{other.server_port}/{way}"
        yield other


@pytest.fixture
def closed():
    """The address of a port that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def list_mirrors(monkeypatch):
    """A function that sets the mirrors that torchvision lists for MNIST."""
    return lambda *mirrors: monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", list(mirrors))


@pytest.fixture
def small_mnist(monkeypatch, list_mirrors) -> None:
    """Replace MNIST's files by those of `helpers.mirror` and list no mirrors; unset proxies and the like."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name in FILES_NAMED:
            monkeypatch.delenv(name)
    list_mirrors()
    monkeypatch.setattr("torchvision.datasets.MNIST.resources", list(CHECKSUMS.items()))
