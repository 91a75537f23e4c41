"""Render all pictures of a trained model: choose what to decode, draw it, and save it under its name."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cvae.artifacts.history import read_history
from cvae.compute.seeding import generator
from cvae.data.dataset import Schema, Split
from cvae.data.names import PANELS, spread
from cvae.figures.captions import LATENTS, MANIFOLD, chosen, headline
from cvae.figures.curves import draw_training
from cvae.figures.label_view import LabelView, view_label
from cvae.figures.latent_plane import decode, fit_plane
from cvae.figures.reconstructions import reconstruct
from cvae.figures.style import save
from cvae.figures.tables import draw_reconstructions, draw_styles, draw_table
from cvae.figures.thumbnails import render_thumbnail
from cvae.figures.views import LEGEND, draw_latents, draw_manifold, draw_one, draw_overview
from cvae.model import VAE, sample_prior
from cvae.support.files import write_whole

RECONSTRUCTIONS = 10  # images per class, or 6 of more than ten classes
STYLES = 10  # samples of z
ACROSS = 10  # images along each side of a manifold in an overview, so that they are large enough there
FRAMED = 0.998  # of all latents are inside the frames of scatters, whose size the outermost would double
SCATTERED = 3_000  # images at most: the page of plots holds a line of JSON for each
KINDS = {"latents": (draw_latents, LATENTS), "manifolds": (draw_manifold, MANIFOLD)}


def label_views(
    model: VAE,
    labels: np.ndarray,
    mu: np.ndarray,
    z: np.ndarray,
    grid_size: int,
    grid_range: float,
    shown: Collection[int] | None = None,
) -> Iterator[LabelView]:
    """Yield what the pictures of each label, or of those `shown`, have in them, from the training images' latents.

    A model without labels has one view, of all images. `labels`: (n,). `mu`, `z`: posterior means and samples,
    (n, latent_dims). The decoder runs once per view, when it is yielded: all views may be too large to keep.
    """
    names = dict(enumerate(model.schema.classes)) if model.label_count else {None: ""}
    planes, points = [], []
    for label in names:
        own = slice(None) if label is None else labels == label
        planes.append(fit_plane(mu[own]))
        points.append(planes[-1].project(z[own]))
    distances = np.concatenate([np.abs(own).max(1) for own in points])
    farthest = float(np.quantile(distances, FRAMED, method="higher"))
    reach = float(np.ceil(4 * max(farthest, 2.2 * model.prior_std)) / 4)
    for (label, name), plane, own in zip(names.items(), planes, points, strict=True):
        if shown is None or label is None or label in shown:
            point_labels = labels if label is None else None
            yield view_label(model, label, name, plane, own, reach, grid_size, grid_range, point_labels)


def overview_views(
    model: VAE, labels: np.ndarray, mu: np.ndarray, z: np.ndarray, grid_size: int, grid_range: float
) -> list[LabelView]:
    """Return the views of an overview, of at most 30 labels."""
    size, shown = overview_size(model, grid_size), spread(len(model.schema.classes), PANELS)
    return [*label_views(model, labels, mu, z, size, grid_range, shown)]


def overview_size(model: VAE, grid_size: int) -> int:
    """Return how many images are along each side of an overview's manifolds: on a plane, fewer than in single ones."""
    return min(grid_size, ACROSS) if model.latent_dims > 1 else grid_size


def render_labels(
    views: Iterable[LabelView], overview: Sequence[LabelView], schema: Schema, folder: str | Path
) -> None:
    """Write latents/ and manifolds/, each with 0.png, 1.png …, and the overviews latents.png and manifolds.png.

    thumbnails/ has small ones of each label. Of a model without labels, the pictures in the folders are all/all.png:
    `dvc plots diff` fails on a folder with names that are numbers and names that are not.
    """
    folder, drawn = Path(folder), dict.fromkeys(KINDS)
    for view in views:
        if view.label is not None:
            render_thumbnail(view, schema, folder / "thumbnails")
        for name, (draw, caption) in KINDS.items():
            title = headline(schema, caption + _remarks([view], name), view.label)
            drawn[name] = draw_one(view, draw, title, drawn[name])
            save(drawn[name], folder / name / f"{'all/all' if view.label is None else view.label}.png")
    is_all = overview[0].label is None
    for name, (draw, caption) in KINDS.items():
        choice = "" if is_all else chosen(len(overview), len(schema.classes), f"; plots/{name} has all")
        title = headline(schema, caption + _remarks(overview, name) + choice)
        save(draw_overview(overview, draw, title), folder / f"{name}.png")


def _remarks(views: Sequence[LabelView], kind: str) -> str:
    """Return what the title of a scatter adds about its frame, and about the colours of all classes."""
    if kind != "latents":
        return ""
    outside = sum(int((np.abs(view.points).max(1) > view.reach).sum()) for view in views)
    count = sum(len(view.points) for view in views)
    remarks = f", except {outside:,} of {count:,} outside the frame" if outside else ""
    if views[0].label is None:
        classes = len(views[0].classes)
        remarks += f", in the colours of their {classes} classes, which the model never saw"
        remarks += "; too many for a legend" if classes > LEGEND else ""
    return remarks


def render_reconstructions(model: VAE, test: Split, path: str | Path) -> None:
    """Draw the first test images of each class above their reconstructions from the posterior mean."""
    schema = model.schema
    labels = spread(len(schema.classes), PANELS)
    count = RECONSTRUCTIONS if len(labels) <= 10 else 6
    originals, reconstructions = (
        images.reshape(len(labels), count, *images.shape[1:])
        for images in reconstruct(model, test, np.repeat(labels, count))
    )
    title = headline(schema, "test images, and their reconstructions below")
    title += chosen(len(labels), len(schema.classes))
    names = [schema.classes[label] for label in labels]
    save(draw_reconstructions(originals, reconstructions, names, title, ink=schema.ink), path)


def decode_styles(model: VAE, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images, (rows, columns, height, width[, 3]), and the z of the rows, (rows, latent_dims).

    Each z is decoded with all labels. Where there are no labels to compare, each image has its own z.
    """
    numbers, labels = generator(seed, "styles"), spread(max(model.label_count, 1), PANELS)
    if len(labels) == 1:
        z = sample_prior(model, STYLES**2, numbers).numpy()
        images = decode(model, z, 0)
        return images.reshape(STYLES, STYLES, *images.shape[1:]), z[::STYLES]
    rows = STYLES if len(labels) >= 5 else STYLES // 2
    z = sample_prior(model, STYLES, numbers).numpy()[:rows]
    images = decode(model, z.repeat(len(labels), axis=0), np.tile(labels, rows))
    return images.reshape(rows, len(labels), *images.shape[1:]), z


def render_styles(model: VAE, images: np.ndarray, z: np.ndarray, path: str | Path) -> None:
    """Draw what `decode_styles` returned: a row for each z, or a table of samples if there are no labels to compare."""
    schema = model.schema
    if model.label_count <= 1:
        save(draw_table(images, headline(schema, "samples from the prior"), ink=schema.ink), path)
        return
    labels = spread(model.label_count, PANELS)
    row_names = [", ".join(f"{value:z.1f}" for value in row) if model.latent_dims <= 2 else "" for row in z]
    title = headline(schema, "one z a row, through all labels") + chosen(len(labels), len(schema.classes))
    names = [schema.classes[label] for label in labels]
    save(draw_styles(images, row_names, names, title, ink=schema.ink), path)


def render_training(history_path: str | Path, schema: Schema, likelihood: str, path: str | Path) -> None:
    """Draw the training curves from plots/training.csv. The title names the `likelihood`, on which nats depend."""
    save(draw_training(read_history(history_path), headline(schema, f"training, {likelihood}")), path)


def write_scatter(labels: np.ndarray, mu: np.ndarray, z: np.ndarray, classes: Sequence[str], path: str | Path) -> None:
    """Write samples z of up to 3,000 images, on one line or plane, for the chart defined in .dvc/plots/latents.json.

    `labels`: (n,). `mu`, `z`: posterior means and samples, (n, latent_dims). The CSV file has one row per image: its
    class, its coordinates axis_1 and axis_2, and their names. On a line, axis_2 is the label: one strip per class.
    """
    picked = np.arange(len(labels))[:SCATTERED]
    if len(np.unique(labels[picked])) < len(np.unique(labels)):  # they are sorted by class
        picked = spread(len(labels), SCATTERED)
    labels, mu, z = labels[picked], mu[picked], z[picked]
    plane = fit_plane(mu)
    names = [name.replace("$", "") for name in plane.names]
    table = pd.DataFrame({"label": np.array(classes)[labels], "axis_1": plane.project(z)[:, 0].round(3)})
    table["axis_2"] = plane.project(z)[:, 1].round(3) if len(names) == 2 else labels
    table["name_1"], table["name_2"] = (*names, "label")[:2]
    write_whole({path: table.to_csv(index=False, lineterminator="\n").encode()})
