"""The rate–distortion picture: a point a run, labels that cover nothing, and lines of equal rate + distortion."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import IdentityTransform

from cvae.figures import COLOURS

# In pixels. A label further from its point than NEAR gets a line to it.
RADIUS, NEAR = 5, 16
REACHES = (6, 10, NEAR, 25, 35, 46, 58, 72, 88, 106, 126, 150, 180, 215, 255, 300, 350, 410, 480)
TURNS = np.deg2rad([0, 45, -45, 90, -90, 135, -135, 180, *range(9, 360, 9)])  # to the right is read best


@dataclass(frozen=True)
class Panel:
    """What is drawn on axes of its own: `points`, (n, 2), are rate and distortion in nats per image.

    `label_name`: what `labels` are. `curves`: the points to join and to colour alike, by index; `curve_name`:
    what grows along them.
    """

    title: str
    points: np.ndarray
    labels: Sequence[str]
    label_name: str
    curves: Sequence[Sequence[int]] = field(default=())
    curve_name: str = ""


def draw_rate_distortion(panels: Sequence[Panel]) -> Figure:
    """Rate to the right and distortion upwards, so that less of both is better; 1000×720 pixels a panel."""
    columns = math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    figure, grid = plt.subplots(rows, columns, figsize=(10 * columns, 7.2 * rows), layout="constrained", squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw_points(axes, panel)
    figure.draw_without_rendering()  # labels are placed in pixels, so nothing may move from here on
    figure.set_layout_engine("none")
    for axes, panel in zip(grid.flat, panels, strict=False):
        _place_labels(axes, panel, _draw_equal_sums(axes, panel.points))
    return figure


def _draw_points(axes: Axes, panel: Panel) -> None:
    colours = [COLOURS[0]] * len(panel.points)
    for number, curve in enumerate(panel.curves):
        name = f"in order of {panel.curve_name}" if number == 0 else None
        axes.plot(*panel.points[list(curve)].T, color=COLOURS[number], alpha=0.4, linewidth=1.5, zorder=2, label=name)
        for index in curve:
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
    axes.set_xlabel("rate: KL to the prior, nats per image")
    axes.set_ylabel("distortion: reconstruction, nats per image")
    axes.set_title(panel.title, fontsize=16, pad=36)
    legend = {"ncols": 3, "frameon": False, "fontsize": 10, "columnspacing": 1.5, "handlelength": 1.5}
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), **legend)


def _draw_equal_sums(axes: Axes, points: np.ndarray) -> np.ndarray:
    """Dashed lines of equal rate + distortion, each with its sum where no point is; returns the sums' boxes."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    taken = _boxes(axes.transData.transform(points), (RADIUS, RADIUS))
    sums = np.empty((0, 4))
    levels = MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(left + bottom, right + top)
    digits = max(0, -math.floor(math.log10(levels[1] - levels[0]) + 1e-9))
    for level in levels:
        start, end = max(left, level - top), min(right, level - bottom)
        if start >= end:
            continue
        first, last = axes.transData.transform([(start, level - start), (end, level - end)])
        if np.hypot(*(last - first)) < 80:  # a corner's stub
            continue
        axes.plot([start, end], [level - start, level - end], color="0.75", linestyle="--", linewidth=1, zorder=1)
        style = {"fontsize": 9, "color": "0.55", "ha": "center", "va": "center", "zorder": 1.5}
        text = axes.text(0, 0, f"{level:.{digits}f}", transform=IdentityTransform(), **style)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
        centres = first + np.arange(0.94, 0.05, -0.04)[:, None] * (last - first)
        boxes = _boxes(centres, _half_size(text, 2, 2))
        free = _within(boxes, axes) & ~_overlap(boxes, np.concatenate((taken, sums))).any(1)
        if not free.any():
            text.remove()
            continue
        best = free.argmax()
        text.set_position(centres[best])
        sums = np.concatenate((sums, boxes[best : best + 1]))
    return sums


def _place_labels(axes: Axes, panel: Panel, sums: np.ndarray) -> None:
    """Label each point near it, where that covers no point, no sum and no other label.

    Of all places around a point, the one that is near, away from its neighbours, and whose line to the point
    crosses little. The most crowded point comes first; then each label may move again, now that all are there,
    until none does. Equal input gets equal places.
    """
    points = axes.transData.transform(panel.points)
    markers = _boxes(points, (RADIUS + 1, RADIUS + 1))
    curves = np.array([(points[a], points[b]) for curve in panel.curves for a, b in pairwise(curve)]).reshape(-1, 2, 2)
    apart = points[:, None] - points[None]
    distances = np.linalg.norm(apart, axis=2) + 20
    crowding = (1 / distances).sum(1).round(9)
    outward = (apart / distances[..., None] ** 3).sum(1)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-5

    halo = [withStroke(linewidth=3, foreground="white")]
    style = {"fontsize": 11, "ha": "center", "va": "center", "zorder": 4, "path_effects": halo}
    texts = [axes.text(0, 0, label, transform=IdentityTransform(), **style) for label in panel.labels]
    half_sizes = [np.array(_half_size(text, 4, 1)) for text in texts]

    reach, turn = (grid.ravel() for grid in np.meshgrid(REACHES, TURNS, indexing="ij"))
    ways = np.stack((np.cos(turn), np.sin(turn)), axis=1)
    chosen = np.full(len(points), -1)
    labels = np.full((len(points), 4), np.nan)  # boxes; what is not there overlaps and crosses nothing
    lines = np.full((len(points), 2, 2), np.nan)
    for _ in range(6):
        before = chosen.copy()
        for index in sorted(range(len(points)), key=lambda index: (-crowding[index], index)):
            labels[index], lines[index], chosen[index] = np.nan, np.nan, -1
            taken = np.concatenate((sums, labels))
            boxes = _boxes(points[index] + reach[:, None] * ways + ways * half_sizes[index], half_sizes[index])
            free = _within(boxes, axes) & ~_overlap(boxes, np.concatenate((markers, taken))).any(1)
            if not free.any():
                continue
            places = np.flatnonzero(free)
            boxes, way, far = boxes[places], ways[places], reach[places]
            leaders = points[index] + np.stack((0 * way, far[:, None] * way), axis=1)
            crossed = 300 * (_touch(leaders, taken).sum(1) + _cross(leaders, lines).sum(1))
            crossed += 20 * _touch(leaders, np.delete(markers, index, axis=0)).sum(1)
            cost = far + 8 * (1 - way @ outward[index]) + np.where(turn[places] == 0, 0, 2)
            cost += 14 * _touch(curves, boxes).sum(0) + 300 * _touch(lines, boxes).sum(0)
            cost += np.where(far > NEAR, crossed, 0)
            best = cost.round(6).argmin()
            chosen[index], labels[index] = places[best], boxes[best]
            if far[best] > NEAR:
                lines[index] = leaders[best]
        if (chosen == before).all():
            break

    for text, place, box, line in zip(texts, chosen, labels, lines, strict=True):
        if place < 0:  # no room at all: the table still has it
            text.remove()
            continue
        text.set_position((box[:2] + box[2:]) / 2)
        if reach[place] > NEAR:
            axes.plot(*axes.transData.inverted().transform(line).T, color="0.5", linewidth=0.7, zorder=2.5)


def _half_size(text: Text, beside: float, above: float) -> tuple[float, float]:
    """Half the width and height of `text` with that much room around it, in pixels."""
    box = text.get_window_extent()
    return box.width / 2 + beside, box.height / 2 + above


def _boxes(centres: np.ndarray, half_size: Sequence[float]) -> np.ndarray:
    """Left, bottom, right and top of a box around each of `centres`, (n, 2): (n, 4)."""
    return np.concatenate((centres - half_size, centres + half_size), axis=1)


def _within(boxes: np.ndarray, axes: Axes) -> np.ndarray:
    return ((boxes[:, :2] > axes.bbox.min) & (boxes[:, 2:] < axes.bbox.max)).all(1)


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of `boxes` overlap which of `others`: (n, m)."""
    a, b = boxes[:, None], others[None]
    return ((a[..., :2] < b[..., 2:]) & (b[..., :2] < a[..., 2:])).all(2)


def _touch(lines: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which of `lines`, (n, 2, 2), touch which of `boxes`: (n, m). A line touches where it is in both slabs at once."""
    start, step = lines[:, None, 0], lines[:, None, 1] - lines[:, None, 0]
    step = np.where(np.abs(step) < 1e-9, 1e-9, step)
    one, two = (boxes[None, :, :2] - start) / step, (boxes[None, :, 2:] - start) / step
    return np.minimum(one, two).max(2).clip(min=0) <= np.maximum(one, two).min(2).clip(max=1)


def _cross(lines: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of `lines` cross which of `others`: (n, m)."""

    def side(ends: np.ndarray, point: np.ndarray) -> np.ndarray:
        step, way = ends[..., 1, :] - ends[..., 0, :], point - ends[..., 0, :]
        return step[..., 0] * way[..., 1] - step[..., 1] * way[..., 0]

    a, b = lines[:, None], others[None]
    return (side(a, b[..., 0, :]) * side(a, b[..., 1, :]) < 0) & (side(b, a[..., 0, :]) * side(b, a[..., 1, :]) < 0)
