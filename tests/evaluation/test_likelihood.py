"""The importance-weighted bound, against models whose likelihood is known in closed form."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, LowRankMultivariateNormal, Normal

from cvae.compute.seeding import generator
from cvae.data.idx import LABELS, PIXELS
from cvae.evaluation import likelihood as bounds
from cvae.evaluation.evaluate import likelihood_constant
from cvae.evaluation.likelihood import bounds_of_labels, importance_weighted_nll
from cvae.model import CVAE
from cvae.objective import held_out_noise, held_out_sums, means

SLOPE = 0.008


class LinearGaussian(CVAE):
    """x̂ = W z + b of the label, so that p(x|y) is a Gaussian; q(z|x,y) is the exact posterior, its σ times `widened`.

    With ½ I for the noise, the posterior's precision is I / s² + 2 WᵀW, which is made diagonal.
    """

    def __init__(self, widened: float):
        super().__init__(latent_dims=2, hidden_dims=1, prior_std=0.8)
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
        """-ln p(x|y), by torch.distributions."""
        noise = torch.full((PIXELS,), 0.5, dtype=torch.float64)
        return -LowRankMultivariateNormal(self.b[y], self.prior_std * self.w, noise).log_prob(x).numpy()


@pytest.fixture(scope="module")
def drawn() -> tuple[Tensor, Tensor, np.ndarray]:
    """Images drawn from the model itself, their labels, and -ln p(x|y) without the Gaussian's constant."""
    numbers = torch.Generator().manual_seed(2)
    model = LinearGaussian(1.0)
    y = torch.arange(40) % LABELS
    z = 0.8 * torch.randn(40, 2, generator=numbers, dtype=torch.float64)
    noise = torch.randn(40, PIXELS, generator=numbers, dtype=torch.float64)
    x = z @ model.w.t() + model.b[y] + 0.5**0.5 * noise
    return x, y, model.nll(x, y) - likelihood_constant(model)


GAP = 2 * (2**2 / 2 - 0.5 - math.log(2))  # KL(q ‖ p(z|x,y)) in two dimensions, where q is twice as wide


def check_closed_form(nll_of, x: Tensor, y: Tensor, exact: np.ndarray) -> None:
    """Compare `nll_of(model, images, labels, samples, seed)` with the known likelihood, two ways."""
    # With the exact posterior every weight is p(x|y), however many there are.
    for samples in (1, 7, 100):
        np.testing.assert_allclose(nll_of(LinearGaussian(1.0), x, y, samples, 0).numpy(), exact, rtol=1e-10)
    # With another one it is a bound, which tightens towards the likelihood.
    gaps = [float((nll_of(LinearGaussian(2.0), x, y, k, 0).numpy() - exact).mean()) for k in (1, 4, 32, 1000)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] == pytest.approx(GAP, abs=1.5), "of one draw an image"
    assert abs(gaps[-1]) < 0.01 < gaps[2] < gaps[1] / 4


def test_nll_is_that_of_a_linear_gaussian_model(drawn):
    check_closed_form(importance_weighted_nll, *drawn)


@pytest.mark.parametrize(
    ("right", "broken"),
    [
        ("return -torch.cat(parts)", "return torch.cat(parts)"),
        (" - math.log(len(log_weights))", ""),
        (" - math.log(len(log_weights))", " + math.log(len(log_weights))"),
        ("log_p_x + log_ratio for", "log_p_x - log_ratio for"),
        (" + log_sigma - math.log(s)).sum(2)", " - math.log(s)).sum(2)"),
        ("noise.square() / 2 - z.square()", "noise.square() / 2 + z.square()"),
        (".logsumexp(0)", ".sum(0)"),
    ],
    ids=["sign", "no-log-k", "log-k-sign", "ratio-sign", "no-sigma", "prior-sign", "sum-of-logs"],
)
def test_a_broken_bound_does_not_pass_for_the_likelihood(right, broken, drawn):
    source = Path(bounds.__file__).read_text()
    assert source.count(right) == 1
    module: dict = {"__name__": "broken"}
    exec(compile(source.replace(right, broken), "broken", "exec"), module)
    with pytest.raises(AssertionError):
        check_closed_form(module["importance_weighted_nll"], *drawn)


def make_model(**settings) -> CVAE:
    model = CVAE(**({"latent_dims": 3, "hidden_dims": 20} | settings)).initialise(generator(3, "weights"))
    return model.requires_grad_(False)


def make_images(count: int) -> tuple[Tensor, Tensor]:
    numbers = torch.Generator().manual_seed(1)
    x = (torch.rand(count, PIXELS, generator=numbers) > 0.7).float()
    return x, torch.randint(LABELS, (count,), generator=numbers)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_one_draw_is_the_negative_elbo(likelihood):
    model = make_model(likelihood=likelihood)
    x, y = make_images(3000)
    loss = means(model, held_out_sums(model, x, y, held_out_noise(model, 3000, 0)).double(), 3000, 1.0)["loss"]
    assert float(importance_weighted_nll(model, x, y, 1, 0).mean()) == pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_the_likelihood_of_an_image_is_torchs(likelihood):
    model = make_model(likelihood=likelihood)
    x, y = make_images(6)
    z = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0))
    logits = model.logits(z.flatten(0, 1), y.repeat(4)).view(4, 6, -1)
    mean = logits.sigmoid()
    of = Normal(mean, 0.5**0.5) if likelihood == "gaussian" else Bernoulli(logits=logits)
    expected = of.log_prob(x).sum(2) + likelihood_constant(model)
    torch.testing.assert_close(bounds._log_likelihood(model, x, z, y), expected, rtol=1e-5, atol=1e-3)


def test_images_and_samples_may_come_in_parts(monkeypatch):
    """Memory is bounded; parts draw other noise, so that the bound is the same up to chance."""
    model = make_model(likelihood="bernoulli")
    x, y = make_images(50)
    whole = importance_weighted_nll(model, x, y, 400, 0)
    monkeypatch.setattr(bounds, "CHUNK", 784 * 150)
    decoded, logits = [], model.logits
    monkeypatch.setattr(model, "logits", lambda z, y: decoded.append(len(z)) or logits(z, y))
    parts = importance_weighted_nll(model, x, y, 400, 0)
    assert (sum(decoded), max(decoded)) == (50 * 400, 150), "more samples of one image than fit"
    decoded.clear()
    importance_weighted_nll(model, x, y, 10, 0)
    assert (sum(decoded), max(decoded)) == (50 * 10, 150), "and more images than fit"
    assert parts.shape == whole.shape == (50,)
    assert not torch.equal(parts, whole)
    torch.testing.assert_close(parts, whole, rtol=0, atol=0.2)


def test_the_bound_repeats_to_the_bit_and_depends_on_the_seed():
    model, (x, y) = make_model(), make_images(20)
    first, again, other = (importance_weighted_nll(model, x, y, 5, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_bounds_of_labels_are_those_of_each_label(drawn):
    x, y, _ = drawn
    model = LinearGaussian(2.0)
    elbos, tighter = bounds_of_labels(model, x, 100, 0)
    for label in (0, 4, 9):
        exact = likelihood_constant(model) - model.nll(x, torch.full_like(y, label))
        np.testing.assert_allclose(elbos[:, label], exact - GAP, atol=1.5)
        np.testing.assert_allclose(tighter[:, label], exact, atol=1)
        assert float((elbos[:, label].numpy() - exact).mean()) == pytest.approx(-GAP, abs=0.2)
        assert float((tighter[:, label].numpy() - exact).mean()) == pytest.approx(0, abs=0.05)


def test_labels_share_their_noise():
    """Of a decoder and encoder that are not told the label, all labels have the very same bounds."""
    model = make_model()
    model.encoder.label_weight.zero_()
    model.decoder.label_weight.zero_()
    elbos, tighter = bounds_of_labels(model, make_images(15)[0], 10, 0)
    for values in (elbos, tighter):
        assert torch.equal(values, values[:, :1].expand(-1, LABELS))
