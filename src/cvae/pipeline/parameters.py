"""Read and check params.yaml. Imports nothing slow, torch least of all, so that a typo is reported at once."""

import re
import reprlib
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cvae.support.errors import UserError

LARGEST = 2**16  # most characters in a params.yaml; PyYAML takes seconds to read that many

Width = Annotated[int, Field(ge=1, le=65536)]


class Parameters(BaseModel):
    """Every key of params.yaml, its type and its range; comments in params.yaml explain the keys.

    The defaults are the article's settings, but a file must still list every key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    dataset: Literal["mnist", "fashion-mnist", "kmnist", "digits"] = "mnist"

    latent_dims: int = Field(2, ge=1, le=1024)
    hidden_dims: Width | Annotated[list[Width], Field(min_length=1, max_length=16)] = 256
    activation: Literal["article", "relu", "tanh", "sigmoid"] = "article"
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    binarize: Literal["none", "dynamic", "static"] = "none"
    prior_std: float = Field(0.5**0.5, ge=1e-3, le=1e3)
    beta: float = Field(1.0, ge=0, le=1e4)

    epochs: int = Field(100, ge=1, le=1_000_000)
    batch_size: int = Field(128, ge=1, le=60_000)
    learning_rate: float = Field(1e-3, gt=0, le=10)
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    seed: int = Field(0, ge=0, le=2**32 - 1)

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    threads: int = Field(2, ge=1, le=1024)
    launcher: str = Field("python", max_length=1000, pattern=r"^[A-Za-z/.~]\P{Cc}*$")

    nll_samples: int = Field(500, ge=1, le=1_000_000)

    grid_size: int = Field(20, ge=2, le=100)
    grid_range: float = Field(2.0, ge=1e-3, le=100)

    registered_model: str = Field("", max_length=200, pattern=r"^([A-Za-z][A-Za-z0-9_. -]*)?$")


class _YAML12Loader(yaml.SafeLoader):
    """Read scalars by YAML 1.2's core schema, as DVC does: 1e-05 is a number, 010 is ten, `no` is text.

    Anything that DVC would refuse, or read differently, is an error here.
    """

    yaml_implicit_resolvers: ClassVar[dict] = {}

    def process_directives(self):
        if self.check_token(yaml.DirectiveToken):  # after `%YAML 1.1`, DVC reads 010 as eight
            message = "a directive, which has no place here"
            raise yaml.parser.ParserError(None, None, message, self.peek_token().start_mark)
        return super().process_directives()

    def construct_object(self, node, deep=False):
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError):  # `!!bool abc`
            message = f"not what its tag {_short(node.tag.replace('tag:yaml.org,2002:', '!!'))} says"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark) from None

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # PyYAML raises an error below
            if key in seen:  # PyYAML would use the last one
                message = f"{_short(key)} stands here for the second time"
                raise yaml.constructor.ConstructorError(None, None, message, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _whole_number(loader: _YAML12Loader, node: yaml.Node) -> int | str:
    text = loader.construct_scalar(node)
    if re.fullmatch(r"[-+]?[0-9]{4300,}", text):  # Python refuses to convert so many digits, and no key accepts text
        return text
    return int(text)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _YAML12Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), [c if c != "\0" else "" for c in _first]
    )
_YAML12Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)
_YAML12Loader.add_constructor("tag:yaml.org,2002:float", yaml.SafeLoader.construct_yaml_float)


def load_yaml(text: str) -> object:
    """Parse `text`, reading scalars as DVC does.

    Raises:
        yaml.YAMLError: it is not YAML, or is YAML that DVC would read differently.
        RecursionError: it is nested hundreds of levels deep.
    """
    if odd := re.search("[\x85\u2028\u2029]", text):  # a line break for PyYAML, but not for DVC
        line = text.count("\n", 0, odd.start()) + 1
        raise yaml.YAMLError(f"line {line} holds U+{ord(odd[0]):04X}, a line break to some readers and none to others")
    return yaml.load(text, Loader=_YAML12Loader)


def read_parameters(path: str | Path = "params.yaml") -> Parameters:
    """Read and check `path`.

    Raises:
        UserError: something is wrong; one line names the file, the key, its value and what is allowed.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise UserError(f"{path}: longer than {LARGEST:,} characters; `git checkout HEAD {path}` brings it back")
        content = load_yaml(text)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); `git checkout HEAD {path}` brings it back"
        ) from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}{_position(error)}: not YAML ({_reason(error)})") from None
    except (ValueError, RecursionError) as error:  # not UTF-8
        raise UserError(f"{path}: not YAML that can be read ({_short(error)})") from None
    return check_parameters(content, str(path))


def check_parameters(content: object, name: str = "params.yaml") -> Parameters:
    """Return a file's content as `Parameters`, or raise a one-line `UserError` that calls the file `name`."""
    keys = Parameters.model_fields
    if content is None:
        raise UserError(f"{name}: is empty; `git checkout HEAD {name}` brings it back")
    if not isinstance(content, dict):
        raise UserError(f"{name}: must be lines of `key: value`, not {_short(content)}")
    for key in content:
        if key not in keys:
            raise UserError(f"{name}: {_short(key)} is not a parameter; allowed: {', '.join(keys)}")
    for key in keys:
        if key not in content:
            raise UserError(f"{name}: {key} is missing; allowed: {_allowed(key)}")
    try:
        return Parameters(**content)
    except ValidationError as error:
        key = error.errors()[0]["loc"][0]
        raise UserError(f"{name}: {key} is {_short(content[key])}; allowed: {_allowed(key)}") from None


def _allowed(key: str) -> str:
    """Describe the values allowed for `key`, from the constraints that check it."""
    schema = Parameters.model_json_schema()["properties"][key]
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    if "anyOf" in schema:
        return "a whole number from 1 to 65536, or a list of 1 to 16 of them"
    if schema["type"] == "string":
        return {
            "device": "auto, cpu, mps, cuda or cuda:N",
            "launcher": "the command that starts train",
            "registered_model": "a name of letters, digits, spaces and _ . -, or '' for none",
        }[key]
    kind = {"integer": "a whole number", "number": "a number"}[schema["type"]]
    low = (
        f"above {schema['exclusiveMinimum']}, up to" if "exclusiveMinimum" in schema else f"from {schema['minimum']} to"
    )
    return f"{kind} {low} {schema['maximum']}"


_brief = reprlib.Repr()  # limits the length, since nested aliases turn a few lines into gigabytes of text
_brief.maxlevel, _brief.maxstring, _brief.maxlong, _brief.maxother = 3, 100, 100, 100
_brief.maxlist = _brief.maxdict = _brief.maxset = _brief.maxtuple = 16


def _short(value: object) -> str:
    """Return `value` on one line, spelt as in YAML and cut to 80 characters."""
    text = " ".join((str(value) if isinstance(value, Exception) else _brief.repr(value)).split())
    text = {"None": "null", "True": "true", "False": "false"}.get(text, text)
    return text if len(text) <= 80 else text[:77] + "..."


def _position(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _reason(error: yaml.YAMLError) -> str:
    return getattr(error, "problem", None) or getattr(error, "reason", None) or _short(error)
