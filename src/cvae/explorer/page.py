"""Put the explorer's page together: a trained model and some test images, in one file that needs no network."""

import base64
import html
import json
import re
import zlib
from pathlib import Path

import numpy as np
import torch

from cvae.data.dataset import Schema, Split
from cvae.data.tensors import to_device
from cvae.explorer.network import Network, UnknownModel, describe, packed
from cvae.model import VAE
from cvae.support.files import write_whole

HERE = Path(__file__).parent
POINTS = 2000  # test images at most
BYTES = 1_600_000  # of pixels and latents at most, so fewer images if they are large
FEWEST = 50  # test images at least, if there are as many
MOST_INK = 0.25  # of an image on average, if strokes can look like it: 0.13 in MNIST, 0.29 in Fashion-MNIST
COMPARED = 100  # images on which the page's arithmetic is compared with the model's


def write_explorer(model: VAE, test: Split, mu: np.ndarray, sigma: np.ndarray, path: str | Path) -> str:
    """Write the explorer of `model`, which is on the CPU, to `path`; the same model and images give the same bytes.

    `test`: images as the model sees them. `mu`, `sigma`: their posterior means and standard deviations,
    (n, latent_dims). Returns an empty string. If the page cannot run the model, a page that says so is written in its
    place, and the reason is returned.
    """
    schema, size = model.schema, model.schema.image_dims + 6 * model.latent_dims
    picked = in_turns(test.labels, min(POINTS, max(FEWEST, BYTES // size)))
    shown = Split(test.images[picked], test.labels[picked])
    first, reason = Split(shown.images[:COMPARED], shown.labels[:COMPARED]), ""
    try:
        network = describe(model, *to_device(first, torch.device("cpu")))
        page = filled("explorer.html", schema, data(model, network, shown, mu[picked], sigma[picked]))
    except UnknownModel as unknown:
        reason = str(unknown)
        page = filled("missing.html", schema, reason=reason)
    write_whole({path: page.encode()})
    return reason


def in_turns(labels: np.ndarray, count: int) -> np.ndarray:
    """Return the positions of `count` of the `labels`, (n,): the first of each class, then the second of each, …"""
    ranks = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        own = labels == label
        ranks[own] = np.arange(own.sum())
    return np.lexsort((labels, ranks))[:count]


def data(model: VAE, network: Network, shown: Split, mu: np.ndarray, sigma: np.ndarray) -> dict:
    """Return what the page's script reads as JSON."""
    schema, ink = model.schema, model.schema.ink and model.schema.shape[2] == 1
    return {
        "shape": schema.shape,
        "classes": schema.classes,
        "ink": ink,
        "drawable": bool(ink and shown.images.mean() < MOST_INK * 255),
        "binary": bool(np.isin(shown.images, (0, 255)).all()),
        "glyph": glyph_size(shown.images.reshape(-1, *schema.shape)),
        "labels": model.label_count,
        "latents": model.latent_dims,
        "likelihood": model.likelihood,
        "priorStd": model.prior_std,
        "network": network.as_json(),
        "points": {
            "labels": shown.labels.tolist(),
            "mu": packed(mu),
            "sigma": packed(sigma),
            "images": base64.b64encode(zlib.compress(shown.images.tobytes(), 9)).decode(),
        },
    }


def glyph_size(images: np.ndarray) -> int:
    """Return the usual size in pixels of what `images`, (n, height, width, channels), show on black: 20 for MNIST.

    It is the median of the longer side of the smallest box around all values above 0.
    """
    lit = images.max(axis=3) > 0
    sides = []
    for axis in (1, 2):
        touched = lit.any(axis=3 - axis)
        sides.append(touched.shape[1] - touched.argmax(1) - touched[:, ::-1].argmax(1))
    return int(np.median(np.maximum(*sides)))


def filled(template: str, schema: Schema, content: dict | None = None, reason: str = "") -> str:
    """Return a template with its style, scripts, data and texts in place, so that it stands alone."""
    page = (HERE / template).read_text(encoding="utf-8")
    page = re.sub(r'<link rel="stylesheet" href="(\w+\.css)">', lambda link: f"<style>\n{_read(link[1])}</style>", page)
    page = re.sub(r'<script src="(\w+\.js)"></script>', lambda link: f"<script>\n{_read(link[1])}</script>", page)
    # In a script element, only "<" could end or change it. JSON has it in strings only.
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", r"\u003c")
    texts = {"data": text, "title": html.escape(schema.title or "Images"), "reason": html.escape(reason)}
    return re.sub(r"{{(\w+)}}", lambda name: texts[name[1]], page)


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
