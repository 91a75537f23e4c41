"""Save and load the model: config.json and model.safetensors in one folder, checked when loaded.

config.json names the model's class and its arguments, among them the schema of the data that it was trained on.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from cvae import models
from cvae.data.dataset import Schema, mnist_like, require_same
from cvae.model import ACTIVATIONS, LABELS, LIKELIHOODS, VAE
from cvae.support.errors import UserError, one_line
from cvae.support.faults import memory_shortage
from cvae.support.files import write_whole

HEADER = 2**18  # bytes: an upper limit for config.json, and for the header of model.safetensors
ARTICLE = "cvae.model:CVAE"
AGAIN = "`dvc repro -sf train` makes it again"


def save(model: VAE, folder: str | Path) -> None:
    """Write model.safetensors and config.json to `folder`; the same weights give the same bytes."""
    from safetensors.torch import save

    folder = Path(folder)
    weights = {  # copies, so that a tensor with two names in the model is saved under both
        name: weight.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, weight in model.state_dict().items()
    }
    kind = {"model": f"{type(model).__module__}:{type(model).__qualname__}", "schema": model.schema.as_json()}
    content, configuration = save(weights), kind | model.configuration()
    checksum = {"sha256": _checksum(configuration, content)}  # first, so that truncation never removes only it
    described = json.dumps(checksum | configuration, indent=2, ensure_ascii=False) + "\n"
    write_whole({folder / "model.safetensors": content, folder / "config.json": described.encode()})


def load(folder: str | Path, device: torch.device | str = "cpu") -> VAE:
    """Load the model that `save` wrote to `folder` onto `device`, in evaluation mode and without gradients.

    Raises:
        UserError: a file is missing or damaged, the two files do not belong together, or the model's class is not here.
    """
    folder = Path(folder)
    try:
        configuration, checksum = _read_configuration(_read(folder / "config.json", HEADER))
        name, schema, settings = _interpret(configuration)
        with torch.device("meta"):  # only shapes: allocate nothing before the file is known to have the weights
            expected = _build(name, schema, settings).state_dict()
        most = sum(weight.nbytes for weight in expected.values()) + HEADER
        content = _read(folder / "model.safetensors", most)
        weights = _read_weights(content, expected)
        if checksum not in (None, _checksum(configuration, content)):
            raise ValueError("its two files are not as they were saved, by the sha256 in config.json")
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}; `dvc repro train` makes the model") from None
    except ValueError as error:
        raise UserError(f"{folder}: damaged ({one_line(error)}); {AGAIN}") from None
    except UserError as error:
        raise UserError(f"{folder}/config.json: {error}; {AGAIN}") from None
    model = models.build(name, schema, settings)
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False).to(device)


def load_for(data: Schema, folder: str | Path, device: torch.device | str = "cpu") -> VAE:
    """Load a model as `load` does, to use it on the images in data/raw, whose schema is `data`.

    Raises:
        UserError: it cannot be loaded, or was trained on images of another shape or other classes.
    """
    model = load(folder, device)
    try:
        require_same(model.schema, data, "data/raw")
    except UserError as error:
        raise UserError(f"{error}; `dvc repro train` trains it on them") from None
    return model


def _read(path: Path, most: int) -> bytes:
    """Return at most `most` bytes of the file, so that a damaged one cannot fill memory; no valid one is longer."""
    with path.open("rb") as file:
        return file.read(min(most, path.stat().st_size))  # read() allocates as many bytes as it is asked for


def _checksum(configuration: dict, weights: bytes) -> str:
    """Return a checksum of both files, stored in config.json: nothing else reveals a flipped bit in a weight."""
    return hashlib.sha256(json.dumps(configuration).encode() + weights).hexdigest()


def _read_configuration(content: bytes) -> tuple[dict, object]:
    """Parse config.json into what `save` described and the checksum, None in models saved before it existed.

    Raises:
        ValueError: it is not an object of JSON.
    """
    try:
        configuration = json.loads(content.decode(), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"config.json: {error}") from None
    if not isinstance(configuration, dict):
        raise ValueError("config.json is not an object of JSON")
    return configuration, configuration.pop("sha256", None)


def _interpret(configuration: dict) -> tuple[str, Schema, dict]:
    """Return the model's class, as "module:Class", the schema of its data, and its other arguments, all checked.

    What older models do not say, they were: the article's, on MNIST-like images, given labels.

    Raises:
        ValueError: the configuration is damaged.
        UserError: the model's class is not here.
    """
    settings = {"labels": "given"} | configuration
    name, schema = settings.pop("model", ARTICLE), settings.pop("schema", None)
    if not isinstance(name, str) or len(name) > 200:  # params.yaml has the same limit
        raise ValueError(f"config.json: model is {name!r:.60}")
    if schema is None:
        settings.setdefault("activation", "article")  # missing in models saved before it was a choice
    try:
        schema = mnist_like() if schema is None else Schema.from_json(schema)
    except ValueError as error:
        raise ValueError(f"config.json: {error}") from None
    _require_allowed(settings, models.arguments(name))
    return name, schema, settings


def _build(name: str, schema: Schema, settings: dict) -> VAE:
    """Return `models.build`'s model; raise a `ValueError` if its class refuses the values of its own arguments."""
    try:
        return models.build(name, schema, settings)
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"config.json: {name} cannot be built from it ({error})") from None


def _require_allowed(settings: dict, arguments: Collection[str]) -> None:
    """Raise a `ValueError` unless `settings` are all `arguments`. Those that `ALLOWED` lacks may have any value."""
    for key, value in settings.items():
        if key not in arguments:
            known = ", ".join(sorted(arguments))
            raise ValueError(f"config.json: {key!r:.60} is not a parameter; allowed: {known}")
        if key in ALLOWED:
            is_allowed, words = ALLOWED[key]
            if not is_allowed(value):
                raise ValueError(f"config.json: {key} is {value!r:.60}; allowed: {words}")
    if missing := (ALLOWED.keys() & arguments) - settings.keys():
        raise ValueError(f"config.json: {min(missing)} is missing; allowed: {ALLOWED[min(missing)][1]}")


def _is_whole(value: object, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


def _is_width(value: object) -> bool:
    return _is_whole(value, 65536)


def _is_width_or_list(value: object) -> bool:
    return _is_width(value) or (isinstance(value, list) and 1 <= len(value) <= 16 and all(map(_is_width, value)))


ALLOWED = {  # for the arguments of CVAE, a check and its description; the limits also bound memory use
    "labels": (lambda value: value in LABELS, f"one of {', '.join(LABELS)}"),
    "latent_dims": (lambda value: _is_whole(value, 1024), "a whole number from 1 to 1024"),
    "hidden_dims": (_is_width_or_list, "a whole number from 1 to 65536, or a list of 1 to 16 of them"),
    "likelihood": (lambda value: value in LIKELIHOODS, f"one of {', '.join(LIKELIHOODS)}"),
    "prior_std": (lambda value: type(value) in (int, float) and 1e-3 <= value <= 1e3, "a number from 0.001 to 1000.0"),
    "activation": (lambda value: isinstance(value, str) and value in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}"),
}


def _without_repeats(pairs: list[tuple[str, object]]) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key occurs twice")
    return content


def _read_weights(content: bytes, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights in model.safetensors; raise `ValueError` unless they are finite and fit `expected`."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    bytes(len(content))  # safetensors copies this much, and would hang if there is too little memory; fail here instead
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
