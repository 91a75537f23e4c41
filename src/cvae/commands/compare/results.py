"""Read the results of experiments into one table: figures on held-out images, and the parameters behind them.

The figures are those of metrics/validation.json for results with validation images, else of metrics/test.json. `kl` is
the rate, `reconstruction` the distortion: the KL to the prior and the negative expected log-likelihood, in nats per
image, without the Gaussian's constant (Alemi et al. 2018, "Fixing a Broken ELBO", section 2). Their sum is the negative
ELBO for any `beta`. `loss` weights `kl` by `beta`, so it cannot be compared across values of `beta`.

`nll` is a tighter bound on the negative log-likelihood. It tightens with the number of samples, so it can be compared
only at equal `nll_samples`.

Nats cannot be compared across data, the images they were measured on, likelihoods or kinds of pixels (grey, colour or
binary). Each combination is a task, with its own table and axes. With `labels: given` they are those of an image given
its label, with `none` of the image alone; the difference is what the label tells about the image, so the two are one
task. Runs that differ only in their seed have the same configuration and are summarised by mean and sample standard
deviation.
"""

import fnmatch
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import pandas as pd

from cvae.pipeline.parameters import Parameters
from cvae.support.errors import UserError, suggest
from cvae.tracking.tasks import applicable, data_name, measured_on, pixels_of, split_of

# Parameters that leave the figures the same, except for rounding.
IMMATERIAL = ("device", "threads", "launcher", "grid_size", "grid_range", "registered_model")
COMPARED = [key for key in Parameters.model_fields if key not in (*IMMATERIAL, "nll_samples")]
CONFIGURATION = [key for key in COMPARED if key != "seed"]
DEFAULTS_OF_OLD_RUNS = {
    "model": "cvae.model:CVAE",
    "labels": "given",
    "activation": "article",
    "binarize": "none",
    "validation_images": 0,
    "patience": 0,
}  # older than these parameters
FIGURES = {  # the columns, and how the table formats them
    "kl": ".3f",
    "reconstruction": ".3f",
    "negative_elbo": ".3f",
    "nll": ".3f",
    "nll_samples": "d",
    "test_nll": ".3f",  # beside the validation figures
    "label_accuracy": ".4f",
    "sample_accuracy": ".4f",
    "active_units": "d",
}
DERIVED = ("negative_elbo", "nll_samples", "test_nll")
MEASURED_FIGURES = [figure for figure in FIGURES if figure not in DERIVED]  # by evaluate, under these names
ADVICE = {
    "queued": "`dvc queue start` runs the queue",
    "running": "`dvc queue status` shows progress",
    "failed": "`dvc queue logs NAME` says why a run failed",
}
EARLIER = "`make compare ARGS='--num -1'` includes the runs of earlier commits"

Value = int | float | str | None


def read_row(row: dict) -> dict[str, Value] | None:
    """Return the result in a row of `dvc.api.exp_show()`, or None if the row lacks `kl` or `reconstruction`.

    A parameter that did not exist when the run was made, or does not matter for its data, is None. Figures that the run
    lacks are left out.
    """

    def cell(file: str, key: str) -> Value:
        value = row.get(f"{file}:{key}", row.get(key))
        return None if value == "None" else value  # what DVC has for a parameter that did not exist then

    parameters = {key: _plain(cell("params.yaml", key)) for key in COMPARED}
    parameters |= {key: value for key, value in DEFAULTS_OF_OLD_RUNS.items() if parameters[key] is None}
    split = split_of(parameters)
    measured = {figure: cell(f"metrics/{split}.json", figure) for figure in MEASURED_FIGURES}
    if split == "validation":
        measured["test_nll"] = cell("metrics/test.json", "nll")
    figures = {key: value for key, value in measured.items() if isinstance(value, float) and math.isfinite(value)}
    if not {"kl", "reconstruction"} <= figures.keys():
        return None
    figures["negative_elbo"] = negative_elbo(figures["kl"], figures["reconstruction"])
    if "active_units" in figures:
        figures["active_units"] = int(figures["active_units"])
    if "nll" in figures:
        figures["nll_samples"] = _plain(cell("params.yaml", "nll_samples"))
    parameters |= dict.fromkeys(parameters.keys() - applicable(parameters).keys())
    return {"experiment": name_of(row)} | parameters | figures


def negative_elbo(kl: float, reconstruction: float) -> float:
    """Return the sum, rounded to eight digits like its parts, so that it equals `loss` if beta is 1."""
    return float(f"{kl + reconstruction:.8g}")


def name_of(row: dict) -> str:
    return row["Experiment"] or row["rev"]


def _plain(value: Value) -> Value:
    """Return the integers that DVC turned into floats, or into lists of one number as text; keep other values."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    single = re.fullmatch(r"\[(\d+)\]", value) if isinstance(value, str) else None
    return int(single[1]) if single else value


def read_results(
    rows: Sequence[dict], names: Sequence[str] = (), current: Collection[str] | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Return the distinct results in `rows` of `dvc.api.exp_show()`, and a note on each kind of row left out.

    Equal results appear once: under an experiment's name if there is one, else a branch's, else as the workspace.

    Args:
        names: experiments, branches or commits to keep, or patterns of them; all if empty.
        current: the revisions whose figures were measured with their parameters; all if None.

    Raises:
        UserError: nothing matches one of `names`.
    """
    known = {alias for row in rows for alias in (row["Experiment"], row["rev"]) if alias}
    for name in names:
        if not fnmatch.filter(known, name):
            advice = suggest(name, known, f"choose from {', '.join(sorted(map(name_of, rows)))}")
            raise UserError(f"no run is called {name}; {advice}; {EARLIER}")

    def is_requested(row: dict) -> bool:
        return any(fnmatch.filter(filter(None, (row["Experiment"], row["rev"])), name) for name in names)

    kept = [row for row in rows if not names or is_requested(row)]

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
            figures = (shown_figure(figure, result.get(figure)) for figure in MEASURED_FIGURES)
            equal.setdefault((*(result[key] for key in COMPARED), *figures), []).append(result)

    notes = []
    if states:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        notes.append("; ".join([f"Left out: {counts}", *(ADVICE[state] for state in ADVICE if state in states)]) + ".")
    if incomplete:
        notes.append(f"Left out, without kl and reconstruction: {', '.join(incomplete)}.")
    if edited:
        notes.append(f"Left out, edited or damaged since the figures were measured: {', '.join(edited)}.")
    for first, *others in equal.values():
        if others := [result["experiment"] for result in others if result["experiment"] != "workspace"]:
            more = [f"{len(others) - 5} more"] if len(others) > 5 else []
            notes.append(f"The same result as {first['experiment']}: {', '.join([*others[:5], *more])}.")
    return as_table(results[0] for results in equal.values()), notes


def as_table(results: Iterable[Mapping[str, Value]]) -> pd.DataFrame:
    """Return one row for each result: its experiment, its parameters, its figures.

    Rows are sorted by parameters, then by name. Numbers come before lists of numbers, shorter lists before longer.
    """

    def order(value: Value) -> tuple:
        if isinstance(value, str):
            numbers = [int(digits) for digits in re.findall(r"\d+", value)]
            return (False, True, len(numbers), numbers, value)
        return (value is None, False, 0 if value is None else value)

    rows = sorted(results, key=lambda result: ([order(result[key]) for key in COMPARED], result["experiment"]))
    table = pd.DataFrame(rows, columns=["experiment", *COMPARED, *FIGURES], dtype=object)
    return table.astype({figure: "Int64" if digits == "d" else float for figure, digits in FIGURES.items()})


def by_task(results: pd.DataFrame) -> list[pd.DataFrame]:
    """Split `results` by data, measured images, likelihood and kind of pixels."""
    data, images, pixels = (results.apply(name, axis=1) for name in (data_name, measured_on, pixels_of))
    tasks = results.groupby([data, images, "likelihood", pixels], sort=False, dropna=False)
    return [group.reset_index(drop=True) for _, group in tasks]


def task_name(results: pd.DataFrame) -> str:
    """Name the task that all of `results` belong to."""
    first = results.iloc[0]
    likelihood = f"{first['likelihood'] or 'unknown'} likelihood"
    return f"{data_name(first) or 'unknown data set'}, {likelihood}, {pixels_of(first)} pixels"


def varied(results: pd.DataFrame) -> list[str]:
    """Return the parameters that differ among `results`, in the order of params.yaml."""
    return [key for key in COMPARED if results[key].nunique(dropna=False) > 1]


def figures_of(results: pd.DataFrame) -> list[str]:
    """Return the figures that any of `results` has."""
    return [figure for figure in FIGURES if results[figure].notna().any()]


def sample_counts(results: pd.DataFrame) -> list[int]:
    """Return the distinct numbers of samples with which `nll` was measured."""
    return results.loc[results["nll"].notna(), "nll_samples"].unique().tolist()


def shown(value: Value) -> str:
    if isinstance(value, str):
        return re.sub(r"^cvae\.models?[\w.]*:", "", value)  # a model is shown by the name of its class
    return "–" if pd.isna(value) else f"{value:.6g}" if isinstance(value, float) else str(value)


def shown_figure(figure: str, value: float | None) -> str:
    return "–" if pd.isna(value) else format(value, FIGURES[figure])
