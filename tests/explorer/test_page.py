"""The explorer's page as a file: what is in it, and what takes its place."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from helpers.explorer import SMALL, strokes_like, vivid, write

from cvae.data.dataset import Schema, mnist_like
from cvae.explorer.page import glyph_size, in_turns, write_explorer
from cvae.models.convolutional import ConvolutionalCVAE


def test_the_same_model_and_images_give_the_same_bytes(tmp_path):
    pages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pages.append(hashlib.sha256(write(vivid(), tmp_path / name).read_bytes()).hexdigest())
    assert pages[0] == pages[1]


def test_the_page_of_the_default_model_is_smaller_than_two_and_a_half_megabytes(tmp_path):
    noise = np.random.default_rng(0)
    images = strokes_like(mnist_like(), 2500)
    images.images[:, ::7] = noise.integers(0, 255, images.images[:, ::7].shape)  # as hard to compress as MNIST's
    page = write(vivid(mnist_like(), hidden_dims=256), tmp_path, images)
    assert page.stat().st_size < 2.5e6


def test_the_page_refers_to_nothing_outside_itself(tmp_path):
    page = write(vivid(), tmp_path).read_text()
    assert "{{" not in page
    assert not any(word in page for word in ("src=", "href=", "@import", "fetch(", "localStorage"))


def test_images_are_spread_over_the_classes():
    labels = np.repeat([0, 1, 2], [50, 3, 20])
    picked = labels[in_turns(labels, 12)]
    assert picked.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 2, 0]
    assert sorted(in_turns(labels, 100)) == list(range(73))


def test_there_are_fewer_images_if_they_are_large(tmp_path):
    schema = Schema((100, 90, 1), ("a", "b"))
    page = write(vivid(schema, hidden_dims=8), tmp_path, strokes_like(schema, 300)).read_text()
    assert page.count('"labels":[') == 1
    labels = page.partition('"labels":[')[2].partition("]")[0].split(",")
    assert len(labels) == 1_600_000 // (9000 + 12)


@pytest.mark.parametrize(("height", "width"), [(20, 5), (7, 20)])
def test_the_size_of_a_glyph_is_the_longer_side_of_its_box(height, width):
    images = np.zeros((5, 28, 28, 1), np.uint8)
    images[:, 3 : 3 + height, 2 : 2 + width] = 9
    images[0] = 0
    assert glyph_size(images) == 20


@pytest.fixture
def missing(tmp_path):
    schema = replace(SMALL, title="A <b> & c")
    model, images = ConvolutionalCVAE(schema).eval(), strokes_like(schema)
    mu = np.zeros((len(images), 2), np.float32)
    reason = write_explorer(model, images, mu, mu, tmp_path / "explorer.html")
    return reason, tmp_path / "explorer.html"


def test_a_model_with_other_layers_gets_a_page_that_says_why(missing, open_page):
    reason, path = missing
    assert "ConvolutionalCVAE" in reason
    page = open_page(path, ready=False)
    assert page.locator("h1").inner_text() == "A <b> & c: no explorer"
    assert reason in page.locator("p").inner_text()
    assert page.locator("script, button").count() == 0
