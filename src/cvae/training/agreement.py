"""Optional speed: check that `gradients` trains exactly this model. Training works without this module."""

import math
from collections.abc import Callable, Sequence
from itertools import zip_longest

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from cvae.model import ACTIVATIONS, CVAE, ConditionalLinear
from cvae.objective import training_loss
from cvae.training.gradients import IN_PLACE, DerivedGradients, stacks
from cvae.training.weights import WeightVector

AGREEMENT = 1e-4  # largest relative error of a parameter's gradient; float32 rounding is a hundredth of this
ACTIVATION = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


def misfit(
    model: nn.Module,
    weights: WeightVector,
    beta: float,
    precision: str,
    images: Tensor,
    labels: Tensor,
    noise: Tensor,
    definition: type,
) -> str | None:
    """Return why the derived gradients cannot train `model`, in a few words, or None if they can.

    On one batch, `images` (n, 784), `labels` (n,) and `noise` (n, latent_dims), the model's loss must run exactly the
    operations that were differentiated, use no other parameter or buffer, and have the same gradient up to rounding.
    Comparing gradients alone is not enough: it would miss a clamp that this batch does not reach. So must a step of
    `definition`, the class that trains by autograd.
    """
    device = images.device.type
    if device not in ("cpu", "cuda") or (device == "cuda" and precision == "bfloat16"):
        return f"do not run in {precision} on {device}"  # autocast skips products with out=; MPS is untested
    try:
        layers = [layer for stack in stacks(model) for layer in stack]
        activations = ACTIVATIONS[model.activation]
    except (AttributeError, LookupError, TypeError):
        return "are of another network"
    if unknown := set(activations) - set(IN_PLACE):
        return f"have no activation {min(unknown)}"
    if not all(layer in weights.matrices for layer in layers):
        return "are of other layers"
    covered = {parameter for layer in layers for parameter in layer.parameters()}
    for name, parameter in model.named_parameters():
        if parameter not in covered:
            return f"do not cover {name}"
    for name, _ in model.named_buffers():
        return f"do not cover {name}"

    if name := _hooked(model):
        return f"would not call the hooks of {name}"
    prepared = definition.prepare(model, weights, images, labels)
    if len(prepared) != 2 or prepared[0] is not images or prepared[1] is not labels:
        return "are of other inputs"

    order = torch.arange(len(labels), device=images.device)
    actual, derived, stepped, plain = (_Operations() for _ in range(4))
    devices = [images.device] if device == "cuda" else []
    before = _plain_attributes(model)
    with torch.enable_grad(), torch.random.fork_rng(devices):
        with actual:
            training_loss(model, images, labels, noise, beta)
        after = _plain_attributes(model)
        if changed := {key for key, _ in before.items() ^ after.items()}:
            for path, name in changed:
                delattr(model.get_submodule(path), name)
                if (path, name) in before:
                    setattr(model.get_submodule(path), name, before[path, name])
            return f"are of a network that does not change {min(changed)[1]} as it runs"
        try:
            with derived:
                _derived_loss(model, images, labels, noise, beta)
        except RuntimeError:
            return "are of layers of other sizes"
        if difference := actual.difference(derived):
            return f"are of other operations ({difference})"
        with stepped:
            definition(model, weights, beta, (images, labels), [order], [noise]).step(0)
        expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        with plain:
            _plain_step(model, weights, beta, images, labels, order, noise)
        if difference := stepped.difference(plain):
            return f"are of another training step ({difference})"
    inputs = DerivedGradients.prepare(model, weights, images, labels)
    DerivedGradients(model, weights, beta, inputs, [order], [noise]).step(0)
    for name, parameter in model.named_parameters():
        error = torch.linalg.vector_norm(parameter.grad - expected[name])
        if not error <= AGREEMENT * torch.linalg.vector_norm(expected[name]):
            return f"are not autograd's at {name}"
    return None


def _hooked(model: nn.Module) -> str:
    """Return the name of a module or parameter with a hook, which would not be called, or an empty string."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    kinds = (*kinds, "_post_accumulate_grad_hooks")
    for name, each in [*model.named_modules(), *model.named_parameters()]:
        if any(getattr(each, kind, None) for kind in kinds):
            return name or "the model"
    return ""


def _plain_attributes(model: nn.Module) -> dict[tuple[str, str], object]:
    """Return the attributes of all modules that are no tensors or objects: a network may count its steps in one."""
    kinds = (bool, int, float, str, type(None))
    return {
        (path, name): value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, kinds)
    }


def _plain_step(
    model: nn.Module, weights: WeightVector, beta: float, images: Tensor, labels: Tensor, picked: Tensor, noise: Tensor
) -> None:
    """Do what `AutogradGradients` in `loop` does for a batch, as it was when its gradient was derived."""
    sums_of_batches = weights.values.new_zeros(1, 4)
    loss, sums = training_loss(model, images[picked], labels[picked], noise, beta)
    weights.gradient.zero_()
    loss.backward()
    sums_of_batches[0] = sums.detach()


class _Operations(TorchDispatchMode):
    """Record the operations torch runs, each with the shapes of its tensors and its other arguments."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch's compiler, which takes a second

    def __init__(self):
        super().__init__()
        self._recorded: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        shapes = tree_map(lambda each: each.shape if isinstance(each, Tensor) else each, (args, kwargs))
        self._recorded.append((str(function), repr(shapes)))
        return function(*args, **(kwargs or {}))

    def difference(self, other: "_Operations") -> str:
        """Return the first pair of operations that differ, by name; empty if none does."""
        for mine, theirs in zip_longest(self._recorded, other._recorded, fillvalue=("none",)):
            if mine != theirs:
                return f"{mine[0]}, not {theirs[0]}"
        return ""


def _derived_loss(model: CVAE, x: Tensor, y: Tensor, noise: Tensor, beta: float) -> Tensor:
    """Compute the loss that `DerivedGradients` differentiates: `training_loss` as it was when that was derived."""
    encoder, decoder = stacks(model)
    encoder_activation, decoder_activation = (ACTIVATION[name] for name in ACTIVATIONS[model.activation])

    def through(stack: Sequence[ConditionalLinear | nn.Linear], values: Tensor, activation: Callable) -> Tensor:
        for number, layer in enumerate(stack):
            values = activation(values) if number else values
            values = F.linear(values, layer.weight, layer.bias)
            values = values + F.embedding(y, layer.label_weight) if number == 0 else values
        return values

    mu, log_sigma = through(encoder, x, encoder_activation).chunk(2, dim=1)
    sigma = log_sigma.exp()
    logits = through(decoder, mu + sigma * noise, decoder_activation)
    squared_error = (torch.sigmoid(logits) - x).square().sum()
    reconstruction = squared_error
    if model.likelihood == "bernoulli":
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    squares = (sigma.square() + mu.square()).sum()
    sums = torch.stack((reconstruction, squares, log_sigma.sum(), squared_error.detach()))
    constant = (math.log(model.prior_std) - 0.5) * model.latent_dims * len(x)
    return sums[0] + beta * (sums[1] / (2 * model.prior_std**2) - sums[2] + constant)
