"""Render all pictures of a trained model: choose what to decode, draw it, and save it under its name."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cvae.artifacts.history import read_history
from cvae.compute.seeding import generator
from cvae.data.dataset import Schema, Split
from cvae.data.tensors import to_device
from cvae.figures.captions import LATENTS, MANIFOLD, PANELS, chosen, headline, spread
from cvae.figures.curves import draw_training
from cvae.figures.label_view import LabelView, view_label
from cvae.figures.latent_plane import as_pictures, decode, fit_plane
from cvae.figures.style import save
from cvae.figures.tables import draw_reconstructions, draw_styles, draw_table
from cvae.figures.views import LEGEND, draw_latents, draw_manifold, draw_one, draw_overview
from cvae.model import VAE, sample_prior
from cvae.support.files import write_whole

RECONSTRUCTIONS = 10  # images per class, or 6 of more than ten classes
STYLES = 10  # samples of z
SCATTERED = 3_000  # images at most: the page of plots holds a line of JSON for each
KINDS = {"latents": (draw_latents, LATENTS), "manifolds": (draw_manifold, MANIFOLD)}


def label_views(
    model: VAE, labels: np.ndarray, mu: np.ndarray, z: np.ndarray, grid_size: int, grid_range: float
) -> Iterator[LabelView]:
    """Yield what the pictures of each label show, from the latents of the training images.

    A model without labels has one view, of all images. `labels`: (n,). `mu`, `z`: posterior means and samples,
    (n, latent_dims). The decoder runs once per view, when it is yielded: all views may be too large to keep.
    """
    names = dict(enumerate(model.schema.classes)) if model.label_count else {None: ""}
    planes, points = [], []
    for label in names:
        own = slice(None) if label is None else labels == label
        planes.append(fit_plane(mu[own]))
        points.append(planes[-1].project(z[own]))
    farthest = max(float(np.abs(p).max(initial=0)) for p in points)
    reach = float(np.ceil(2 * max(farthest, 2 * model.prior_std)) / 2)
    for (label, name), plane, own in zip(names.items(), planes, points, strict=True):
        point_labels = labels if label is None else None
        yield view_label(model, label, name, plane, own, reach, grid_size, grid_range, point_labels)


def render_labels(views: Iterable[LabelView], schema: Schema, folder: str | Path) -> None:
    """Write latents/ and manifolds/, each with 0.png, 1.png …, and the overviews latents.png and manifolds.png.

    Of a model without labels, the pictures in the folders are all/all.png: `dvc plots diff` fails on a folder with
    names that are numbers and names that are not.
    """
    folder, overview = Path(folder), []
    for view in views:
        is_all = view.label is None
        if is_all or view.label in spread(len(schema.classes), PANELS):
            overview.append(view)
        for name, (draw, caption) in KINDS.items():
            picture = draw_one(view, draw, headline(schema, caption + _colours(view, name), view.label))
            save(picture, folder / name / f"{'all/all' if is_all else view.label}.png")
    for name, (draw, caption) in KINDS.items():
        choice = "" if is_all else chosen(len(overview), len(schema.classes), f"; plots/{name} has all")
        title = headline(schema, caption + _colours(view, name) + choice)
        save(draw_overview(overview, draw, title), folder / f"{name}.png")


def _colours(view: LabelView, kind: str) -> str:
    """Return what a title adds about the colours of a scatter of all classes."""
    if view.label is not None or kind != "latents":
        return ""
    legend = "; too many for a legend" if len(view.classes) > LEGEND else ""
    return f", in the colours of their {len(view.classes)} classes, which the model never saw{legend}"


def render_reconstructions(model: VAE, test: Split, path: str | Path) -> None:
    """Draw the first test images of each class above their reconstructions from the posterior mean."""
    device = next(model.parameters()).device
    schema = model.schema
    labels = spread(len(schema.classes), PANELS)
    count = RECONSTRUCTIONS if len(labels) <= 10 else 6
    blank = as_pictures(np.full((1, schema.image_dims), np.nan), schema)
    originals = np.stack([blank.repeat(count, axis=0)] * len(labels))
    reconstructions = originals.copy()
    for row, label in enumerate(labels):
        picked = np.flatnonzero(test.labels == label)[:count]
        x, y = to_device(Split(test.images[picked], test.labels[picked]), device)
        with torch.no_grad():
            mu, _ = model.encode(x, y)
        originals[row, : len(x)] = as_pictures(x.cpu().numpy(), schema)
        reconstructions[row, : len(x)] = decode(model, mu.cpu().numpy(), label)
    title = headline(schema, "test images, and their reconstructions below")
    title += chosen(len(labels), len(schema.classes))
    names = [schema.classes[label] for label in labels]
    save(draw_reconstructions(originals, reconstructions, names, title, ink=schema.ink), path)


def render_styles(model: VAE, seed: int, path: str | Path) -> None:
    """Draw images of a few z, sampled from the prior, each decoded with all labels.

    Where there are no labels to compare, draw a table of samples.
    """
    schema, numbers = model.schema, generator(seed, "styles")
    if model.label_count <= 1:
        images = decode(model, sample_prior(model, STYLES**2, numbers).numpy(), 0)
        images = images.reshape(STYLES, STYLES, *images.shape[1:])
        save(draw_table(images, headline(schema, "samples from the prior"), ink=schema.ink), path)
        return
    labels = spread(model.label_count, PANELS)
    rows = STYLES if len(labels) >= 5 else STYLES // 2
    z = sample_prior(model, STYLES, numbers).numpy()[:rows]
    images = decode(model, z.repeat(len(labels), axis=0), np.tile(labels, rows))
    images = images.reshape(rows, len(labels), *images.shape[1:])
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
