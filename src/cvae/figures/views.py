"""Draw what the latents and the decoder make of a class: a scatter, a manifold, and overviews of several classes.

A picture of one class is 7 inches wide, or 14 for a manifold of one latent; an overview is up to 15.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from cvae.figures.label_view import LabelView
from cvae.figures.style import COLOURS, fit, in_style, new_figure, shades

Draw = Callable[[Axes, LabelView], None]

LEGEND = 20  # classes at most in the legend of a scatter
PRIOR = {"color": "0.25", "linestyle": "--", "linewidth": 1}


@in_style
def draw_latents(axes: Axes, view: LabelView) -> None:
    """Show the label's latents in its colour, and the prior: a scatter with circles, or densities of one latent.

    In a view of all images, each class has its own colour.
    """
    if view.label is None and len(view.classes) <= LEGEND:
        for label, name in enumerate(view.classes):
            shown = fit(name, 150, 11)
            shown = f"\N{THIN SPACE}{shown}" if shown.startswith("_") else shown  # _ would keep it from the legend
            axes.scatter([], [], s=40, color=COLOURS[label], label=shown)
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(-view.reach, view.reach)
    ticks = ticks[abs(ticks) < 0.95 * view.reach]  # numbers of neighbouring panels keep apart
    axes.set(xlim=(-view.reach, view.reach), xticks=ticks)
    if view.is_line:
        _draw_densities(axes, view)
    else:
        _scatter(axes, view)
        axes.set(ylim=(-view.reach, view.reach), yticks=ticks, aspect="equal")


def _scatter(axes: Axes, view: LabelView) -> None:
    """Scatter latents on a plane, with circles of one and two standard deviations of the prior."""
    points, colour = view.points, COLOURS[(view.label or 0) % len(COLOURS)]
    if view.label is None:
        order = np.random.RandomState(0).permutation(len(points))  # no class covers the ones before it
        points, colour = points[order], np.array(COLOURS)[view.point_labels[order] % len(COLOURS)]
    crowded = len(points) > 1000
    axes.scatter(*points.T, s=6 if crowded else 16, alpha=0.3 if crowded else 0.7, linewidths=0, color=colour)
    angles = np.linspace(0, 2 * np.pi, 200)
    for count, name, side in ((1, "prior σ", -1), (2, "2 σ", 1)):
        radius = count * view.prior_std
        axes.plot(*view.prior_mean[:, None] + radius * np.stack((np.cos(angles), np.sin(angles))), **PRIOR)
        _name_prior(axes, view, name, view.prior_mean[0], view.prior_mean[1] + side * radius, side)


def _draw_densities(axes: Axes, view: LabelView) -> None:
    """Draw the density of the label's latents, or of each label's in a view of all images, and that of the prior."""
    classes = {view.label: view.points[:, 0]}
    if view.label is None:
        classes = {label: view.points[view.point_labels == label, 0] for label in range(len(view.classes))}
    x = np.linspace(-view.reach, view.reach, 301)
    for label, values in classes.items():
        if len(values):
            axes.plot(x, y := density(values, x), color=COLOURS[label % len(COLOURS)], linewidth=1.5)
            axes.fill_between(x, y, color=COLOURS[label % len(COLOURS)], alpha=0.3 if len(classes) == 1 else 0.05)
    peak = 1 / (view.prior_std * math.sqrt(2 * math.pi))
    axes.plot(x, peak * np.exp(-(((x - view.prior_mean[0]) / view.prior_std) ** 2) / 2), **PRIOR)
    place = view.prior_mean[0] + 1.2 * view.prior_std
    _name_prior(axes, view, " prior", place, peak * math.exp(-0.72), 1, ha="left")
    top = max(each.dataLim.y1 for each in axes.get_shared_y_axes().get_siblings(axes))
    axes.set(ylim=(0, 1.05 * top), yticks=[])


def density(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Estimate the density of `values`, (n,), at evenly spaced `x` with Gaussian kernels of Scott's bandwidth."""
    step = x[1] - x[0]
    counts, _ = np.histogram(values, np.append(x, x[-1] + step) - step / 2)
    width = max(float(values.std()) * len(values) ** -0.2, step)
    kernels = np.exp(-(((x[:, None] - x) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))
    return kernels @ counts / len(values)


def _name_prior(axes: Axes, view: LabelView, name: str, x: float, y: float, side: int, ha: str = "center") -> None:
    """Write a name where the prior is drawn, above (`side` = 1) or below it, unless that is outside the frame."""
    if abs(x) < view.reach and (view.is_line or abs(y) < 0.9 * view.reach):
        halo = [withStroke(linewidth=3, foreground="white")]
        axes.text(x, y, name, ha=ha, va="bottom" if side > 0 else "top", fontsize=10, path_effects=halo)


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
def draw_one(view: LabelView, draw: Draw, title: str, like: Figure | None = None) -> Figure:
    """Draw one label's picture, with named axes.

    `like`: such a picture of another label, already laid out. Taking its margins saves half the time.
    """
    figure = new_figure(layout="constrained")
    axes = figure.subplots()
    draw(axes, view)
    handles, names = axes.get_legend_handles_labels()
    is_strip = _is_strip(view, draw)
    if is_strip:
        figure.set_size_inches(14, np.clip(1.2 + 13.4 * _proportion(axes), 2.4, 6))
    else:
        wide = 9.5 if handles else 7
        figure.set_size_inches(wide, 4.5 if view.is_line else np.clip(0.8 + 6.2 * _proportion(axes), 3, 10))
        axes.set_ylabel("density" if view.is_line else view.axis_names[1])
    axes.set_title(fit(title, 850 if is_strip else 600, 13, lines=3), fontsize=13, pad=10)
    axes.set_xlabel(view.axis_names[0])
    if handles:
        columns = math.ceil(len(handles) / 12) if view.is_line else 1
        figure.legend(handles, names, loc="outside right upper", ncols=columns, frameon=False, fontsize=11)
    if like and like.axes[0].get_title().count("\n") == axes.get_title().count("\n"):
        figure.set_layout_engine("none")
        axes.set_position(like.axes[0].get_position(original=True))
    return figure


@in_style
def draw_overview(views: Sequence[LabelView], draw: Draw, title: str) -> Figure:
    """Draw the labels' pictures on shared axes: rows of up to five panels, or columns of strips."""
    if len(views) == 1:
        return draw_one(views[0], draw, title)
    is_strip, count = _is_strip(views[0], draw), len(views)
    most = 2 if is_strip else 5
    columns = min(math.ceil(count / 2), most) if count > 5 else 1 if is_strip else count
    rows = math.ceil(count / columns)
    width = 15 if is_strip else min(7 * columns, 15)
    figure = new_figure(figsize=(width, 1.2 + 1.2 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list((grid.T if is_strip else grid).flat)
    names = [fit(view.name, 100 * width / columns - 60, 13, lines=2) for view in views]
    for axes, view, name in zip(panels, views, names, strict=False):
        draw(axes, view)
        axes.set_title(name, fontsize=13)
    for axes in panels[count:]:
        axes.remove()
    for column in grid.T:
        [axes for axes in column if axes in figure.axes][-1].tick_params(labelbottom=True)
    if not is_strip:
        text = 1.2 + 0.25 * rows * any("\n" in name for name in names) + 0.3 * (count < rows * columns)
        figure.set_size_inches(width, text + rows * width / columns * np.clip(_proportion(panels[0]), 0.5, 2))
    own_axes = len({view.axis_names for view in views}) > 1  # with more than two latents
    axis_names = views[0].axis_names
    if own_axes:
        axis_names = ("principal axis 1 of z, each class's own", "principal axis 2 of z")
    figure.supxlabel(axis_names[0], fontsize=13)
    if not is_strip:
        figure.supylabel("density" if views[0].is_line else axis_names[1], fontsize=13)
    figure.suptitle(fit(title, 100 * width - 40, 16, lines=3), fontsize=16)
    return figure


def _is_strip(view: LabelView, draw: Draw) -> bool:
    """Whether `draw` makes a row of images, as a manifold of one latent is."""
    return view.is_line and draw is draw_manifold


def _proportion(axes: Axes) -> float:
    """Return height / width of axes with a fixed aspect, or 0."""
    if axes.get_aspect() == "auto":
        return 0
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    return axes.get_aspect() * (top - bottom) / (right - left)
