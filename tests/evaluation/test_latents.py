import numpy as np
import pytest
import torch
from helpers.models import MNIST

from cvae.compute.seeding import generator
from cvae.evaluation.latents import active, aggregate_moments, posteriors, prior_distance
from cvae.model import CVAE


def test_active_units_are_the_dimensions_whose_mean_varies():
    model = CVAE(MNIST, latent_dims=3).initialise(generator(0, "weights"))
    with torch.no_grad():
        model.posterior.weight[1:3] = 0  # two of three posterior means are constant
        model.posterior.weight[0] *= 100
    images = torch.rand(50, MNIST.image_dims, generator=torch.Generator().manual_seed(0))
    mu, _ = posteriors(model, images, torch.zeros(50, dtype=torch.int64))
    assert active(mu).tolist() == [True, False, False]


def test_prior_distance_is_zero_for_the_prior_and_the_size_of_a_shift():
    sigma = torch.full((10, 3), 0.5)
    mu = torch.tensor([0.0, 0.5, -2.0]).expand(10, 3)
    assert prior_distance(mu, sigma, 0.5).tolist() == pytest.approx([0, 1, 4], abs=1e-3)


def test_prior_distance_equals_scipys_between_samples():
    from scipy.stats import wasserstein_distance

    numbers = np.random.default_rng(0)
    mu, sigma = numbers.normal(0.3, 1.5, (400, 2)), numbers.uniform(0.1, 0.4, (400, 2))
    z = mu + sigma * numbers.normal(size=(500, 400, 2))
    theirs = [wasserstein_distance(z[:, :, d].ravel(), numbers.normal(0, 0.7, 200_000)) / 0.7 for d in range(2)]
    ours = prior_distance(torch.tensor(mu).float(), torch.tensor(sigma).float(), 0.7)
    assert ours.tolist() == pytest.approx(theirs, abs=0.02)


def test_moments_of_the_aggregate_posterior_are_those_of_its_samples():
    numbers = np.random.default_rng(0)
    mu, sigma = numbers.normal(0.3, 1.5, (400, 2)), numbers.uniform(0.1, 2, (400, 2))
    z = (mu + sigma * numbers.normal(size=(2000, 400, 2))).reshape(-1, 2)
    moments = aggregate_moments(torch.tensor(mu), torch.tensor(sigma))
    np.testing.assert_allclose(moments["mean"], z.mean(0), atol=0.01)
    np.testing.assert_allclose(moments["std"], z.std(0), atol=0.01)
