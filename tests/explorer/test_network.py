"""The arithmetic of the explorer's page, in a browser, against torch."""

import numpy as np
import pytest
import torch
from helpers.explorer import SMALL, strokes_like, vivid, write
from torch.nn.utils.parametrizations import weight_norm

from cvae.data.dataset import Schema
from cvae.data.tensors import to_device
from cvae.explorer.network import MOST_WEIGHTS, UnknownModel, describe, packed
from cvae.model import CVAE, Linear
from cvae.models.convolutional import ConvolutionalCVAE
from cvae.objective import RECONSTRUCTION, kl, objective_sums

COLOUR = Schema((12, 9, 3), ("red", "green", "blue", "<b>&amp;"), "Own <images>")
CONFIGURATIONS = {
    "the article's": {},
    "one latent": {"latent_dims": 1, "likelihood": "bernoulli"},
    "eight latents": {"latent_dims": 8, "hidden_dims": [48, 32], "activation": "tanh"},
    "deep": {"hidden_dims": [64, 32, 16], "activation": "relu", "prior_std": 1.0, "likelihood": "bernoulli"},
    "sigmoid": {"activation": "sigmoid"},
    "without labels": {"labels": "none", "latent_dims": 3},
    "colour": {"schema": COLOUR},
    "colour without labels": {"schema": COLOUR, "labels": "none", "likelihood": "bernoulli"},
}


@pytest.mark.parametrize("settings", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_latents_pixels_and_negative_elbos_equal_those_of_torch(settings, open_page, tmp_path):
    model = vivid(**settings)
    x, y = to_device(strokes_like(model.schema), torch.device("cpu"))
    x, y = x[:12], y[:12]
    page = open_page(write(model, tmp_path))
    computed = page.evaluate(
        """([images, labels]) => images.map((x, i) => {
          const label = labels[i];
          const { mu, sigma } = network.encode(x, label);
          const decoded = network.decode(mu, label);
          return { mu: [...mu], sigma: [...sigma], decoded: [...decoded], elbo: network.negativeElbo(x, label) };
        })""",
        [x.tolist(), y.tolist()],
    )

    mu, log_sigma = model.encode(x, y)
    assert np.ptp(model.decode(mu, y).numpy(), axis=0).max() > 0.1, "images differ"
    for name, expected in {"mu": mu, "sigma": log_sigma.exp(), "decoded": model.decode(mu, y)}.items():
        np.testing.assert_allclose([each[name] for each in computed], expected, atol=1e-3, rtol=1e-4)
    for i, each in enumerate(computed):
        sums = objective_sums(model, x[i : i + 1], y[i : i + 1], torch.zeros(1, model.latent_dims))
        # With z = μ only the reconstruction changes.
        assert each["elbo"] == pytest.approx(float(sums[RECONSTRUCTION] + kl(model, sums, 1)), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("schema", [SMALL, COLOUR], ids=["grey", "colour"])
def test_the_page_has_the_test_images_and_their_posteriors(schema, open_page, tmp_path):
    model = vivid(schema)
    images = strokes_like(schema)
    page = open_page(write(model, tmp_path))
    x, y = to_device(images, torch.device("cpu"))
    mu, log_sigma = model.encode(x, y)
    count = page.evaluate("explorer.images.count")
    assert count == len(images)
    for i in (0, count - 1):
        label, shown, means, sigma = page.evaluate(
            "(i) => [explorer.images.labels[i], ...['image', 'mu', 'sigma'].map((of) => [...explorer.images[of](i)])]",
            i,
        )
        (found,) = np.flatnonzero((np.abs(x.numpy() - shown).max(1) < 1e-6) & (y.numpy() == label))
        np.testing.assert_allclose(means, mu[found], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(sigma, log_sigma[found].exp(), rtol=1e-4)


def test_numbers_are_stored_in_three_bytes_with_a_small_error(open_page, tmp_path):
    values = np.float32([0, -0.0, 1, -1.00001, np.pi, 1e-20, -3e30, 0.1, 1 - 2**-24])
    page = open_page(write(vivid(), tmp_path))
    assert page.evaluate("(text) => [...floatsFrom(text)]", packed(values)) == pytest.approx(values, rel=2**-16)
    assert len(packed(values)) == 4 * len(values)


def description_of(model):
    return describe(model, *to_device(strokes_like(model.schema), torch.device("cpu")))


class Residual(CVAE):
    def logits(self, z, y):
        return super().logits(z, y) + 1


class OtherLayers(CVAE):
    def __init__(self, schema, **settings):
        super().__init__(schema, **settings)
        self.posterior = torch.nn.Sequential(Linear(256, 256), Linear(256, 4))


class Renamed(CVAE):
    """A model of one's own whose layers are CVAE's."""


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: ConvolutionalCVAE(SMALL), "but not those of ConvolutionalCVAE"),
        (lambda: Residual(SMALL), "Residual does not compute what"),
        (lambda: OtherLayers(SMALL), "OtherLayers does not compute what"),
        (lambda: CVAE(SMALL, hidden_dims=8000), r"has 12,\d+,\d+ weights, too many"),
    ],
    ids=["convolutions", "another decoder", "another layer", "too wide"],
)
def test_a_model_that_the_page_cannot_run_is_refused(model, reason):
    with pytest.raises(UnknownModel, match=reason):
        description_of(model().eval())


def test_a_model_that_only_differs_in_its_name_or_its_parametrization_is_described():
    model = Renamed(SMALL).eval()
    weight_norm(model.pixel_logits)
    network = description_of(model)
    assert [layer.activation for layer in network.decoder] == ["sigmoid", "none"]
    assert sum(weight.numel() for weight in model.state_dict().values()) < MOST_WEIGHTS
