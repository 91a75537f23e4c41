"""Render all pictures of a trained model: choose what to decode, draw it, and save it under its name."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cvae.artifacts.history import read_history
from cvae.compute.seeding import generator
from cvae.data.dataset import Split
from cvae.data.tensors import to_device
from cvae.figures import drawing
from cvae.figures.label_view import LabelView, view_label
from cvae.figures.latent_plane import as_pictures, decode, fit_plane
from cvae.figures.style import save
from cvae.model import VAE, sample_prior
from cvae.support.files import write_whole

RECONSTRUCTIONS = 10  # images per label
STYLES = 10  # samples of z
SCATTERED = 3_000  # images at most: the page of plots holds a line of JSON for each


def label_views(
    model: VAE, labels: np.ndarray, mu: np.ndarray, z: np.ndarray, grid_size: int, grid_range: float
) -> list[LabelView]:
    """Return what the pictures of each label show, from the latents of the training images.

    `labels`: (n,). `mu`, `z`: posterior means and samples, (n, latent_dims). The decoder runs once per label.
    """
    planes, points = [], []
    for label in range(len(model.schema.classes)):
        own = labels == label
        planes.append(fit_plane(mu[own]))
        points.append(planes[-1].project(z[own]))
    farthest = max(float(np.abs(p).max(initial=0)) for p in points)
    reach = np.ceil(2 * max(farthest, 2 * model.prior_std)) / 2
    return [
        view_label(model, label, model.schema.classes[label], plane, own, float(reach), grid_size, grid_range)
        for label, (plane, own) in enumerate(zip(planes, points, strict=True))
    ]


def render_labels(views: Sequence[LabelView], title: str, folder: str | Path) -> None:
    """Write latents/ and manifolds/, each with 0.png … 9.png, and the overviews latents.png and manifolds.png."""
    folder = Path(folder)
    for name, draw, caption in (
        ("latents", drawing.draw_latents, "latents of the training images"),
        ("manifolds", drawing.draw_manifold, "what the decoder draws across its latents"),
    ):
        save(drawing.draw_overview(views, draw, f"{title}: {caption}"), folder / f"{name}.png")
        for view in views:
            one = drawing.draw_one(view, draw, f"{title} {view.name}: {caption}")
            save(one, folder / name / f"{view.label}.png")


def render_reconstructions(model: VAE, test: Split, path: str | Path) -> None:
    """Draw the first test images of each label above their reconstructions from the posterior mean."""
    device = next(model.parameters()).device
    schema = model.schema
    shape = schema.shape if schema.shape[2] > 1 else schema.shape[:2]
    originals = np.zeros((len(schema.classes), RECONSTRUCTIONS, *shape))
    reconstructions = np.zeros_like(originals)
    for label in range(len(schema.classes)):
        chosen = np.flatnonzero(test.labels == label)[:RECONSTRUCTIONS]
        x, y = to_device(Split(test.images[chosen], test.labels[chosen]), device)
        with torch.no_grad():
            mu, _ = model.encode(x, y)
        originals[label, : len(x)] = as_pictures(x.cpu().numpy(), schema)
        reconstructions[label, : len(x)] = decode(model, mu.cpu().numpy(), label)
    title = f"{schema.title}: test images, and their reconstructions below"
    save(drawing.draw_reconstructions(originals, reconstructions, schema.classes, title), path)


def render_styles(model: VAE, seed: int, path: str | Path) -> None:
    """Draw images of a few z, sampled from the prior, each decoded with all labels."""
    schema = model.schema
    labels = len(schema.classes)
    z = sample_prior(model, STYLES, generator(seed, "styles")).numpy()
    images = decode(model, z.repeat(labels, axis=0), np.tile(np.arange(labels), STYLES))
    row_names = [", ".join(f"{value:z.1f}" for value in row) if model.latent_dims <= 2 else "" for row in z]
    title = f"{schema.title}: one z a row, through all labels"
    save(drawing.draw_styles(images.reshape(STYLES, labels, *images.shape[1:]), row_names, schema.classes, title), path)


def render_training(history_path: str | Path, title: str, likelihood: str, path: str | Path) -> None:
    """Draw the training curves from plots/training.csv. The title names the `likelihood`, on which nats depend."""
    title = f"{title}: training, {likelihood}"
    save(drawing.draw_training(read_history(history_path), title), path)


def write_scatter(labels: np.ndarray, mu: np.ndarray, z: np.ndarray, classes: Sequence[str], path: str | Path) -> None:
    """Write samples z of the first images, on one line or plane, for the chart defined in .dvc/plots/latents.json.

    `labels`: (n,). `mu`, `z`: posterior means and samples, (n, latent_dims). The CSV file has one row per image: its
    label, its coordinates axis_1 and axis_2, and their names. On a line, axis_2 is the label: one strip per label.
    """
    labels, mu, z = labels[:SCATTERED], mu[:SCATTERED], z[:SCATTERED]
    plane = fit_plane(mu)
    names = [name.replace("$", "") for name in plane.names]
    table = pd.DataFrame({"label": np.array(classes)[labels], "axis_1": plane.project(z)[:, 0].round(3)})
    table["axis_2"] = plane.project(z)[:, 1].round(3) if len(names) == 2 else labels
    table["name_1"], table["name_2"] = (*names, "label")[:2]
    write_whole({path: table.to_csv(index=False, lineterminator="\n").encode()})
