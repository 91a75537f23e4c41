"""Collect what the pictures of one label show."""

from dataclasses import dataclass

import numpy as np

from cvae.figures.latent_plane import Plane, decode_manifold
from cvae.model import VAE


@dataclass(frozen=True)
class LabelView:
    """What the pictures of one label show, on its line (k = 1) or plane (k = 2) through latent space.

    `points`: sampled latents, (n, k). `prior_mean`: (k,). `reach`: scatter axes span ± this. `manifold`: decoded
    images, tiled into one. `grid_range`: the centres of the outermost tiles are at ± this.
    """

    label: int
    name: str
    axis_names: tuple[str, ...]
    points: np.ndarray
    prior_mean: np.ndarray
    prior_std: float
    reach: float
    manifold: np.ndarray
    grid_range: float

    @property
    def is_line(self) -> bool:
        return len(self.axis_names) == 1


def view_label(
    model: VAE,
    label: int,
    name: str,
    plane: Plane,
    points: np.ndarray,
    reach: float,
    grid_size: int,
    grid_range: float,
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
        manifold=decode_manifold(model, plane, label, grid_size, grid_range),
        grid_range=grid_range,
    )
