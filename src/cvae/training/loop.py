"""Train a model: set up, run the epochs, and take a step on each batch.

The data set stays on the device. Each epoch goes through one random permutation of it, a batch at a time: forward,
backward by autograd, one step of Adam. Each epoch ends with a row of figures, and waits for the device only there.

This module is complete. By default `fast` replaces `Steps` by steps that do the same in less time: the default run
(46,900 steps) then takes 80 s on two cores. Edit `Steps` or the model, and the edit is what trains.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from cvae.compute.devices import products_in
from cvae.compute.processes import ONE_PROCESS, Processes
from cvae.compute.seeding import generator, pack, unpack
from cvae.data.binarisation import sample_thresholds, threshold_generator
from cvae.data.dataset import Split
from cvae.data.tensors import to_device
from cvae.model import VAE
from cvae.objective import article_loss, held_out_noise, held_out_sums, means, training_loss
from cvae.training.adam import Adam, set_learning_rate
from cvae.training.checks import refuse_non_finite, require_interface, require_one_decoder, require_weights
from cvae.training.early_stopping import EarlyStopping
from cvae.training.state import restore, state_of


class Training:
    """Train `model` on its own device. Iterate over it: each epoch yields a row of figures.

    All of the model's parameters are trained; buffers, such as the averages of batch norm, are updated too. The model
    is in training mode during an epoch and in evaluation mode for the held-out figures.

    A row holds `epoch`, from 1; `loss` (reconstruction + beta · KL), `reconstruction` and `kl`, each with the prefix
    `train_` and that of the held-out split, means in nats per image; and `article_loss`, a sum over the training
    images. Training figures accumulate during the epoch, as the article's do. Held-out figures are taken at its end in
    float32, with one sample of z per image from the same noise in every epoch.

    `held_out`: images that are not trained on. `held_out_name`: the prefix of their figures, "test" or "validation".
    `patience`: epochs without a lower held-out loss after which the training ends; 0 for never. If it is set, the model
    has the weights of the best epoch, `best_epoch`, once the iteration is over.
    `batch_size`: images per optimiser step, over all `processes`. Every process yields the same rows.
    `schedule`: "constant" keeps `learning_rate`; "cosine" starts there and falls towards 0 along half a cosine wave
    (Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts).
    `resample_pixels`: train on binary images, sampled again in each epoch from the grey images of `train_split`.
    `precision`: the precision of matrix products.

    Raises:
        UserError: the model cannot be trained; or, during iteration, a loss is not finite. The message then names the
            epoch and the part of the loss.
    """

    def __init__(
        self,
        model: VAE,
        train_split: Split,
        held_out: Split,
        *,
        held_out_name: str = "test",
        epochs: int,
        batch_size: int,
        learning_rate: float,
        schedule: str = "constant",
        beta: float,
        seed: int,
        patience: int = 0,
        resample_pixels: bool = False,
        precision: str = "float32",
        processes: Processes = ONE_PROCESS,
    ):
        self.model, self._processes, self._precision = model, processes, precision
        self._epochs, self._learning_rate, self._schedule, self._beta = epochs, learning_rate, schedule, beta
        require_weights(model)
        self._device = device = next(model.parameters()).device

        x, y, noise = (*to_device(held_out, device), held_out_noise(model, len(held_out), seed).to(device))
        self._held_out = [processes.share(part) for part in (x, y, noise)]
        self._held_out_name, self._held_out_count = held_out_name, len(held_out)
        require_interface(model, x[:2], y[:2])
        require_one_decoder(model, noise[:100], y[:100])

        images, labels = to_device(train_split, device)
        steps = Steps(model, images, labels, batch_size, learning_rate, beta, processes)
        self._steps, self._train_count = _faster(steps, precision), len(train_split)
        self._grey = torch.tensor(train_split.images, device=device) if resample_pixels else None

        self._epoch = 0  # the last one completed
        self._stopping = EarlyStopping(model, patience)
        self._shuffles, self._noises = generator(seed, "shuffles"), generator(seed, "noise")
        self._thresholds = threshold_generator(seed) if resample_pixels else None
        self._remember_random_state()

    def __iter__(self) -> Iterator[dict[str, float]]:
        """Train the remaining epochs, and yield a row after each."""
        order, noise = self._sample_epoch()
        while self._epoch < self._epochs and not self._stopping.is_over(self._epoch):
            epoch = self._epoch + 1
            self._set_learning_rate(epoch)
            if self._thresholds:
                self._resample_pixels()
            with products_in(self._precision, self._device):
                train_sums = self._steps(order.to(self._device), noise.to(self._device))
            sums = torch.stack((train_sums, self._held_out_sums()))
            self._processes.sum(sums)
            self._remember_random_state()  # for `state`, which must not include the next epoch's samples
            order, noise = self._sample_epoch()  # of the next epoch, while the device works
            row = self._row(epoch, *sums.cpu().double())  # waits for the device
            refuse_non_finite(row, self._learning_rate)
            self._stopping.update(epoch, row[f"{self._held_out_name}_loss"])
            self._epoch = epoch
            yield row
        self._stopping.restore_best()

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest held-out loss so far, or 0 if there is no `patience`."""
        return self._stopping.best_epoch

    def _sample_epoch(self) -> tuple[Tensor, Tensor]:
        """Sample a permutation of the training images and noise for each: (N,) and (N, latent_dims)."""
        order = torch.randperm(self._train_count, generator=self._shuffles)
        return order, torch.randn(self._train_count, self.model.latent_dims, generator=self._noises)

    def _set_learning_rate(self, epoch: int) -> None:
        if self._schedule == "cosine":
            wave = 1 + math.cos(math.pi * (epoch - 1) / self._epochs)
            for group in self._steps.optimiser.param_groups:
                set_learning_rate(group, self._learning_rate * wave / 2)

    def _resample_pixels(self) -> None:
        """Sample binary training images from the grey ones, in place."""
        thresholds = torch.from_numpy(sample_thresholds(self._thresholds, tuple(self._grey.shape)))
        self._steps.images.copy_(self._grey > thresholds.to(self._device))

    @torch.no_grad()
    def _held_out_sums(self) -> Tensor:
        self.model.eval()
        return held_out_sums(self.model, *self._held_out)

    def _row(self, epoch: int, train_sums: Tensor, other_sums: Tensor) -> dict[str, float]:
        row, held_out = {"epoch": epoch}, (self._held_out_name, other_sums, self._held_out_count)
        for split, sums, count in (("train", train_sums, self._train_count), held_out):
            row |= {f"{split}_{part}": value for part, value in means(self.model, sums, count, self._beta).items()}
        row["article_loss"] = float(article_loss(self.model, train_sums, self._train_count))
        return row

    def state(self) -> dict[str, Tensor]:
        """Return, on the CPU, everything that later epochs depend on, as of the last epoch yielded."""
        shuffles, noise = self._random_state
        state = state_of(self._steps)
        state |= {"epoch": torch.tensor(self._epoch), "shuffles": shuffles, "noise": noise}
        state |= self._stopping.state()
        return state | ({"thresholds": pack(self._thresholds)} if self._thresholds else {})

    def resume(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned in a training like this one; an empty `state` changes nothing.

        All processes must call this; the first one's `state` is used.
        """
        state = self._processes.from_first(state)
        if not state:
            return
        restore(self._steps, state)
        self._stopping.resume(state)
        self._epoch = int(state["epoch"])
        self._shuffles.set_state(state["shuffles"])
        self._noises.set_state(state["noise"])
        if self._thresholds:
            unpack(self._thresholds, state["thresholds"])
        self._remember_random_state()

    def _remember_random_state(self) -> None:
        """Keep the generators' state for `state`, since the next epoch is sampled before this one is yielded."""
        self._random_state = self._shuffles.get_state(), self._noises.get_state()


class Steps:
    """Take an optimiser step on each batch of an epoch: this defines how the model is trained.

    `images`: all training images, (N, image_dims), on the model's device. `labels`: (N,). These, `batch_size` and
    `beta` may change between two epochs. `optimiser` may be any of `torch.optim`. Checkpoints hold what `state_of`
    finds here.
    """

    def __init__(
        self,
        model: VAE,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        learning_rate: float,
        beta: float,
        processes: Processes = ONE_PROCESS,
    ):
        self.model, self.images, self.labels = model, images, labels
        self.batch_size, self.beta, self.processes = batch_size, beta, processes
        self.optimiser = Adam(model.parameters(), learning_rate)

    def __call__(self, order: Tensor, noise: Tensor) -> Tensor:
        """Train on the images numbered in `order`, (n,), with `noise`, (n, latent_dims); return their sums, (4,)."""
        self.model.train()
        batches = zip(order.split(self.batch_size), noise.split(self.batch_size), strict=True)
        return torch.stack([self.step(*batch) for batch in batches]).sum(0)

    def step(self, picked: Tensor, noise: Tensor) -> Tensor:
        """Train on one batch, and return its four sums."""
        picked, noise = self.processes.share(picked), self.processes.share(noise)
        loss, sums = training_loss(self.model, self.images[picked], self.labels[picked], noise, self.beta)
        self.optimiser.zero_grad()
        loss.backward()
        self.sum_gradients()
        self.optimiser.step()
        for buffer in self.model.buffers():
            self.processes.broadcast(buffer)
        return sums.detach()

    def sum_gradients(self) -> None:
        """Replace each gradient by its sum over all processes."""
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                self.processes.sum(parameter.grad)


def _faster(steps: Steps, precision: str) -> Steps:
    """Return steps that do the same in less time, or `steps` itself if `fast` is deleted or cannot speed them up."""
    try:
        from cvae.training.fast.steps import faster
    except ModuleNotFoundError as error:
        if str(error.name).startswith("cvae.training.fast"):
            return steps
        raise
    return faster(steps, precision)
