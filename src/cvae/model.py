"""The conditional variational autoencoder, in the order that data flows through it.

By default it is the article's model: an encoder q(z|x,y) and a decoder p(x|z,y), each with one hidden layer and
the label y as an extra input, and a prior N(0, prior_std² I) over z. More hidden layers and other activations are
options. Without labels it is a plain VAE.

`VAE` is what all models share. To make your own, see docs/your-own.md.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvae.data.dataset import Schema

LIKELIHOODS = ("gaussian", "bernoulli")
LABELS = ("given", "none")


class VAE(nn.Module):
    """What all models share: settings that the objective and the figures read, and the interface that they call.

    Shapes: images x (n, image_dims) float in [0, 1], labels y (n,) int64, latents z (n, latent_dims). The values of an
    image are in the order height, width, channel; `schema` has its shape and the names of the classes.

    `labels`: "given", or "none" for a model that must ignore y; `label_count` is then 0. `likelihood`: the form of
    p(x|z,y), "gaussian" (with variance ½) or "bernoulli". `prior_std`: the standard deviation of the prior over z.

    A subclass defines `encode` and `logits`. It takes `schema`, its own arguments and `**settings`, passes `settings`
    on to this class, and adds its own arguments to `configuration`.
    """

    def __init__(
        self,
        schema: Schema,
        labels: str = "given",
        latent_dims: int = 2,
        likelihood: str = "gaussian",
        prior_std: float = math.sqrt(0.5),
    ):
        super().__init__()
        self.schema, self.labels, self.latent_dims = schema, labels, latent_dims
        self.likelihood, self.prior_std = likelihood, float(prior_std)
        self.label_count = len(schema.classes) if labels == "given" else 0  # of labels that the model can tell apart

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean μ and log standard deviation log σ of q(z|x,y), (n, latent_dims) each."""
        raise NotImplementedError

    def logits(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the decoder's output before the final sigmoid, (n, image_dims)."""
        raise NotImplementedError

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the mean image of p(x|z,y), (n, image_dims) in [0, 1]."""
        return torch.sigmoid(self.logits(z, y))

    def configuration(self) -> dict:
        """Return all arguments, beside `schema`, that rebuild this model: numbers, strings, or lists of them."""
        return {
            "labels": self.labels,
            "latent_dims": self.latent_dims,
            "likelihood": self.likelihood,
            "prior_std": self.prior_std,
        }

    def initialise(self, generator: torch.Generator) -> "VAE":
        """Sample the weights from U(±1/√fan_in), as `torch.nn.Linear` does, and return the model.

        This covers `ConditionalLinear` and `Linear` layers. Other layers keep the weights torch gave them, and so do
        weights computed by a parametrization such as weight norm.
        """
        for layer in self.modules():
            if isinstance(layer, ConditionalLinear | Linear):
                bound = 1 / math.sqrt(layer.fan_in)
                for name, parameter in layer.named_parameters(recurse=False):
                    if name in ("weight", "label_weight", "bias"):
                        nn.init.uniform_(parameter, -bound, bound, generator)
        return self


class ConditionalLinear(nn.Module):
    """A linear layer on [x, onehot(label)], without building the one-hot vectors.

    Multiplying by a one-hot vector picks one column of the weight matrix. This layer stores those columns as the
    rows of a table and adds the row for each label. The function and its initial distribution stay the same. With
    `labels` = 0 there is no table, and it is an ordinary linear layer on x.
    """

    def __init__(self, in_features: int, labels: int, out_features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.label_weight = nn.Parameter(torch.empty(labels, out_features)) if labels else None
        self.bias = nn.Parameter(torch.empty(out_features))
        self.fan_in = in_features + labels
        for parameter in self.parameters():  # for callers that do not use `VAE.initialise`
            nn.init.uniform_(parameter, -1 / math.sqrt(self.fan_in), 1 / math.sqrt(self.fan_in))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        hidden = F.linear(x, self.weight, self.bias)
        return hidden if self.label_weight is None else hidden + F.embedding(label, self.label_weight)


class Linear(nn.Linear):
    """A linear layer whose weights `VAE.initialise` samples."""

    @property
    def fan_in(self) -> int:
        return self.in_features


ACTIVATIONS = {  # name: (encoder's, decoder's)
    "article": ("relu", "sigmoid"),
    "relu": ("relu", "relu"),
    "tanh": ("tanh", "tanh"),
    "sigmoid": ("sigmoid", "sigmoid"),
}
_FUNCTIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


class CVAE(VAE):
    """The article's model: an encoder and a decoder of linear layers.

    `hidden_dims`: widths of the encoder's hidden layers, starting at the image; the decoder has the same widths in
    reverse. The label enters at the first layer of each. `activation`: a key of `ACTIVATIONS`.
    """

    def __init__(
        self,
        schema: Schema,
        labels: str = "given",
        latent_dims: int = 2,
        hidden_dims: int | Sequence[int] = 256,
        likelihood: str = "gaussian",
        prior_std: float = math.sqrt(0.5),
        activation: str = "article",
    ):
        super().__init__(schema, labels, latent_dims, likelihood, prior_std)
        self.hidden_dims = (hidden_dims,) if isinstance(hidden_dims, int) else tuple(hidden_dims)
        self.activation = activation
        self._encoder_activation, self._decoder_activation = (_FUNCTIONS[name] for name in ACTIVATIONS[activation])

        widths = self.hidden_dims
        self.encoder = ConditionalLinear(schema.image_dims, self.label_count, widths[0])
        self.encoder_hidden = nn.ModuleList(Linear(*pair) for pair in pairwise(widths))
        self.posterior = Linear(widths[-1], 2 * latent_dims)  # μ and log σ, side by side
        self.decoder = ConditionalLinear(latent_dims, self.label_count, widths[-1])
        self.decoder_hidden = nn.ModuleList(Linear(*pair) for pair in pairwise(reversed(widths)))
        self.pixel_logits = Linear(widths[0], schema.image_dims)

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self._encoder_activation(self.encoder(x, y))
        for layer in self.encoder_hidden:
            hidden = self._encoder_activation(layer(hidden))
        mu, log_sigma = self.posterior(hidden).chunk(2, dim=1)
        return mu, log_sigma

    def logits(self, z: Tensor, y: Tensor) -> Tensor:
        hidden = self._decoder_activation(self.decoder(z, y))
        for layer in self.decoder_hidden:
            hidden = self._decoder_activation(layer(hidden))
        return self.pixel_logits(hidden)

    def configuration(self) -> dict:
        return super().configuration() | {"hidden_dims": list(self.hidden_dims), "activation": self.activation}


def sample_prior(model: VAE, count: int, generator: torch.Generator) -> Tensor:
    """Sample `count` z from the prior N(0, prior_std² I), (count, latent_dims) on the CPU."""
    return torch.randn(count, model.latent_dims, generator=generator) * model.prior_std
