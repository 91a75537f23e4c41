"""Training: the whole data set lives on the device, and nothing waits for the device within an epoch.

Two cores take 80 s for the default run's 46,900 steps; benchmarks/README.md has the measurements.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from cvae.adam import Adam
from cvae.binarisation import redrawn_levels
from cvae.capture import captured
from cvae.datasets import PIXELS, Split
from cvae.devices import products_in, to_device
from cvae.errors import UserError
from cvae.gradients import AutogradGradients, DerivedGradients, serves
from cvae.model import CVAE
from cvae.objective import article_loss, held_out_noise, held_out_sums, means
from cvae.processes import ALONE, Processes
from cvae.seeding import generator
from cvae.weights import WeightVector

STEPS = 500  # of a pass at most: a CUDA graph holds one; an epoch of the default run has 469


def train(
    model: CVAE,
    train_split: Split,
    test_split: Split,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    schedule: str = "constant",
    beta: float,
    seed: int,
    redraw: bool = False,
    precision: str = "float32",
    processes: Processes = ALONE,
) -> Iterator[dict[str, float]]:
    """Train `model` where it lives, and yield a row of figures after each epoch.

    A row: `epoch` from 1; `train_` and `test_` `loss` (reconstruction + beta · KL), `reconstruction` and
    `kl`, means in nats per image; `article_loss`, the article's sum over the training images. Training
    figures are taken as the epoch goes, as the article's are; test figures at its end, with one draw of z
    per image that is the same in every epoch, in float32.

    `batch_size`: images per optimiser step, over all `processes`; each of them yields the same rows.
    `schedule`: of the learning rate, which is `learning_rate` in every epoch or, if "cosine", in the first, and falls
    from there along half a wave towards 0 (Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts).
    `redraw`: train on binary images, drawn in each epoch anew from the grey ones of `train_split`.
    `precision`: of the matrix products.

    Raises:
        UserError: a loss is not finite; the message has the epoch and the part of the loss at fault.
    """
    device = next(model.parameters()).device
    noise = held_out_noise(model, len(test_split), seed).to(device)
    test = [processes.share(part) for part in (*to_device(test_split, device), noise)]
    test_sums = captured(lambda: held_out_sums(model, *test), device)
    kind = DerivedGradients if serves(device, precision) else AutogradGradients
    weights = WeightVector(model)
    adam = Adam(weights, learning_rate)
    inputs = kind.prepare(model, weights, *to_device(train_split, device))
    count, test_count = len(train_split), len(test_split)

    draws = _draws(count, model.latent_dims, batch_size, seed, device)
    drawn = next(draws)
    pixels = _redrawn(inputs[0][:, :PIXELS], train_split, seed) if redraw else None
    gradients = partial(kind, model, weights, beta, inputs)
    passes = {
        size: _Pass(gradients, weights, adam, size, batch_size, model.latent_dims, processes)
        for size in {len(order) for order, _ in drawn}
    }
    for epoch in range(1, epochs + 1):
        if schedule == "cosine":
            adam.learning_rate.fill_(learning_rate * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2)
        if pixels:
            next(pixels)
        with products_in(precision, device):
            pass_sums = [passes[len(order)](order, noise) for order, noise in drawn]
        sums = torch.stack((torch.stack(pass_sums).sum(0), test_sums()))
        processes.sum(sums)
        drawn = next(draws)  # while the device works
        train_sums, held_out = sums.cpu().double()

        row = {
            "epoch": epoch,
            **{f"train_{name}": value for name, value in means(model, train_sums, count, beta).items()},
            **{f"test_{name}": value for name, value in means(model, held_out, test_count, beta).items()},
            "article_loss": float(article_loss(model, train_sums, count)),
        }
        _refuse_non_finite(row, learning_rate)
        yield row


def _draws(
    count: int, latent_dims: int, batch_size: int, seed: int, device: torch.device
) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """For each epoch, the order of the `count` images and a draw of noise for each, in parts of a pass each."""
    shuffles, noises = generator(seed, "shuffles"), generator(seed, "noise")
    while True:
        order = torch.randperm(count, generator=shuffles)
        noise = torch.randn(count, latent_dims, generator=noises)
        if device.type == "cuda":  # from pinned memory, numbers travel while both sides go on
            order, noise = order.pin_memory(), noise.pin_memory()
        yield list(zip(order.split(STEPS * batch_size), noise.split(STEPS * batch_size), strict=True))


def _redrawn(pixels: Tensor, split: Split, seed: int) -> Iterator[None]:
    """Before each epoch, fill `pixels`, (n, 784) float32, with 0 or 1, drawn anew from the grey levels of `split`."""
    grey = torch.tensor(split.images, device=pixels.device)
    for levels in redrawn_levels(split.images.shape, seed):
        pixels.copy_(grey > torch.from_numpy(levels).to(pixels.device))
        yield


class _Pass:
    """An optimiser step for each batch of some images: a whole epoch, or a part of one."""

    def __init__(
        self,
        make_gradients: Callable[..., AutogradGradients | DerivedGradients],
        weights: WeightVector,
        adam: Adam,
        size: int,
        batch_size: int,
        latent_dims: int,
        processes: Processes,
    ):
        device = weights.values.device
        self._order = torch.zeros(size, dtype=torch.int64, device=device)
        self._noise = torch.zeros(size, latent_dims, device=device)
        order, noise = (
            [processes.share(batch) for batch in whole.split(batch_size)] for whole in (self._order, self._noise)
        )
        gradients = make_gradients(order, noise)

        def run() -> Tensor:
            for batch in range(len(order)):
                gradients.step(batch)
                processes.sum(weights.gradient)
                adam.step()
            return gradients.sums()

        # Processes wait for each other between kernels, and one that could not record would leave the rest waiting.
        self._run = captured(run, device) if processes.count == 1 else run

    def __call__(self, order: Tensor, noise: Tensor) -> Tensor:
        """Train on the images `order`, (size,), with `noise`, (size, latent_dims); returns their four sums."""
        pinned = order.is_pinned()  # else the copy has to end before its source is gone
        self._order.copy_(order, non_blocking=pinned)
        self._noise.copy_(noise, non_blocking=pinned)
        return self._run().clone()


def _refuse_non_finite(row: dict[str, float], learning_rate: float) -> None:
    for part in ("train_reconstruction", "train_kl", "test_reconstruction", "test_kl"):
        if not abs(row[part]) < float("inf"):
            raise UserError(
                f"training diverged in epoch {row['epoch']}: {part} is {row[part]}; "
                f"a lower learning_rate (now {learning_rate:g}) is the usual cure"
            )
