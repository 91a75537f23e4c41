"""Draw arrays as matplotlib figures.

A picture of one label is 700×700 pixels, or 1400×240 for one-dimensional latents. An overview of ten labels is
1500×720, and grows with their number. Images that are not square change these sizes. A table of images is as large as
its contents require.

Images are grey, (height, width) in [0, 1], or have colours, (height, width, 3); where they are NaN, the picture stays
blank. `ink` means that 1 is ink, so that grey images are drawn dark on white.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import IdentityTransform

from cvae.figures.label_view import LabelView
from cvae.figures.style import COLOURS, GREY, INK, fit, in_style, new_figure, text_width

Draw = Callable[[Axes, LabelView], None]

LEGEND = 20  # classes at most in the legend of a scatter


@in_style
def draw_latents(axes: Axes, view: LabelView) -> None:
    """Scatter the label's latents in its colour, and outline two standard deviations of the prior.

    In a view of all images, each point has its class's colour. One-dimensional latents form a strip, where a point's
    height is random and only separates it from the others.
    """
    crowded = len(view.points) > 1000
    style = {"s": 6 if crowded else 16, "alpha": 0.3 if crowded else 0.7, "linewidths": 0}
    outline = {"color": "0.3", "linestyle": "--", "linewidth": 1, "label": "two standard deviations of the prior"}
    radius = 2 * view.prior_std
    points = view.points
    if view.label is not None:
        style["color"] = COLOURS[view.label % len(COLOURS)]
    else:
        order = np.random.RandomState(0).permutation(len(points))  # no class covers the ones before it
        points = points[order]
        style["color"] = np.array(COLOURS)[view.point_labels[order] % len(COLOURS)]
        for label, name in enumerate(view.classes[:LEGEND] if len(view.classes) <= LEGEND else ()):
            shown = fit(name, 150, 11)
            shown = f"\N{THIN SPACE}{shown}" if shown.startswith("_") else shown  # _ would keep it from the legend
            axes.scatter([], [], s=40, color=COLOURS[label], label=shown)
    if view.is_line:
        heights = np.random.RandomState(view.label or 0).uniform(-0.8, 0.8, len(points))
        axes.scatter(points[:, 0], heights, **style)
        low, high = view.prior_mean[0] - radius, view.prior_mean[0] + radius
        axes.plot([low, low, np.nan, high, high], [-1, 1, np.nan, -1, 1], **outline)
        axes.set(xlim=(-view.reach, view.reach), ylim=(-1, 1), yticks=[])
    else:
        axes.scatter(*points.T, **style)
        angles = np.linspace(0, 2 * np.pi, 200)
        circle = view.prior_mean[:, None] + radius * np.stack((np.cos(angles), np.sin(angles)))
        axes.plot(*circle, **outline)
        axes.set(xlim=(-view.reach, view.reach), ylim=(-view.reach, view.reach), aspect="equal")
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], prune="both"))


@in_style
def draw_manifold(axes: Axes, view: LabelView) -> None:
    """Show the images decoded across the latents of one label, with the latents as axes."""
    height, width = view.manifold.shape[:2]
    half_x = view.grid_range + view.grid_range / (view.grid_size - 1)  # half a tile beyond the outermost centres
    half_y = half_x * height / width if view.is_line else half_x
    extent = (-half_x, half_x, -half_y, half_y)
    # All images have square pixels, so a unit of z is as long on both axes only if images are square.
    axes.imshow(view.manifold, **_shades(view.ink), extent=extent, aspect=height / width * half_x / half_y)
    axes.grid(False)
    if view.is_line:
        axes.set(yticks=[])
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_locator(MaxNLocator(5))


@in_style
def draw_one(view: LabelView, draw: Draw, title: str) -> Figure:
    """Draw one label's picture, with named axes."""
    figure = new_figure(figsize=(14, 2.4) if view.is_line else (7, 7), layout="constrained")
    axes = figure.subplots()
    draw(axes, view)
    handles, names = axes.get_legend_handles_labels()
    if view.is_line:
        figure.set_size_inches(14, np.clip(1.2 + 13.4 * _proportion(axes), 2.4, 6))
    else:
        figure.set_size_inches(7 if len(handles) < 2 else 9, np.clip(0.8 + 6.2 * _proportion(axes), 3, 10))
        axes.set_ylabel(view.axis_names[1])
    axes.set_title(fit(title, 850 if view.is_line else 600, 13, lines=3), fontsize=13, pad=10)
    axes.set_xlabel(view.axis_names[0])
    if len(handles) > 1:  # classes, before the prior
        columns = math.ceil(len(handles) / 8) if view.is_line else 1
        legend = {"loc": "outside right upper", "ncols": columns, "frameon": False, "fontsize": 11}
        figure.legend(handles[:-1], names[:-1], **legend)
    if handles:
        figure.legend(handles[-1:], names[-1:], loc="outside lower right", frameon=False, fontsize=11)
    return figure


@in_style
def draw_overview(views: Sequence[LabelView], draw: Draw, title: str) -> Figure:
    """Draw the labels' pictures on shared axes: rows of up to five planes, or columns of lines."""
    if len(views) == 1:
        return draw_one(views[0], draw, title)
    is_line, count = views[0].is_line, len(views)
    most = 2 if is_line else 5
    columns = min(math.ceil(count / 2), most) if count > 5 else 1 if is_line else count
    rows = math.ceil(count / columns)
    width = 15 if is_line else min(7 * columns, 15)
    figure = new_figure(figsize=(width, 1.2 + 1.2 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list((grid.T if is_line else grid).flat)
    names = [fit(view.name, 100 * width / columns - 60, 13, lines=2) for view in views]
    for axes, view, name in zip(panels, views, names, strict=False):
        draw(axes, view)
        axes.set_title(name, fontsize=13)
    for axes in panels[count:]:
        axes.remove()
    for column in grid.T:
        [axes for axes in column if axes in figure.axes][-1].tick_params(labelbottom=True)
    if not is_line:
        text = 1.2 + 0.25 * rows * any("\n" in name for name in names) + 0.3 * (count < rows * columns)
        figure.set_size_inches(width, text + rows * width / columns * np.clip(_proportion(panels[0]), 0.5, 2))
    own_axes = len({view.axis_names for view in views}) > 1  # with more than two latents
    axis_names = views[0].axis_names
    if own_axes:
        axis_names = ("principal axis 1 of z, each class's own", "principal axis 2 of z")
    figure.supxlabel(axis_names[0], fontsize=13)
    if not is_line:
        figure.supylabel(axis_names[1], fontsize=13)
    if handles := panels[0].get_legend_handles_labels()[0]:
        figure.legend(handles=handles, loc="upper right", frameon=False)
    figure.suptitle(fit(title, 100 * width - (700 if handles else 40), 16, lines=3), fontsize=16)
    return figure


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
        axes.imshow(_sheet(np.stack(pair), ink), **_shades(ink))
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
    size = (max(5, 1 + across * labels), 1 + down * rows)
    figure = new_figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.imshow(_sheet(images, ink), **_shades(ink))
    short = max(map(len, names)) <= 4
    names = [fit(name, 120, 11) for name in names]
    places = (width - 1) / 2 + width * np.arange(labels)
    axes.set_xticks(places, names, rotation=0 if short else 35, ha="center" if short else "right")
    axes.set_yticks((height - 1) / 2 + height * np.arange(rows), row_names)
    axes.set(xlabel="label", ylabel="z, drawn from the prior")
    axes.grid(False)
    axes.set_title(fit(title, 100 * size[0] - 150, 16, lines=4), fontsize=16, pad=12)
    return figure


@in_style
def draw_table(
    images: np.ndarray, title: str, row_names: Sequence[str] = (), column_names: Sequence[str] = (), *, ink: bool
) -> Figure:
    """Draw a table of images, scaled by a whole number; `images`: (rows, columns, height, width[, 3]).

    Row names are on the left, column names above. The figure is large enough for the images to be recognisable and for
    all names and the title to fit.
    """
    rows, columns, high, wide = images.shape[:4]
    fitting = min(1400 // (columns * wide), 1000 // (rows * high))
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
    figure.figimage(sheet, x, y, **_shades(ink))
    heading.set_position((total_width / 2, (y + height + band + total_height) / 2))
    for row, text in enumerate(left):
        text.set_position((x - gap, y + height - (row + 0.5) * down))
    for column, text in enumerate(above):
        text.set_position((x + (column + 0.5) * across, y + height + gap))
    return figure


@in_style
def draw_training(history: pd.DataFrame, title: str) -> Figure:
    """Draw loss, reconstruction and KL by epoch, training and test overlaid; `history`: plots/training.csv."""
    figure = new_figure(figsize=(15, 4.6), layout="constrained")
    grid = figure.subplots(1, 3)
    for axes, part, name in zip(grid, ("loss", "reconstruction", "kl"), ("Loss", "Reconstruction", "KL"), strict=True):
        curves = history.rename(columns={f"train_{part}": "training", f"test_{part}": "test"})
        sns.lineplot(
            curves.set_index("epoch")[["training", "test"]],
            ax=axes,
            dashes=False,
            palette=["C0", "C1"],
            marker="o" if len(history) == 1 else None,
        )
        axes.set_title(name, fontsize=13)
        axes.set(xlabel="epoch", ylabel="nats per image")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(history) == 1:
            axes.set_xticks(history["epoch"])
    figure.suptitle(title, fontsize=16)
    return figure


def _shades(ink: bool) -> dict[str, object]:
    """Return how matplotlib shows grey images. It shows colours as they are."""
    return {"cmap": INK if ink else GREY, "vmin": 0, "vmax": 1}


def _sheet(images: np.ndarray, ink: bool) -> np.ndarray:
    """Tile `images`, (rows, columns, height, width[, 3]), into one, with white where they are NaN."""
    rows, columns, height, width, *colours = images.shape
    white = 0.0 if ink and not colours else 1.0
    return np.nan_to_num(images.swapaxes(1, 2).reshape(rows * height, columns * width, *colours), nan=white)


def _proportion(axes: Axes) -> float:
    """Return height / width of axes with a fixed aspect, or 0."""
    if axes.get_aspect() == "auto":
        return 0
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    return axes.get_aspect() * (top - bottom) / (right - left)
