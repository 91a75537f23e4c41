"""The space of a search, in the words of `dvc exp run --set-param`.

latent_dims=2..32              a range: whole numbers
learning_rate=1e-4..1e-2 log   a range, uniform on a log scale
hidden_dims=[128],[256,256]    choices, as YAML
epochs=10                      one value, the same for all trials
latent_dims=range(2,33,2)      DVC's own form; the end is left out
activation=choice(relu,tanh)   DVC's own form of choices
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cvae.pipeline.parameters import Parameters, check_parameters, load_yaml
from cvae.support.errors import UserError, one_line, suggest

if TYPE_CHECKING:
    import optuna

DIGITS = 3  # significant digits of sampled numbers, so that parameters can be read
FORMS = "write KEY=LOW..HIGH, KEY=LOW..HIGH log, or KEY=VALUE,VALUE"
OTHER_TASK = "nats cannot be compared across its values"
NO_EFFECT = "it does not change the model"
CHOICE = r"""(?:\[[^\[\]]*\]|'[^']*'|"[^"]*"|[^,\[\]'"])+"""  # a value between commas
UNSEARCHABLE = {  # why a search over a parameter makes no sense
    **dict.fromkeys(
        ("dataset", "images", "image_size", "channels", "test_share", "likelihood", "binarize"), OTHER_TASK
    ),
    "labels": "the NLL of an image given its label cannot be compared with that of the image alone",
    "validation_images": "results on different images cannot be compared",
    "nll_samples": "more samples lower the NLL of the same model",
    "seed": "the best seed is luck, not a setting",
    **dict.fromkeys(("device", "threads", "launcher", "grid_size", "grid_range", "registered_model"), NO_EFFECT),
}

Value = int | float | str | list


@dataclass(frozen=True)
class Dimension:
    """A parameter that is searched: a range from `low` to `high`, or `choices`, which map their text to their value."""

    key: str
    low: int | float = 0
    high: int | float = 0
    step: int | float | None = None
    is_log: bool = False
    choices: Mapping[str, Value] | None = None

    @property
    def ends(self) -> list[Value]:
        """Return both ends of the range, or all choices."""
        return [self.low, self.high] if self.choices is None else list(self.choices.values())

    def suggest(self, trial: "optuna.Trial") -> Value:
        """Let Optuna choose a value, or return the one that it chose for `trial` before."""
        if self.choices:
            return self.choices[trial.suggest_categorical(self.key, list(self.choices))]
        if isinstance(self.low, int):
            return trial.suggest_int(self.key, self.low, self.high, step=self.step or 1, log=self.is_log)
        return self.shown(trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.is_log))

    def shown(self, value: Value) -> Value:
        """Return what the experiment gets for Optuna's `value`: numbers are rounded, but stay within the range."""
        if self.choices:
            return self.choices[value]
        if not isinstance(value, float):
            return value
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Space:
    """What is searched, and the values that are the same in all trials."""

    dimensions: Sequence[Dimension]
    fixed: Mapping[str, Value]

    def suggest(self, trial: "optuna.Trial") -> dict[str, Value]:
        return {dimension.key: dimension.suggest(trial) for dimension in self.dimensions}

    def values(self, params: Mapping) -> dict[str, Value]:
        """Return the searched values of a trial, from Optuna's `params`, which may lack some."""
        return {each.key: each.shown(params[each.key]) for each in self.dimensions if each.key in params}


def parse_space(settings: Sequence[str], base: Mapping[str, Value]) -> Space:
    """Parse `settings`, which change the parameters `base`.

    Raises:
        UserError: one is not a setting, or a value is not allowed; one line says which and what to write.
    """
    dimensions, fixed = {}, {}
    for setting in settings:
        key, sign, text = (part.strip() for part in setting.partition("="))
        if not sign or not text:
            raise UserError(f"-S {setting}: not a setting; {FORMS}")
        if key not in Parameters.model_fields:
            advice = suggest(key, Parameters.model_fields, "params.yaml lists what there is")
            raise UserError(f"-S {setting}: {key} is not a parameter; {advice}")
        if key in fixed or key in dimensions:
            raise UserError(f"-S {setting}: {key} is set twice; write all its values in one -S")
        try:
            dimension = _range(key, text) or Dimension(key, choices=_choices(text))
        except ValueError as error:
            raise UserError(f"-S {setting}: {one_line(error)}; {FORMS}") from None
        if dimension.choices and len(dimension.choices) == 1:
            (fixed[key],) = dimension.choices.values()
        else:
            dimensions[key] = dimension
    check_parameters({**base, **fixed}, "-S")
    for key, dimension in dimensions.items():
        for value in dimension.ends:
            check_parameters({**base, **fixed, key: value}, "-S")
        if reason := UNSEARCHABLE.get(key):
            raise UserError(f"-S: {key} cannot be searched, since {reason}; give it one value")
    if not dimensions:
        raise UserError(f"there is nothing to search; {FORMS}")
    return Space(list(dimensions.values()), fixed)


def spell(value: Value) -> str:
    """Write `value` as DVC's `--set-param` reads it."""
    if isinstance(value, list):
        return f"[{','.join(map(spell, value))}]"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z][\w./:-]*", value):
        return "'" + value.replace("'", "\\'") + "'"
    return str(value)


def _range(key: str, text: str) -> Dimension | None:
    """Return the range that `text` describes, or None if it is none; raise a `ValueError` if it is impossible."""
    if called := re.fullmatch(r"range\((.*)\)", text):
        return _dvc_range(key, called[1])
    found = re.fullmatch(r"([^,]+?)\.\.([^,]+?)(\s+log)?", text)
    ends = [_number(each) for each in found.group(1, 2)] if found else [None]
    if None in ends:
        return None
    low, high = map(float, ends) if _is_float(key) else ends
    if not low < high:
        raise ValueError("the low end of a range comes first")
    if found[3] and low <= 0:
        raise ValueError("a log range starts above 0")
    return Dimension(key, low, high, is_log=bool(found[3]))


def _dvc_range(key: str, text: str) -> Dimension:
    """Return the range that DVC's `range(stop)`, `range(start,stop)` or `range(start,stop,step)` describes."""
    numbers = [_number(each) for each in text.split(",")]
    if None in numbers or not 1 <= len(numbers) <= 3:
        raise ValueError("range() takes one to three numbers")
    start, stop, step = [0, *numbers, 1] if len(numbers) == 1 else [*numbers, 1][:3]
    if _is_float(key):
        start, stop, step = map(float, (start, stop, step))
    count = math.ceil((stop - start) / step) if step > 0 else 0
    if count < 2:
        raise ValueError("the range has less than two values")
    return Dimension(key, start, start + (count - 1) * step, step)


def _choices(text: str) -> dict[str, Value]:
    called = re.fullmatch(r"choice\((.*)\)", text)
    text = called[1] if called else text
    # Not read as one list, because YAML does not take cvae.model:CVAE in brackets.
    if not re.fullmatch(f"{CHOICE}(,{CHOICE})*", text):
        raise ValueError("a value is missing, or brackets or quotes do not match")
    values = [load_yaml(part.strip()) for part in re.findall(CHOICE, text)]
    return {_text(value): value for value in values}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str)


def _number(text: str) -> int | float | None:
    try:
        value = load_yaml(text)
    except ValueError:
        return None
    return value if type(value) in (int, float) and math.isfinite(value) else None


def _is_float(key: str) -> bool:
    return Parameters.model_fields[key].annotation is float
