"""Bounds on log p(x|y) from samples of the posterior, image by image.

All are in nats and without the Gaussian's constant, as the reconstruction of `cvae.objective` is.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from cvae.compute.seeding import generator
from cvae.data.idx import LABELS, PIXELS
from cvae.model import CVAE
from cvae.support.progress import progress

CHUNK = 2**20  # numbers in the widest layer at once: 4 MB, which caches hold; the noise drawn depends on it


@torch.no_grad()
def importance_weighted_nll(model: CVAE, images: Tensor, labels: Tensor, samples: int, seed: int) -> Tensor:
    """-ln of the importance-weighted estimate of p(x|y), (n,) float64 on the CPU, of `images` (n, 784).

    -ln 1/K Σₖ p(x|zₖ,y) p(zₖ) / q(zₖ|x,y) with K = `samples` draws of z from q(z|x,y): in expectation an upper bound
    of -ln p(x|y), that tightens as K grows; with K = 1, the negative ELBO (Burda, Grosse and Salakhutdinov 2016,
    "Importance weighted autoencoders", equation 8).
    """
    numbers = generator(seed, "importance weights")
    parts = []
    with progress("nll", len(images)) as advance:
        for x, y in _chunks(model, images, labels, samples):
            weights = [log_p_x + log_ratio for log_p_x, log_ratio, _ in _sampled(model, x, y, samples, numbers)]
            parts.append(_log_mean_exp(torch.cat(weights)))
            advance(len(x))
    return -torch.cat(parts)


@torch.no_grad()
def bounds_of_labels(model: CVAE, images: Tensor, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """The ELBO and the importance-weighted bound of ln p(x|y) for each label y, (n, 10) float64 each, on the CPU.

    Both from the same `samples` draws; the ELBO has its KL in closed form. Labels share their noise, so that they
    differ by what the model makes of them alone.
    """
    elbos, tighter = [], []
    with progress("label_accuracy", LABELS * len(images)) as advance:
        for label in range(LABELS):
            numbers = generator(seed, "labels")
            for x, y in _chunks(model, images, torch.full((len(images),), label, device=images.device), samples):
                parts = list(_sampled(model, x, y, samples, numbers))
                log_p_x, log_ratio = (torch.cat([part[i] for part in parts]) for i in (0, 1))
                elbos.append(log_p_x.cpu().double().mean(0) - parts[0][2].cpu().double())
                tighter.append(_log_mean_exp(log_p_x + log_ratio))
                advance(len(x))
    return torch.cat(elbos).view(LABELS, -1).t(), torch.cat(tighter).view(LABELS, -1).t()


def rows_at_once(model: CVAE) -> int:
    """How many images to encode, or z to decode, at once: as many as fit `CHUNK` in the widest layer of the model."""
    return max(1, CHUNK // max(PIXELS, *(size for weight in model.parameters() for size in weight.shape)))


def _chunks(model: CVAE, images: Tensor, labels: Tensor, samples: int) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(1, rows_at_once(model) // samples)
    yield from zip(images.split(size), labels.split(size), strict=True)


def _sampled(
    model: CVAE, x: Tensor, y: Tensor, samples: int, numbers: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For `samples` draws of z for each image, in parts of k: ln p(x|z,y) and ln p(z) - ln q(z|x,y), (k, n) each;
    and KL(q(z|x,y) ‖ p(z)), (n,).
    """
    mu, log_sigma = model.encode(x, y)
    sigma, s = log_sigma.exp(), model.prior_std
    kl = ((sigma.square() + mu.square()) / (2 * s**2) - log_sigma + (math.log(s) - 0.5)).sum(1)
    size = max(1, rows_at_once(model) // len(x))
    for start in range(0, samples, size):
        k = min(size, samples - start)
        noise = torch.randn(k, *mu.shape, generator=numbers).to(mu)
        z = mu + sigma * noise
        log_ratio = (noise.square() / 2 - z.square() / (2 * s**2) + log_sigma - math.log(s)).sum(2)
        yield _log_likelihood(model, x, z, y), log_ratio, kl


def _log_likelihood(model: CVAE, x: Tensor, z: Tensor, y: Tensor) -> Tensor:
    """ln p(x|z,y), (k, n), of images `x` (n, 784) with labels `y` (n,), for k samples `z` (k, n, latent_dims)."""
    k = len(z)
    z, y = z.flatten(0, 1), y.repeat(k)
    if model.likelihood == "gaussian":
        return -(model.decode(z, y).view(k, *x.shape) - x).square_().sum(2)
    logits = model.logits(z, y).view(k, *x.shape)
    return torch.einsum("knp,np->kn", logits, x) - F.softplus(logits).sum(2)


def _log_mean_exp(log_weights: Tensor) -> Tensor:
    """Over the first axis, of (k, n) log weights: (n,) float64 on the CPU."""
    return log_weights.cpu().double().logsumexp(0) - math.log(len(log_weights))
