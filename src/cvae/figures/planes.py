"""One label's latents, and what the decoder draws there, on a line or plane that can be looked at.

Latents of one dimension lie on a line, those of two on their own plane. Of more, this is the plane through
the mean of the label's posterior means, along their two principal axes.
"""

from dataclasses import dataclass

import numpy as np
import torch

from cvae.data.idx import SIDE
from cvae.model import CVAE


@dataclass(frozen=True)
class Plane:
    """Where z = centre + coordinates @ axes; k is 1 or 2.

    `centre`: (latent_dims,). `axes`: (k, latent_dims), orthonormal rows. `names`: of the k axes.
    """

    centre: np.ndarray
    axes: np.ndarray
    names: tuple[str, ...]

    def project(self, z: np.ndarray) -> np.ndarray:
        """Coordinates, (n, k), of the latents `z`, (n, latent_dims)."""
        return (z - self.centre) @ self.axes.T

    def lift(self, coordinates: np.ndarray) -> np.ndarray:
        """Latents, (n, latent_dims), at `coordinates`, (n, k)."""
        return self.centre + coordinates @ self.axes


def fit_plane(mu: np.ndarray) -> Plane:
    """The plane that shows latents with posterior means `mu`, (n, latent_dims), best.

    Of the means and not of samples: in a dimension that the model leaves unused, samples vary as much as
    the prior while means hardly vary, so the principal axes of the means are those that say something.
    """
    dims = mu.shape[1]
    if dims <= 2:
        return Plane(np.zeros(dims), np.eye(dims), ("$z_0$", "$z_1$")[:dims])
    mu = mu.astype(np.float64)
    centre = mu.mean(0)
    _, spread, axes = np.linalg.svd(mu - centre, full_matrices=False)
    largest = np.take_along_axis(axes[:2], np.abs(axes[:2]).argmax(1, keepdims=True), 1)
    axes = axes[:2] * np.where(largest < 0, -1, 1)  # a principal axis has no sign of its own
    shares = spread[:2] ** 2 / max(np.sum(spread**2), np.finfo(float).tiny)
    return Plane(
        centre, axes, tuple(f"principal axis {i + 1} of z ({s:.0%} of variance)" for i, s in enumerate(shares))
    )


@torch.no_grad()
def decode(model: CVAE, z: np.ndarray, labels: np.ndarray | int) -> np.ndarray:
    """The decoder's images, (n, 28, 28) in [0, 1], of latents `z`, (n, latent_dims), in one call."""
    device = next(model.parameters()).device
    z = torch.tensor(z, dtype=torch.float32, device=device)
    labels = torch.tensor(labels, dtype=torch.int64, device=device).expand(len(z))
    return model.decode(z, labels).cpu().numpy().reshape(-1, SIDE, SIDE)


def decode_manifold(model: CVAE, plane: Plane, label: int, grid_size: int, grid_range: float) -> np.ndarray:
    """Images decoded on a lattice over [-grid_range, grid_range] on each axis of `plane`, tiled into one.

    Shape: (rows · 28, grid_size · 28), where rows is 1 on a line and grid_size on a plane. The second axis
    points upwards: the bottom row of tiles is at -grid_range.
    """
    steps = np.linspace(-grid_range, grid_range, grid_size)
    if len(plane.axes) == 1:
        coordinates = steps[:, None]
    else:
        x, y = np.meshgrid(steps, steps[::-1])
        coordinates = np.stack((x.ravel(), y.ravel()), axis=1)
    return tile(decode(model, plane.lift(coordinates), label), columns=grid_size)


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Lay `images`, (rows · columns, h, w), out in reading order as one image, (rows · h, columns · w)."""
    _, height, width = images.shape
    return images.reshape(-1, columns, height, width).swapaxes(1, 2).reshape(-1, columns * width)
