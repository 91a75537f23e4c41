"""The saved model: config.json and model.safetensors in one folder, checked as they are loaded."""

import hashlib
import inspect
import json
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from cvae.model import ACTIVATIONS, CVAE, LIKELIHOODS
from cvae.support.errors import UserError, one_line
from cvae.support.faults import memory_shortage
from cvae.support.files import write_whole

HEADER = 2**16  # bytes, more than config.json takes and than the weights' names and shapes do


def save(model: CVAE, folder: str | Path) -> None:
    """Write model.safetensors and config.json to `folder`; the same weights give the same bytes."""
    from safetensors.torch import save

    folder = Path(folder)
    weights = {  # copies: a tensor that has two names in the model is saved under both
        name: weight.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, weight in model.state_dict().items()
    }
    content, configuration = save(weights), model.configuration()
    checksum = {"sha256": _checksum(configuration, content)}  # first: a file cut short does not lose it alone
    described = json.dumps(checksum | configuration, indent=2) + "\n"
    write_whole({folder / "model.safetensors": content, folder / "config.json": described.encode()})


def load(folder: str | Path, device: torch.device | str = "cpu") -> CVAE:
    """Rebuild the model that `save` wrote to `folder`, on `device`, ready to evaluate.

    Raises:
        UserError: a file is missing or damaged, or the two do not belong together.
    """
    folder = Path(folder)
    try:
        configuration, checksum = _read_configuration(
            _read(folder / "config.json", HEADER), inspect.signature(CVAE).parameters
        )
        with torch.device("meta"):  # takes no memory for weights, which the file may not have
            expected = CVAE(**configuration).state_dict()
        most = sum(weight.nbytes for weight in expected.values()) + HEADER
        content = _read(folder / "model.safetensors", most)
        weights = _read_weights(content, expected)
        if checksum not in (None, _checksum(configuration, content)):
            raise ValueError("its two files are not as they were saved, by the sha256 in config.json")
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}; `dvc repro train` makes the model") from None
    except ValueError as error:
        raise UserError(f"{folder}: damaged ({one_line(error)}); `dvc repro -sf train` makes it again") from None
    model = CVAE(**configuration)
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
    """Parse config.json: the arguments that build the model, and the checksum, None in models older than it.

    `arguments`: the names that the model takes. Those of an edited model, not in `ALLOWED`, are taken on trust.

    Raises:
        ValueError: it is damaged.
    """
    try:
        content = json.loads(content.decode(), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"config.json: {error}") from None
    if not isinstance(content, dict):
        raise ValueError("config.json is not an object of JSON")
    content.setdefault("activation", "article")  # models older than the choice have no such key
    checksum = content.pop("sha256", None)
    for key, value in content.items():
        if key in ALLOWED:
            is_allowed, words = ALLOWED[key]
            if not is_allowed(value):
                raise ValueError(f"config.json: {key} is {value!r:.60}; allowed: {words}")
        elif key not in arguments:
            raise ValueError(f"config.json: {key!r:.60} is not a parameter; allowed: {', '.join(ALLOWED)}")
    if missing := ALLOWED.keys() - content.keys():
        raise ValueError(f"config.json: {min(missing)} is missing; allowed: {ALLOWED[min(missing)][1]}")
    return content, checksum


def _is_whole(value: object, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


def _is_width(value: object) -> bool:
    return _is_whole(value, 65536)


def _is_width_or_list(value: object) -> bool:
    return _is_width(value) or (isinstance(value, list) and 1 <= len(value) <= 16 and all(map(_is_width, value)))


ALLOWED = {  # the arguments of CVAE, which also bound the memory that a damaged file could ask for
    "latent_dims": (lambda value: _is_whole(value, 1024), "a whole number from 1 to 1024"),
    "hidden_dims": (_is_width_or_list, "a whole number from 1 to 65536, or a list of 1 to 16 of them"),
    "likelihood": (lambda value: value in LIKELIHOODS, f"one of {', '.join(LIKELIHOODS)}"),
    "prior_std": (lambda value: type(value) in (int, float) and 1e-3 <= value <= 1e3, "a number from 0.001 to 1000.0"),
    "activation": (lambda value: isinstance(value, str) and value in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}"),
}


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
