"""Draw what the latents and the decoder make of a class: a scatter, a manifold, and overviews of several classes.

A picture of one class is 7 inches wide, or 14 for one-dimensional latents; an overview is up to 15.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cvae.figures.label_view import LabelView
from cvae.figures.style import COLOURS, fit, in_style, new_figure, shades

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
    axes.imshow(view.manifold, **shades(view.ink), extent=extent, aspect=height / width * half_x / half_y)
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


def _proportion(axes: Axes) -> float:
    """Return height / width of axes with a fixed aspect, or 0."""
    if axes.get_aspect() == "auto":
        return 0
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    return axes.get_aspect() * (top - bottom) / (right - left)
