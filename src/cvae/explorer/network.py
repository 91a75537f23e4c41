"""Describe a model as a list of layers that the page's script can run, or say why it cannot.

`network.js` does the same arithmetic. A model may override what `CVAE` does with its layers, so a description counts
only if it reproduces the model's own results.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cvae.model import ACTIVATIONS, CVAE, VAE

MOST_WEIGHTS = 10_000_000  # 40 MB as text
TOLERANCE = 1e-3  # the largest difference in a latent or a pixel between the layers and the model
ACTIVATE = {"none": lambda x: x, "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


class UnknownModel(Exception):
    """The page cannot run this model; the message says why, in a clause."""


@dataclass(frozen=True)
class Layer:
    """activation(weight · x + bias + table[label]). `weight`: (outputs, inputs). `table`: (labels, outputs) or None."""

    weight: Tensor
    bias: Tensor
    table: Tensor | None = None
    activation: str = "none"

    def __call__(self, x: Tensor, label: Tensor) -> Tensor:
        hidden = torch.nn.functional.linear(x, self.weight, self.bias)
        return ACTIVATE[self.activation](hidden if self.table is None else hidden + self.table[label])

    def as_json(self) -> dict:
        """Return what `Layer` in network.js reads."""
        outputs, inputs = self.weight.shape
        parts = [self.weight, self.bias, *([] if self.table is None else [self.table])]
        return {
            "inputs": inputs,
            "outputs": outputs,
            "labels": 0 if self.table is None else len(self.table),
            "activation": self.activation,
            "weights": packed(np.concatenate([part.numpy().ravel() for part in parts])),
        }


@dataclass(frozen=True)
class Network:
    """The layers of the encoder, which end in μ and log σ side by side, and of the decoder, which end in logits."""

    encoder: list[Layer]
    decoder: list[Layer]

    def as_json(self) -> dict:
        return {name: [layer.as_json() for layer in layers] for name, layers in vars(self).items()}


def describe(model: VAE, x: Tensor, y: Tensor) -> Network:
    """Return the layers of `model`, after comparing their results on images x, (n, image_dims), labelled y, (n,).

    Raises:
        UnknownModel: it does not compute what the layers of CVAE do, or is too large for a page.
    """
    if not isinstance(model, CVAE):
        raise UnknownModel(f"a page can run the layers of CVAE, but not those of {type(model).__name__}")
    weights = sum(weight.numel() for weight in model.state_dict().values())
    if weights > MOST_WEIGHTS:
        raise UnknownModel(f"the model has {weights:,} weights, too many for a page (at most {MOST_WEIGHTS:,})")
    try:
        encoder, decoder = ACTIVATIONS[model.activation]
        network = Network(
            _layers([model.encoder, *model.encoder_hidden], encoder, model.posterior),
            _layers([model.decoder, *model.decoder_hidden], decoder, model.pixel_logits),
        )
        agrees = _agrees(model, network, x, y)
    except (AttributeError, LookupError, TypeError, RuntimeError):  # a class derived from CVAE has replaced layers
        agrees = False
    if not agrees:
        raise UnknownModel(f"{type(model).__name__} does not compute what the layers of CVAE do")
    return network


def _layers(hidden: Iterable[torch.nn.Module], activation: str, last: torch.nn.Module) -> list[Layer]:
    described = [(layer, activation) for layer in hidden]
    return [
        Layer(_stored(each.weight), _stored(each.bias), _stored(getattr(each, "label_weight", None)), name)
        for each, name in [*described, (last, "none")]
    ]


@torch.no_grad()
def _agrees(model: VAE, network: Network, x: Tensor, y: Tensor) -> bool:
    mu, log_sigma = model.encode(x, y)
    hidden, logits = x, mu
    for layer in network.encoder:
        hidden = layer(hidden, y)
    for layer in network.decoder:
        logits = layer(logits, y)
    pairs = ((hidden, torch.cat((mu, log_sigma), 1)), (torch.sigmoid(logits), model.decode(mu, y)))
    return all(one.shape == other.shape and (one - other).abs().max() < TOLERANCE for one, other in pairs)


def _stored(weight: Tensor | None) -> Tensor | None:
    """Return a weight on the CPU as the page will have it."""
    return None if weight is None else torch.from_numpy(_three_bytes(weight.detach().cpu().numpy()))


def _three_bytes(values: np.ndarray) -> np.ndarray:
    """Round float32 `values` to the upper three of their four bytes, a relative error of at most 2⁻¹⁶."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    return ((bits + 0x80) & 0xFFFFFF00).astype("<u4").view("<f4")


def packed(values: np.ndarray) -> str:
    """Return `values` as base64 of three bytes each, which `floatsFrom` in network.js reads.

    float16 would be smaller, but a trained model's latents would be off by more than 1e-3.
    """
    parts = _three_bytes(values.ravel()).view(np.uint8).reshape(-1, 4)
    return base64.b64encode(parts[:, 1:].tobytes()).decode()
