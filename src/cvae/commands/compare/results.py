"""What each experiment reached: its test figures and the parameters that they depend on.

Rate is `kl` and distortion `reconstruction` of metrics/test.json: the KL to the prior and the negative expected
log-likelihood, in nats per image of the test set, without the Gaussian's constant (Alemi et al. 2018, "Fixing a
Broken ELBO", section 2). Their sum is the negative ELBO whatever the run's `beta`; `loss` of metrics/test.json weighs
`kl` with `beta`, so it cannot be compared across values of it.

`nll` bounds the negative log-likelihood more tightly than the negative ELBO does, and more so the more samples it
takes, so it compares only at the same `nll_samples`.

Nats of one data set, likelihood and kind of pixels (grey or binary) say nothing about those of another: each such task
gets a table and axes of its own. Parameters that move no figure, but by rounding, do not set runs apart. Runs that
differ only in their seed are of one configuration, which is shown by its mean and sample standard deviation.
"""

import fnmatch
import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cvae.data.names import kind_of_pixels
from cvae.pipeline.parameters import Parameters
from cvae.support.errors import UserError, suggest

MEASURED = "metrics/test.json"
IMMATERIAL = ("device", "threads", "launcher", "grid_size", "grid_range", "registered_model")
COMPARED = tuple(key for key in Parameters.model_fields if key not in (*IMMATERIAL, "nll_samples"))
BEFORE = {"activation": "article", "binarize": "none"}  # what runs did that are older than the parameter
FIGURES = {  # the columns, and the digits in the table: of nats, and of shares of 10,000 test images
    "kl": ".3f",
    "reconstruction": ".3f",
    "negative_elbo": ".3f",
    "nll": ".3f",
    "nll_samples": "d",
    "label_accuracy": ".4f",
    "sample_accuracy": ".4f",
    "active_units": "d",
}
ADVICE = {
    "queued": "`dvc queue start` runs what is queued",
    "running": "`dvc queue status` follows what runs",
    "failed": "`dvc queue logs NAME` says why one failed",
}
EARLIER = "`make compare ARGS='--num -1'` finds those of all earlier commits"

Value = int | float | str | None


@dataclass(frozen=True)
class Result:
    """What one run reached: its figures on the test images, and the parameters that they depend on.

    None stands for a parameter or a figure that the run's version did not have. `kl`, `reconstruction` and `nll`:
    nats per image, the last a bound of `nll_samples` samples. `label_accuracy`, `sample_accuracy`: from 0 to 1.
    """

    name: str
    parameters: dict[str, Value]
    kl: float
    reconstruction: float
    active_units: int | None = None
    nll: float | None = None
    nll_samples: int | None = None
    label_accuracy: float | None = None
    sample_accuracy: float | None = None

    @property
    def negative_elbo(self) -> float:
        """To the eight digits of its parts, so that it equals `loss` where beta is 1."""
        return float(f"{self.kl + self.reconstruction:.8g}")

    @property
    def task(self) -> tuple[Value, Value, str]:
        pixels = kind_of_pixels(self.parameters["binarize"])
        return self.parameters["dataset"], self.parameters["likelihood"], pixels

    @property
    def task_name(self) -> str:
        dataset, likelihood, pixels = self.task
        return f"{dataset or 'unknown data set'}, {likelihood or 'unknown'} likelihood, {pixels} pixels"


def read_row(row: dict) -> Result | None:
    """The result in one row of `dvc.api.exp_show()`, which has every number as a float; None if figures lack."""

    def cell(file: str, key: str) -> Value:
        return row.get(f"{file}:{key}", row.get(key))

    measured = ("kl", "reconstruction", "nll", "label_accuracy", "sample_accuracy", "active_units")
    cells = {figure: cell(MEASURED, figure) for figure in measured}
    figures = {key: value for key, value in cells.items() if isinstance(value, float) and math.isfinite(value)}
    if not {"kl", "reconstruction"} <= figures.keys():
        return None
    if "active_units" in figures:
        figures["active_units"] = int(figures["active_units"])
    if "nll" in figures:
        figures["nll_samples"] = _plain(cell("params.yaml", "nll_samples"))
    parameters = {key: _plain(cell("params.yaml", key)) for key in COMPARED}
    parameters |= {key: value for key, value in BEFORE.items() if parameters[key] is None}
    return Result(name_of(row), parameters, **figures)


def name_of(row: dict) -> str:
    return row["Experiment"] or row["rev"]


def _plain(value: Value) -> Value:
    """A whole number as one, and so a list of one, which names the same network; longer lists stay DVC's text."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    single = re.fullmatch(r"\[(\d+)\]", value) if isinstance(value, str) else None
    return int(single[1]) if single else value


def read_results(
    rows: Sequence[dict], names: Sequence[str] = (), current: Collection[str] | None = None
) -> tuple[list[Result], list[str]]:
    """The distinct results in `rows` of `dvc.api.exp_show()`, and a line for each thing that is left out.

    `names`: experiments, branches or commits to keep, or patterns of such; all, if there are none. Of equal results the
    experiment's name is kept, or else the branch's: an experiment can be applied, and the workspace goes.
    `current`: the revisions whose figures are of their parameters; all, if None.

    Raises:
        UserError: there is no run of some name.
    """
    known = {alias for row in rows for alias in (row["Experiment"], row["rev"]) if alias}
    for name in names:
        if not fnmatch.filter(known, name):
            advice = suggest(name, known, f"there are {', '.join(sorted(map(name_of, rows)))}")
            raise UserError(f"no run is called {name}; {advice}; {EARLIER}")

    def is_asked_for(row: dict) -> bool:
        return any(fnmatch.filter(filter(None, (row["Experiment"], row["rev"])), name) for name in names)

    kept = [row for row in rows if not names or is_asked_for(row)]

    states, incomplete, edited, equal = Counter(), [], [], {}
    kept.sort(key=lambda row: (not row["Experiment"], row["rev"] == "workspace", row["Experiment"] or ""))
    for row in kept:
        if row["State"] not in (None, "Success"):
            states[row["State"].lower()] += 1
        elif (result := read_row(row)) is None:
            incomplete.append(name_of(row))
        elif current is not None and row["rev"] not in current:
            edited.append(name_of(row))
        else:
            figures = (shown_figure(result, key) for key in FIGURES if key not in ("negative_elbo", "nll_samples"))
            same = (*result.parameters.items(), *figures)
            equal.setdefault(same, []).append(result)

    notes = []
    if states:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        notes.append("; ".join([f"Left out: {counts}", *(ADVICE[state] for state in ADVICE if state in states)]) + ".")
    if incomplete:
        notes.append(f"Left out, for want of kl and reconstruction in metrics/test.json: {', '.join(incomplete)}.")
    if edited:
        notes.append(f"Left out, edited or damaged since the figures were measured: {', '.join(edited)}.")
    for first, *others in equal.values():
        if others := [result.name for result in others if result.name != "workspace"]:
            more = [f"{len(others) - 5} more"] if len(others) > 5 else []
            notes.append(f"The same result as {first.name}: {', '.join([*others[:5], *more])}.")
    return [results[0] for results in equal.values()], notes


def varied(results: Sequence[Result]) -> list[str]:
    """The parameters, in the order of params.yaml, that are not the same in all of `results`."""
    keys = results[0].parameters
    return [key for key in keys if any(result.parameters[key] != results[0].parameters[key] for result in results)]


def in_order(results: Sequence[Result]) -> list[Result]:
    """Sorted by what varies, numbers as numbers and before lists, short lists first; by name where that is the same."""

    def order(value: Value) -> tuple:
        if isinstance(value, str):
            numbers = [int(digits) for digits in re.findall(r"\d+", value)]
            return (False, True, len(numbers), numbers, value)
        return (value is None, False, 0 if value is None else value)

    keys = varied(results)
    return sorted(results, key=lambda result: ([order(result.parameters[key]) for key in keys], result.name))


def by_task(results: Sequence[Result]) -> list[list[Result]]:
    """`results` in order, apart for each data set, likelihood and kind of pixels."""
    groups: dict[tuple, list[Result]] = {}
    for result in in_order(results):
        groups.setdefault(result.task, []).append(result)
    return [in_order(group) for group in groups.values()]


def by_configuration(results: Sequence[Result]) -> list[list[int]]:
    """The indices of those of `results` that differ in no parameter but the seed, in order."""
    keys = [key for key in varied(results) if key != "seed"]
    groups: dict[tuple, list[int]] = {}
    for index, result in enumerate(results):
        groups.setdefault(tuple(result.parameters[key] for key in keys), []).append(index)
    return list(groups.values())


def shown(value: Value) -> str:
    return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def shown_figure(result: Result, figure: str) -> str:
    value = getattr(result, figure)
    return "–" if value is None else format(value, FIGURES[figure])


def sample_counts(results: Sequence[Result]) -> list[int | None]:
    """The numbers of samples behind the `nll` of those of `results` that have one, each once."""
    return list(dict.fromkeys(result.nll_samples for result in results if result.nll is not None))


def figures_of(results: Sequence[Result]) -> list[str]:
    """The figures that any of `results` has."""
    return [figure for figure in FIGURES if any(getattr(result, figure) is not None for result in results)]
