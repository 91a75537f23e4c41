"""Read matplotlib figures back."""

import numpy as np
from matplotlib.axes import Axes
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
