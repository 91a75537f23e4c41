"""Edited models: the article's network with one change each, and one that shares no code with it."""

import sys
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvae.compute.devices import open_device
from cvae.compute.seeding import generator
from cvae.model import CVAE, VAE
from cvae.training.loop import Training
from helpers.models import MNIST

SIDE, PIXELS, LABELS = MNIST.shape[0], MNIST.image_dims, len(MNIST.classes)


class Activation(CVAE):
    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.posterior(F.gelu(self.encoder(x, y))).chunk(2, dim=1)


class ExtraLayer(CVAE):
    def __init__(self, schema, **settings):
        super().__init__(schema, **settings)
        self.extra = nn.Linear(PIXELS, PIXELS)

    def logits(self, z: Tensor, y: Tensor) -> Tensor:
        return self.extra(torch.relu(super().logits(z, y)))


class Convolution(CVAE):
    def __init__(self, schema, **settings):
        super().__init__(schema, **settings)
        self.convolution = nn.Conv2d(1, 2, 3, padding=1)

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return super().encode(self.convolution(x.view(-1, 1, SIDE, SIDE)).amax(1).flatten(1), y)


class LayerNorm(CVAE):
    def __init__(self, schema, **settings):
        super().__init__(schema, **settings)
        self.norm = nn.LayerNorm(self.hidden_dims[-1])

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.posterior(torch.relu(self.norm(self.encoder(x, y)))).chunk(2, dim=1)


class UsedTwice(CVAE):
    """The decoder's last layer uses the encoder's first weights, and a layer of the encoder runs twice."""

    def __init__(self, schema, **settings):
        super().__init__(schema, **settings)
        self.square = nn.Linear(self.hidden_dims[-1], self.hidden_dims[-1])
        self.pixel_bias = nn.Parameter(torch.zeros(PIXELS))
        del self.pixel_logits

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.encoder(x, y))
        return self.posterior(torch.relu(self.square(torch.relu(self.square(hidden))))).chunk(2, dim=1)

    def logits(self, z: Tensor, y: Tensor) -> Tensor:
        return F.linear(torch.sigmoid(self.decoder(z, y)), self.encoder.weight.t(), self.pixel_bias)


class TwoNames(CVAE):
    """One layer under two names, so that its tensors are in the model's state dict twice."""

    def __init__(self, schema, **settings):
        super().__init__(schema, **settings)
        self.first = nn.Linear(self.hidden_dims[-1], self.hidden_dims[-1])
        self.second = self.first

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.posterior(torch.relu(self.second(self.first(self.encoder(x, y))))).chunk(2, dim=1)


class Buffers(CVAE):
    """Batch norm and dropout: buffers, a training mode, and torch's own random numbers."""

    def __init__(self, schema, **settings):
        super().__init__(schema, **settings)
        self.norm, self.dropout = nn.BatchNorm1d(self.hidden_dims[-1]), nn.Dropout(0.2)

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.posterior(self.dropout(torch.relu(self.norm(self.encoder(x, y))))).chunk(2, dim=1)


class Scale(CVAE):
    """No parameter or layer is added; only the result of `encode` is scaled."""

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_sigma = super().encode(x, y)
        return 1.001 * mu, log_sigma


class Clamp(CVAE):
    """A bound that the first batch does not reach, but later ones do."""

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_sigma = super().encode(x, y)
        return mu, log_sigma.clamp(-1.2, 3)


class Decoder(CVAE):
    """A different mean image, in `decode` alone."""

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        return torch.sigmoid(2 * self.logits(z, y))


class Hook(CVAE):
    """A hook bounds gradients; the first batch does not reach the bound."""

    def __init__(self, schema, **settings):
        super().__init__(schema, **settings)
        self.decoder.weight.register_hook(lambda gradient: gradient.clamp(-30, 30))


class Counter(CVAE):
    """The network changes after five batches."""

    calls = 0

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += self.training
        return super().encode(x / 2 if self.calls > 5 else x, y)


class WeightNorm(CVAE):
    """A layer of the article's network whose weights are computed from other parameters."""

    def __init__(self, schema, **settings):
        super().__init__(schema, **settings)
        nn.utils.parametrizations.weight_norm(self.pixel_logits)


class Frozen(CVAE):
    def __init__(self, schema, **settings):
        super().__init__(schema, **settings)
        self.decoder.requires_grad_(False)


class Another(VAE):
    """A network that shares only its interface with the article's."""

    def __init__(self, schema, latent_dims: int = 2):
        super().__init__(schema, latent_dims=latent_dims, likelihood="bernoulli", prior_std=1.0)
        self.down = nn.Sequential(nn.Conv2d(1 + LABELS, 4, 4, stride=4), nn.SiLU(), nn.Flatten())
        self.down.append(nn.Linear(4 * (SIDE // 4) ** 2, 2 * latent_dims))
        self.up = nn.Sequential(nn.Linear(latent_dims + LABELS, 32), nn.SiLU(), nn.Linear(32, PIXELS))

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        label = F.one_hot(y, LABELS).to(x)[:, :, None, None].expand(-1, -1, SIDE, SIDE)
        return self.down(torch.cat((x.view(-1, 1, SIDE, SIDE), label), dim=1)).chunk(2, dim=1)

    def logits(self, z: Tensor, y: Tensor) -> Tensor:
        return self.up(torch.cat((z, F.one_hot(y, LABELS).to(z)), dim=1))


EPOCHS, BATCH, RATE = 3, 100, 1e-3


def install(monkeypatch, kind: type[nn.Module]) -> str:
    """Make `kind` a class of src/cvae/models/edited.py, as far as the project can tell, and return its name there."""
    monkeypatch.setattr(kind, "__module__", "cvae.models.edited")
    monkeypatch.setitem(sys.modules, kind.__module__, SimpleNamespace(**{kind.__name__: kind}))
    return f"{kind.__module__}:{kind.__name__}"


def make(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    settings = {} if kind is Another else {"hidden_dims": 32}
    return kind(MNIST, **settings).initialise(generator(seed, "weights"))


def train(model: nn.Module, splits, **settings) -> list[dict[str, float]]:
    open_device("cpu", threads=1)
    settings = {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": RATE, "beta": 1.0, "seed": 0} | settings
    return list(Training(model, *splits, **settings))
