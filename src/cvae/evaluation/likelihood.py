"""Estimate bounds on ln p(x|y) for each image from samples of the posterior.

All are in nats and leave out the Gaussian's constant, as the reconstruction in `cvae.objective` does.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from cvae.compute.seeding import generator
from cvae.compute.threads import in_parallel
from cvae.model import VAE
from cvae.objective import kl_of
from cvae.support.progress import progress

Chunk = tuple[slice, Tensor, Tensor]  # where some images are among all, the images, and their labels

CHUNK = 2**20  # numbers in the widest layer at once: 4 MB, to fit the CPU's cache; results depend on it


def importance_weighted_nll(model: VAE, images: Tensor, labels: Tensor, samples: int, seed: int) -> Tensor:
    """Return the importance-weighted estimate of -ln p(x|y) for `images` (n, image_dims): (n,) float64 on the CPU.

    This is -ln 1/K Σₖ p(x|zₖ,y) p(zₖ) / q(zₖ|x,y), with K = `samples` samples zₖ from q(z|x,y). Its expectation is an
    upper bound on -ln p(x|y) that tightens as K grows; with K = 1 it is the negative ELBO (Burda, Grosse and
    Salakhutdinov 2016, "Importance weighted autoencoders", equation 8).
    """
    nll = torch.empty(len(images), dtype=torch.float64)  # made at once; see `bounds_of_labels`

    def estimate(model: VAE, chunk: Chunk) -> tuple[slice, Tensor]:
        own, x, y = chunk
        terms = _sample_terms(model, x, y, samples, generator(seed, f"importance weights/{own.start}"))
        return own, -_log_mean_exp(torch.cat([log_p_x + log_ratio for log_p_x, log_ratio, _ in terms]))

    with progress("nll", len(images)) as advance:
        for own, values in in_parallel(model, estimate, _chunks(model, images, labels, samples)):
            nll[own] = values
            advance(len(values))
    return nll


def bounds_of_labels(model: VAE, images: Tensor, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the ELBO and the importance-weighted bound on ln p(x|y) for every label y: (n, labels) float64 on the CPU.

    Both use the same `samples` samples of z per image; the KL in the ELBO is in closed form. All labels share the same
    noise, so that they differ only through the model.
    """
    # Made at once: small results between the large tensors of each chunk would keep those from being freed.
    elbos, iw_bounds = torch.empty(2, model.label_count, len(images), dtype=torch.float64)

    def estimate(model: VAE, chunk: Chunk) -> tuple[slice, Tensor, Tensor]:
        own, x, y = chunk
        parts = list(_sample_terms(model, x, y, samples, generator(seed, f"labels/{own.start}")))
        log_p_x, log_ratio = (torch.cat([part[i] for part in parts]) for i in (0, 1))
        elbo = log_p_x.cpu().double().mean(0) - parts[0][2].cpu().double()
        return own, elbo, _log_mean_exp(log_p_x + log_ratio)

    with progress("label_accuracy", model.label_count * len(images)) as advance:
        for label in range(model.label_count):
            labels = torch.full((len(images),), label, device=images.device)
            for own, elbo, iw_bound in in_parallel(model, estimate, _chunks(model, images, labels, samples)):
                elbos[label, own], iw_bounds[label, own] = elbo, iw_bound
                advance(len(elbo))
    return elbos.t(), iw_bounds.t()


def rows_at_once(model: VAE) -> int:
    """Return how many images to encode, or latents to decode, at once, so that the widest layer fits `CHUNK`."""
    return max(
        1, CHUNK // max(model.schema.image_dims, *(size for weight in model.parameters() for size in weight.shape))
    )


def _chunks(model: VAE, images: Tensor, labels: Tensor, samples: int) -> Iterator[Chunk]:
    """Yield a few images at a time, with their labels, and where they are among all."""
    size = max(1, rows_at_once(model) // samples)
    for start in range(0, len(images), size):
        own = slice(start, start + size)
        yield own, images[own], labels[own]


def _sample_terms(
    model: VAE, x: Tensor, y: Tensor, samples: int, numbers: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Sample z from q(z|x,y) `samples` times for each image, k at a time, and yield three terms of the bounds.

    ln p(x|z,y), (k, n); ln p(z) - ln q(z|x,y), (k, n); and KL(q(z|x,y) ‖ p(z)), (n,).
    """
    mu, log_sigma = model.encode(x, y)
    sigma, s = log_sigma.exp(), model.prior_std
    kl = kl_of((sigma.square() + mu.square()).sum(1), log_sigma.sum(1), model.latent_dims, s)
    size = max(1, rows_at_once(model) // len(x))
    for start in range(0, samples, size):
        k = min(size, samples - start)
        noise = torch.randn(k, *mu.shape, generator=numbers).to(mu)
        z = mu + sigma * noise
        log_ratio = (noise.square() / 2 - z.square() / (2 * s**2) + log_sigma - math.log(s)).sum(2)
        yield _log_likelihood(model, x, z, y), log_ratio, kl


def _log_likelihood(model: VAE, x: Tensor, z: Tensor, y: Tensor) -> Tensor:
    """Return ln p(x|z,y), (k, n), for images `x` (n, image_dims), labels `y` (n,), and `z` (k, n, latent_dims)."""
    k = len(z)
    z, y = z.flatten(0, 1), y.repeat(k)
    if model.likelihood == "gaussian":
        return -(model.decode(z, y).view(k, *x.shape) - x).square_().sum(2)
    logits = model.logits(z, y).view(k, *x.shape)
    return torch.einsum("knp,np->kn", logits, x) - F.softplus(logits).sum(2)


def _log_mean_exp(log_weights: Tensor) -> Tensor:
    """Return ln of the mean weight over the first axis, for log weights (k, n): (n,) float64 on the CPU."""
    return log_weights.cpu().double().logsumexp(0) - math.log(len(log_weights))
