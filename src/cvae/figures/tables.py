"""Draw tables of images: reconstructions, styles and samples.

Images are grey, (height, width) in [0, 1], or have colours, (height, width, 3); where they are NaN, the picture stays
blank. `ink` means that 1 is ink, so that grey images are drawn dark on white.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import IdentityTransform
from PIL import Image

from cvae.figures.style import fit, in_style, new_figure, shades, text_width


@in_style
def draw_reconstructions(
    originals: np.ndarray, reconstructions: np.ndarray, names: Sequence[str], title: str, *, ink: bool
) -> Figure:
    """Draw two rows per label, originals above their reconstructions; both (labels, n, height, width[, 3])."""
    labels, count, height, width = originals.shape[:4]
    columns = min(math.ceil(labels * height / (5 * width)), 3)
    rows = math.ceil(labels / columns)
    names = [fit(name, 100, 11, lines=2) for name in names]
    margin = max(0.5, 0.2 + max(text_width(line, 11) for name in names for line in name.split("\n")) / 100)
    side = (12 / columns - margin) / count  # of an image, in inches
    size = (12, 1.2 + rows * (0.1 + round(2 * side * height / width, 2)))
    figure = new_figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    panels = list(grid.T.flat)
    for axes, name, *pair in zip(panels, names, originals, reconstructions, strict=False):
        axes.imshow(_sheet(np.stack(pair), ink), **shades(ink))
        if np.isnan(pair).all():
            axes.text(0.5, 0.75, "no test image", color="0.5", ha="center", va="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[height // 2, height + height // 2], yticklabels=[name, "model"])
        axes.grid(False)
        axes.axhline(height - 0.5, color="0.85", linewidth=1)
    for axes in panels[labels:]:
        axes.remove()
    figure.suptitle(fit(title, 1160, 16, lines=3), fontsize=16)
    return figure


@in_style
def draw_styles(images: np.ndarray, row_names: Sequence[str], names: Sequence[str], title: str, *, ink: bool) -> Figure:
    """Draw one row per z, decoded with each of the labels; `images`: (rows, labels, height, width[, 3])."""
    rows, labels, height, width = images.shape[:4]
    inches = 0.7 if labels >= 5 else 1.2  # of an image's sides, on average
    across, down = inches * math.sqrt(width / height), inches * math.sqrt(height / width)
    wide = max(5, 1 + across * labels)
    title = fit(title, 100 * wide - 150, 16, lines=4)
    short = max(map(len, names)) <= 4  # names that need not be slanted
    size = (wide, 1 + down * rows + 0.3 * title.count("\n") + (0 if short else 0.8))
    figure = new_figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.imshow(_sheet(images, ink), **shades(ink))
    names = [fit(name, 120, 11) for name in names]
    places = (width - 1) / 2 + width * np.arange(labels)
    axes.set_xticks(places, names, rotation=0 if short else 35, ha="center" if short else "right")
    axes.set_yticks((height - 1) / 2 + height * np.arange(rows), row_names)
    axes.set(xlabel="label", ylabel="z, drawn from the prior")
    axes.grid(False)
    axes.set_title(title, fontsize=16, pad=12)
    return figure


@in_style
def draw_table(
    images: np.ndarray,
    title: str,
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
    *,
    ink: bool,
    size: tuple[int, int] = (1400, 1000),
) -> Figure:
    """Draw a table of images, scaled by a whole number; `images`: (rows, columns, height, width[, 3]).

    Row names are on the left, column names above. The figure is large enough for the images to be recognisable and for
    all names and the title to fit; if it can, it keeps the images within `size`, (width, height) in pixels.
    """
    rows, columns, high, wide = images.shape[:4]
    fitting = min(size[0] // (columns * wide), size[1] // (rows * high))
    least = math.ceil(84 / wide) if column_names else math.ceil(56 / high)  # a column name needs 84 pixels
    scale = min(6, max(fitting, least))
    sheet = _sheet(images, ink).repeat(scale, axis=0).repeat(scale, axis=1)
    height, width = sheet.shape[:2]
    across, down, margin, gap = wide * scale, high * scale, 20, 10

    figure = new_figure()
    pixels = {"transform": IdentityTransform()}
    heading = figure.text(0, 0, title.replace("$", r"\$"), fontsize=13, ha="center", va="center", **pixels)
    left = [figure.text(0, 0, fit(name, 240, 11), fontsize=11, ha="right", va="center", **pixels) for name in row_names]
    above = [
        figure.text(0, 0, fit(name, across - 4, 10), fontsize=10, ha="center", va="baseline", linespacing=1, **pixels)
        for name in column_names
    ]
    heading_box, *boxes = (text.get_window_extent() for text in (heading, *left, *above))
    indent = max((box.width + gap for box in boxes[: len(left)]), default=0)
    band = max((box.height + gap for box in boxes[len(left) :]), default=0)

    wanted_width = max(indent + width, heading_box.width) + 2 * margin
    wanted_height = heading_box.height + gap + band + height + 2 * margin
    quarters = np.ceil(np.array((wanted_width, wanted_height)) / 25)
    figure.set_size_inches(quarters / 4)  # quarter inches are exactly whole pixels
    total_width, total_height = 25 * quarters
    x, y = round((total_width - indent - width) / 2 + indent), margin
    figure.figimage(sheet, x, y, **shades(ink))
    heading.set_position((total_width / 2, (y + height + band + total_height) / 2))
    for row, text in enumerate(left):
        text.set_position((x - gap, y + height - (row + 0.5) * down))
    for column, text in enumerate(above):
        text.set_position((x + (column + 0.5) * across, y + height + gap))
    return figure


def as_image(images: np.ndarray, ink: bool) -> Image.Image:
    """Tile `images`, (rows, columns, height, width[, 3]), into one image without anything around it."""
    sheet = _sheet(images, ink)
    return Image.fromarray(np.rint(255 * (1 - sheet if ink and sheet.ndim == 2 else sheet)).astype(np.uint8))


def _sheet(images: np.ndarray, ink: bool) -> np.ndarray:
    """Tile `images`, (rows, columns, height, width[, 3]), into one, with white where they are NaN."""
    rows, columns, height, width, *colours = images.shape
    white = 0.0 if ink and not colours else 1.0
    return np.nan_to_num(images.swapaxes(1, 2).reshape(rows * height, columns * width, *colours), nan=white)
