import math

import pytest
import torch
import torch.nn.functional as F
from helpers.models import MNIST, make_batch, make_model

from cvae.compute.seeding import generator
from cvae.model import ACTIVATIONS, CVAE, sample_prior

LABELS, PIXELS = len(MNIST.classes), MNIST.image_dims


def one_hot_twin(model: CVAE) -> torch.nn.ModuleDict:
    """Return the article's layers: plain linear layers on [input, one-hot label], with the weights of `model`."""
    layers = {}
    for name in ("encoder", "decoder"):
        layer = getattr(model, name)
        twin = torch.nn.Linear(layer.weight.shape[1] + LABELS, layer.weight.shape[0])
        twin.weight.data = torch.cat((layer.weight.data, layer.label_weight.data.T), dim=1)
        twin.bias.data = layer.bias.data
        layers[name] = twin
    return torch.nn.ModuleDict(layers).to(model.posterior.weight.dtype)


def test_model_equals_its_one_hot_form():
    model = make_model(latent_dims=3).double()
    twin = one_hot_twin(model)
    x, y, noise = (t.double() if t.is_floating_point() else t for t in make_batch(16, 3))
    labels = F.one_hot(y, LABELS).double()

    h = torch.relu(twin["encoder"](torch.cat((x, labels), dim=1)))
    mu, log_sigma = model.posterior(h)[:, :3], model.posterior(h)[:, 3:]
    z = mu + log_sigma.exp() * noise
    image = torch.sigmoid(model.pixel_logits(torch.sigmoid(twin["decoder"](torch.cat((z, labels), dim=1)))))

    torch.testing.assert_close(model.encode(x, y), (mu, log_sigma), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.decode(z, y), image, rtol=1e-12, atol=1e-12)


def test_gradients_equal_those_of_the_one_hot_form():
    model = make_model().double()
    twin = one_hot_twin(model)
    x, y, _ = make_batch(32, 2)
    x, labels = x.double(), F.one_hot(y, LABELS).double()
    model.encoder(x, y).square().sum().backward()
    twin["encoder"](torch.cat((x, labels), dim=1)).square().sum().backward()

    both = torch.cat((model.encoder.weight.grad, model.encoder.label_weight.grad.T), dim=1)
    torch.testing.assert_close(both, twin["encoder"].weight.grad)


def test_initial_weights_have_the_distribution_of_the_one_hot_form():
    layer = make_model(hidden_dims=2000).encoder
    bound = 1 / math.sqrt(PIXELS + LABELS)
    for weight in (layer.weight, layer.label_weight, layer.bias):
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.99 * bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_weights_depend_only_on_the_seed():
    first, again, other = (CVAE(MNIST).initialise(generator(seed, "weights")).posterior.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_model_is_rebuilt_from_its_configuration(activation):
    model = make_model(latent_dims=3, hidden_dims=[5, 4], likelihood="bernoulli", prior_std=1.5, activation=activation)
    twin = CVAE(MNIST, **model.configuration())
    twin.load_state_dict(model.state_dict())
    x, y, noise = make_batch(4, 3)
    torch.testing.assert_close(twin.encode(x, y), model.encode(x, y))
    assert torch.equal(twin.decode(noise, y), model.decode(noise, y))
    assert twin.configuration() == model.configuration()


def test_the_prior_is_sampled_with_its_standard_deviation():
    model = make_model(latent_dims=3, prior_std=2.0)
    z = sample_prior(model, 20_000, generator(0, "test"))
    assert z.shape == (20_000, 3)
    assert z.mean(0).tolist() == pytest.approx([0] * 3, abs=0.05)
    assert z.std(0).tolist() == pytest.approx([2] * 3, rel=0.02)
    assert torch.equal(z, sample_prior(model, 20_000, generator(0, "test")))
