"""The objective: the negative ELBO of a CVAE, and the article's loss, from the same four sums.

Sums are taken where the model lives; what is made of them (`kl`, `article_loss`, `means`) is arithmetic on
a vector of four, as differentiable as its input.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cvae.compute.seeding import generator
from cvae.model import CVAE

RECONSTRUCTION, SQUARES, LOG_SIGMA, SQUARED_ERROR = range(4)


def objective_sums(model: CVAE, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    """The four sums over a batch from which every figure of the objective follows, on its device: (4,).

    0. reconstruction, Σ -log p(x|z,y) in nats. Of a Gaussian of variance ½, and without its constant of
       784 · ½ ln π an image, this is the article's Σ (x - x̂)²; of a Bernoulli, the cross-entropy.
    1. Σ (σ² + μ²)
    2. Σ ln σ
    3. Σ (x - x̂)² whatever the likelihood, without a gradient

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


def kl(model: CVAE, sums: Tensor, count: int) -> Tensor:
    """Σ KL(q(z|x,y) ‖ N(0, s² I)) in nats over the `count` images behind `sums`, a scalar; s is the prior's.

    Of one dimension: ln(s/σ) + (σ² + μ²) / 2s² - ½ (Kingma and Welling 2014, appendix B, has s = 1).
    """
    constant = (math.log(model.prior_std) - 0.5) * model.latent_dims * count
    return sums[SQUARES] / (2 * model.prior_std**2) - sums[LOG_SIGMA] + constant


def article_loss(model: CVAE, sums: Tensor, count: int) -> Tensor:
    """The article's own loss, a sum over `count` images: Σ (x - x̂)² + Σ (σ² + μ² - ln σ - ½), a scalar."""
    return sums[SQUARED_ERROR] + sums[SQUARES] - sums[LOG_SIGMA] - 0.5 * model.latent_dims * count


def training_loss(model: CVAE, x: Tensor, y: Tensor, noise: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """What training minimises, reconstruction + beta · KL in nats summed over a batch, and its four sums: (), (4,)."""
    sums = objective_sums(model, x, y, noise)
    return sums[RECONSTRUCTION] + beta * kl(model, sums, len(x)), sums


def means(model: CVAE, sums: Tensor, count: int, beta: float) -> dict[str, float]:
    """`loss` = reconstruction + beta · kl, `reconstruction` and `kl`, in nats per image, of `count` images."""
    reconstruction = float(sums[RECONSTRUCTION]) / count
    kl_mean = float(kl(model, sums, count)) / count
    return {"loss": reconstruction + beta * kl_mean, "reconstruction": reconstruction, "kl": kl_mean}


def held_out_noise(model: CVAE, count: int, seed: int) -> Tensor:
    """One draw of noise for each of `count` held-out images, the same whenever they are measured."""
    return torch.randn(count, model.latent_dims, generator=generator(seed, "evaluation"))


@torch.no_grad()
def held_out_sums(model: CVAE, images: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
    """The four sums over all `images` (n, 784), with `noise` from `held_out_noise`: (4,), on their device."""
    size = 1000 if images.device.type == "cpu" else 10_000  # 3 MB of pixels; as few kernels as can be
    batches = zip(images.split(size), labels.split(size), noise.split(size), strict=True)
    return torch.stack([objective_sums(model, *batch) for batch in batches]).sum(0)
