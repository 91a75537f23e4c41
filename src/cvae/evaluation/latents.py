"""How a model uses its latents, dimension by dimension."""

import torch
from torch import Tensor

from cvae.evaluation.likelihood import rows_at_once
from cvae.model import CVAE

ACTIVE_VARIANCE = 0.01
STEPS = 300  # of an integral


@torch.no_grad()
def posteriors(model: CVAE, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """μ and σ of q(z|x,y), (n, latent_dims) each, on the CPU, of `images` (n, 784) with `labels` (n,)."""
    size = rows_at_once(model)
    parts = [model.encode(x, y) for x, y in zip(images.split(size), labels.split(size), strict=True)]
    mu, log_sigma = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    return mu, log_sigma.exp()


def active(mu: Tensor) -> Tensor:
    """Which latents have a posterior mean, a column of `mu` (n, latent_dims), whose variance is above 0.01: bool.

    Source: Burda, Grosse and Salakhutdinov 2016, section 2.4 (A_u > 10⁻²), for a prior of standard deviation 1. The
    threshold is the same under any other prior, so that figures of different `prior_std` do not compare.
    """
    return mu.double().var(0, correction=0) > ACTIVE_VARIANCE


def aggregate_moments(mu: Tensor, sigma: Tensor) -> dict[str, Tensor]:
    """`mean` and `std` of the aggregate posterior of each latent, the mixture of all N(μ, σ²): (latent_dims,)."""
    mu, sigma = mu.double(), sigma.double()
    return {"mean": mu.mean(0), "std": (mu.var(0, correction=0) + sigma.square().mean(0)).sqrt()}


def prior_distance(mu: Tensor, sigma: Tensor, prior_std: float) -> Tensor:
    """How far the aggregate posterior of each latent is from the prior, in the prior's standard deviations.

    The first Wasserstein distance ∫ |F(t) - G(t)| dt between their distribution functions (Vallender 1974), so that a
    shift by one standard deviation is 1; (latent_dims,). The aggregate posterior is the mixture of N(μ, σ²) over all
    rows of `mu` and `sigma`, (n, latent_dims): what the decoder has learnt to draw, while samples come from the prior
    (Makhzani et al. 2016, "Adversarial autoencoders", section 2).
    """
    mu, sigma = mu / prior_std, sigma / prior_std
    distances = []
    for own_mu, own_sigma in zip(mu.t(), sigma.t(), strict=True):
        reach = max(5.0, float((own_mu.abs() + 5 * own_sigma).max()))
        steps = torch.linspace(-reach, reach, STEPS)
        mixture = torch.special.ndtr((steps - own_mu[:, None]) / own_sigma[:, None]).mean(0)
        distances.append(torch.trapezoid((mixture - torch.special.ndtr(steps)).abs(), steps))
    return torch.stack(distances)
