"""Draw each kind of picture: samples, a grid across the latents, styles, an interpolation.

Each `draw_…` function returns the figure and a short description.
"""

import math
from typing import TYPE_CHECKING

from cvae.commands.sample.sources import DATA, Origin, open_data
from cvae.support.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from cvae.data.dataset import Split
    from cvae.figures.label_view import LabelView
    from cvae.model import VAE


def label_names(dataset: str | None) -> tuple[str, ...]:
    return LABEL_NAMES.get(dataset, tuple(map(str, range(LABELS))))


def make_title(dataset: str | None, caption: str, label: int | None = None) -> str:
    """Return a picture's title, for one label or for all."""
    subject = [TITLES.get(dataset, "Label" if label is not None else "")]
    if label is not None:
        subject.append(label_names(dataset)[label])
    return f"{' '.join(subject)}: {caption}" if subject != [""] else caption.capitalize()


def draw_samples(model: "VAE", origin: Origin, digit: int | None, count: int, seed: int) -> "tuple[Figure, str]":
    """Draw samples from the prior: a square for one label, or a row for each of the ten.

    MLflow's served model returns the same images for the same seed and the same rows of digits.
    """
    from cvae.compute.seeding import generator
    from cvae.figures import drawing
    from cvae.figures.latent_plane import decode
    from cvae.model import sample_prior

    names = label_names(origin.dataset)
    labels = [label for label in (range(LABELS) if digit is None else [digit]) for _ in range(count)]
    images = decode(model, sample_prior(model, len(labels), generator(seed, "samples")).numpy(), labels)
    if digit is None:
        table, row_names = images.reshape(LABELS, count, SIDE, SIDE), names
    else:
        columns = choose_columns(count)
        table, row_names = fill_table(images, columns), ()
    title = make_title(origin.dataset, "samples from the prior", digit)
    what = f"{count} sample{'s' if count > 1 else ''} of {'each label' if digit is None else names[digit]}"
    return drawing.draw_table(table, title, row_names), f"{what}, seed {seed}"


def choose_columns(count: int) -> int:
    """Return the columns that leave the fewest gaps, in a table at most four times as wide as high."""
    least = math.isqrt(count - 1) + 1
    return min(range(least, 2 * least + 1), key=lambda columns: -count % columns)


def fill_table(images: "np.ndarray", columns: int) -> "np.ndarray":
    """Arrange `images`, (n, 28, 28), in reading order as (rows, columns, 28, 28), with blank ones at the end."""
    import numpy as np

    blank = np.zeros((-len(images) % columns, SIDE, SIDE), images.dtype)
    return np.concatenate((images, blank)).reshape(-1, columns, SIDE, SIDE)


def draw_grid(
    model: "VAE", origin: Origin, digit: int | None, size: int, half: float, folder: str | None
) -> "tuple[Figure, str]":
    """Draw the decoder's output over a grid of z, for one label or for each, like plots/manifolds.png.

    Raises:
        UserError: the model has more than two latents, and there are no images of the label to fit a plane to.
    """
    from cvae.figures import drawing

    data = None
    if model.latent_dims > 2:
        data, _ = open_data(folder, origin)
    elif folder is not None:
        raise UserError(f"--data: a grid of a model of {model.latent_dims} latents needs no images")
    caption = "what the decoder draws across its latents"
    labels = range(LABELS) if digit is None else [digit]
    views = [view_label(model, origin.dataset, label, data, size, half) for label in labels]
    what = f"{views[0].manifold.size // SIDE**2} images across z from -{half:g} to {half:g}"
    if digit is None:
        title = make_title(origin.dataset, caption)
        return drawing.draw_overview(views, drawing.draw_manifold, title), f"{what}, of each label"
    title = make_title(origin.dataset, caption, digit)
    return drawing.draw_one(views[0], drawing.draw_manifold, title), f"{what}, of {views[0].name}"


def view_label(
    model: "VAE", dataset: str | None, label: int, data: "Split | None", size: int, half: float
) -> "LabelView":
    """Return one label's manifold, on the plane that fits its images in `data`. Up to two latents need no `data`."""
    import numpy as np

    from cvae.data.dataset import Split
    from cvae.figures import label_view
    from cvae.figures.latent_plane import fit_plane

    mu = np.zeros((1, model.latent_dims))
    if data is not None:
        own = data.labels == label
        if not own.any():
            raise UserError(
                f"no training image has label {label}, so no plane fits its latents; use other images with --data"
            )
        mu = encode(model, Split(data.images[own], data.labels[own]))
    plane = fit_plane(mu)
    name, no_points = label_names(dataset)[label], np.zeros((0, len(plane.names)))
    return label_view.view_label(model, label, name, plane, no_points, half, size, half)


def encode(model: "VAE", split: "Split") -> "np.ndarray":
    """Return the posterior means of the images of `split`, (n, latent_dims)."""
    import torch

    from cvae.data.tensors import to_device

    with torch.no_grad():
        return model.encode(*to_device(split, torch.device("cpu")))[0].numpy()


def draw_styles(model: "VAE", origin: Origin, count: int, seed: int) -> "tuple[Figure, str]":
    """Draw a row for each sample z from the prior, decoded as all ten labels, like plots/styles.png."""
    import numpy as np

    from cvae.compute.seeding import generator
    from cvae.figures import drawing
    from cvae.figures.latent_plane import decode
    from cvae.model import sample_prior

    z = sample_prior(model, count, generator(seed, "styles")).numpy()
    images = decode(model, z.repeat(LABELS, axis=0), np.tile(np.arange(LABELS), count))
    row_names = ["z = " + ", ".join(f"{value:z.1f}" for value in row) for row in z] if model.latent_dims <= 2 else ()
    column_names = [name.replace(" ", "\n", 1) for name in label_names(origin.dataset)]
    title = make_title(origin.dataset, "one z from the prior per row, decoded as every label")
    figure = drawing.draw_table(images.reshape(count, LABELS, SIDE, SIDE), title, row_names, column_names)
    return figure, f"{count} samples of z, each decoded as every label, seed {seed}"


def draw_interpolation(
    model: "VAE", origin: Origin, a: int, b: int, count: int, folder: str | None
) -> "tuple[Figure, str]":
    """Draw two test images, and between them the decoder's output along a straight line in z.

    The line connects the posterior means of the images, each under its own label. If the labels differ, there is a row
    for each: the line decoded as this label, beside the image that has this label.

    Raises:
        UserError: the images cannot be read, or there is no image of this number.
    """
    import numpy as np

    from cvae.data.dataset import Split
    from cvae.figures import drawing
    from cvae.figures.latent_plane import decode

    _, test = open_data(folder, origin)
    if (last := max(a, b)) >= len(test):
        raise UserError(f"interpolate {last}: {folder or DATA} has test images 0 to {len(test) - 1:,}")
    ends = Split(test.images[[a, b]], test.labels[[a, b]])
    first, second = encode(model, ends)
    path = first + np.linspace(0, 1, count)[:, None] * (second - first)

    originals, blank = ends.images.reshape(2, SIDE, SIDE) / 255, np.zeros((SIDE, SIDE))
    labels = list(dict.fromkeys(ends.labels.tolist()))
    rows = []
    for label in labels:
        start, end = np.where((ends.labels == label)[:, None, None], originals, blank)
        rows.append([start, blank, *decode(model, path, label), blank, end])
    names, between = label_names(origin.dataset), [""] * (count + 2)
    title = make_title(origin.dataset, "between the posterior means of two test images")
    column_names = [f"image {a}", *between, f"image {b}"]
    figure = drawing.draw_table(np.array(rows), title, [f"as {names[label]}" for label in labels], column_names)
    return figure, f"{count} points from test image {a} to {b}"
