"""Draw the figures of a sweep's runs over the swept quantity: accuracies above, nats below.

Accuracies share axes unless that would flatten one of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from cvae.figures.style import COLOURS

WIDTH = 90  # of a legend, in characters
MOST_CURVES = 5  # more cannot be told apart, with two lines each
# Each figure on the same axes has its own style; colours belong to curves.
STYLES = (
    {"linestyle": "-", "marker": "o"},
    {"linestyle": "--", "marker": "s", "markerfacecolor": "white"},
    {"linestyle": ":", "marker": "^"},
    {"linestyle": "-.", "marker": "D", "markerfacecolor": "white"},
)


@dataclass(frozen=True)
class Sweep:
    """Figures of runs over a swept quantity called `name`.

    `curves`: one table each, with a row for each run and the swept quantity as its index; runs with the same index
    differ only in their seed. `labels`: the value of `label_name` for each curve. `shares`, `nats`: the columns to
    draw, in percent and in nats per image. `split`: the split that they are of.
    """

    name: str
    curves: Sequence[pd.DataFrame]
    labels: Sequence[str]
    label_name: str
    shares: Sequence[str]
    nats: Sequence[str]
    split: str = "test"

    @property
    def title(self) -> str:
        figures = ["Accuracy"] * bool(self.shares) + ["NLL" if len(self.nats) > 1 else "negative ELBO"]
        return f"{' and '.join(figures)} over {self.name}"


def draw_sweep(figure: Figure, place: SubplotSpec, sweep: Sweep) -> None:
    """Draw the shares of a sweep above its nats, over the swept quantity."""
    seeds = np.concatenate([curve.groupby(level=0).size() for curve in sweep.curves])
    fewest, most = seeds.min(), seeds.max()
    colours = COLOURS[: len(sweep.curves)]  # the same as for the rate–distortion curves
    parts = [("percent", shares) for shares in _on_one_scale(sweep)]
    parts += [(f"nats per {sweep.split} image", sweep.nats)] if sweep.nats else []
    grid = place.subgridspec(len(parts), 1).subplots(sharex=True, squeeze=False)[:, 0]
    for axes, (unit, figures) in zip(grid, parts, strict=True):
        legends = [_draw_figures(axes, sweep, figures, colours)]
        if axes is grid[0] and len(colours) > 1:
            legends.append([Line2D([], [], color="none", label=f"{sweep.label_name}:")])
            for colour, label in zip(colours, sweep.labels, strict=True):
                legends[-1].append(Line2D([], [], color=colour, linewidth=4, label=label))
        rows = _add_legends(axes, legends)
        if axes is grid[0]:
            axes.set_title(sweep.title, fontsize=16, pad=17 + 19 * rows)
        axes.set_ylabel(unit)
        low, high = axes.get_ylim()
        if unit == "percent" and high > 100:
            axes.set_ylim(low, 100 + 0.04 * (100 - low))

    notes = ["log scale"] if _scale(grid[0], sweep) else []
    if most > 1:
        notes.append(f"mean and standard deviation of {most if fewest == most else f'{fewest} to {most}'} seeds")
    grid[-1].set_xlabel(f"{sweep.name} ({', '.join(notes)})" if notes else sweep.name)


def _on_one_scale(sweep: Sweep) -> list[Sequence[str]]:
    """Group the shares by axes: all on the same, unless one would take less than an eighth of the height."""
    values = pd.concat(sweep.curves)[list(sweep.shares)]
    ranges = values.max() - values.min()
    is_flat = (ranges > 0) & (8 * ranges < values.max().max() - values.min().min())
    if is_flat.any():
        return [[share] for share in sweep.shares]
    return [sweep.shares] if sweep.shares else []


def _draw_figures(axes: Axes, sweep: Sweep, names: Sequence[str], colours: Sequence) -> list[Line2D]:
    """Draw the columns `names` of each curve; return entries for a legend."""
    entries = []
    for style, name in zip(cycle(STYLES), names, strict=False):
        for curve, colour in zip(sweep.curves, colours, strict=True):
            points = curve.groupby(level=0)[name].agg(["mean", "std"]).dropna(subset="mean")
            x, mean, deviation = points.reset_index().to_numpy(float).T
            axes.errorbar(x, mean, deviation, capsize=4, color=colour, **style)
        entries.append(Line2D([], [], label=name, color=colours[0] if len(colours) == 1 else "0.3", **style))
    axes.grid(False, axis="x")
    axes.tick_params(left=True, bottom=True, length=4, color="0.8")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    return entries


def _add_legends(axes: Axes, legends: Sequence[Sequence[Line2D]]) -> int:
    """Stack the legends above `axes`; return how many rows they take."""
    rows = 0
    for entries in legends:
        widths = [len(entry.get_label()) + 8 for entry in entries]  # in characters, with the line and the gap
        columns = len(entries) if sum(widths) <= WIDTH else max(1, WIDTH // max(widths))
        style = {"ncols": columns, "frameon": False, "fontsize": 10, "columnspacing": 1.5}
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "borderaxespad": 0.5 + 1.9 * rows}
        legend = axes.add_artist(Legend(axes, entries, [entry.get_label() for entry in entries], **style, **place))
        legend.set_clip_on(False)  # otherwise, the layout reserves no room for it
        rows += math.ceil(len(entries) / columns)
    return rows


def _scale(axes: Axes, sweep: Sweep) -> bool:
    """Choose scale and ticks for the swept quantity; return whether the scale is logarithmic.

    It is logarithmic if the values span two decades, or if that separates neighbours better. Ticks are at the values
    unless their labels would touch.
    """
    values = np.unique(np.concatenate([curve.index for curve in sweep.curves]))
    is_log = bool(values[0] > 0 and (values[-1] >= 100 * values[0] or _closest(np.log(values)) > _closest(values)))
    if is_log:
        axes.set_xscale("log")
    widest = max(len(f"{value:.6g}") for value in values)
    if _closest(np.log(values) if is_log else values) > 0.02 + 0.015 * widest:
        axes.xaxis.set_major_locator(FixedLocator(values))
    elif is_log:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if values[-1] < 1000 * values[0] else (1,)))
    else:
        are_integers = np.issubdtype(values.dtype, np.integer)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=are_integers, steps=[1, 2, 5, 10]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    return is_log


def _closest(values: np.ndarray) -> float:
    """Return the smallest gap between sorted `values` as a fraction of their range."""
    return np.diff(values).min() / (values[-1] - values[0])
