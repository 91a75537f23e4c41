"""The conditional variational autoencoder, in the order that data flows through it.

The article's model: an encoder q(z|x,y) and a decoder p(x|z,y) of one hidden layer each, both told the
label y, and a prior N(0, prior_std² I) over z. More hidden layers, and other activations, are options.
"""

import hashlib
import inspect
import json
import math
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvae.data.idx import LABELS, PIXELS
from cvae.support.errors import UserError, one_line
from cvae.support.faults import memory_shortage
from cvae.support.files import write_whole

ACTIVATIONS = {  # of the encoder's hidden layers, and of the decoder's
    "article": ("relu", "sigmoid"),
    "relu": ("relu", "relu"),
    "tanh": ("tanh", "tanh"),
    "sigmoid": ("sigmoid", "sigmoid"),
}
KEYS = ("latent_dims", "hidden_dims", "likelihood", "prior_std", "activation")  # of config.json
HEADER = 2**16  # bytes, more than config.json takes and than the weights' names and shapes do
_FUNCTIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


class ConditionalLinear(nn.Module):
    """A linear layer on [x, onehot(label)], without building the one-hot vectors.

    A product with a one-hot vector picks one column of the weight matrix; this layer keeps those columns
    as the rows of a table and adds the row of each label. Same function, same initial distribution.
    """

    def __init__(self, in_features: int, labels: int, out_features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.label_weight = nn.Parameter(torch.empty(labels, out_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.fan_in = in_features + labels

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) + F.embedding(label, self.label_weight)


class Linear(nn.Linear):
    """A linear layer without weights of its own choice: `CVAE.initialise` draws them, or `CVAE.load` reads them."""

    @property
    def fan_in(self) -> int:
        return self.in_features

    def reset_parameters(self) -> None:
        pass


class CVAE(nn.Module):
    """Shapes: images x (n, 784) float in [0, 1], labels y (n,) int64, latents z (n, latent_dims).

    `hidden_dims`: widths of the encoder's hidden layers, from the image on; the decoder has the same ones in
    reverse. An encoder's or a decoder's first layer is told the label. `activation`: a key of `ACTIVATIONS`.
    `likelihood`: what p(x|z,y) is; "gaussian" of variance ½, or "bernoulli".
    """

    def __init__(
        self,
        latent_dims: int = 2,
        hidden_dims: int | Sequence[int] = 256,
        likelihood: str = "gaussian",
        prior_std: float = math.sqrt(0.5),
        activation: str = "article",
    ):
        super().__init__()
        self.latent_dims, self.likelihood, self.prior_std = latent_dims, likelihood, float(prior_std)
        self.hidden_dims = (hidden_dims,) if isinstance(hidden_dims, int) else tuple(hidden_dims)
        self.activation = activation
        self._encoder_activation, self._decoder_activation = (_FUNCTIONS[name] for name in ACTIVATIONS[activation])

        widths = self.hidden_dims
        self.encoder = ConditionalLinear(PIXELS, LABELS, widths[0])
        self.encoder_hidden = nn.ModuleList(Linear(*pair) for pair in pairwise(widths))
        self.posterior = Linear(widths[-1], 2 * latent_dims)  # μ and log σ, side by side
        self.decoder = ConditionalLinear(latent_dims, LABELS, widths[-1])
        self.decoder_hidden = nn.ModuleList(Linear(*pair) for pair in pairwise(reversed(widths)))
        self.pixel_logits = Linear(widths[0], PIXELS)

    def initialise(self, generator: torch.Generator) -> "CVAE":
        """Draw the weights of these layers from U(±1/√fan_in), `torch.nn.Linear`'s own distribution.

        Layers of torch's own kinds keep the weights that torch drew for them as they were made.
        """
        for layer in self.modules():
            if isinstance(layer, ConditionalLinear | Linear):
                bound = 1 / math.sqrt(layer.fan_in)
                for name in ("weight", "label_weight", "bias"):
                    if hasattr(layer, name):
                        nn.init.uniform_(getattr(layer, name), -bound, bound, generator)
        return self

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """q(z|x,y) as its mean μ and log standard deviation log σ, (n, latent_dims) each."""
        hidden = self._encoder_activation(self.encoder(x, y))
        for layer in self.encoder_hidden:
            hidden = self._encoder_activation(layer(hidden))
        mu, log_sigma = self.posterior(hidden).chunk(2, dim=1)
        return mu, log_sigma

    def logits(self, z: Tensor, y: Tensor) -> Tensor:
        """The decoder up to its last sigmoid, (n, 784)."""
        hidden = self._decoder_activation(self.decoder(z, y))
        for layer in self.decoder_hidden:
            hidden = self._decoder_activation(layer(hidden))
        return self.pixel_logits(hidden)

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """The mean image of p(x|z,y), (n, 784) in [0, 1]."""
        return torch.sigmoid(self.logits(z, y))

    def configuration(self) -> dict:
        """What `CVAE(**configuration)` needs to build this model anew."""
        return {
            "latent_dims": self.latent_dims,
            "hidden_dims": list(self.hidden_dims),
            "likelihood": self.likelihood,
            "prior_std": self.prior_std,
            "activation": self.activation,
        }

    def save(self, folder: str | Path) -> None:
        """Write model.safetensors and config.json to `folder`; the same weights give the same bytes."""
        from safetensors.torch import save

        folder = Path(folder)
        weights = {  # copies: a tensor that has two names in the model is saved under both
            name: weight.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, weight in self.state_dict().items()
        }
        content, configuration = save(weights), self.configuration()
        checksum = {"sha256": _checksum(configuration, content)}  # first: a file cut short does not lose it alone
        described = json.dumps(checksum | configuration, indent=2) + "\n"
        write_whole({folder / "model.safetensors": content, folder / "config.json": described.encode()})

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> "CVAE":
        """Rebuild the model that `save` wrote to `folder`, on `device`, ready to evaluate.

        Raises:
            UserError: a file is missing or damaged, or the two do not belong together.
        """
        folder = Path(folder)
        try:
            configuration, checksum = _read_configuration(
                _read(folder / "config.json", HEADER), inspect.signature(cls).parameters
            )
            with torch.device("meta"):  # takes no memory for weights, which the file may not have
                expected = cls(**configuration).state_dict()
            most = sum(weight.nbytes for weight in expected.values()) + HEADER
            content = _read(folder / "model.safetensors", most)
            weights = _read_weights(content, expected)
            if checksum not in (None, _checksum(configuration, content)):
                raise ValueError("its two files are not as they were saved, by the sha256 in config.json")
        except OSError as error:
            raise UserError(
                f"{error.filename or folder}: {error.strerror}; `dvc repro train` makes the model"
            ) from None
        except ValueError as error:
            raise UserError(f"{folder}: damaged ({one_line(error)}); `dvc repro -sf train` makes it anew") from None
        model = cls(**configuration)
        model.load_state_dict(weights)
        return model.eval().requires_grad_(False).to(device)


def _read(path: Path, most: int) -> bytes:
    """The first `most` bytes of the file: all of one that is right, and no more of one that is not."""
    with path.open("rb") as file:
        return file.read(min(most, path.stat().st_size))  # memory for as many is taken at once


def _checksum(configuration: dict, weights: bytes) -> str:
    """Of a model's two files, for config.json: a flipped bit of a weight leaves a number, and nothing else tells."""
    return hashlib.sha256(json.dumps(configuration).encode() + weights).hexdigest()


def _read_configuration(content: bytes, arguments: Collection[str]) -> tuple[dict, object]:
    """What config.json holds: what `CVAE.configuration` gives, and the checksum, None in older models.

    `arguments`: of the model. Those that are not among `KEYS`, of a model that was edited, are taken as they are.

    Raises:
        ValueError: it is no such thing.
    """
    from cvae.pipeline.parameters import check_parameters  # the ranges of params.yaml; pydantic takes a while to import

    try:
        content = json.loads(content.decode(), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"config.json: {error}") from None
    if not isinstance(content, dict):
        raise ValueError("config.json is not an object of JSON")
    content.setdefault("activation", "article")  # all that there was, to models older than the choice
    checksum = content.pop("sha256", None)
    own = {key: value for key, value in content.items() if key in arguments and key not in KEYS}
    try:
        checked = check_parameters({key: content[key] for key in content if key not in own}, "config.json", KEYS)
    except UserError as error:
        raise ValueError(error) from None
    return {key: own[key] if key in own else getattr(checked, key) for key in content}, checksum


def _without_repeats(pairs: list[tuple[str, object]]) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key stands there twice")
    return content


def _read_weights(content: bytes, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """What model.safetensors holds; raises `ValueError` unless it is finite and of the shapes and types `expected`."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    bytes(len(content))  # as much as safetensors copies: where memory is too small for it, it would wait for ever
    try:
        weights = load(content)
    except (SafetensorError, TypeError, KeyError, RuntimeError) as error:
        if memory_shortage(error):
            raise
        raise ValueError(f"model.safetensors: {error}") from None
    for name in dict.fromkeys((*expected, *weights)):
        wanted, found = (
            f"{str(tensors[name].dtype).removeprefix('torch.')} {list(tensors[name].shape)}"
            if name in tensors
            else "none"
            for tensors in (expected, weights)
        )
        if found != wanted:
            raise ValueError(
                f"its weights are not of the model in its config.json: {name!r:.80} is {found}, not {wanted}"
            )
        if not torch.isfinite(weights[name]).all():
            raise ValueError(f"its weights {name!r} are not all finite numbers")
    return weights
