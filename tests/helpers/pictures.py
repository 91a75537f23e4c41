"""Read matplotlib figures back."""

from functools import lru_cache
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text


def lines_of(axes: Axes) -> list[np.ndarray]:
    """Return the points of each line with error bars, (n, 2)."""
    return [bars.lines[0].get_xydata() for bars in axes.containers]


def legends_of(axes: Axes) -> list[Legend]:
    """Return the legends, the one closest to the axes first."""
    return [child for child in axes.get_children() if isinstance(child, Legend)]


def entries_of(axes: Axes) -> list[list[str]]:
    """Return the text of each legend, the one closest to the axes first."""
    return [[text.get_text() for text in legend.get_texts()] for legend in legends_of(axes)]


def ticks_of(axes: Axes) -> list[Text]:
    """Return the visible tick labels of the horizontal axis."""
    low, high = axes.get_xlim()
    return [text for text in axes.get_xticklabels() if low <= text.get_position()[0] <= high]


@lru_cache(30)
def texts_of(figure: Figure) -> list[Text]:
    """Return every text that is drawn."""
    figure.draw_without_rendering()
    texts = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        texts += [axes.title, *axes.texts]
        for axis in (axes.xaxis, axes.yaxis):
            texts += [axis.label, *(tick.label1 for tick in axis._update_ticks())]  # those that are in view
    return [text for text in texts if text.get_visible() and text.get_text()]


def assert_legible(figure: Figure) -> None:
    """No text is cut off at the figure's edge, and no two texts overlap. Slanted texts may cover a corner."""
    texts = texts_of(figure)
    boxes = {text: text.get_window_extent() for text in texts}
    width, height = figure.canvas.get_width_height()
    for text, box in boxes.items():
        assert -1 <= box.x0 <= box.x1 <= width + 1, text
        assert -1 <= box.y0 <= box.y1 <= height + 1, text
    level = [text for text in texts if text.get_rotation() in (0, 90)]
    for one, other in combinations(level, 2):
        a, b = boxes[one], boxes[other]
        assert min(a.x1, b.x1) - max(a.x0, b.x0) < 1 or min(a.y1, b.y1) - max(a.y0, b.y0) < 1, (one, other)
