"""Read and check params.yaml. Import nothing slow here, above all not torch, so that a typo is reported at once."""

import os
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cvae.support.errors import UserError, one_line


def _in_repository_or_absolute(folder: str) -> str:
    """Refuse a relative path that leaves the repository: an experiment's copy of it would lead elsewhere."""
    inside = os.path.normpath(folder)
    if not folder.isprintable() or inside == "." or inside.split(os.sep)[0] in ("..", "~"):
        raise ValueError(folder)
    return folder


def _whole(value: object) -> object:
    """Refuse 1.0 and true, which equal 1."""
    if type(value) is not int:
        raise ValueError(value)
    return value


Width = Annotated[int, Field(ge=1, le=65536)]


class Parameters(BaseModel):
    """Every key of params.yaml, its type and its range; comments in params.yaml explain the keys.

    The defaults are the article's settings, but a file must still list every key. A description says what is allowed
    where the constraints themselves would not be clear.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    dataset: Literal["mnist", "fashion-mnist", "kmnist", "emnist-letters", "emnist-balanced", "digits", "images"] = (
        "mnist"
    )
    images: Annotated[str, AfterValidator(_in_repository_or_absolute)] = Field(
        "data/own", description="a folder in this repository, or an absolute path"
    )
    image_size: int = Field(28, ge=8, le=256)
    channels: Annotated[Literal[1, 3], BeforeValidator(_whole)] = 1
    test_share: float = Field(0.15, gt=0, lt=1)
    validation_images: int = Field(0, ge=0, le=1_000_000)

    model: str = Field(
        "cvae.model:CVAE",
        pattern=r"^cvae\.model(s(\.\w+)+)?:\w+$",
        max_length=200,
        description="cvae.model:CVAE, or cvae.models.FILE:CLASS for a class in src/cvae/models/FILE.py",
    )
    labels: Literal["given", "none"] = "given"
    latent_dims: int = Field(2, ge=1, le=1024)
    hidden_dims: Width | Annotated[list[Width], Field(min_length=1, max_length=16)] = Field(
        256, description="a whole number from 1 to 65536, or a list of 1 to 16 of them"
    )
    activation: Literal["article", "relu", "tanh", "sigmoid"] = "article"
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    binarize: Literal["none", "dynamic", "static"] = "none"
    prior_std: float = Field(0.5**0.5, ge=1e-3, le=1e3)
    beta: float = Field(1.0, ge=0, le=1e4)

    epochs: int = Field(100, ge=1, le=1_000_000)
    patience: int = Field(0, ge=0, le=1_000_000)
    batch_size: int = Field(128, ge=1, le=60_000)
    learning_rate: float = Field(1e-3, gt=0, le=10)
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    seed: int = Field(0, ge=0, le=2**32 - 1)

    device: str = Field(
        "auto", pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$", description="auto, cpu, mps, cuda or cuda:N"
    )
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    threads: int = Field(2, ge=1, le=1024)
    launcher: str = Field("python", min_length=1, description="a command that starts train")

    nll_samples: int = Field(500, ge=1, le=1_000_000)

    grid_size: int = Field(20, ge=2, le=100)
    grid_range: float = Field(2.0, ge=1e-3, le=100)

    registered_model: str = Field(
        "",
        pattern=r"^([A-Za-z][A-Za-z0-9_. -]*)?$",
        max_length=200,
        description="a name of letters, digits, spaces and _ . -, or '' for none",
    )


def load_yaml(text: str) -> object:
    """Parse YAML 1.2 with the reader that DVC uses: 1e-05 is a number, 010 is ten, `no` is text.

    Raises:
        ValueError: it is not YAML; the message says where.
    """
    return deepcopy(_parsed(text))


@lru_cache(16)
def _parsed(text: str) -> object:
    """Parse `text` once: the reader takes 0.1 s for dvc.lock, and several functions ask for it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(place + str(getattr(error, "problem", None) or error)) from None


def read_parameters(path: str | Path = "params.yaml") -> Parameters:
    """Read and check `path`.

    Raises:
        UserError: something is wrong; one line names the file, the key, its value and what is allowed.
    """
    try:
        content = load_yaml(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        remedy = f"`git checkout HEAD {path}` brings it back"
        raise UserError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except ValueError as error:  # not UTF-8 either
        raise UserError(f"{path}: not YAML ({_short(error)})") from None
    return check_parameters(content, str(path))


def check_parameters(content: object, name: str = "params.yaml") -> Parameters:
    """Return the content of the file `name` as `Parameters`, or raise a one-line `UserError`."""
    keys = Parameters.model_fields
    if content is None:
        raise UserError(f"{name}: empty; `git checkout HEAD {name}` brings it back")
    if not isinstance(content, dict):
        raise UserError(f"{name}: must be lines of `key: value`, not {_short(content)}")
    for key in content:
        if key not in keys:
            raise UserError(f"{name}: {_short(key)} is not a parameter; allowed: {', '.join(keys)}")
    for key in keys:
        if key not in content:
            raise UserError(f"{name}: {key} is missing; allowed: {_allowed(key)}")
    try:
        params = Parameters(**content)
    except ValidationError as error:
        key = error.errors()[0]["loc"][0]
        raise UserError(f"{name}: {key} is {_short(content[key])}; allowed: {_allowed(key)}") from None
    if params.patience and not params.validation_images:
        problem = f"patience is {params.patience}, but there are no validation images to stop by"
        raise UserError(f"{name}: {problem}; also set validation_images, for example to 5000")
    return params


def _allowed(key: str) -> str:
    """Describe the values allowed for `key`."""
    schema = Parameters.model_json_schema()["properties"][key]
    if "description" in schema:
        return schema["description"]
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    kind = {"integer": "a whole number", "number": "a number"}[schema["type"]]
    above = schema.get("exclusiveMinimum")
    if "exclusiveMaximum" in schema:
        return f"{kind} above {above} and below {schema['exclusiveMaximum']}"
    low = f"from {schema['minimum']} to" if above is None else f"above {above}, up to"
    return f"{kind} {low} {schema['maximum']}"


def _short(value: object) -> str:
    """Write `value` on one line as YAML spells it, cut to 80 characters."""
    text = one_line(value if isinstance(value, Exception) else repr(value))
    text = {"None": "null", "True": "true", "False": "false"}.get(text, text)
    return text if len(text) <= 80 else text[:77] + "..."
