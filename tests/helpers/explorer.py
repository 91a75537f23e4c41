"""Explorers of untrained models."""

from pathlib import Path

import numpy as np
import torch

from cvae.data.dataset import Schema, Split
from cvae.embedding import embed
from cvae.explorer.page import write_explorer
from cvae.model import VAE
from helpers.models import make_model

SMALL = Schema((28, 28, 1), ("0", "1", "2"), "Strokes", ink=True)


def strokes_like(schema: Schema, count: int = 90) -> Split:
    """Return images with a bright bar in each, as high as MNIST's digits, and labels."""
    numbers = np.random.default_rng(0)
    height, width, channels = schema.shape
    images = np.zeros((count, *schema.shape), np.uint8)
    for image in images:
        left = numbers.integers(width // 7, width // 2)
        image[height // 7 : height - height // 7, left : left + width // 3] = numbers.integers(100, 255, channels)
    labels = np.arange(count) % len(schema.classes)
    return Split(images.reshape(count, -1), labels.astype(np.uint8))


def vivid(schema: Schema = SMALL, **settings) -> VAE:
    """Return an untrained model whose images differ as much as those of a trained one."""
    model = make_model(schema, **{"hidden_dims": 32, **settings}).requires_grad_(False).eval()
    for weight in model.parameters():
        weight *= 4
    return model


def write(model: VAE, folder: Path, images: Split | None = None) -> Path:
    images = images or strokes_like(model.schema)
    latents = embed(model, images, torch.zeros(len(images), model.latent_dims))
    assert write_explorer(model, images, latents["mu"], latents["sigma"], folder / "explorer.html") == ""
    return folder / "explorer.html"


def frame(page) -> None:
    """Wait until the page has drawn what was done before."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
