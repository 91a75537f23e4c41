"""Training: the whole data set lives on the device, and nothing waits for the device within an epoch.

Two cores take 80 s for the default run's 46,900 steps; benchmarks/README.md has the measurements.
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

STEPS = 500  # of a pass at most: a CUDA graph holds one; an epoch of the default run has 469


class Training:
    """The training of `model` where it lives: iterated over, it trains, and yields a row of figures after each epoch.

    The model may be any module with the `latent_dims`, `likelihood`, `prior_std`, `encode`, `logits` and `decode` of
    `CVAE`. Autograd trains all of its parameters, and its buffers follow. Where `cvae.training.gradients` has the
    gradient of this very model, that is used instead, which is faster; where not, one line says why. Each epoch trains
    in the model's training mode, and is measured in its evaluation mode.

    A row: `epoch` from 1; `train_` and `test_` `loss` (reconstruction + beta · KL), `reconstruction` and
    `kl`, means in nats per image; `article_loss`, the article's sum over the training images. Training
    figures are taken as the epoch goes, as the article's are; test figures at its end, with one draw of z
    per image that is the same in every epoch, in float32.

    `batch_size`: images per optimiser step, over all `processes`; each of them yields the same rows.
    `schedule`: of the learning rate, which is `learning_rate` in every epoch or, if "cosine", in the first, and falls
    from there along half a wave towards 0 (Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts).
    `redraw`: train on binary images, drawn in each epoch anew from the grey ones of `train_split`.
    `precision`: of the matrix products.

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
        self._epoch = 0  # the last that is over
        self._shuffles, self._noises = generator(seed, "shuffles"), generator(seed, "noise")
        self._keep_streams()
        self._levels = epochs_stream(seed) if redraw else None
        self._part = STEPS * batch_size  # images of a pass

        self._weights = weights = WeightVector(model)
        self._adam = adam = Adam(weights, learning_rate)
        images, labels = to_device(train_split, device)
        kind = self._choose_gradients(images, labels, batch_size)
        inputs = kind.prepare(model, weights, images, labels)
        gradients = partial(kind, model, weights, beta, inputs)
        sizes = {min(self._part, len(train_split) - start) for start in range(0, len(train_split), self._part)}
        self._passes = {size: _Pass(model, gradients, weights, adam, size, batch_size, processes) for size in sizes}
        self._pixels = inputs[0][:, :PIXELS]
        self._grey = torch.tensor(train_split.images, device=device) if redraw else None

    def __iter__(self) -> Iterator[dict[str, float]]:
        count, device = len(self._train_split), self._device
        drawn = self._draw()
        while self._epoch < self._epochs:
            epoch = self._epoch + 1
            if self._schedule == "cosine":
                wave = 1 + math.cos(math.pi * (epoch - 1) / self._epochs)
                self._adam.learning_rate.fill_(self._learning_rate * wave / 2)
            if self._levels:
                levels = torch.from_numpy(draw_levels(self._levels, self._train_split.images.shape))
                self._pixels.copy_(self._grey > levels.to(device))
            with products_in(self._precision, device):
                pass_sums = [self._passes[len(order)](order, noise) for order, noise in drawn]
            sums = torch.stack((torch.stack(pass_sums).sum(0), self._test_sums()))
            self._processes.sum(sums)
            self._keep_streams()
            drawn = self._draw()  # while the device works
            train_sums, held_out = sums.cpu().double()

            row = {"epoch": epoch}
            for name, of, images in (("train", train_sums, count), ("test", held_out, self._test_count)):
                row |= {f"{name}_{part}": value for part, value in means(self.model, of, images, self._beta).items()}
            row["article_loss"] = float(article_loss(self.model, train_sums, count))
            _refuse_non_finite(row, self._learning_rate)
            self._epoch = epoch
            yield row

    def state(self) -> dict[str, Tensor]:
        """All that the epochs to come depend on, on the CPU, when the last one that was yielded is over.

        `epoch`; the weights and the model's buffers; Adam's two means and count of steps; and where each stream of
        random numbers is, torch's own too, from which a model with dropout draws.
        """
        adam = self._adam
        parts = {"weights": self._weights.values, "mean": adam.mean, "mean_square": adam.mean_square}
        state = {name: vector.detach().to("cpu", copy=True) for name, vector in (parts | {"steps": adam.steps}).items()}
        state |= {f"buffer {name}": buffer.detach().to("cpu", copy=True) for name, buffer in self.model.named_buffers()}
        state |= {"epoch": torch.tensor(self._epoch), "shuffles": self._streams[0], "noise": self._streams[1]}
        state |= {"torch": torch.get_rng_state()}
        state |= {"cuda": torch.cuda.get_rng_state(self._device)} if self._device.type == "cuda" else {}
        return state | ({"levels": pack(self._levels)} if self._levels else {})

    def resume(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`, which `state` returned in a training like this one; from the start if it is empty.

        Of several processes, the first one's `state` counts, and all of them call this.
        """
        is_given = torch.tensor(float(bool(state)), device=self._device)
        self._processes.spread(is_given)
        if not is_given:
            return
        state = {name: state.get(name, own).to(self._device) for name, own in self.state().items()}
        for tensor in state.values():
            self._processes.spread(tensor)
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
        self._keep_streams()
        torch.set_rng_state(state["torch"].cpu())
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"].cpu(), self._device)
        if self._levels:
            unpack(self._levels, state["levels"].cpu())

    def _choose_gradients(self, images: Tensor, labels: Tensor, batch_size: int) -> type:
        """The derived gradients if they are this model's, judged by the batch that comes first; else autograd's."""
        (order, noise), *_ = self._draw()
        self._shuffles.set_state(self._streams[0])  # the first epoch draws the same
        self._noises.set_state(self._streams[1])
        order, noise = (self._processes.share(part[:batch_size]).to(self._device) for part in (order, noise))
        _require_one_decoder(self.model, noise, labels[order])
        try:
            from cvae.training.gradients import DerivedGradients, misfit
        except ImportError as error:
            reason = f"cannot be imported ({error})"
        else:
            self.model.train()
            batch = images[order], labels[order], noise
            reason = misfit(self.model, self._weights, self._beta, self._precision, *batch)
        if reason is None:
            return DerivedGradients
        if self._processes.rank == 0:
            print(f"train: autograd trains this model; the faster derived gradients {reason}", file=sys.stderr)
        return AutogradGradients

    def _keep_streams(self) -> None:
        """Remember where the streams are before an epoch's numbers are drawn, which is done ahead of it."""
        self._streams = self._shuffles.get_state(), self._noises.get_state()

    def _draw(self) -> list[tuple[Tensor, Tensor]]:
        """The next epoch's order of the images and a draw of noise for each, in parts of a pass each."""
        count = len(self._train_split)
        order = torch.randperm(count, generator=self._shuffles)
        noise = torch.randn(count, self.model.latent_dims, generator=self._noises)
        if self._device.type == "cuda":  # from pinned memory, numbers travel while both sides go on
            order, noise = order.pin_memory(), noise.pin_memory()
        return list(zip(order.split(self._part), noise.split(self._part), strict=True))


@torch.no_grad()
def _test_sums(model: CVAE, test: Sequence[Tensor]) -> Tensor:
    model.eval()
    sums = held_out_sums(model, *test)
    model.train()
    return sums


@dataclass(eq=False)
class AutogradGradients:
    """The gradient of the training loss, a batch at a time, into the `weights` of `model`, by autograd.

    `inputs`: all images (N, 784) and labels (N,). `order`: which of them make up each batch, (n,) int64 each, and
    `noise`: (n, latent_dims) each; both may change in place between two passes.
    """

    model: CVAE
    weights: WeightVector
    beta: float
    inputs: tuple[Tensor, Tensor]
    order: Sequence[Tensor]
    noise: Sequence[Tensor]

    @staticmethod
    def prepare(model: CVAE, weights: WeightVector, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The `images` (N, 784) and `labels` (N,) as they are."""
        return images, labels

    def __post_init__(self):
        self._sums = self.weights.values.new_zeros(len(self.order), 4)

    @torch.enable_grad()
    def step(self, batch: int) -> None:
        """Write the gradient of batch number `batch`."""
        picked, (images, labels) = self.order[batch], self.inputs
        loss, sums = training_loss(self.model, images[picked], labels[picked], self.noise[batch], self.beta)
        self.weights.gradient.zero_()
        loss.backward()
        self._sums[batch] = sums.detach()

    def sums(self) -> Tensor:
        """The four sums over all batches of the pass, (4,) on the device."""
        return self._sums.sum(0)


class _Pass:
    """An optimiser step for each batch of some images: a whole epoch, or a part of one."""

    def __init__(
        self,
        model: CVAE,
        make_gradients: Callable[..., AutogradGradients],
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
            [processes.share(batch) for batch in whole.split(batch_size)] for whole in (self._order, self._noise)
        )
        gradients = make_gradients(order, noise)

        def run() -> Tensor:
            model.train()
            for batch in range(len(order)):
                gradients.step(batch)
                processes.sum(weights.gradient)
                adam.step()
                for buffer in model.buffers() if processes.count > 1 else ():
                    processes.spread(buffer)
            return gradients.sums()

        # Processes wait for each other between kernels, and one that could not record would leave the rest waiting.
        self._run = captured(run, device) if processes.count == 1 else run

    def __call__(self, order: Tensor, noise: Tensor) -> Tensor:
        """Train on the images `order`, (size,), with `noise`, (size, latent_dims); returns their four sums."""
        pinned = order.is_pinned()  # else the copy has to end before its source is gone
        self._order.copy_(order, non_blocking=pinned)
        self._noise.copy_(noise, non_blocking=pinned)
        return self._run().clone()


@torch.no_grad()
def _require_one_decoder(model: CVAE, z: Tensor, y: Tensor) -> None:
    """Refuse a model that would train one decoder and draw pictures with another; only a Bernoulli needs both."""
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
