"""The importance-weighted bound, compared with likelihoods known in closed form."""

import math

import numpy as np
import pytest
import torch
from helpers.models import MNIST
from torch import Tensor
from torch.distributions import Bernoulli, LowRankMultivariateNormal, Normal

from cvae.compute.seeding import generator
from cvae.evaluation import likelihood as likelihood_module
from cvae.evaluation.evaluate import likelihood_constant
from cvae.evaluation.likelihood import bounds_of_labels, importance_weighted_nll
from cvae.model import CVAE
from cvae.objective import held_out_noise, held_out_sums, means

LABELS, PIXELS = len(MNIST.classes), MNIST.image_dims
SLOPE = 0.008


class LinearGaussian(CVAE):
    """A model with x̂ = W z + b_y, whose p(x|y) is Gaussian; q(z|x,y) is the exact posterior with σ times `widened`.

    The noise has covariance ½ I, so the posterior's precision is I / s² + 2 WᵀW; W is chosen to make it diagonal.
    """

    def __init__(self, widened: float):
        super().__init__(MNIST, latent_dims=2, hidden_dims=1, prior_std=0.8)
        self.double()
        columns = torch.randn(PIXELS, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        self.w = torch.linalg.qr(columns)[0] * SLOPE * PIXELS**0.5
        self.b = torch.linspace(0.45, 0.55, LABELS, dtype=torch.float64)[:, None].expand(LABELS, PIXELS)
        self.precision = self.prior_std**-2 + 2 * self.w.square().sum(0)
        self.widened = widened

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        mu = 2 * (x - self.b[y]) @ self.w / self.precision
        return mu, (self.widened * self.precision.rsqrt()).log().expand_as(mu)

    def logits(self, z: Tensor, y: Tensor) -> Tensor:
        return torch.logit(z @ self.w.t() + self.b[y])

    def nll(self, x: Tensor, y: Tensor) -> np.ndarray:
        """Return -ln p(x|y) from torch.distributions."""
        noise = torch.full((PIXELS,), 0.5, dtype=torch.float64)
        return -LowRankMultivariateNormal(self.b[y], self.prior_std * self.w, noise).log_prob(x).numpy()


@pytest.fixture(scope="module")
def sampled() -> tuple[Tensor, Tensor, np.ndarray]:
    """Images sampled from the model itself, their labels, and -ln p(x|y) without the Gaussian's constant."""
    numbers = torch.Generator().manual_seed(2)
    model = LinearGaussian(1.0)
    y = torch.arange(40) % LABELS
    z = 0.8 * torch.randn(40, 2, generator=numbers, dtype=torch.float64)
    noise = torch.randn(40, PIXELS, generator=numbers, dtype=torch.float64)
    x = z @ model.w.t() + model.b[y] + 0.5**0.5 * noise
    return x, y, model.nll(x, y) - likelihood_constant(model)


GAP = 2 * (2**2 / 2 - 0.5 - math.log(2))  # KL(q ‖ p(z|x,y)) in two dimensions, where q is twice as wide


def test_nll_equals_that_of_a_linear_gaussian_model(sampled):
    x, y, exact = sampled
    # With the exact posterior, every weight is p(x|y), whatever the number of samples.
    for samples in (1, 7, 100):
        nll = importance_weighted_nll(LinearGaussian(1.0), x, y, samples, 0)
        np.testing.assert_allclose(nll.numpy(), exact, rtol=1e-10)
    # With a wider one, it is a bound that tightens towards the likelihood.
    wide = LinearGaussian(2.0)
    gaps = [float((importance_weighted_nll(wide, x, y, k, 0).numpy() - exact).mean()) for k in (1, 4, 32, 1000)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] == pytest.approx(GAP, abs=1.5), "with one sample per image"
    assert abs(gaps[-1]) < 0.01 < gaps[2] < gaps[1] / 4


def make_model(**settings) -> CVAE:
    model = CVAE(MNIST, **({"latent_dims": 3, "hidden_dims": 20} | settings)).initialise(generator(3, "weights"))
    return model.requires_grad_(False)


def make_images(count: int) -> tuple[Tensor, Tensor]:
    numbers = torch.Generator().manual_seed(1)
    x = (torch.rand(count, PIXELS, generator=numbers) > 0.7).float()
    return x, torch.randint(LABELS, (count,), generator=numbers)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_with_one_sample_the_bound_is_the_negative_elbo(likelihood):
    model = make_model(likelihood=likelihood)
    x, y = make_images(3000)
    loss = means(model, held_out_sums(model, x, y, held_out_noise(model, 3000, 0)).double(), 3000, 1.0)["loss"]
    assert float(importance_weighted_nll(model, x, y, 1, 0).mean()) == pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_the_likelihood_of_an_image_equals_torchs(likelihood):
    """If z has no effect, and the posterior is the prior, the bound is the likelihood itself."""
    model = make_model(likelihood=likelihood)
    model.decoder.weight.zero_()
    model.posterior.weight.zero_()
    model.posterior.bias.copy_(torch.tensor([0.0] * 3 + [math.log(model.prior_std)] * 3))
    x, y = make_images(6)
    logits = model.logits(torch.zeros(6, 3), y)
    p_x = Normal(logits.sigmoid(), 0.5**0.5) if likelihood == "gaussian" else Bernoulli(logits=logits)
    expected = -(p_x.log_prob(x).sum(1) + likelihood_constant(model)).double()
    torch.testing.assert_close(importance_weighted_nll(model, x, y, 4, 0), expected, rtol=1e-5, atol=1e-3)


def test_images_and_samples_may_be_split_into_parts(monkeypatch):
    """Parts bound the memory. They get other noise, so the bound is the same only up to chance."""
    model = make_model(likelihood="bernoulli")
    x, y = make_images(50)
    at_once = importance_weighted_nll(model, x, y, 400, 0)
    monkeypatch.setattr(likelihood_module, "CHUNK", PIXELS * 150)
    decoded, logits = [], model.logits
    monkeypatch.setattr(model, "logits", lambda z, y: decoded.append(len(z)) or logits(z, y))
    parts = importance_weighted_nll(model, x, y, 400, 0)
    assert (sum(decoded), max(decoded)) == (50 * 400, 150), "one image has more samples than fit"
    decoded.clear()
    importance_weighted_nll(model, x, y, 10, 0)
    assert (sum(decoded), max(decoded)) == (50 * 10, 150), "there are more images than fit"
    assert parts.shape == at_once.shape == (50,)
    assert not torch.equal(parts, at_once)
    torch.testing.assert_close(parts, at_once, rtol=0, atol=0.2)


def test_the_bound_repeats_to_the_bit_and_depends_on_the_seed():
    model, (x, y) = make_model(), make_images(20)
    first, again, other = (importance_weighted_nll(model, x, y, 5, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_bounds_of_labels_belong_to_each_label(sampled):
    x, y, _ = sampled
    model = LinearGaussian(2.0)
    elbos, tighter = bounds_of_labels(model, x, 100, 0)
    for label in (0, 4, 9):
        exact = likelihood_constant(model) - model.nll(x, torch.full_like(y, label))
        np.testing.assert_allclose(elbos[:, label], exact - GAP, atol=1.5)
        np.testing.assert_allclose(tighter[:, label], exact, atol=1)
        assert float((elbos[:, label].numpy() - exact).mean()) == pytest.approx(-GAP, abs=0.2)
        assert float((tighter[:, label].numpy() - exact).mean()) == pytest.approx(0, abs=0.05)


def test_labels_share_their_noise():
    """If encoder and decoder ignore the label, all labels have exactly the same bounds."""
    model = make_model()
    model.encoder.label_weight.zero_()
    model.decoder.label_weight.zero_()
    elbos, tighter = bounds_of_labels(model, make_images(15)[0], 10, 0)
    for values in (elbos, tighter):
        assert torch.equal(values, values[:, :1].expand(-1, LABELS))
