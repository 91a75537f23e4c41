"""Training: the whole data set lives on the device, and nothing waits for the device within an epoch."""

from collections.abc import Iterator

import torch

from cvae.datasets import Split
from cvae.devices import to_device
from cvae.errors import UserError
from cvae.model import CVAE
from cvae.objective import article_loss, held_out_sums, kl, means, objective_sums
from cvae.seeding import generator


def train(
    model: CVAE,
    train_split: Split,
    test_split: Split,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    beta: float,
    seed: int,
) -> Iterator[dict[str, float]]:
    """Train `model` where it lives, and yield a row of figures after each epoch.

    A row: `epoch` from 1; `train_` and `test_` `loss` (reconstruction + beta · KL), `reconstruction` and
    `kl`, means in nats per image; `article_loss`, the article's sum over the training images. Training
    figures are taken as the epoch goes, as the article's are; test figures at its end, with one draw of z
    per image that is the same in every epoch.

    Raises:
        UserError: a loss is not finite; the message has the epoch and the part of the loss at fault.
    """
    device = next(model.parameters()).device
    images, labels = to_device(train_split, device)
    test_images, test_labels = to_device(test_split, device)
    count = len(labels)
    shuffles, noises = generator(seed, "shuffles"), generator(seed, "noise")
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=device.type in ("cpu", "cuda"))

    for epoch in range(1, epochs + 1):
        order = torch.randperm(count, generator=shuffles).to(device)
        noise = torch.randn(count, model.latent_dims, generator=noises).to(device)
        batch_sums = []
        for batch, batch_noise in zip(order.split(batch_size), noise.split(batch_size), strict=True):
            sums = objective_sums(model, images[batch], labels[batch], batch_noise)
            optimiser.zero_grad()
            (sums[0] + beta * kl(model, sums, len(batch))).backward()
            optimiser.step()
            batch_sums.append(sums.detach())
        train_sums = torch.stack(batch_sums).cpu().double().sum(0)
        test_sums = held_out_sums(model, test_images, test_labels, seed)

        row = {
            "epoch": epoch,
            **{f"train_{name}": value for name, value in means(model, train_sums, count, beta).items()},
            **{f"test_{name}": value for name, value in means(model, test_sums, len(test_labels), beta).items()},
            "article_loss": float(article_loss(model, train_sums, count)),
        }
        _refuse_non_finite(row, learning_rate)
        yield row


def _refuse_non_finite(row: dict[str, float], learning_rate: float) -> None:
    for part in ("train_reconstruction", "train_kl", "test_reconstruction", "test_kl"):
        if not abs(row[part]) < float("inf"):
            raise UserError(
                f"training diverged in epoch {row['epoch']}: {part} is {row[part]}; "
                f"a lower learning_rate (now {learning_rate:g}) is the usual cure"
            )
