"""Draw small square pictures without axes and titles, legible at 150 pixels, for grids such as MLflow's."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from cvae.data.dataset import Schema, Split
from cvae.data.names import spread
from cvae.figures.label_view import LabelView
from cvae.figures.reconstructions import reconstruct
from cvae.figures.style import in_style, new_figure, save, save_images
from cvae.figures.tables import as_image
from cvae.figures.views import draw_latents
from cvae.model import VAE

SIDE = 420  # pixels of a thumbnail
ACROSS = 5  # images along each side of one
MULTIPLES = 9  # panels at most


def render_thumbnail(view: LabelView, schema: Schema, folder: Path) -> None:
    """Write latents/0.png and manifolds/0.png, if the view is that of label 0."""
    save(draw_scatters([view]), folder / f"latents/{view.label}.png")
    save_table(manifold_table([view]), schema, folder / f"manifolds/{view.label}.png")


def render_thumbnails(
    overview: Sequence[LabelView], styles: np.ndarray, model: VAE, test: Split, folder: str | Path
) -> None:
    """Write latents.png, manifolds.png, styles.png and reconstructions.png.

    `styles`: (rows, columns, height, width[, 3]).
    """
    folder, schema = Path(folder), model.schema
    save(draw_scatters(pick(overview, MULTIPLES)), folder / "latents.png")
    save_table(manifold_table(pick(overview, ACROSS)), schema, folder / "manifolds.png")
    save_table(styles, schema, folder / "styles.png")
    labels = np.linspace(0, len(schema.classes) - 1, 2 * ACROSS).round().astype(int)
    originals, reconstructions = reconstruct(model, test, labels)
    rows = (originals[:ACROSS], reconstructions[:ACROSS], originals[ACROSS:], reconstructions[ACROSS:])
    pairs = np.insert(np.stack(rows), 2, np.nan, axis=0)
    save_table(pairs, schema, folder / "reconstructions.png")


def save_table(images: np.ndarray, schema: Schema, path: Path) -> None:
    """Write a thumbnail of a table of images, (rows, columns, height, width[, 3]), or of 5 × 5 of them."""
    rows, columns = (spread(count, ACROSS) for count in images.shape[:2])
    picture = as_image(images[rows][:, columns], schema.ink)
    save_images([ImageOps.pad(picture, (SIDE, SIDE), Image.Resampling.BOX, "white")], path)


def manifold_table(views: Sequence[LabelView]) -> np.ndarray:
    """Return the images on the manifold of a view, or a column along the first latent for each of several views."""
    tables = [view.manifold_images for view in views]
    if len(views) > 1:
        return np.stack([table[len(table) // 2] for table in tables], axis=1)
    (table,) = tables
    if len(table) == 1:  # a line: in reading order
        side = min(math.isqrt(table.shape[1]), ACROSS - 1)
        table = table[0, spread(table.shape[1], side**2)].reshape(side, side, *table.shape[2:])
    return table


@in_style
def draw_scatters(views: Sequence[LabelView]) -> Figure:
    """Draw the latents of each view in a panel, in reading order."""
    columns = math.ceil(math.sqrt(len(views)))
    figure = new_figure(figsize=(SIDE / 100, SIDE / 100))
    grid = figure.subplots(columns, columns, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99)
    for axes, view in zip(grid.flat, views, strict=False):
        draw_latents(axes, view)
        axes.set(xticks=[], yticks=[])
        for text in [*axes.texts]:
            text.remove()
    for axes in [*grid.flat][len(views) :]:
        axes.remove()
    return figure


def pick(views: Sequence[LabelView], limit: int) -> list[LabelView]:
    return [views[number] for number in spread(len(views), limit)]
