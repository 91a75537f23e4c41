"""The objective: the negative ELBO of a (conditional) VAE, and the article's loss.

Both follow from the same four sums over a batch, computed on the model's device. `kl`, `article_loss` and
`training_loss` are arithmetic on those four numbers, so gradients flow through them.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cvae.compute.seeding import generator
from cvae.model import VAE

RECONSTRUCTION, SQUARES, LOG_SIGMA, SQUARED_ERROR = range(4)


def objective_sums(model: VAE, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    """Return the four sums over a batch that every loss is computed from, (4,) on the batch's device.

    0. `RECONSTRUCTION`: Σ -log p(x|z,y) in nats. For the Gaussian (variance ½, without its constant of ½ ln π
       per value) this is the article's Σ (x - x̂)²; for the Bernoulli it is the cross-entropy.
    1. `SQUARES`: Σ (σ² + μ²)
    2. `LOG_SIGMA`: Σ ln σ
    3. `SQUARED_ERROR`: Σ (x - x̂)² for either likelihood, without a gradient

    `noise`: (n, latent_dims) from N(0, I); z = μ + σ · noise (Kingma and Welling 2014, section 2.4).
    """
    mu, log_sigma = model.encode(x, y)
    sigma = log_sigma.exp()
    z = mu + sigma * noise
    if model.likelihood == "gaussian":
        reconstruction = squared_error = (model.decode(z, y) - x).square().sum()
    else:
        logits = model.logits(z, y)
        squared_error = (torch.sigmoid(logits) - x).square().sum()
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    squares = (sigma.square() + mu.square()).sum()
    return torch.stack((reconstruction, squares, log_sigma.sum(), squared_error.detach()))


def kl(model: VAE, sums: Tensor, count: int) -> Tensor:
    """Return Σ KL(q(z|x,y) ‖ N(0, prior_std² I)) in nats over the `count` images behind `sums`, a scalar."""
    return kl_of(sums[SQUARES], sums[LOG_SIGMA], model.latent_dims * count, model.prior_std)


def kl_of(squares: Tensor, log_sigma: Tensor, terms: int, s: float) -> Tensor:
    """Return KL(N(μ, σ²) ‖ N(0, s²)) in nats, summed over `terms` pairs of μ and σ.

    `squares`: Σ (σ² + μ²) over them. `log_sigma`: Σ ln σ. One pair contributes ln(s/σ) + (σ² + μ²) / 2s² - ½ (Kingma
    and Welling 2014, appendix B, for s = 1).
    """
    return squares / (2 * s**2) - log_sigma + (math.log(s) - 0.5) * terms


def article_loss(model: VAE, sums: Tensor, count: int) -> Tensor:
    """Return the article's loss summed over `count` images: Σ (x - x̂)² + Σ (σ² + μ² - ln σ - ½), a scalar."""
    return sums[SQUARED_ERROR] + sums[SQUARES] - sums[LOG_SIGMA] - 0.5 * model.latent_dims * count


def training_loss(model: VAE, x: Tensor, y: Tensor, noise: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Return the loss to minimise, reconstruction + beta · KL in nats summed over a batch, and the sums: (), (4,)."""
    sums = objective_sums(model, x, y, noise)
    return sums[RECONSTRUCTION] + beta * kl(model, sums, len(x)), sums


def means(model: VAE, sums: Tensor, count: int, beta: float) -> dict[str, float]:
    """Return `loss` (reconstruction + beta · kl), `reconstruction` and `kl`, means over `count` images in nats."""
    reconstruction = float(sums[RECONSTRUCTION]) / count
    kl_mean = float(kl(model, sums, count)) / count
    return {"loss": reconstruction + beta * kl_mean, "reconstruction": reconstruction, "kl": kl_mean}


def held_out_noise(model: VAE, count: int, seed: int) -> Tensor:
    """Sample one noise vector for each of `count` held-out images: (count, latent_dims), fixed by the seed."""
    return torch.randn(count, model.latent_dims, generator=generator(seed, "evaluation"))


@torch.no_grad()
def held_out_sums(model: VAE, images: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
    """Return the four sums over all `images`, (n, image_dims), with `noise` from `held_out_noise`: (4,) on its device.

    1,000 images of MNIST at a time fit a CPU's cache; a GPU takes more, and so fewer kernels.
    """
    size = max(1, (784_000 if images.device.type == "cpu" else 7_840_000) // model.schema.image_dims)
    batches = zip(images.split(size), labels.split(size), noise.split(size), strict=True)
    return torch.stack([objective_sums(model, *batch) for batch in batches]).sum(0)
