"""Draw the rate–distortion picture: a labelled point for each run, and lines of equal rate + distortion.

If the runs form a sweep, a second picture beside it shows their other figures over the swept quantity.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import IdentityTransform

from cvae.commands.compare.sweep import Sweep, draw_sweep
from cvae.figures.style import COLOURS, in_style, new_figure

POINT = ["kl", "reconstruction"]  # to the right and upwards
# In pixels: the free space around each point; the distance from which a line connects a label with its point.
RADIUS, NEAR = 5, 16
# Candidate places for a label: nearest first, starting at the upper right, which the curves of a sweep avoid.
REACHES, TURNS = np.array(list(product(9 * 1.15 ** np.arange(30), np.deg2rad(np.arange(30, 390, 15))))).T[..., None]
WAYS = np.hstack((np.cos(TURNS), np.sin(TURNS)))


@dataclass(frozen=True)
class Panel:
    """The runs of one task, and how to draw them.

    `results`: `kl` and `reconstruction`, in nats per image. `label_name`: what `labels` show. `curves`: the rows of
    `results` on each curve; rows with the same `curve_name` share a point. `sweep`: drawn beside them. `split`: the
    split that all figures are of.
    """

    title: str
    results: pd.DataFrame
    labels: Sequence[str]
    label_name: str
    curves: Sequence[pd.DataFrame] = ()
    curve_name: str = ""
    sweep: Sweep | None = None
    split: str = "test"

    @property
    def points(self) -> np.ndarray:
        """Rate and distortion of each run, (n, 2)."""
        return self.results[POINT].to_numpy()

    def means(self, curve: pd.DataFrame) -> np.ndarray:
        """Return the points that `curve` goes through, (m, 2): the mean of the runs at each."""
        return curve.groupby(self.curve_name)[POINT].mean().to_numpy()


@in_style
def draw_rate_distortion(panels: Sequence[Panel]) -> Figure:
    """Draw rate to the right and distortion upwards, so that lower left is better, at 1000×720 pixels a panel.

    If any panel has a sweep, each panel has a row of 1800×720 pixels, with its sweep on the right.
    """
    has_sweep = any(panel.sweep for panel in panels)
    columns = 1 if has_sweep else math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    widths = [10, 8] if has_sweep else [10] * columns
    figure = new_figure(figsize=(sum(widths), 7.2 * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    grid = figure.add_gridspec(rows, len(widths), width_ratios=widths)
    places = [grid[divmod(number, columns)] for number in range(len(panels))]
    every_axes = [figure.add_subplot(place) for place in places]
    for row, (axes, panel) in enumerate(zip(every_axes, panels, strict=True)):
        _draw_points(axes, panel)
        if panel.sweep:
            draw_sweep(figure, grid[row, 1], panel.sweep)
    figure.draw_without_rendering()  # labels are placed in pixels, so nothing may move from here on
    figure.set_layout_engine("none")
    for axes, panel in zip(every_axes, panels, strict=True):
        _label_points(axes, panel, _draw_equal_sums(axes))
    return figure


def _draw_points(axes: Axes, panel: Panel) -> None:
    colours = [COLOURS[0]] * len(panel.points)
    has_seeds = any(curve[panel.curve_name].duplicated().any() for curve in panel.curves)
    means = "means of seeds, " if has_seeds else ""
    for number, curve in enumerate(panel.curves):
        name = f"{means}in order of {panel.curve_name}" if number == 0 else None
        style = {"color": COLOURS[number], "alpha": 0.4, "linewidth": 1.5, "zorder": 2}
        axes.plot(*panel.means(curve).T, label=name, **style)
        for index in curve.index:
            colours[index] = COLOURS[number]
    name = f"a run, labelled by {panel.label_name}"
    axes.scatter(*panel.points.T, s=(2 * RADIUS * 0.72) ** 2, c=colours, linewidths=0, zorder=3, label=name)
    axes.plot([], [], color="0.75", linestyle="--", linewidth=1, label="equal negative ELBO, rate + distortion")

    low, high = panel.points.min(0), panel.points.max(0)
    margin = np.maximum(0.12 * (high - low), np.maximum(0.002 * np.abs(high), 1e-6))
    axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    axes.grid(False)
    axes.tick_params(left=True, bottom=True, length=4, color="0.8")
    axes.ticklabel_format(useOffset=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.set_xlabel(f"rate: KL to the prior, nats per {panel.split} image")
    axes.set_ylabel(f"distortion: reconstruction, nats per {panel.split} image")
    axes.set_title(panel.title, fontsize=16, pad=36)
    legend = {"ncols": 3, "frameon": False, "fontsize": 10, "columnspacing": 1.5, "handlelength": 1.5}
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), **legend)


def _draw_equal_sums(axes: Axes) -> list[np.ndarray]:
    """Draw dashed lines of equal rate + distortion, with their sums in the empty margin; return the sums' boxes."""
    limits = np.array([axes.get_xlim(), axes.get_ylim()])
    style = {"colors": "0.75", "linestyles": "--", "linewidths": 1, "zorder": 1}
    lines = axes.contour(*limits, limits[0] + limits[1][:, None], locator=MaxNLocator(8, steps=[1, 2, 5, 10]), **style)
    (left, bottom), (right, top) = limits @ (0.96, 0.04), limits @ (0.04, 0.96)
    x = np.minimum(right, lines.levels - bottom)
    places = np.stack((x, lines.levels - x), axis=1)[(x > left) & (lines.levels - x < top)]
    texts = axes.clabel(lines, manual=places, fontsize=9, colors="0.55", zorder=1.5)
    return [text.get_window_extent().extents for text in texts]


def _label_points(axes: Axes, panel: Panel, sums: Sequence[np.ndarray]) -> None:
    """Put each label near its point, clear of points, curves, sums and other labels, or leave it out."""
    points = axes.transData.transform(panel.points)
    bends = [axes.transData.transform(panel.means(curve)) for curve in panel.curves]
    curves = [np.linspace(a, b, 50) for curve in bends for a, b in pairwise(curve)]
    taken = np.array([*np.tile(np.concatenate((points, *curves)), 2), *sums])  # left, bottom, right, top
    style = {"ha": "center", "va": "center", "path_effects": [withStroke(linewidth=3, foreground="white")]}
    for index, (point, label) in enumerate(zip(points, panel.labels, strict=True)):
        text = axes.text(*point, label, fontsize=11, zorder=2.7, transform=IdentityTransform(), **style)
        box = text.get_window_extent()
        shifts = REACHES * WAYS + box.size / 2 * np.clip(1.5 * WAYS, -1, 1)  # by a corner of the box, or a side
        boxes = box.extents + np.tile(shifts, 2)
        low, high = boxes[:, None, :2] - RADIUS, boxes[:, None, 2:] + RADIUS
        covers = ((low < taken[:, 2:]) & (taken[:, :2] < high)).all(2).any(1)
        free = ((low > axes.bbox.min) & (high < axes.bbox.max)).all((1, 2)) & ~covers
        if not free.any():  # the table still has it
            text.remove()
            continue
        gaps = np.linalg.norm(np.maximum(low - points, points - high).clip(min=0), axis=2)
        nearer = (gaps < gaps[:, [index]]).sum(1)  # points that the label would be closer to than to its own
        place = np.where(free, REACHES[:, 0] * (1 + nearer), np.inf).argmin()
        text.set_position(point + shifts[place])
        taken = np.concatenate((taken, boxes[[place]]))
        if REACHES[place] > NEAR:
            ends = axes.transData.inverted().transform([point, point + REACHES[place] * WAYS[place]])
            axes.plot(*ends.T, color="0.5", linewidth=0.7, zorder=2.5)
