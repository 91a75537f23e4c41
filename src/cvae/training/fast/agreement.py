"""Optional speed: check that the step and the gradients known here train exactly this model."""

import copy
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvae.compute.seeding import generator
from cvae.model import ACTIVATIONS, CVAE, ConditionalLinear
from cvae.objective import training_loss
from cvae.training.adam import Adam
from cvae.training.fast.gradients import IN_PLACE, DerivedGradients, stacks
from cvae.training.fast.operations import Operations, plain_attributes, undone
from cvae.training.fast.weights import WeightVector, label_count
from cvae.training.loop import Steps

AGREEMENT = 1e-4  # largest relative error of a parameter's gradient; float32 rounding is a hundredth of this
ACTIVATION = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}

# These functions return None, or why the derived gradients cannot train a model, to follow "the derived gradients".


def other_step(steps: Steps) -> str | None:
    """Compare the operations of `steps`, which may have been edited, with those of the step that this folder replaces.

    Both run two batches, the second smaller than the first. `steps` and its model stay as they are.
    """
    count = min(len(steps.labels), steps.batch_size + steps.batch_size // 2)
    order, noise = _first_images(steps, count)
    shared = (steps.model, *steps.model.parameters(), steps.images, steps.labels, steps.processes)
    try:
        trial = copy.deepcopy(steps, {id(each): each for each in shared})
    except (TypeError, RuntimeError):
        return "are for a training step that can be copied"
    actual, known = Operations(), Operations()
    for operations, through in ((actual, trial), (known, _known_steps(steps))):
        with undone(steps.model), operations:
            through(order, noise)
    if name := _changed(vars(steps), vars(trial)):
        return f"are for a training step that does not change {name}"
    difference = actual.difference(known)
    return f"are for another training step ({difference})" if difference else None


def other_loss(steps: Steps, weights: WeightVector, precision: str) -> str | None:
    """Compare the operations of this model's loss with those of the loss that was differentiated by hand.

    Comparing gradients alone is not enough: it would miss a clamp that the first batch does not reach.
    """
    model, device = steps.model, steps.images.device.type
    if device not in ("cpu", "cuda") or (device == "cuda" and precision == "bfloat16"):
        return f"do not run in {precision} on {device}"  # autocast skips products with out=; MPS is untested
    try:
        layers = [layer for stack in stacks(model) for layer in stack]
        activations = ACTIVATIONS[model.activation]
    except (AttributeError, LookupError, TypeError):
        return "are for another network"
    if unknown := set(activations) - set(IN_PLACE):
        return f"lack the activation {min(unknown)}"
    if not all(layer in weights.matrices for layer in layers):
        return "are for other layers"
    covered = {parameter for layer in layers for parameter in layer.parameters()}
    for name, parameter in model.named_parameters():
        if parameter not in covered:
            return f"do not cover {name}"
    for name, _ in model.named_buffers():
        return f"do not cover {name}"
    if name := _hooked(model):
        return f"would not call the hooks of {name}"

    order, noise = _first_images(steps, min(len(steps.labels), steps.batch_size))
    batch = steps.images[order], steps.labels[order], noise, steps.beta
    actual, derived = Operations(), Operations()
    with undone(model):
        before = plain_attributes(model)
        with actual:
            training_loss(model, *batch)
        changed = {name for (_, name), _ in before.items() ^ plain_attributes(model).items()}
    if changed:
        return f"are for a network that does not change {min(changed)} as it runs"
    try:
        with derived:
            _derived_loss(model, *batch)
    except RuntimeError:
        return "are for layers of other sizes"
    difference = actual.difference(derived)
    return f"are for other operations ({difference})" if difference else None


def other_gradient(steps: Steps, weights: WeightVector) -> str | None:
    """Compare the derived gradient of the first batch with autograd's; they may differ by rounding."""
    model = steps.model
    order, noise = _first_images(steps, min(len(steps.labels), steps.batch_size))
    loss, _ = training_loss(model, steps.images[order], steps.labels[order], noise, steps.beta)
    weights.gradient.zero_()
    loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    inputs = DerivedGradients.prepare(model, weights, steps.images, steps.labels)
    DerivedGradients(model, weights, steps.beta, inputs, [order], [noise]).step(0)
    for name, parameter in model.named_parameters():
        error = torch.linalg.vector_norm(parameter.grad - expected[name])
        if not error <= AGREEMENT * torch.linalg.vector_norm(expected[name]):
            return f"differ from autograd's at {name}"
    return None


def _changed(before: dict, after: dict) -> str:
    """Return the name of an attribute that differs between the two, or an empty string. Optimisers may differ."""
    for name, value in after.items():
        if hasattr(value, "param_groups") or value is before.get(name):
            continue
        if name not in before or type(value) is not type(before[name]):
            return name
        is_equal = torch.equal(value, before[name]) if isinstance(value, Tensor) else value == before[name]
        if not is_equal:
            return name
    return ""


def _first_images(steps: Steps, count: int) -> tuple[Tensor, Tensor]:
    """Return the numbers of the first `count` training images, and noise for them."""
    noise = torch.randn(count, steps.model.latent_dims, generator=generator(0, "agreement"))
    return torch.arange(count, device=steps.images.device), noise.to(steps.images.device)


def _hooked(model: nn.Module) -> str:
    """Return the name of a module or parameter with a hook, or an empty string: no hook would be called."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    kinds = (*kinds, "_post_accumulate_grad_hooks")
    for name, each in [*model.named_modules(), *model.named_parameters()]:
        if any(getattr(each, kind, None) for kind in kinds):
            return name or "the model"
    return ""


def _known_steps(steps: Steps) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function that takes the steps of `Steps` as they were when this folder was written."""
    model, processes = steps.model, steps.processes
    optimiser = Adam(model.parameters(), 1e-3)

    def through(order: Tensor, noise: Tensor) -> Tensor:
        model.train()
        sums_of_batches = []
        for picked, own_noise in zip(order.split(steps.batch_size), noise.split(steps.batch_size), strict=True):
            picked, own_noise = processes.share(picked), processes.share(own_noise)
            loss, sums = training_loss(model, steps.images[picked], steps.labels[picked], own_noise, steps.beta)
            optimiser.zero_grad()
            loss.backward()
            for parameter in model.parameters():
                if parameter.grad is not None:
                    processes.sum(parameter.grad)
            optimiser.step()
            for buffer in model.buffers():
                processes.broadcast(buffer)
            sums_of_batches.append(sums.detach())
        return torch.stack(sums_of_batches).sum(0)

    return through


def _derived_loss(model: CVAE, x: Tensor, y: Tensor, noise: Tensor, beta: float) -> Tensor:
    """Compute the loss that `DerivedGradients` differentiates: `training_loss` as it was when that was derived."""
    encoder, decoder = stacks(model)
    encoder_activation, decoder_activation = (ACTIVATION[name] for name in ACTIVATIONS[model.activation])

    def through(stack: Sequence[ConditionalLinear | nn.Linear], values: Tensor, activation: Callable) -> Tensor:
        for number, layer in enumerate(stack):
            values = activation(values) if number else values
            values = F.linear(values, layer.weight, layer.bias)
            if number == 0 and label_count(layer):
                values = values + F.embedding(y, layer.label_weight)
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
    reconstruction, squares, log_sigma = sums[0], sums[1], sums[2]  # all before the KL, as `training_loss` does
    return reconstruction + beta * (squares / (2 * model.prior_std**2) - log_sigma + constant)
