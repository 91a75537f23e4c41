"""Draw each kind of picture: samples, a grid across the latents, styles, an interpolation.

Each `draw_…` function returns the figure and a short description.
"""

import math
import textwrap
from typing import TYPE_CHECKING

from cvae.commands.sample.sources import DATA, Origin, open_data
from cvae.support.errors import UserError, suggest
from cvae.tracking.labels import find_class

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from cvae.data.dataset import Split
    from cvae.figures.label_view import LabelView
    from cvae.model import VAE

SAMPLES, STYLES = 16, 10  # of each class, by default
GRID = 20  # images along each side, by default
MOST_IMAGES, MOST_EACH = 1000, 50  # in a table with a row for each class: of all classes, and of one
WIDE = 10  # classes that fit side by side


def choose_class(model: "VAE", label: str | None) -> int | None:
    """Return the class that `--label` names, or None if it was not given.

    Raises:
        UserError: the model has no such class, or no labels.
    """
    classes = model.schema.classes
    if label is None:
        return None
    if not model.label_count:
        raise UserError(f"--label {label}: the model was trained without labels, so no class can be chosen")
    if (found := find_class(label, classes)) is None:
        known = textwrap.shorten(", ".join(classes), 200, placeholder=" …")
        raise UserError(f"--label {label}: the model has no such class; {suggest(label, classes, f'it has {known}')}")
    return found


def count_each(count: int | None, usual: int, classes: int) -> int:
    """Return `count` images of each class, or by default `usual`, if that many fit into a picture of all classes.

    Raises:
        UserError: `count` is too large.
    """
    most = max(1, min(MOST_EACH, MOST_IMAGES // classes))
    if (count or 0) > most:
        raise UserError(f"--count {count}: for all {classes} classes together, use at most {most}")
    return count or min(usual, most)


def draw_samples(model: "VAE", origin: Origin, label: str | None, count: int | None, seed: int) -> "tuple[Figure, str]":
    """Draw samples from the prior: a row for each class, or a square if there is one class or no labels.

    MLflow's served model returns the same images for the same seed and the same rows of labels.
    """
    from cvae.compute.seeding import generator
    from cvae.figures.captions import headline
    from cvae.figures.latent_plane import decode
    from cvae.figures.tables import draw_table
    from cvae.model import sample_prior

    classes, chosen = model.schema.classes, choose_class(model, label)
    each = model.label_count if chosen is None and model.label_count > 1 else 0  # classes with a row of their own
    count = count_each(count, SAMPLES, each) if each else count or SAMPLES
    labels = [chosen or 0] * count if not each else [label for label in range(each) for _ in range(count)]
    images = decode(model, sample_prior(model, len(labels), generator(seed, "samples")).numpy(), labels)
    if each:
        table, row_names = images.reshape(each, count, *images.shape[1:]), classes
    else:
        table, row_names = fill_table(images, choose_columns(count)), ()
    title = headline(model.schema, "samples from the prior", chosen)
    of = " of each class" if each else f" of {classes[chosen]}" if chosen is not None else ""
    figure = draw_table(table, title, row_names, ink=model.schema.ink)
    return figure, f"{count} sample{'s' if count > 1 else ''}{of}, seed {seed}"


def choose_columns(count: int) -> int:
    """Return the columns that leave the fewest gaps, in a table at most four times as wide as high."""
    least = math.isqrt(count - 1) + 1
    return min(range(least, 2 * least + 1), key=lambda columns: -count % columns)


def fill_table(images: "np.ndarray", columns: int) -> "np.ndarray":
    """Arrange `images`, (n, height, width[, 3]), in reading order as a table, with blank ones (NaN) at the end."""
    import numpy as np

    blank = np.full((-len(images) % columns, *images.shape[1:]), np.nan, images.dtype)
    return np.concatenate((images, blank)).reshape(-1, columns, *images.shape[1:])


def draw_grid(
    model: "VAE", origin: Origin, label: str | None, size: int | None, half: float, folder: str | None
) -> "tuple[Figure, str]":
    """Draw the decoder's output over a grid of z, for one class or for each, like plots/manifolds.png.

    A model without labels has one grid.

    Raises:
        UserError: the model has more than two latents, and there are no images of the class to fit a plane to.
    """
    from cvae.data.names import PANELS, spread
    from cvae.figures import captions, views
    from cvae.figures.captions import headline
    from cvae.figures.rendering import overview_size

    chosen, schema = choose_class(model, label), model.schema
    data = None
    if model.latent_dims > 2:
        data = open_data(folder, origin, schema).train
    elif folder is not None:
        raise UserError(f"--data: a grid of a model of {model.latent_dims} latents needs no images")
    labels = [chosen]
    if chosen is None and model.label_count:
        labels = spread(model.label_count, PANELS)
        size = size or overview_size(model, GRID)
    size = size or GRID
    shown = [view_class(model, each, data, size, half) for each in labels]
    what = f"{size if shown[0].is_line else size**2} images across z from -{half:g} to {half:g}"
    title = headline(schema, captions.MANIFOLD, chosen)
    if chosen is None and model.label_count:
        choice = captions.chosen(len(shown), model.label_count)
        overview = views.draw_overview(shown, views.draw_manifold, title + choice)
        return overview, f"{what}, of {len(shown)} classes" if choice else f"{what}, of each class"
    of = "" if chosen is None else f", of {schema.classes[chosen]}"
    return views.draw_one(shown[0], views.draw_manifold, title), f"{what}{of}"


def view_class(model: "VAE", label: int | None, data: "Split | None", size: int, half: float) -> "LabelView":
    """Return the manifold of a class, or of all if it is None, on the plane that fits its images in `data`.

    Up to two latents need no `data`.
    """
    import numpy as np

    from cvae.data.dataset import Split
    from cvae.figures.label_view import view_label
    from cvae.figures.latent_plane import fit_plane

    name = "" if label is None else model.schema.classes[label]
    mu = np.zeros((1, model.latent_dims))
    if data is not None:
        own = np.ones(len(data), bool) if label is None else data.labels == label
        if not own.any():
            raise UserError(
                f"no training image has the label {name}, so no plane fits its latents; use other images with --data"
            )
        mu = encode(model, Split(data.images[own], data.labels[own]))
    plane = fit_plane(mu)
    no_points = np.zeros((0, len(plane.names)))
    return view_label(model, label, name, plane, no_points, reach=half, grid_size=size, grid_range=half)


def encode(model: "VAE", split: "Split") -> "np.ndarray":
    """Return the posterior means of the images of `split`, (n, latent_dims)."""
    import torch

    from cvae.data.tensors import to_device

    with torch.no_grad():
        return model.encode(*to_device(split, torch.device("cpu")))[0].numpy()


def draw_styles(model: "VAE", origin: Origin, count: int | None, seed: int) -> "tuple[Figure, str]":
    """Draw samples z from the prior, each decoded as every class, like plots/styles.png.

    Each z is a row. If the classes are too many to be side by side, each class is a row and each z a column.

    Raises:
        UserError: the model has no labels.
    """
    import numpy as np

    from cvae.compute.seeding import generator
    from cvae.figures.captions import headline
    from cvae.figures.latent_plane import decode
    from cvae.figures.tables import draw_table
    from cvae.model import sample_prior

    classes, labels = model.schema.classes, model.label_count
    if not labels:
        raise UserError("styles: the model was trained without labels; `cvae sample prior` draws samples of it")
    count = count_each(count, STYLES, labels)
    z = sample_prior(model, count, generator(seed, "styles")).numpy()
    images = decode(model, z.repeat(labels, axis=0), np.tile(np.arange(labels), count))
    table = images.reshape(count, labels, *images.shape[1:])
    z_names = ["z = " + ", ".join(f"{value:z.1f}" for value in row) if model.latent_dims <= 2 else "" for row in z]
    if labels <= WIDE:
        row_names, column_names = z_names, [name.replace(" ", "\n", 1) for name in classes]
    else:
        table, row_names, column_names = table.swapaxes(0, 1), classes, [name.replace(", ", ",\n") for name in z_names]
    caption = f"one z from the prior per {'row' if labels <= WIDE else 'column'}, decoded as every class"
    figure = draw_table(table, headline(model.schema, caption), row_names, column_names, ink=model.schema.ink)
    return figure, f"{count} sample{'s' if count > 1 else ''} of z, each decoded as every class, seed {seed}"


def draw_interpolation(
    model: "VAE", origin: Origin, a: int, b: int, count: int, folder: str | None
) -> "tuple[Figure, str]":
    """Draw two test images, and between them the decoder's output along a straight line in z.

    The line connects the posterior means of the images, each under its own label. If the labels differ, there is a row
    for each: the line decoded as this label, beside the image that has this label. A model without labels has one row.

    Raises:
        UserError: the images cannot be read, or there is no image of this number.
    """
    import numpy as np

    from cvae.data.dataset import Split
    from cvae.figures.captions import headline
    from cvae.figures.latent_plane import as_pictures, decode
    from cvae.figures.tables import draw_table

    schema = model.schema
    test = open_data(folder, origin, schema).test
    if (last := max(a, b)) >= len(test):
        raise UserError(f"interpolate {last}: {folder or DATA} has test images 0 to {len(test) - 1:,}")
    ends = Split(test.images[[a, b]], test.labels[[a, b]])
    first, second = encode(model, ends)
    path = first + np.linspace(0, 1, count)[:, None] * (second - first)

    originals = as_pictures(ends.images / 255, schema)
    empty = np.full_like(originals[0], np.nan)
    own = ends.labels.tolist() if model.label_count else [0, 0]
    rows, labels = [], list(dict.fromkeys(own))
    for label in labels:
        start, end = (image if label == its else empty for image, its in zip(originals, own, strict=True))
        rows.append([start, empty, *decode(model, path, label), empty, end])
    title = headline(schema, "between the posterior means of two test images")
    row_names = [f"as {schema.classes[label]}" for label in labels] if model.label_count else ()
    column_names = [f"image {a}", *[""] * (count + 2), f"image {b}"]
    figure = draw_table(np.array(rows), title, row_names, column_names, ink=schema.ink)
    return figure, f"{count} points from test image {a} to {b}"
