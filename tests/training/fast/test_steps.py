"""The fast steps train only networks they know; for all others, autograd trains and one line says so."""

import sys

import numpy as np
import pytest
import torch
from helpers.edited_models import (
    Activation,
    Another,
    Buffers,
    Clamp,
    Convolution,
    Counter,
    Decoder,
    ExtraLayer,
    Frozen,
    Hook,
    LayerNorm,
    Scale,
    TwoNames,
    UsedTwice,
    WeightNorm,
    make,
    train,
)
from helpers.models import MNIST
from torch import nn

from cvae.compute.seeding import generator
from cvae.data.dataset import Schema, Split
from cvae.data.tensors import to_device
from cvae.model import CVAE, ConditionalLinear
from cvae.training import loop
from cvae.training.fast import steps

EDITS = {  # each edited model, with the reason why the derived gradients are not used
    Activation: "are for other operations (aten.gelu.default, not aten.relu.default)",
    ExtraLayer: "do not cover extra.weight",
    Convolution: "do not cover convolution.weight",
    LayerNorm: "do not cover norm.weight",
    UsedTwice: "are for another network",
    TwoNames: "do not cover first.weight",
    Buffers: "do not cover norm.weight",
    Scale: "are for other operations (aten.mul.Tensor, not aten.exp.default)",
    Clamp: "are for other operations (aten.clamp.default, not aten.exp.default)",
    Decoder: "are for other operations (aten.mul.Tensor, not aten.sigmoid.default)",
    Hook: "would not call the hooks of decoder.weight",
    Counter: "are for a network that does not change calls as it runs",
    WeightNorm: "are for other layers",
    Frozen: "differ from autograd's at decoder.weight",
    Another: "are for another network",
}


@pytest.mark.parametrize("kind", EDITS, ids=lambda kind: kind.__name__)
def test_an_edited_model_is_left_to_autograd_and_one_line_says_why(kind, digits, capsys):
    train(make(kind), digits, epochs=1)
    assert capsys.readouterr().err == f"train: autograd trains this model; the faster derived gradients {EDITS[kind]}\n"


def edit_step(monkeypatch, change) -> None:
    known = loop.Steps.step

    def step(self: loop.Steps, *batch: torch.Tensor) -> torch.Tensor:
        sums = known(self, *batch)
        change(self)
        return sums

    monkeypatch.setattr(loop.Steps, "step", step)


def skip_small_batches(self: loop.Steps, order: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    full = len(order) - len(order) % self.batch_size
    batches = zip(order[:full].split(self.batch_size), noise[:full].split(self.batch_size), strict=True)
    return torch.stack([self.step(*batch) for batch in batches]).sum(0)


STEP_EDITS = {
    "clipped": lambda patch: edit_step(patch, lambda own: nn.utils.clip_grad_norm_(own.model.parameters(), 1e9)),
    "decayed": lambda patch: edit_step(patch, lambda own: own.optimiser.learning_rate.mul_(0.99)),
    "small batches skipped": lambda patch: patch.setattr(loop.Steps, "__call__", skip_small_batches),
    "AdamW": lambda patch: patch.setattr(loop, "Adam", torch.optim.AdamW),
    "SGD": lambda patch: patch.setattr(loop, "Adam", torch.optim.SGD),
}


def count_steps(self: loop.Steps) -> None:
    self.count = getattr(self, "count", 0) + 1


@pytest.mark.parametrize("edit", [count_steps, lambda own: own.seen.add_(1)], ids=["a number", "a tensor"])
def test_a_step_that_remembers_is_left_to_autograd_and_starts_afresh(edit, digits, capsys, monkeypatch):
    """What it does may change with what it remembers, after the steps that are compared."""
    known = loop.Steps.__init__

    def initialise(self, *arguments, **settings):
        known(self, *arguments, **settings)
        self.seen = torch.zeros(())

    monkeypatch.setattr(loop.Steps, "__init__", initialise)
    edit_step(monkeypatch, edit)
    settings = {"epochs": 1, "batch_size": 128, "learning_rate": 1e-3, "beta": 1.0, "seed": 0}
    training = loop.Training(make(CVAE), *digits, **settings)
    assert "are for a training step that does not change " in capsys.readouterr().err
    assert not any(key == "number count" for key in training.state())
    list(training)
    count = training.state().get("number count", training._steps.seen)
    assert count == -(-len(digits[0]) // 128)


@pytest.mark.parametrize("edit", STEP_EDITS)
def test_an_edited_step_is_used_unchanged_and_one_line_says_so(edit, digits, capsys, monkeypatch):
    STEP_EDITS[edit](monkeypatch)
    train(make(CVAE), digits, epochs=1, learning_rate=1e-6)
    (line,) = capsys.readouterr().err.splitlines()
    assert "the faster derived gradients are for another training step (" in line


def test_every_setting_of_the_articles_network_has_derived_gradients(digits, capsys):
    """The settings are those of params.yaml."""
    for settings in (
        {"likelihood": "bernoulli", "activation": "tanh", "latent_dims": 3, "prior_std": 1.0},
        {"hidden_dims": [20, 30], "activation": "relu"},
        {"hidden_dims": (9, 8, 7), "activation": "sigmoid", "latent_dims": 1},
    ):
        for beta in (0.0, 1.0, 4.0):
            train(CVAE(MNIST, **settings).initialise(generator(1, "weights")), digits, epochs=1, beta=beta)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("labels", ["given", "none"])
@pytest.mark.parametrize(("shape", "count"), [((4, 6, 1), 1), ((4, 6, 1), 200), ((8, 8, 3), 7)])
def test_any_images_and_classes_have_derived_gradients_that_train_as_autograd_does(
    shape, count, labels, capsys, monkeypatch
):
    schema = Schema(shape, tuple(map(str, range(count))))
    numbers = np.random.RandomState(0)
    own = [
        Split(
            numbers.randint(0, 256, (size, schema.image_dims)).astype(np.uint8),
            numbers.randint(0, count, size).astype(np.uint8),
        )
        for size in (230, 20)
    ]
    derived, autograd = (CVAE(schema, labels, hidden_dims=16).initialise(generator(1, "weights")) for _ in range(2))
    rows = train(derived, own)
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(sys.modules, "cvae.training.fast.steps", None)
    others = train(autograd, own)
    assert [row["train_loss"] for row in rows] == pytest.approx([row["train_loss"] for row in others], rel=1e-5)
    for one, other in zip(derived.parameters(), autograd.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


class LabelForDecoder(CVAE):
    """A model whose encoder does not see the label."""

    def __init__(self, schema, **settings):
        super().__init__(schema, **settings)
        self.encoder = ConditionalLinear(schema.image_dims, 0, self.hidden_dims[0])


def test_a_label_in_one_half_of_the_model_has_derived_gradients_too(digits, capsys, monkeypatch):
    model, same = make(LabelForDecoder), make(LabelForDecoder)
    rows = train(model, digits)
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(sys.modules, "cvae.training.fast.steps", None)
    others = train(same, digits)
    assert [row["train_loss"] for row in rows] == pytest.approx([row["train_loss"] for row in others], rel=1e-5)


def test_two_training_images_are_enough(capsys):
    images = Split(np.array([[0, 255, 3, 9], [1, 2, 3, 4]], np.uint8), np.array([0, 1], np.uint8))
    for labels in ("given", "none"):
        model = CVAE(Schema((2, 2, 1), ("a", "b")), labels, hidden_dims=4).initialise(generator(1, "weights"))
        rows = train(model, (images, Split(images.images[:1], images.labels[:1])), epochs=20, learning_rate=0.1)
        assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert capsys.readouterr().err == ""


def test_looking_for_faster_steps_changes_nothing(digits):
    """Neither the model nor torch's random state, from which dropout samples, changes."""
    model, same = make(Buffers), make(Buffers)
    state = torch.get_rng_state()
    settings = {"epochs": 1, "batch_size": 128, "learning_rate": 1e-3, "beta": 1.0, "seed": 0}
    loop.Training(model, *digits, **settings)
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in same.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_an_epoch_in_passes_of_a_few_steps_gives_the_same_model(digits, monkeypatch):
    """An epoch with more steps than one CUDA graph should hold is split: here into three passes of five."""
    model, split = make(CVAE), make(CVAE)
    rows = train(model, digits)
    monkeypatch.setattr(steps, "STEPS", 5)
    others = train(split, digits)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), split.parameters(), strict=True))
    assert [row["train_loss"] for row in rows] == pytest.approx([row["train_loss"] for row in others], rel=1e-6)


BETWEEN_EPOCHS = {
    "beta": lambda own: setattr(own, "beta", 3.0),
    "batch_size": lambda own: setattr(own, "batch_size", 50),
    "prior_std": lambda own: setattr(own.model, "prior_std", 2.0),
    "images in place": lambda own: own.images.mul_(0.5),
    "other images": lambda own: setattr(own, "images", 1 - own.images),
    "labels in place": lambda own: own.labels.copy_(own.labels.flip(0)),
    "a frozen layer": lambda own: own.model.decoder.requires_grad_(False),
    "SGD": lambda own: setattr(own, "optimiser", torch.optim.SGD(own.model.parameters(), 1e-4)),
}


@pytest.mark.parametrize("change", BETWEEN_EPOCHS)
def test_what_changes_between_epochs_is_what_trains(change, digits, monkeypatch):
    """As an edited `Training` may do, for instance to raise beta from 0."""
    settings = {"batch_size": 100, "learning_rate": 1e-3, "beta": 1.0}
    numbers = torch.Generator().manual_seed(0)
    order = torch.stack([torch.randperm(len(digits[0]), generator=numbers) for _ in range(2)])
    noise = torch.randn(*order.shape, 2, generator=numbers)
    results = []
    for fast in (False, True):
        model = make(CVAE)
        own = loop.Steps(model, *to_device(digits[0], torch.device("cpu")), **settings)
        if fast:
            own = steps.faster(own, "float32")
            assert type(own) is steps.DerivedSteps
        first = own(order[0], noise[0])
        BETWEEN_EPOCHS[change](own)
        results.append((first, own(order[1], noise[1]), *(each.detach() for each in model.parameters())))
    for plain, faster in zip(*results, strict=True):
        torch.testing.assert_close(faster, plain, rtol=1e-4, atol=2e-4)


def test_an_error_in_the_fast_steps_is_not_taken_for_their_absence(digits, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("cvae.training.fast")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch.utils._pytree", None)
    with pytest.raises(ModuleNotFoundError, match=r"torch\.utils\._pytree"):
        train(make(CVAE), digits)
