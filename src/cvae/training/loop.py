"""Training, from top to bottom: set up, run the epochs, step through the batches, differentiate one batch.

The data set stays on the device. Each epoch goes through one random permutation of it, a batch at a time: forward,
backward by autograd, one step of Adam. Each epoch ends with a row of figures, and waits for the device only there.

Passes, CUDA graphs and the second way to compute gradients exist only for speed. The default run's 46,900 steps take
80 s on two cores; see benchmarks/README.md.
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cvae.compute.devices import products_in
from cvae.compute.processes import ALONE, Processes
from cvae.compute.seeding import generator, pack, unpack
from cvae.data.binarisation import draw_levels, epochs_stream
from cvae.data.idx import PIXELS, Split
from cvae.data.tensors import to_device
from cvae.model import CVAE
from cvae.objective import article_loss, held_out_noise, held_out_sums, means, training_loss
from cvae.support.errors import UserError
from cvae.training.adam import Adam
from cvae.training.cuda_graph import captured
from cvae.training.weights import WeightVector

STEPS = 500  # most steps in a pass, which one CUDA graph holds; an epoch of the default run has 469


class Training:
    """Train `model` on its own device. Iterate over it: each epoch yields a row of figures.

    `model` may be any module with the `latent_dims`, `likelihood`, `prior_std`, `encode`, `logits` and `decode` of
    `CVAE`. Autograd trains all of its parameters; buffers, such as the averages of batch norm, are updated too. If
    `cvae.training.gradients` has the gradient of exactly this model, that faster code runs instead; otherwise one line
    says why not. The model is in training mode during an epoch and in evaluation mode for the test figures.

    A row holds `epoch`, from 1; `loss` (reconstruction + beta · KL), `reconstruction` and `kl`, each with the prefix
    `train_` and `test_`, means in nats per image; and `article_loss`, a sum over the training images. Training figures
    accumulate during the epoch, as the article's do. Test figures are taken at its end in float32, with one sample of
    z per image from the same noise in every epoch.

    `batch_size`: images per optimiser step, over all `processes`. Every process yields the same rows.
    `schedule`: "constant" keeps `learning_rate`; "cosine" starts there and falls towards 0 along half a cosine wave
    (Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts).
    `redraw`: train on binary images, sampled again in each epoch from the grey images of `train_split`.
    `precision`: the precision of matrix products.

    Raises, when iterated over:
        UserError: a loss is not finite; the message has the epoch and the part of the loss at fault.
    """

    def __init__(
        self,
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
    ):
        self.model, self._train_split, self._processes = model, train_split, processes
        self._epochs, self._learning_rate, self._schedule, self._beta = epochs, learning_rate, schedule, beta
        self._precision = precision
        self._device = device = next(model.parameters()).device

        noise = held_out_noise(model, len(test_split), seed).to(device)
        test = [processes.share(part) for part in (*to_device(test_split, device), noise)]
        self._test_sums, self._test_count = captured(partial(_test_sums, model, test), device), len(test_split)

        self._epoch = 0  # the last completed one
        self._shuffles, self._noises = generator(seed, "shuffles"), generator(seed, "noise")
        self._remember_random_state()
        self._levels = epochs_stream(seed) if redraw else None
        self._weights = weights = WeightVector(model)
        self._adam = adam = Adam(weights, learning_rate)

        self._pass_size = STEPS * batch_size  # images
        images, labels = to_device(train_split, device)
        gradients_class = self._choose_gradients(images, labels, batch_size)
        inputs = gradients_class.prepare(model, weights, images, labels)
        make_gradients = partial(gradients_class, model, weights, beta, inputs)
        starts = range(0, len(train_split), self._pass_size)
        sizes = {min(self._pass_size, len(train_split) - start) for start in starts}
        self._passes = {
            size: _Pass(model, make_gradients, weights, adam, size, batch_size, processes) for size in sizes
        }
        self._pixels = inputs[0][:, :PIXELS]
        self._grey = torch.tensor(train_split.images, device=device) if redraw else None

    def __iter__(self) -> Iterator[dict[str, float]]:
        """Train the remaining epochs, and yield a row after each."""
        parts = self._sample_epoch()
        while self._epoch < self._epochs:
            epoch = self._epoch + 1
            self._set_learning_rate(epoch)
            if self._levels:
                self._redraw_pixels()
            with products_in(self._precision, self._device):
                pass_sums = [self._passes[len(order)](order, noise) for order, noise in parts]
            sums = torch.stack((torch.stack(pass_sums).sum(0), self._test_sums()))
            self._processes.sum(sums)
            self._remember_random_state()
            parts = self._sample_epoch()  # of the next epoch, while the device works
            train_sums, test_sums = sums.cpu().double()  # waits for the device

            row = self._row(epoch, train_sums, test_sums)
            _refuse_non_finite(row, self._learning_rate)
            self._epoch = epoch
            yield row

    def _sample_epoch(self) -> list[tuple[Tensor, Tensor]]:
        """Sample a permutation of the training images and noise for each; return both split into passes."""
        count = len(self._train_split)
        order = torch.randperm(count, generator=self._shuffles)
        noise = torch.randn(count, self.model.latent_dims, generator=self._noises)
        if self._device.type == "cuda":  # pinned memory is copied while the CPU and the GPU both work on
            order, noise = order.pin_memory(), noise.pin_memory()
        return list(zip(order.split(self._pass_size), noise.split(self._pass_size), strict=True))

    def _set_learning_rate(self, epoch: int) -> None:
        if self._schedule == "cosine":
            wave = 1 + math.cos(math.pi * (epoch - 1) / self._epochs)
            self._adam.learning_rate.fill_(self._learning_rate * wave / 2)

    def _redraw_pixels(self) -> None:
        """Sample binary training images from the grey ones, in place."""
        levels = torch.from_numpy(draw_levels(self._levels, self._train_split.images.shape))
        self._pixels.copy_(self._grey > levels.to(self._device))

    def _row(self, epoch: int, train_sums: Tensor, test_sums: Tensor) -> dict[str, float]:
        train_count = len(self._train_split)
        row = {"epoch": epoch}
        for split, sums, count in (("train", train_sums, train_count), ("test", test_sums, self._test_count)):
            row |= {f"{split}_{part}": value for part, value in means(self.model, sums, count, self._beta).items()}
        row["article_loss"] = float(article_loss(self.model, train_sums, train_count))
        return row

    def state(self) -> dict[str, Tensor]:
        """Return, on the CPU, everything that later epochs depend on, as of the last epoch yielded.

        Holds `epoch`; the weights and the model's buffers; Adam's two means and step count; and the state of every
        random number generator, including torch's own, which a model with dropout samples from.
        """
        adam = self._adam
        parts = {"weights": self._weights.values, "mean": adam.mean, "mean_square": adam.mean_square}
        state = {name: vector.detach().to("cpu", copy=True) for name, vector in (parts | {"steps": adam.steps}).items()}
        state |= {f"buffer {name}": buffer.detach().to("cpu", copy=True) for name, buffer in self.model.named_buffers()}
        shuffles, noise = self._random_state
        state |= {"epoch": torch.tensor(self._epoch), "shuffles": shuffles, "noise": noise}
        state |= {"torch": torch.get_rng_state()}
        state |= {"cuda": torch.cuda.get_rng_state(self._device)} if self._device.type == "cuda" else {}
        return state | ({"levels": pack(self._levels)} if self._levels else {})

    def resume(self, state: dict[str, Tensor]) -> None:
        """Continue from `state`, returned by `state` in a training like this one; an empty one changes nothing.

        All processes must call this; the first one's `state` is used.
        """
        has_state = torch.tensor(float(bool(state)), device=self._device)
        self._processes.broadcast(has_state)
        if not has_state:
            return
        state = {name: state.get(name, current).to(self._device) for name, current in self.state().items()}
        for tensor in state.values():
            self._processes.broadcast(tensor)
        adam = self._adam
        with torch.no_grad():
            self._weights.values.copy_(state["weights"])
            adam.mean.copy_(state["mean"])
            adam.mean_square.copy_(state["mean_square"])
            adam.steps.copy_(state["steps"])
            for name, buffer in self.model.named_buffers():
                buffer.copy_(state[f"buffer {name}"])
        self._epoch = int(state["epoch"])
        self._shuffles.set_state(state["shuffles"].cpu())
        self._noises.set_state(state["noise"].cpu())
        self._remember_random_state()
        torch.set_rng_state(state["torch"].cpu())
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"].cpu(), self._device)
        if self._levels:
            unpack(self._levels, state["levels"].cpu())

    def _remember_random_state(self) -> None:
        """Keep the generators' state for `state`, since the next epoch is sampled before this one is yielded."""
        self._random_state = self._shuffles.get_state(), self._noises.get_state()

    def _choose_gradients(self, images: Tensor, labels: Tensor, batch_size: int) -> type:
        """Return the derived gradients if they match this model's on the first batch, otherwise autograd's."""
        (order, noise), *_ = self._sample_epoch()
        shuffles_state, noises_state = self._random_state  # rewind: the first epoch samples the same batch again
        self._shuffles.set_state(shuffles_state)
        self._noises.set_state(noises_state)
        order, noise = (self._processes.share(part[:batch_size]).to(self._device) for part in (order, noise))
        _require_one_decoder(self.model, noise, labels[order])
        try:
            from cvae.training.agreement import misfit
            from cvae.training.gradients import DerivedGradients
        except ImportError as error:
            reason = f"cannot be imported ({error})"
        else:
            self.model.train()
            batch = images[order], labels[order], noise
            reason = misfit(self.model, self._weights, self._beta, self._precision, *batch, AutogradGradients)
        if reason is None:
            return DerivedGradients
        if self._processes.rank == 0:
            print(f"train: autograd trains this model; the faster derived gradients {reason}", file=sys.stderr)
        return AutogradGradients


class _Pass:
    """Take an optimiser step on each batch of `size` images: an epoch, or part of a long one."""

    def __init__(
        self,
        model: CVAE,
        make_gradients: "Callable[..., AutogradGradients]",
        weights: WeightVector,
        adam: Adam,
        size: int,
        batch_size: int,
        processes: Processes,
    ):
        device = weights.values.device
        self._order = torch.zeros(size, dtype=torch.int64, device=device)
        self._noise = torch.zeros(size, model.latent_dims, device=device)
        order, noise = (
            [processes.share(batch) for batch in tensor.split(batch_size)] for tensor in (self._order, self._noise)
        )
        gradients = make_gradients(order, noise)

        def run() -> Tensor:
            model.train()
            for batch in range(len(order)):
                gradients.step(batch)
                processes.sum(weights.gradient)
                adam.step()
                for buffer in model.buffers() if processes.count > 1 else ():
                    processes.broadcast(buffer)
            return gradients.sums()

        # Several processes wait for each other between kernels: if one could not record its graph, the rest would hang.
        self._run = captured(run, device) if processes.count == 1 else run

    def __call__(self, order: Tensor, noise: Tensor) -> Tensor:
        """Train on the images `order`, (size,), with `noise`, (size, latent_dims); return their four sums."""
        pinned = order.is_pinned()  # otherwise the copy must end before its source is freed
        self._order.copy_(order, non_blocking=pinned)
        self._noise.copy_(noise, non_blocking=pinned)
        return self._run().clone()


@dataclass(eq=False)
class AutogradGradients:
    """Compute the gradient of the training loss by autograd, one batch at a time, into `weights.gradient`.

    `inputs`: all images (N, 784) and labels (N,). `order`: for each batch, the numbers of its images, (n,) int64.
    `noise`: for each batch, (n, latent_dims). Both may change in place between two passes.
    """

    model: CVAE
    weights: WeightVector
    beta: float
    inputs: tuple[Tensor, Tensor]
    order: Sequence[Tensor]
    noise: Sequence[Tensor]

    @staticmethod
    def prepare(model: CVAE, weights: WeightVector, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return `inputs` for `images` (N, 784) and `labels` (N,): the same two tensors."""
        return images, labels

    def __post_init__(self):
        self._sums = self.weights.values.new_zeros(len(self.order), 4)

    @torch.enable_grad()
    def step(self, batch: int) -> None:
        """Compute the gradient of batch number `batch`."""
        picked, (images, labels) = self.order[batch], self.inputs
        loss, sums = training_loss(self.model, images[picked], labels[picked], self.noise[batch], self.beta)
        self.weights.gradient.zero_()
        loss.backward()
        self._sums[batch] = sums.detach()

    def sums(self) -> Tensor:
        """Return the four sums over all batches of the pass, (4,) on the device."""
        return self._sums.sum(0)


@torch.no_grad()
def _test_sums(model: CVAE, test: Sequence[Tensor]) -> Tensor:
    model.eval()
    sums = held_out_sums(model, *test)
    model.train()
    return sums


@torch.no_grad()
def _require_one_decoder(model: CVAE, z: Tensor, y: Tensor) -> None:
    """Refuse a model that trains one decoder (`logits`) and draws pictures with another (`decode`).

    Only the Bernoulli likelihood uses both.
    """
    if model.likelihood == "bernoulli":
        model.eval()
        if not torch.allclose(model.decode(z, y), torch.sigmoid(model.logits(z, y)), atol=1e-4):
            raise UserError(
                "the model's decode is not the sigmoid of its logits, as the bernoulli likelihood needs it to be"
            )


def _refuse_non_finite(row: dict[str, float], learning_rate: float) -> None:
    for part in ("train_reconstruction", "train_kl", "test_reconstruction", "test_kl"):
        if not abs(row[part]) < float("inf"):
            raise UserError(
                f"training diverged in epoch {row['epoch']}: {part} is {row[part]}; "
                f"a lower learning_rate (now {learning_rate:g}) is the usual cure"
            )
