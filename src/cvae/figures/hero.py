"""Draw the picture that shows at one look what a model does: its manifold, its styles and its reconstructions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import IdentityTransform
from PIL import Image

from cvae.compute.seeding import generator
from cvae.data.dataset import Split
from cvae.data.names import spread
from cvae.figures.label_view import LabelView
from cvae.figures.latent_plane import decode
from cvae.figures.reconstructions import reconstruct
from cvae.figures.style import fit, in_style, new_figure, save
from cvae.figures.tables import as_image
from cvae.model import VAE, sample_prior

WIDTH, MARGIN, GAP, CAPTION = 1660, 20, 60, 46  # pixels; twice as wide as README shows it
COLUMNS, ROWS = 10, 3  # of styles


def render_hero(model: VAE, overview: Sequence[LabelView], test: Split, seed: int, path: str | Path) -> None:
    """Write the picture: on the left a manifold, on the right styles above test images and their reconstructions."""
    manifold, caption = _manifold(overview)
    styles, styles_caption = _styles(model, seed)
    columns = styles.shape[1]
    labels = np.linspace(0, len(model.schema.classes) - 1, columns).round().astype(int)
    pairs = np.stack(reconstruct(model, test, labels))
    parts = [
        (caption, manifold),
        (styles_caption, styles),
        ("Test images, and below them their reconstructions", pairs),
    ]
    save(draw_hero(parts, ink=model.schema.ink), path)


def _manifold(overview: Sequence[LabelView]) -> tuple[np.ndarray, str]:
    """Return a manifold as a table of images, and its caption: of one class, or of several that are lines.

    A few lines are wrapped, so that the table is not flat.
    """
    view = overview[min(3, len(overview) - 1)]
    views, tables = [view], [view.manifold_images]
    if view.is_line:
        views = [overview[number] for number in spread(len(overview), COLUMNS)]
        picked = spread(view.grid_size, COLUMNS if len(views) > 1 else 2 * COLUMNS)
        columns = COLUMNS // 2 if len(views) < 5 and len(picked) % (COLUMNS // 2) == 0 else len(picked)
        lines = [each.manifold_images[0, picked] for each in views]
        tables = [line.reshape(-1, columns, *line.shape[1:]) for line in lines]
    what = "Images" if view.label is None else "Classes" if len(views) > 1 else f"Class {view.name}"
    return np.concatenate(tables), f"{what}, drawn across the styles z"


def _styles(model: VAE, seed: int) -> tuple[np.ndarray, str]:
    """Return a table of images in which each z is decoded with all labels, and its caption."""
    count, numbers = max(model.label_count, 1), generator(seed, "hero")
    labels = spread(count, COLUMNS)
    each = COLUMNS // len(labels)  # z side by side
    z = sample_prior(model, ROWS * each, numbers).numpy().repeat(len(labels), axis=0)
    images = decode(model, z, np.tile(labels, ROWS * each))
    caption = "Samples from the prior"
    if count > 1:
        classes = f"{len(labels)} of {count} classes" if len(labels) < count else f"all {count} classes"
        caption = f"One style z {'in each row' if each == 1 else 'after another'}, drawn as {classes}"
    return images.reshape(ROWS, each * len(labels), *images.shape[1:]), caption


@in_style
def draw_hero(parts: Sequence[tuple[str, np.ndarray]], *, ink: bool) -> Figure:
    """Draw three captions and tables of images, (rows, columns, height, width[, 3]): left, upper right, lower right."""
    (_, left), (_, upper), (_, lower) = parts
    height, width = left.shape[2:4]
    shape = (left.shape[1] * width) / (left.shape[0] * height)  # width / height of the left table
    slope = (len(upper) + len(lower)) * height / (upper.shape[1] * width)  # height / width of the right ones
    # Both sides are equally high, and together as wide as there is space.
    right = (WIDTH - 2 * MARGIN - GAP - shape * CAPTION) / (1 + shape * slope)
    high = right * slope + CAPTION
    side = right / upper.shape[1] * height / width  # height of an image on the right
    boxes = [
        (MARGIN, 0, shape * high, high),
        (WIDTH - MARGIN - right, 0, right, len(upper) * side),
        (WIDTH - MARGIN - right, len(upper) * side + CAPTION, right, len(lower) * side),
    ]
    total = round(high) + CAPTION + MARGIN
    figure = new_figure(figsize=(WIDTH / 100, total / 100))
    for (caption, table), (x, down, across, tall) in zip(parts, boxes, strict=True):
        picture = as_image(table, ink).convert("RGB").resize((round(across), round(tall)), Image.Resampling.BICUBIC)
        y = total - CAPTION - round(down)  # of its upper edge
        figure.figimage(np.asarray(picture), round(x), y - picture.height)
        name = fit(caption, across - 10, 17)
        figure.text(round(x), y + 12, name, fontsize=17, color="0.15", va="baseline", transform=IdentityTransform())
    return figure
