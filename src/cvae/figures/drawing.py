"""Draw arrays as matplotlib figures.

A picture of one label is 700×700 pixels, or 1400×240 for one-dimensional latents. An overview of all ten labels is
1500×720. A table of images is as large as its contents require.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import IdentityTransform

from cvae.figures.label_view import LabelView
from cvae.figures.style import COLOURS, INK, in_style, new_figure

Draw = Callable[[Axes, LabelView], None]


@in_style
def draw_latents(axes: Axes, view: LabelView) -> None:
    """Scatter the label's latents in its colour, and outline two standard deviations of the prior.

    One-dimensional latents form a strip, where a point's height is random and only separates it from the others.
    """
    crowded = len(view.points) > 1000
    style = {"s": 6 if crowded else 16, "alpha": 0.3 if crowded else 0.7, "color": COLOURS[view.label], "linewidths": 0}
    outline = {"color": "0.3", "linestyle": "--", "linewidth": 1, "label": "two standard deviations of the prior"}
    radius = 2 * view.prior_std
    if view.is_line:
        heights = np.random.RandomState(view.label).uniform(-0.8, 0.8, len(view.points))
        axes.scatter(view.points[:, 0], heights, **style)
        low, high = view.prior_mean[0] - radius, view.prior_mean[0] + radius
        axes.plot([low, low, np.nan, high, high], [-1, 1, np.nan, -1, 1], **outline)
        axes.set(xlim=(-view.reach, view.reach), ylim=(-1, 1), yticks=[])
    else:
        axes.scatter(*view.points.T, **style)
        angles = np.linspace(0, 2 * np.pi, 200)
        circle = view.prior_mean[:, None] + radius * np.stack((np.cos(angles), np.sin(angles)))
        axes.plot(*circle, **outline)
        axes.set(xlim=(-view.reach, view.reach), ylim=(-view.reach, view.reach), aspect="equal")
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], prune="both"))


@in_style
def draw_manifold(axes: Axes, view: LabelView) -> None:
    """Show the images decoded across the latents of one label, with the latents as axes."""
    height, width = view.manifold.shape
    half_x = view.grid_range + view.grid_range / (width // 28 - 1)  # half a tile beyond the outermost centres
    half_y = half_x * height / width
    axes.imshow(view.manifold, cmap=INK, vmin=0, vmax=1, extent=(-half_x, half_x, -half_y, half_y))
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
    axes.set_title(title, fontsize=13, pad=10)
    axes.set_xlabel(view.axis_names[0])
    if not view.is_line:
        axes.set_ylabel(view.axis_names[1])
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower right", frameon=False, fontsize=11)
    return figure


@in_style
def draw_overview(views: Sequence[LabelView], draw: Draw, title: str) -> Figure:
    """Draw all ten labels' pictures on shared axes: two rows of five planes, or five rows of two lines."""
    is_line = views[0].is_line
    rows, columns = (5, 2) if is_line else (2, 5)
    figure = new_figure(figsize=(15, 7.2), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True)
    for axes, view in zip((grid.T if is_line else grid).flat, views, strict=True):
        draw(axes, view)
        axes.set_title(view.name, fontsize=13)
    own_axes = len({view.axis_names for view in views}) > 1  # with more than two latents
    names = ("principal axis 1 of z, each label's own", "principal axis 2 of z") if own_axes else views[0].axis_names
    figure.supxlabel(names[0], fontsize=13)
    if not is_line:
        figure.supylabel(names[1], fontsize=13)
    if handles := grid.flat[0].get_legend_handles_labels()[0]:
        figure.legend(handles=handles, loc="upper right", frameon=False)
    figure.suptitle(title, fontsize=16)
    return figure


@in_style
def draw_reconstructions(
    originals: np.ndarray, reconstructions: np.ndarray, names: Sequence[str], title: str
) -> Figure:
    """Draw two rows per label, originals above their reconstructions; both (10, n, 28, 28) in [0, 1]."""
    figure = new_figure(figsize=(12, 7.2), layout="constrained")
    grid = figure.subplots(5, 2)
    for label, axes in enumerate(grid.T.flat):
        rows = (np.concatenate(list(images[label]), axis=1) for images in (originals, reconstructions))
        axes.imshow(np.concatenate(list(rows)), cmap=INK, vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[14, 42], yticklabels=[names[label], "model"])
        axes.grid(False)
        axes.axhline(27.5, color="0.85", linewidth=1)
    figure.suptitle(title, fontsize=16)
    return figure


@in_style
def draw_styles(images: np.ndarray, row_names: Sequence[str], names: Sequence[str], title: str) -> Figure:
    """Draw one row per z, decoded with each of the ten labels; `images`: (rows, 10, 28, 28) in [0, 1]."""
    rows = len(images)
    figure = new_figure(figsize=(8, 8), layout="constrained")
    axes = figure.subplots()
    axes.imshow(images.swapaxes(1, 2).reshape(rows * 28, -1), cmap=INK, vmin=0, vmax=1)
    short = max(map(len, names)) <= 4
    axes.set_xticks(13.5 + 28 * np.arange(10), names, rotation=0 if short else 35, ha="center" if short else "right")
    axes.set_yticks(13.5 + 28 * np.arange(rows), row_names)
    axes.set(xlabel="label", ylabel="z, drawn from the prior")
    axes.grid(False)
    axes.set_title(title, fontsize=16, pad=12)
    return figure


@in_style
def draw_table(
    images: np.ndarray, title: str, row_names: Sequence[str] = (), column_names: Sequence[str] = ()
) -> Figure:
    """Draw a table of images, scaled by a whole number; `images`: (rows, columns, 28, 28) in [0, 1].

    Row names are on the left, column names above. The figure is large enough for the images to be recognisable and for
    all names and the title to fit.
    """
    rows, columns, side, _ = images.shape
    fitting = min(1400 // (columns * side), 1000 // (rows * side))
    scale = min(6, max(fitting, 3 if column_names else 2))  # a column name needs 84 pixels
    sheet = images.swapaxes(1, 2).reshape(rows * side, -1).repeat(scale, axis=0).repeat(scale, axis=1)
    height, width = sheet.shape
    step, margin, gap = side * scale, 20, 10

    figure = new_figure()
    pixels = {"transform": IdentityTransform()}
    heading = figure.text(0, 0, title, fontsize=13, ha="center", va="center", **pixels)
    left = [figure.text(0, 0, name, fontsize=11, ha="right", va="center", **pixels) for name in row_names]
    above = [
        figure.text(0, 0, name, fontsize=10, ha="center", va="baseline", linespacing=1, **pixels)
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
    figure.figimage(sheet, x, y, cmap=INK, vmin=0, vmax=1)
    heading.set_position((total_width / 2, (y + height + band + total_height) / 2))
    for row, text in enumerate(left):
        text.set_position((x - gap, y + height - (row + 0.5) * step))
    for column, text in enumerate(above):
        text.set_position((x + (column + 0.5) * step, y + height + gap))
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
    figure.suptitle(title, fontsize=16)
    return figure
