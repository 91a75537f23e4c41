"""Choose a line or plane through latent space that a picture can show, and decode images on it.

One or two latents are shown as they are. For more, use the plane through the mean of a label's posterior means, along
their two principal axes.
"""

from dataclasses import dataclass

import numpy as np
import torch

from cvae.data.dataset import Schema
from cvae.model import VAE


@dataclass(frozen=True)
class Plane:
    """A line (k = 1) or plane (k = 2) through latent space: z = centre + coordinates @ axes.

    `centre`: (latent_dims,). `axes`: (k, latent_dims), orthonormal rows. `names`: names of the k axes.
    """

    centre: np.ndarray
    axes: np.ndarray
    names: tuple[str, ...]

    def project(self, z: np.ndarray) -> np.ndarray:
        """Return the coordinates, (n, k), of latents `z`, (n, latent_dims)."""
        return (z - self.centre) @ self.axes.T

    def lift(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the latents, (n, latent_dims), at `coordinates`, (n, k)."""
        return self.centre + coordinates @ self.axes


def fit_plane(mu: np.ndarray) -> Plane:
    """Return the plane that best shows latents with posterior means `mu`, (n, latent_dims).

    This uses means, not samples. In a dimension that the model does not use, samples vary as much as the prior, but
    means hardly vary, so the principal axes of the means are the informative ones. Fewer than two means leave the axes
    open: any will do.
    """
    dims = mu.shape[1]
    if dims <= 2:
        return Plane(np.zeros(dims), np.eye(dims), ("$z_0$", "$z_1$")[:dims])
    mu = mu.astype(np.float64)
    centre = mu.mean(0) if len(mu) else np.zeros(dims)
    deviations = np.concatenate((mu - centre, np.zeros((max(2 - len(mu), 0), dims))))
    _, spread, axes = np.linalg.svd(deviations, full_matrices=False)
    largest = np.take_along_axis(axes[:2], np.abs(axes[:2]).argmax(1, keepdims=True), 1)
    axes = axes[:2] * np.where(largest < 0, -1, 1)  # the sign of a principal axis is arbitrary
    shares = spread[:2] ** 2 / max(np.sum(spread**2), np.finfo(float).tiny)
    return Plane(
        centre, axes, tuple(f"principal axis {i + 1} of z ({s:.0%} of variance)" for i, s in enumerate(shares))
    )


@torch.no_grad()
def decode(model: VAE, z: np.ndarray, labels: np.ndarray | int) -> np.ndarray:
    """Decode latents `z`, (n, latent_dims), in one call to pictures, (n, height, width[, 3]) in [0, 1]."""
    device = next(model.parameters()).device
    z = torch.tensor(z, dtype=torch.float32, device=device)
    labels = torch.tensor(labels, dtype=torch.int64, device=device).expand(len(z))
    return as_pictures(model.decode(z, labels).cpu().numpy(), model.schema)


def decode_manifold(model: VAE, plane: Plane, label: int, grid_size: int, grid_range: float) -> np.ndarray:
    """Decode a grid of points over [-grid_range, grid_range] on each axis of `plane`, and tile the images into one.

    Shape: (rows · height, grid_size · width[, 3]), where rows is 1 on a line and grid_size on a plane. The second axis
    points upwards: the bottom row of tiles is at -grid_range. Values are in [0, 1], or colours from 0 to 255, since an
    overview holds many manifolds at once.
    """
    steps = np.linspace(-grid_range, grid_range, grid_size)
    if len(plane.axes) == 1:
        coordinates = steps[:, None]
    else:
        x, y = np.meshgrid(steps, steps[::-1])
        coordinates = np.stack((x.ravel(), y.ravel()), axis=1)
    tiles = tile(decode(model, plane.lift(coordinates), label), columns=grid_size)
    return np.rint(tiles * 255).astype(np.uint8) if tiles.ndim == 3 else tiles


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Arrange `images`, (rows · columns, h, w[, 3]), in reading order as one image, (rows · h, columns · w[, 3])."""
    rows = [np.concatenate(list(row), axis=1) for row in images.reshape(-1, columns, *images.shape[1:])]
    return np.concatenate(rows)


def as_pictures(images: np.ndarray, schema: Schema) -> np.ndarray:
    """Return `images`, (n, image_dims), as (n, height, width), or as (n, height, width, 3) if they have colours."""
    return images.reshape(-1, *schema.picture_shape)
