"""Collect what the pictures of one class, or of all classes, show."""

from dataclasses import dataclass

import numpy as np

from cvae.figures.latent_plane import Plane, decode_manifold
from cvae.model import VAE


@dataclass(frozen=True)
class LabelView:
    """What the pictures of one label show, on its line (k = 1) or plane (k = 2) through latent space.

    `label`: None if the model has no labels, for a view of all images; `name` is "" then. `points`: sampled latents,
    (n, k). `prior_mean`: (k,). `reach`: scatter axes span ± this. `manifold`: decoded images, `grid_size` in a row,
    tiled into one. `grid_range`: the centres of the outermost tiles are at ± this. `ink`: see `Schema`. In a view of
    all images, `classes` and `point_labels`, (n,), name the class of each point.
    """

    label: int | None
    name: str
    axis_names: tuple[str, ...]
    points: np.ndarray
    prior_mean: np.ndarray
    prior_std: float
    reach: float
    manifold: np.ndarray
    grid_size: int
    grid_range: float
    ink: bool
    classes: tuple[str, ...] = ()
    point_labels: np.ndarray | None = None

    @property
    def is_line(self) -> bool:
        return len(self.axis_names) == 1

    @property
    def manifold_images(self) -> np.ndarray:
        """The images of the manifold in [0, 1], (rows, columns, height, width[, 3]), with one row on a line."""
        rows, columns = 1 if self.is_line else self.grid_size, self.grid_size
        down, across, *colours = self.manifold.shape
        images = self.manifold.reshape(rows, down // rows, columns, across // columns, *colours).swapaxes(1, 2)
        return images / 255 if colours else images


def view_label(
    model: VAE,
    label: int | None,
    name: str,
    plane: Plane,
    points: np.ndarray,
    reach: float,
    grid_size: int,
    grid_range: float,
    point_labels: np.ndarray | None = None,
) -> LabelView:
    """Decode the manifold of `label`, called `name`, across `plane`; `points`, (n, k), are latents on it."""
    return LabelView(
        label=label,
        name=name,
        axis_names=plane.names,
        points=points,
        prior_mean=plane.project(np.zeros((1, model.latent_dims)))[0],
        prior_std=model.prior_std,
        reach=reach,
        manifold=decode_manifold(model, plane, label or 0, grid_size, grid_range),
        grid_size=grid_size,
        grid_range=grid_range,
        ink=model.schema.ink,
        classes=model.schema.classes,
        point_labels=point_labels,
    )
