import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Independent, Normal, kl_divergence

from cvae.artifacts import saved_model
from cvae.compute.seeding import generator
from cvae.data.idx import LABELS, PIXELS
from cvae.model import CVAE
from cvae.objective import article_loss, held_out_noise, held_out_sums, kl, means, objective_sums
from cvae.support.errors import UserError


def make_model(**settings) -> CVAE:
    return CVAE(**settings).initialise(generator(3, "weights"))


def make_batch(count: int, latent_dims: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    numbers = torch.Generator().manual_seed(1)
    x = torch.rand(count, PIXELS, generator=numbers)
    y = torch.randint(LABELS, (count,), generator=numbers)
    return x, y, torch.randn(count, latent_dims, generator=numbers)


def one_hot_twin(model: CVAE) -> torch.nn.ModuleDict:
    """The article's network: plain linear layers on [input, one-hot label], with the weights of `model`."""
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


def test_initial_weights_are_drawn_as_those_of_the_one_hot_form():
    layer = make_model(hidden_dims=2000).encoder
    bound = 1 / math.sqrt(PIXELS + LABELS)
    for weight in (layer.weight, layer.label_weight, layer.bias):
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.99 * bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_same_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = (CVAE().initialise(generator(seed, "weights")).posterior.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("prior_std", [math.sqrt(0.5), 1.0, 3.0])
def test_kl_equals_that_of_torch_distributions(prior_std):
    model = make_model(latent_dims=5, prior_std=prior_std).double()
    x, y, noise = (t.double() if t.is_floating_point() else t for t in make_batch(64, 5))
    mu, log_sigma = model.encode(x, y)
    posterior = Independent(Normal(mu, log_sigma.exp()), 1)
    prior = Independent(Normal(torch.zeros_like(mu), torch.full_like(mu, prior_std)), 1)
    reference = kl_divergence(posterior, prior).sum()

    torch.testing.assert_close(kl(model, objective_sums(model, x, y, noise), 64), reference)


def test_reconstruction_is_the_likelihood_up_to_the_gaussian_constant():
    x, y, noise = make_batch(8, 2)
    for likelihood in ("gaussian", "bernoulli"):
        model = make_model(likelihood=likelihood)
        mu, log_sigma = model.encode(x, y)
        image = model.decode(mu + log_sigma.exp() * noise, y)
        if likelihood == "gaussian":
            constant = 8 * PIXELS * 0.5 * math.log(math.pi)
            reference = -Normal(image, math.sqrt(0.5)).log_prob(x).sum() - constant
        else:
            reference = F.binary_cross_entropy(image, x, reduction="sum")
        torch.testing.assert_close(objective_sums(model, x, y, noise)[0], reference, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_article_loss_equals_the_articles_formula(likelihood):
    model = make_model(latent_dims=2, likelihood=likelihood)
    x, y, noise = make_batch(32, 2)
    mu, log_sigma = model.encode(x, y)
    sigma = log_sigma.exp()
    x_hat = model.decode(mu + sigma * noise, y)
    reference = ((x - x_hat) ** 2).sum() + (sigma**2 + mu**2 - torch.log(sigma) - 1 / 2).sum()

    torch.testing.assert_close(
        article_loss(model, objective_sums(model, x, y, noise), 32), reference, rtol=1e-5, atol=0
    )


def test_article_loss_and_loss_differ_by_a_constant_under_the_articles_prior():
    model = make_model()
    sums = objective_sums(model, *make_batch(32, 2)).detach().double()
    loss = 32 * means(model, sums, 32, beta=1.0)["loss"]
    assert float(article_loss(model, sums, 32)) - loss == pytest.approx(32 * 2 * 0.5 * math.log(2))


def test_beta_weights_the_kl_alone():
    model = make_model()
    sums = objective_sums(model, *make_batch(32, 2)).detach()
    figures = means(model, sums, 32, beta=4.0)
    assert figures["loss"] == pytest.approx(figures["reconstruction"] + 4 * figures["kl"])


def test_held_out_figures_repeat_and_do_not_depend_on_the_batches():
    model = make_model().requires_grad_(False)
    x, y, _ = make_batch(2500, 2)
    noise = held_out_noise(model, 2500, seed=0)
    whole = held_out_sums(model, x, y, noise)
    torch.testing.assert_close(whole, objective_sums(model, x, y, noise), rtol=1e-5, atol=0)
    assert torch.equal(whole, held_out_sums(model, x, y, held_out_noise(model, 2500, seed=0)))


def test_a_saved_model_comes_back_and_its_bytes_repeat(tmp_path):
    model = make_model(latent_dims=3, hidden_dims=17, likelihood="bernoulli", prior_std=1.5)
    saved_model.save(model, tmp_path / "a")
    saved_model.save(model, tmp_path / "b")
    loaded = saved_model.load(tmp_path / "a")

    assert loaded.configuration() == model.configuration()
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def cut_weights_short(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def write_other_configuration(folder):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"latent_dims": 7}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_weights_short, "damaged"),
        (write_other_configuration, "not of the model"),
        (lambda folder: (folder / "config.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "damaged"),
        (lambda folder: (folder / "config.json").write_text('{"colour": 1}'), "damaged"),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    ],
)
def test_a_damaged_model_is_told_in_one_line(tmp_path, damage, message):
    saved_model.save(make_model(), tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        saved_model.load(tmp_path)
    assert "\n" not in str(caught.value)
