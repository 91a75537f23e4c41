"""What was measured of a sweep's runs, over the swept quantity: accuracies above, nats below."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from cvae.figures.style import COLOURS

WIDTH = 90  # of a legend, in letters
MOST_CURVES = 5  # that can be followed, with two lines each
# How each figure of an axes is drawn, whatever the curve's colour.
STYLES = (
    {"linestyle": "-", "marker": "o"},
    {"linestyle": "--", "marker": "s", "markerfacecolor": "white"},
    {"linestyle": ":", "marker": "^"},
    {"linestyle": "-.", "marker": "D", "markerfacecolor": "white"},
)


@dataclass(frozen=True)
class Sweep:
    """n runs that differ in a quantity called `name`, and in few others.

    `values`: of that quantity, (n,). `curves`: the points of each, in order; a point is the indices of its runs,
    several if they differ in their seed alone. `labels`: the value of `label_name` that sets each curve apart.
    `shares`, in percent, and `nats`, per image: by name, (n,), NaN where a run has no such figure.
    """

    name: str
    values: Sequence[float]
    curves: Sequence[Sequence[Sequence[int]]]
    labels: Sequence[str]
    label_name: str
    shares: Mapping[str, np.ndarray]
    nats: Mapping[str, np.ndarray]

    @property
    def title(self) -> str:
        figures = ["Accuracy"] * bool(self.shares) + ["NLL" if len(self.nats) > 1 else "negative ELBO"]
        return f"{' and '.join(figures)} over {self.name}"


def draw_sweep(figure: Figure, place: SubplotSpec, sweep: Sweep) -> None:
    """Draw the shares and the nats of a sweep, one above the other, with the swept quantity to the right."""
    seeds = [len(runs) for curve in sweep.curves for runs in curve]
    fewest, most = min(seeds), max(seeds)
    colours = COLOURS[: len(sweep.curves)]  # those of the rate–distortion curves
    parts = {"percent": sweep.shares, "nats per test image": sweep.nats}
    parts = {unit: figures for unit, figures in parts.items() if figures}
    grid = place.subgridspec(len(parts), 1).subplots(sharex=True, squeeze=False)[:, 0]
    for axes, (unit, figures) in zip(grid, parts.items(), strict=True):
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


def _draw_figures(axes: Axes, sweep: Sweep, figures: Mapping[str, np.ndarray], colours: Sequence) -> list[Line2D]:
    """Draw each of `figures` along each curve; returns what a legend has to name."""
    entries = []
    for style, (name, values) in zip(cycle(STYLES), figures.items(), strict=False):
        for curve, colour in zip(sweep.curves, colours, strict=True):
            points = np.array([(sweep.values[runs[0]], *_mean_and_deviation(values[list(runs)])) for runs in curve])
            x, mean, deviation = points[np.isfinite(points[:, 1])].T
            axes.errorbar(x, mean, deviation, capsize=4, color=colour, **style)
        entries.append(Line2D([], [], label=name, color=colours[0] if len(colours) == 1 else "0.3", **style))
    axes.grid(False, axis="x")
    axes.tick_params(left=True, bottom=True, length=4, color="0.8")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    return entries


def _add_legends(axes: Axes, legends: Sequence[Sequence[Line2D]]) -> int:
    """Put each legend above the last, and the first above `axes`; returns how many rows they have."""
    rows = 0
    for entries in legends:
        widths = [len(entry.get_label()) + 8 for entry in entries]  # in letters, with the line and the space between
        columns = len(entries) if sum(widths) <= WIDTH else max(1, WIDTH // max(widths))
        style = {"ncols": columns, "frameon": False, "fontsize": 10, "columnspacing": 1.5}
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "borderaxespad": 0.5 + 1.9 * rows}
        legend = axes.add_artist(Legend(axes, entries, [entry.get_label() for entry in entries], **style, **place))
        legend.set_clip_on(False)  # or the layout would keep no room for it
        rows += math.ceil(len(entries) / columns)
    return rows


def _mean_and_deviation(values: np.ndarray) -> tuple[float, float]:
    """Of the finite ones of `values`, the mean and the standard deviation; NaN where they are too few for it."""
    values = values[np.isfinite(values)]
    return values.mean() if len(values) else math.nan, values.std(ddof=1) if len(values) > 1 else math.nan


def _scale(axes: Axes, sweep: Sweep) -> bool:
    """Scale the axis of the swept quantity, and put ticks at its values unless their labels would touch.

    The scale is logarithmic, which is returned, where the values span two decades or it parts neighbours better.
    """
    values = np.unique([sweep.values[runs[0]] for curve in sweep.curves for runs in curve])
    is_log = bool(values[0] > 0 and (values[-1] >= 100 * values[0] or _closest(np.log(values)) > _closest(values)))
    if is_log:
        axes.set_xscale("log")
    widest = max(len(f"{value:.6g}") for value in values)
    if _closest(np.log(values) if is_log else values) > 0.02 + 0.015 * widest:
        axes.xaxis.set_major_locator(FixedLocator(values))
    elif is_log:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if values[-1] < 1000 * values[0] else (1,)))
    else:
        is_whole = all(isinstance(value, int) for value in sweep.values)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=is_whole, steps=[1, 2, 5, 10]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    return is_log


def _closest(values: np.ndarray) -> float:
    """The smallest gap between sorted `values`, as a share of their range."""
    return np.diff(values).min() / (values[-1] - values[0])
