"""Optional speed: the steps of `training.loop` on one vector of parameters, as CUDA graphs, with derived gradients."""

import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from cvae.training.adam import Adam
from cvae.training.fast.agreement import other_gradient, other_loss, other_step
from cvae.training.fast.cuda_graph import replayed
from cvae.training.fast.gradients import DerivedGradients
from cvae.training.fast.weights import WeightVector
from cvae.training.loop import Steps

STEPS = 500  # at most this many in one CUDA graph; an epoch of the default run has 469


def faster(steps: Steps, precision: str) -> Steps:
    """Return steps that are faster than `steps`, with the same results up to rounding; or `steps` itself.

    Products are in `precision`. If autograd still trains the model, one line says why.
    """
    reason, result = other_step(steps), steps
    if not reason:
        weights = WeightVector(steps.model)
        reason = other_loss(steps, weights, precision) or other_gradient(steps, weights)
        result = (VectorSteps if reason else DerivedSteps)(steps, weights)
    if reason and steps.processes.rank == 0:
        print(f"train: autograd trains this model; the faster derived gradients {reason}", file=sys.stderr)
    return result


class VectorSteps(Steps):
    """`steps` with all parameters in the vector `weights`, so that one call updates them or sums their gradients."""

    def __init__(self, steps: Steps, weights: WeightVector):
        vars(self).update(vars(steps))
        self._gradient = weights.gradient
        self.optimiser = Adam(weights.parts(), float(steps.optimiser.param_groups[0]["lr"]))
        self._passes: dict[int, _Pass] = {}  # by their number of images
        self._made_for: tuple = ()

    def __call__(self, order: Tensor, noise: Tensor) -> Tensor:
        if self._made_for != self._settings():
            self.prepare()
            self._passes, self._made_for = {}, self._settings()
        size = STEPS * self.batch_size
        return torch.stack([self._run(*part) for part in zip(order.split(size), noise.split(size), strict=True)]).sum(0)

    def _run(self, order: Tensor, noise: Tensor) -> Tensor:
        if len(order) not in self._passes:
            self._passes[len(order)] = _Pass(self, order, noise)
        return self._passes[len(order)](order, noise)

    def _settings(self) -> tuple:
        """Return all that a pass is made for; an edited `Training` may change it between two epochs."""
        data = self.images.data_ptr(), self.labels.data_ptr(), self.labels._version
        trained = tuple(parameter.requires_grad for parameter in self.model.parameters())
        return self.batch_size, self.beta, self.model.prior_std, id(self.optimiser), trained, *data

    def prepare(self) -> None:
        """Get ready for new settings."""

    def through(self, order: Tensor, noise: Tensor) -> Callable[[], Tensor]:
        """Return a function that trains on the images in `order` with `noise`, as these are when it is called."""
        return partial(Steps.__call__, self, order, noise)

    def sum_gradients(self) -> None:
        self.processes.sum(self._gradient)


class DerivedSteps(VectorSteps):
    """`VectorSteps` with derived gradients instead of autograd."""

    def __init__(self, steps: Steps, weights: WeightVector):
        super().__init__(steps, weights)
        self._weights = weights

    def prepare(self) -> None:
        self._inputs = DerivedGradients.prepare(self.model, self._weights, self.images, self.labels)
        self.images = self._inputs[0][:, : self.model.schema.image_dims]

    def through(self, order: Tensor, noise: Tensor) -> Callable[[], Tensor]:
        if not all(parameter.requires_grad for parameter in self.model.parameters()):
            return super().through(order, noise)
        batches = [[self.processes.share(b) for b in tensor.split(self.batch_size)] for tensor in (order, noise)]
        gradients = DerivedGradients(self.model, self._weights, self.beta, self._inputs, *batches)

        def run() -> Tensor:
            for batch in range(len(batches[0])):
                gradients.step(batch)
                self.sum_gradients()
                self.optimiser.step()
            return gradients.sums()

        return run


class _Pass:
    """Train on as many images as `order` has, always in the same memory, so that a CUDA graph can replay it."""

    def __init__(self, steps: VectorSteps, order: Tensor, noise: Tensor):
        self._order, self._noise = order.clone(), noise.clone()
        run = steps.through(self._order, self._noise)
        # Several processes wait for each other between kernels: if one could not record its graph, the rest would hang.
        self._run = replayed(run, order.device) if steps.processes.count == 1 else run

    def __call__(self, order: Tensor, noise: Tensor) -> Tensor:
        self._order.copy_(order)
        self._noise.copy_(noise)
        return self._run().clone()
