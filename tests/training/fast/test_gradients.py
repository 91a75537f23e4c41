"""The derived gradients, and the vector of weights, compared with autograd."""

import pytest
import torch
from helpers.models import MNIST
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from cvae.artifacts import saved_model
from cvae.compute.seeding import generator
from cvae.data.dataset import Schema, mnist_like
from cvae.model import CVAE
from cvae.objective import RECONSTRUCTION, SQUARED_ERROR, training_loss
from cvae.training.fast.gradients import DerivedGradients
from cvae.training.fast.weights import WeightVector

LABELS, PIXELS = len(MNIST.classes), MNIST.image_dims
BATCHES = (16, 16, 5, 0)  # the third is short; the last is empty, as one process of several may get it


COLOUR = Schema((5, 3, 3), tuple(map(str, range(200))))
PAIR = Schema((4, 4, 1), ("a", "b"))


def make_model(schema: Schema = MNIST, **settings) -> CVAE:
    return CVAE(schema, **({"hidden_dims": 12} | settings)).initialise(generator(3, "weights")).double()


def make_data(
    latent_dims: int, schema: Schema = MNIST
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Return images, labels, and the order and the noise of one pass, in batches."""
    numbers = torch.Generator().manual_seed(1)
    images = torch.rand(40, schema.image_dims, generator=numbers, dtype=torch.float64)
    labels = torch.randint(len(schema.classes), (40,), generator=numbers)
    noise = torch.randn(sum(BATCHES), latent_dims, generator=numbers, dtype=torch.float64)
    order = torch.randperm(40, generator=numbers)[: sum(BATCHES)]
    return images, labels, list(order.split(BATCHES)), list(noise.split(BATCHES))


MODELS = pytest.mark.parametrize(
    ("settings", "beta"),
    [
        ({"likelihood": "gaussian", "latent_dims": 2}, 1.0),
        ({"likelihood": "gaussian", "latent_dims": 1, "prior_std": 1.0}, 4.0),
        ({"likelihood": "bernoulli", "latent_dims": 3, "prior_std": 2.0}, 0.5),
        ({"likelihood": "bernoulli", "latent_dims": 9}, 0.0),
        ({"likelihood": "bernoulli", "latent_dims": 3, "hidden_dims": [12, 9], "activation": "tanh"}, 1.0),
        ({"likelihood": "gaussian", "latent_dims": 2, "hidden_dims": [7, 16, 11], "activation": "relu"}, 1.0),
        ({"likelihood": "gaussian", "latent_dims": 2, "hidden_dims": [8, 8], "activation": "sigmoid"}, 1.0),
        ({"latent_dims": 2, "labels": "none"}, 1.0),
        ({"latent_dims": 8, "labels": "none", "hidden_dims": [8, 16], "schema": PAIR}, 2.0),
        ({"latent_dims": 2, "likelihood": "bernoulli", "schema": COLOUR}, 1.0),
        ({"latent_dims": 2, "schema": mnist_like(1)}, 1.0),
    ],
    ids=[
        *("gaussian", "gaussian-beta", "bernoulli", "no-kl", "two-layers", "three-layers", "sigmoid"),
        *("no labels", "no labels, two layers", "200 classes in colour", "one class"),
    ],
)


@MODELS
def test_derived_gradients_equal_autograds(settings, beta):
    model = make_model(**settings)
    weights = WeightVector(model)
    images, labels, order, noise = make_data(settings["latent_dims"], settings.get("schema", MNIST))
    inputs = DerivedGradients.prepare(model, weights, images, labels)
    gradients = DerivedGradients(model, weights, beta, inputs, order, noise)
    total = 0
    for batch, picked in enumerate(order):
        weights.gradient.fill_(7)  # values from an earlier batch, except in the rows that only pad a matrix
        weights.gradient[weights.values == 0] = 0
        gradients.step(batch)
        derived = weights.gradient.clone()
        loss, sums = training_loss(model, images[picked], labels[picked], noise[batch], beta)
        weights.gradient.zero_()
        loss.backward()
        torch.testing.assert_close(derived, weights.gradient, rtol=1e-9, atol=1e-11)
        assert derived.abs().max() > 1e-3 or len(picked) == 0
        total = total + sums.detach()
    torch.testing.assert_close(gradients.sums(), total, rtol=1e-12, atol=0)


@MODELS
def test_derived_gradients_are_those_of_the_negative_elbo(settings, beta):
    """Compare them with finite differences of torch.distributions' ELBO along a random direction."""
    images, labels, order, noise = make_data(settings["latent_dims"], settings.get("schema", MNIST))
    model = make_model(**settings)
    weights = WeightVector(model)
    inputs = DerivedGradients.prepare(model, weights, images, labels)
    DerivedGradients(model, weights, beta, inputs, order, noise).step(0)
    direction = torch.randn(weights.values.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    direction[weights.values == 0] = 0  # rows that only pad a matrix

    def negative_elbo() -> float:
        x, y = images[order[0]], labels[order[0]]
        mu, log_sigma = model.encode(x, y)
        posterior = Independent(Normal(mu, log_sigma.exp()), 1)
        prior = Independent(Normal(torch.zeros_like(mu), torch.full_like(mu, model.prior_std)), 1)
        logits = model.logits(mu + log_sigma.exp() * noise[0], y)
        if model.likelihood == "gaussian":
            likelihood = Normal(logits.sigmoid(), 0.5**0.5)
        else:
            likelihood = Bernoulli(logits=logits, validate_args=False)
        return float(beta * kl_divergence(posterior, prior).sum() - likelihood.log_prob(x).sum())

    with torch.no_grad():
        step = 1e-6 * direction
        weights.values.add_(step)
        above = negative_elbo()
        weights.values.sub_(2 * step)
        slope = (above - negative_elbo()) / 2e-6
    assert float(weights.gradient @ direction) == pytest.approx(slope, rel=1e-6)


def test_a_gaussians_reconstruction_is_its_squared_error():
    model = make_model()
    images, labels, order, noise = make_data(2)
    weights = WeightVector(model)
    inputs = DerivedGradients.prepare(model, weights, images, labels)
    gradients = DerivedGradients(model, weights, 1.0, inputs, order, noise)
    for batch in range(len(BATCHES)):
        gradients.step(batch)
    sums = gradients.sums()
    assert sums[RECONSTRUCTION] == sums[SQUARED_ERROR] > 0


def test_a_model_works_as_before_once_its_weights_are_a_vector():
    model, before = make_model(latent_dims=3), make_model(latent_dims=3)
    weights = WeightVector(model)
    for (name, parameter), original in zip(model.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(parameter, original), name
        assert parameter.shape == parameter.grad.shape == original.shape
    x, y = torch.rand(4, PIXELS, dtype=torch.float64), torch.tensor([0, 3, 3, LABELS - 1])
    torch.testing.assert_close(model.encode(x, y), before.encode(x, y), rtol=1e-12, atol=1e-12)
    weights.values.zero_()
    assert all((parameter == 0).all() for parameter in model.parameters()), "they are views of the vector"


def test_a_model_whose_weights_are_a_vector_is_saved_like_any_other(tmp_path):
    model = make_model()
    saved_model.save(model, tmp_path / "before")
    WeightVector(model)
    saved_model.save(model, tmp_path / "after")
    name = "model.safetensors"
    assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()
