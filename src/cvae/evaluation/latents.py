"""Measure how a model uses each latent dimension."""

import torch
from torch import Tensor

from cvae.evaluation.likelihood import rows_at_once
from cvae.model import VAE

ACTIVE_VARIANCE = 0.01
STEPS = 300  # points of a numerical integral


@torch.no_grad()
def posteriors(model: VAE, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return μ and σ of q(z|x,y), (n, latent_dims) each, on the CPU, for `images` (n, image_dims) and `labels` (n,)."""
    size = rows_at_once(model)
    parts = [model.encode(x, y) for x, y in zip(images.split(size), labels.split(size), strict=True)]
    mu, log_sigma = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    return mu, log_sigma.exp()


def active(mu: Tensor) -> Tensor:
    """Return which latents are active, (latent_dims,) bool: their posterior mean has a variance above 0.01.

    `mu`: posterior means, (n, latent_dims).

    Source: Burda, Grosse and Salakhutdinov 2016, section 2.4 (A_u > 10⁻²), for a prior of standard deviation 1. The
    threshold does not scale with the prior, so do not compare models with different `prior_std`.
    """
    return mu.double().var(0, correction=0) > ACTIVE_VARIANCE


def aggregate_moments(mu: Tensor, sigma: Tensor) -> dict[str, Tensor]:
    """Return `mean` and `std` of each latent's aggregate posterior, the mixture of all N(μ, σ²): (latent_dims,)."""
    mu, sigma = mu.double(), sigma.double()
    return {"mean": mu.mean(0), "std": (mu.var(0, correction=0) + sigma.square().mean(0)).sqrt()}


def prior_distance(mu: Tensor, sigma: Tensor, prior_std: float) -> Tensor:
    """Return how far each latent's aggregate posterior is from the prior, in standard deviations of the prior.

    This is the first Wasserstein distance, ∫ |F(t) - G(t)| dt between the distribution functions (Vallender 1974):
    (latent_dims,), and 1 for a shift by one standard deviation. The aggregate posterior is the mixture of N(μ, σ²) over
    all rows of `mu` and `sigma`, (n, latent_dims). The decoder learns to decode z from it, but samples take z from the
    prior (Makhzani et al. 2016, "Adversarial autoencoders", section 2).
    """
    mu, sigma = mu / prior_std, sigma / prior_std
    distances = []
    for mean, std in zip(mu.t(), sigma.t(), strict=True):
        reach = max(5.0, float((mean.abs() + 5 * std).max()))
        steps = torch.linspace(-reach, reach, STEPS)
        mixture = torch.special.ndtr((steps - mean[:, None]) / std[:, None]).mean(0)
        distances.append(torch.trapezoid((mixture - torch.special.ndtr(steps)).abs(), steps))
    return torch.stack(distances)
