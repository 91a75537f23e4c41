"""Give all pictures the same settings and colours, and save them.

No user's settings change a picture: `STYLE` sets everything that a matplotlibrc could change. Nor does drawing change
the caller's settings: pyplot is not used, so its backend stays as it was.
"""
# ruff: noqa: E402  MPLBACKEND must be removed before matplotlib is imported

import io
import locale
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from cvae.support.errors import UserError

# Notebooks set MPLBACKEND, and importing matplotlib fails if the backend it names is not installed.
_backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib
except (UnicodeError, locale.Error) as error:
    raise UserError(f"your matplotlibrc or your locale keeps matplotlib from starting ({error}); correct it") from None
if _backend is not None:
    os.environ["MPLBACKEND"] = _backend
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = _backend

import matplotlib.style
import numpy as np
import seaborn as sns
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.textpath import text_to_path
from PIL import Image

from cvae.support.files import write_whole

# Black ink on white, and grey as it is. Resampled, since a matplotlibrc's image.lut sets the number of grey levels.
INK, GREY = (matplotlib.colormaps[name].resampled(256) for name in ("gray_r", "gray"))
COLOURS = [*sns.color_palette("tab10"), *sns.color_palette("dark")]  # of labels; start again after the last

# DejaVu comes with matplotlib. The others, if installed, serve only for letters that it lacks.
FONTS = ["DejaVu Sans"]
FONTS += [
    name
    for name in ("Noto Sans CJK SC", "WenQuanYi Zen Hei", "Hiragino Sans GB", "Microsoft YaHei", "Arial Unicode MS")
    if name in font_manager.get_font_names()
]
with matplotlib.style.context("default"):
    # Without titley, matplotlib lays out all ticks once more to see whether they are in the title's way.
    settings = {"figure.dpi": 100, "savefig.dpi": 100, "axes.titley": 1.0}
    sns.set_theme("notebook", "whitegrid", color_codes=False, rc=settings)
    matplotlib.rcParams["font.family"] = FONTS
    STYLE = {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if "backend" not in key}

in_style = matplotlib.rc_context(STYLE)  # decorates drawing and saving: some settings act only in one
warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")  # `mention_missing_letters` says it once


def mention_missing_letters(texts: Iterable[str]) -> None:
    """Print one line if `texts`, such as the names of classes, have letters that no font has. Pictures show boxes."""
    known = set().union(*(font_manager.get_font(font_manager.findfont(name)).get_charmap() for name in FONTS))
    if missing := sorted({letter for letter in "".join(texts) if ord(letter) not in known}):
        letters = " ".join(missing[:10]) + (" …" if missing[10:] else "")
        print(f"No font here has {letters}, so pictures show boxes instead; Debian's package fonts-noto-cjk has many")


def shades(ink: bool) -> dict[str, object]:
    """Return how matplotlib shows grey images. It shows colours as they are."""
    return {"cmap": INK if ink else GREY, "vmin": 0, "vmax": 1}


def text_width(line: str, size: float) -> float:
    """Return how many pixels wide `line` is at `size` points."""
    font = font_manager.FontProperties(family=FONTS, size=size)
    return text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] * 100 / 72


def fit(text: str, width: float, size: float, lines: int = 1) -> str:
    """Return `text` in at most `lines` lines of `width` pixels, at `size` points, with … where something is left out.

    A line break stays one, and dollar signs begin no formula.
    """
    fitted = []
    for paragraph in text.split("\n"):
        words = paragraph.split(" ")
        fitted.append(words[0])
        for word in words[1:]:
            longer = f"{fitted[-1]} {word}"
            if text_width(longer, size) <= width or len(fitted) >= lines:
                fitted[-1] = longer
            else:
                fitted.append(word)
    for number, line in enumerate(fitted):
        if text_width(line, size) > width:
            while len(line) > 1 and text_width(f"{line}…", size) > width:
                line = line[:-1]
            fitted[number] = f"{line.rstrip()}…"
    return "\n".join(fitted).replace("$", r"\$")


def new_figure(**options: object) -> Figure:
    """Return an empty figure that uses the Agg backend, whatever pyplot's backend is."""
    figure = Figure(**options)
    FigureCanvasAgg(figure)
    return figure


@in_style
def save(figure: Figure, path: str | Path) -> None:
    """Write `figure` to `path` as a PNG; the same picture gives the same bytes."""
    save_images([image_of(figure)], path)


@in_style
def image_of(figure: Figure) -> Image.Image:
    """Draw `figure` as an image, grey if it has no colours."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    is_grey = (pixels == pixels[..., :1]).all()
    return Image.fromarray(pixels[..., 0] if is_grey else pixels)


def save_images(frames: Sequence[Image.Image], path: str | Path, **options: object) -> None:
    """Write a PNG, animated if there are several `frames`; the same frames give the same bytes."""
    write_whole({path: png_bytes(frames, **options)})


def png_bytes(frames: Sequence[Image.Image], **options: object) -> bytes:
    """Return the content of such a PNG; `options` are those of Pillow."""
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=len(frames) > 1, append_images=frames[1:], **options)
    return buffer.getvalue()
