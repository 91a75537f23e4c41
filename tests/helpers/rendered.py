"""All pictures that render draws, of a model with random weights."""

import numpy as np
import torch
from matplotlib.figure import Figure

from cvae.compute.seeding import generator
from cvae.data.dataset import Schema, Split
from cvae.embedding import embed
from cvae.figures import hero, rendering
from cvae.model import CVAE

LONG = ("golden retriever puppy", "a very long class name that never ends, truly", "cost $5 or $6", "_hidden")


def names(count: int) -> tuple[str, ...]:
    return tuple(f"{LONG[label % 4]} {label // 4}" if label >= 4 else LONG[label] for label in range(count))


def make_split(schema: Schema, each: int) -> Split:
    """Return random images, `each` of every class, sorted by class."""
    numbers = np.random.default_rng(0)
    labels = np.arange(len(schema.classes)).repeat(each).astype(np.uint8)
    return Split(numbers.integers(0, 256, (len(labels), schema.image_dims)).astype(np.uint8), labels)


def render_all(folder, model: CVAE, each: int = 5, test: Split | None = None) -> None:
    """Draw all pictures of `model` with `each` images of every class."""
    split = make_split(model.schema, each)
    latents = embed(model, split, torch.randn(len(split), model.latent_dims, generator=generator(0, "noise")))
    size = 20 if model.latent_dims == 1 else 4
    drawn = model, split.labels, latents["mu"], latents["z"], size, 2.0
    overview = rendering.overview_views(*drawn)
    rendering.render_labels(rendering.label_views(*drawn), overview, model.schema, folder)
    rendering.render_reconstructions(model, test or split, folder / "reconstructions.png")
    rendering.render_styles(model, *rendering.decode_styles(model, 0), folder / "styles.png")
    hero.render_hero(model, overview, test or split, 0, folder / "hero.png")


def size_of(figure: Figure) -> tuple[int, int]:
    return figure.canvas.get_width_height()
