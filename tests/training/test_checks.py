import math

import pytest
import torch
from helpers.edited_models import Decoder, LayerNorm, make, train
from helpers.models import MNIST
from torch import nn

from cvae.compute.seeding import generator
from cvae.model import CVAE, VAE
from cvae.support.errors import UserError
from cvae.training.checks import refuse_non_finite

ROW = {"epoch": 7, "train_reconstruction": 1.0, "train_kl": 1.0, "test_reconstruction": 1.0, "test_kl": 1.0}


def test_a_layer_without_a_shape_is_refused_in_one_line(digits):
    model = make(CVAE)
    model.lazy = nn.LazyLinear(3)
    with pytest.raises(UserError, match=r"the model's lazy.weight has no shape yet; give the layer"):
        train(model, digits)


def test_a_bernoulli_model_with_two_decoders_is_refused(digits):
    with pytest.raises(UserError, match="decode is not the sigmoid of its logits"):
        train(Decoder(MNIST, hidden_dims=8, likelihood="bernoulli").initialise(generator(0, "weights")), digits)


def test_parameters_of_another_type_are_refused(digits):
    model = make(LayerNorm)
    model.norm.double()
    with pytest.raises(UserError, match=r"norm\.weight is torch\.float64, but training needs torch\.float32"):
        train(model, digits)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", [name for name in ROW if name != "epoch"])
def test_any_part_of_the_loss_that_is_not_finite_is_named_with_its_epoch(part, value):
    refuse_non_finite(ROW, 0.5)
    message = rf"^training diverged in epoch 7: {part} is {value}; a lower learning_rate \(now 0\.5\) is"
    with pytest.raises(UserError, match=message):
        refuse_non_finite(ROW | {part: value}, 0.5)


class Constant(VAE):
    """The smallest model that has the interface."""

    def __init__(self):
        super().__init__(MNIST)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encode(self, x, y):
        return self.weight.expand(len(x), 2), self.weight.expand(len(x), 2)

    def logits(self, z, y):
        return self.weight.expand(len(z), MNIST.image_dims)


def test_a_model_that_returns_what_it_should_is_trained(digits):
    assert len(train(Constant(), digits, epochs=1)) == 1


@pytest.mark.parametrize(
    ("method", "made", "message"),
    [
        ("logits", lambda n: None, "logits returns a NoneType, not a tensor"),
        ("encode", lambda n: ("a", "b"), "encode returns a str, not a tensor"),
        ("encode", lambda n: torch.zeros(n, 4), "encode returns a Tensor, not two tensors, μ and log σ"),
        (
            "encode",
            lambda n: (torch.zeros(n, 1),) * 2,
            r"encode returns float32 \[2, 1\] for 2 images, not .* \[2, 2\]",
        ),
        (
            "logits",
            lambda n: torch.zeros(n, 1),
            r"logits returns float32 \[2, 1\] for 2 images, not .* \[2, 784\]",
        ),
        ("logits", lambda n: torch.zeros(n, 1, 28, 28), r"logits returns float32 \[2, 1, 28, 28\]"),
        ("logits", lambda n: torch.zeros(n, MNIST.image_dims).double(), r"logits returns float64 \[2, 784\]"),
        ("decode", lambda n: torch.zeros(MNIST.image_dims), r"decode returns float32 \[784\]"),
        (
            "logits",
            lambda n: torch.full((n, MNIST.image_dims), torch.nan),
            "logits returns values that are not finite",
        ),
    ],
)
def test_a_method_that_returns_anything_else_is_named_before_training(method, made, message, digits):
    model = Constant()
    setattr(model, method, lambda first, y: made(len(first)))
    with pytest.raises(UserError, match=message):
        train(model, digits)


def test_a_model_without_weights_is_refused_in_one_line(digits):
    model = Constant()
    del model.weight
    with pytest.raises(UserError, match=r"^the model has no weights to train$"):
        train(model, digits)
