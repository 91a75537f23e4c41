"""Show how a model learns: what the decoder made of the same latents in the course of the training."""

from pathlib import Path

import numpy as np
from PIL import Image

from cvae.artifacts.snapshots import read_snapshots
from cvae.data.names import PANELS, spread
from cvae.figures.captions import headline
from cvae.figures.style import image_of, png_bytes, save_images
from cvae.figures.tables import draw_table
from cvae.figures.thumbnails import save_table
from cvae.model import VAE
from cvae.support.files import write_whole

SIZE = 860, 700  # pixels of a picture, about
MOST_BYTES = 2**20  # of the animation
COLUMNS = 10  # images side by side, at most
FRAME, LAST_FRAME = 700, 3000  # milliseconds


def render_learning(model: VAE, snapshots: str | Path, folder: str | Path) -> None:
    """Write learning/0001.png …, named after the epochs, thumbnails of them, and all as an animation, learning.png."""
    folder = Path(folder)
    images, epochs = read_snapshots(snapshots, model.schema.picture_shape)
    labels = spread(model.label_count, PANELS) if model.label_count > 1 else []
    names = [model.schema.classes[label] for label in labels]
    frames = []
    for epoch, table in zip(epochs, images / np.float32(255), strict=True):
        title = headline(model.schema, f"drawn from the same z after epoch {epoch} of {epochs[-1]}")
        arranged, row_names, column_names = arrange(table, names)
        figure = draw_table(arranged, title, row_names, column_names, ink=model.schema.ink, size=SIZE)
        frames.append(image_of(figure))
        save_images(frames[-1:], folder / f"learning/{epoch:04}.png")
        save_table(table, model.schema, folder / f"thumbnails/learning/{epoch:04}.png")
    write_whole({folder / "learning.png": animation(frames)})


def arrange(table: np.ndarray, names: list[str]) -> tuple[np.ndarray, list[str], list[str]]:
    """Return a snapshot, (z, labels, height, width[, 3]), as a table for `draw_table`, and names of rows and columns.

    A few labels are rows, and many continue below the first ones. `names`: of the labels, if there are several.
    """
    if not names:
        return table, [], []
    if len(names) < 5:
        return table.swapaxes(0, 1), names, []
    if len(names) <= COLUMNS:
        return table, [], names
    blank = np.full((len(table), -len(names) % COLUMNS, *table.shape[2:]), np.nan, table.dtype)
    blocks = np.split(np.concatenate((table, blank), axis=1), -(-len(names) // COLUMNS), axis=1)
    return np.concatenate(blocks), [], []


def animation(frames: list[Image.Image]) -> bytes:
    """Return the frames as an animated PNG of at most 1 MiB, if need be in half the size."""
    size = max(frame.width for frame in frames), max(frame.height for frame in frames)
    mode = "L" if all(frame.mode == "L" for frame in frames) else "RGB"
    padded = []
    for frame in frames:
        padded.append(Image.new(mode, size, "white"))
        padded[-1].paste(frame.convert(mode), ((size[0] - frame.width) // 2, size[1] - frame.height))
    durations = [FRAME] * (len(frames) - 1) + [LAST_FRAME]
    options = {"duration": durations, "loop": 0} if len(frames) > 1 else {}
    while len(content := png_bytes(padded, **options)) > MOST_BYTES:
        padded = [frame.reduce(2) for frame in padded]
    return content
