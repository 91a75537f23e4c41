import math

import pytest
import torch
import torch.nn.functional as F
from helpers.models import MNIST, make_batch, make_model
from torch.distributions import Independent, Normal, kl_divergence

from cvae.objective import (
    article_loss,
    held_out_noise,
    held_out_sums,
    kl,
    means,
    objective_sums,
    training_loss,
)


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
            constant = 8 * MNIST.image_dims * 0.5 * math.log(math.pi)
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


def test_beta_weights_only_the_kl():
    model = make_model()
    sums = objective_sums(model, *make_batch(32, 2)).detach()
    figures = means(model, sums, 32, beta=4.0)
    assert figures["loss"] == pytest.approx(figures["reconstruction"] + 4 * figures["kl"])


def test_held_out_figures_repeat_and_do_not_depend_on_the_batches():
    model = make_model().requires_grad_(False)
    x, y, _ = make_batch(2500, 2)
    noise = held_out_noise(model, 2500, seed=0)
    sums = held_out_sums(model, x, y, noise)
    torch.testing.assert_close(sums, objective_sums(model, x, y, noise), rtol=1e-5, atol=0)
    assert torch.equal(sums, held_out_sums(model, x, y, held_out_noise(model, 2500, seed=0)))


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_the_training_loss_is_the_mean_loss_times_the_batch(likelihood):
    model = make_model(likelihood=likelihood)
    x, y, noise = make_batch(32, 2)
    loss, sums = training_loss(model, x, y, noise, beta=4.0)
    torch.testing.assert_close(sums, objective_sums(model, x, y, noise))
    assert loss.item() == pytest.approx(32 * means(model, sums.detach().double(), 32, beta=4.0)["loss"])
