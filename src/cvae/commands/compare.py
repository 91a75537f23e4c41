"""`python -m cvae.commands.compare`: compare DVC's experiments by rate and distortion, as a table and a picture.

Rate is `kl` and distortion `reconstruction` of metrics/test.json: the KL to the prior and the negative expected
log-likelihood, both in nats per image of the test set, without the Gaussian's constant (Alemi et al. 2018,
"Fixing a Broken ELBO", section 2). Their sum is the negative ELBO whatever the run's `beta`; `loss` of
metrics/test.json weighs `kl` with it, so that it cannot be compared across values of beta.

`nll` bounds the negative log-likelihood more tightly than the negative ELBO does, and the tighter the more
samples it takes, so that it compares only at the same `nll_samples`. `label_accuracy` is the share of test images
whose own label has the highest ELBO of the ten, `sample_accuracy` that of images drawn under a label which the
nearest training images call by it. Where runs form a sweep, the picture has these over the swept parameter too.

Nats of one data set, likelihood and kind of pixels, grey or binary, say nothing about those of another: each such
task gets a table and axes of its own. Binary test images are the same whether those of training were drawn once
or anew each epoch. What a run has in grid_size, grid_range and registered_model moves no figure, device and threads
none but by rounding, and nll_samples none but nll, so they do not set runs apart.

Runs that differ in their seed alone are of one configuration. Below a task's table stands the mean and the sample
standard deviation of each configuration of two seeds or more, and the picture's curves go through the means.

The picture and its table are of this clone's experiments, which git does not carry, and are made again in
seconds: .gitignore names them. `git add --force` keeps one.
"""

import argparse
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml
from tabulate import tabulate

from cvae.artifacts.tables import csv_bytes
from cvae.commands.runner import Parser, run, whole
from cvae.pipeline.dvc_lock import LOCK, md5_of, parameters_behind, parse_lock
from cvae.pipeline.git import files_at, require_git
from cvae.pipeline.parameters import Parameters, load_yaml
from cvae.pipeline.repository import require_root
from cvae.support.errors import UserError, one_line
from cvae.support.files import write_whole

if TYPE_CHECKING:
    from cvae.commands.rate_distortion import Panel
    from cvae.commands.sweep import Sweep

MEASURED = "metrics/test.json"
TABLE, PICTURE = Path("plots/rate_distortion.csv"), Path("plots/rate_distortion.png")
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
AVERAGED = [figure for figure in FIGURES if figure not in ("nll_samples", "active_units")]
SWEEP = "`dvc exp run --queue -n dims -S threads=1 -S 'latent_dims=range(1,9)' && dvc queue start -j 2` makes eight"
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
        pixels = "grey" if self.parameters["binarize"] == "none" else "binary"
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

    `names`: experiments, branches or commits to keep; all, if there are none. Of equal results the
    experiment's name is kept, or else the branch's: an experiment can be applied, and the workspace goes.
    `current`: the revisions whose figures are of their parameters; all, if None.

    Raises:
        UserError: there is no run of some name.
    """
    known = {alias for row in rows for alias in (row["Experiment"], row["rev"])}
    if unknown := [name for name in names if name not in known]:
        shown = ", ".join(sorted({name_of(row) for row in rows}))
        raise UserError(f"no run is called {unknown[0]}; there are {shown}; {EARLIER}")
    kept = [row for row in rows if not names or {row["Experiment"], row["rev"]} & set(names)]

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


def heading(results: Sequence[Result]) -> str:
    """What the table of results of one task is of, and in which units."""
    parts = [f"{results[0].task_name}: test set, nats per image", "kl is the rate, reconstruction the distortion"]
    if len(counts := sample_counts(results)) == 1:
        parts.append(f"nll of {shown(counts[0])} samples")
    elif counts:
        parts.append("nll only compares at the same nll_samples")
    return "; ".join(parts)


def format_table(results: Sequence[Result]) -> str:
    """A table of results of one task, for a terminal: names to the left, numbers to the right."""
    keys, figures = varied(results), figures_of(results)
    if len(sample_counts(results)) == 1:
        figures = [figure for figure in figures if figure != "nll_samples"]  # the heading says it once
    rows = [("experiment", *keys, *figures)]
    for result in results:
        parameters = (shown(result.parameters[key]) for key in keys)
        rows.append((result.name, *parameters, *(shown_figure(result, figure) for figure in figures)))
    sides = ["left"] + ["right"] * (len(rows[0]) - 1)
    return tabulate(rows, tablefmt="plain", colalign=sides, disable_numparse=True)


def figure_of_seeds(results: Sequence[Result], figure: str, samples: int | None = None) -> list[float]:
    """`figure` in the first result of each seed that has it, of one configuration; nll only where of `samples`."""
    of_seed: dict[Value, float] = {}
    for result in results:
        value = getattr(result, figure)
        if value is not None and (figure != "nll" or result.nll_samples == samples):
            of_seed.setdefault(result.parameters["seed"], value)
    return list(of_seed.values())


def format_means(results: Sequence[Result]) -> str:
    """What `results` of one task reach over the seeds: a table under its heading; empty, if there are no two seeds.

    A row is a configuration of two seeds or more. A dash stands for a figure that fewer than two of them have.
    """
    keys = [key for key in varied(results) if key != "seed"]
    columns = {}  # the figure in each, and its samples: each number of these has an nll of its own
    for figure in AVERAGED:
        counts = sample_counts(results) if figure == "nll" else [None]
        for count in counts:
            columns[figure if len(counts) == 1 else f"{figure} ({shown(count)} samples)"] = (figure, count)

    rows, has_fewer = [], False
    for runs in ([results[index] for index in indices] for indices in by_configuration(results)):
        seeds = len({result.parameters["seed"] for result in runs})
        if seeds < 2:
            continue
        row = {key: shown(runs[0].parameters[key]) for key in keys} | {"seeds": str(seeds)}
        for column, (figure, count) in columns.items():
            if len(values := figure_of_seeds(runs, figure, count)) > 1:
                digits = FIGURES[figure]
                row[column] = f"{np.mean(values):{digits}} ± {np.std(values, ddof=1):{digits}}"
                row[column] += f" ({len(values)})" * (len(values) < seeds)
                has_fewer |= len(values) < seeds
        rows.append(row)
    if not rows:
        return ""
    header = [column for column in (*keys, "seeds", *columns) if any(column in row for row in rows)]
    cells = [header, *([row.get(column, "–") for column in header] for row in rows)]
    title = "mean ± standard deviation over seeds" + "; (n): over n seeds that have the figure" * has_fewer
    table = tabulate(cells, tablefmt="plain", colalign=["right"] * len(header), disable_numparse=True)
    return f"{title}\n{table}"


def write_table(groups: Sequence[Sequence[Result]], path: str | Path = TABLE) -> None:
    """Write all results as one CSV file, with the digits of the metrics files and the parameters that differ."""
    results = [result for group in groups for result in group]
    keys, figures = varied(results), figures_of(results)
    rows = [
        {
            "experiment": result.name,
            **{key: result.parameters[key] for key in keys},
            **{figure: getattr(result, figure) for figure in figures},
        }
        for result in results
    ]
    write_whole({path: csv_bytes(rows)})


def label_results(results: Sequence[Result]) -> tuple[list[str], str]:
    """A short label a result of one task, and what the labels are."""
    keys = varied(results)
    if not 1 <= len(keys) <= 3:
        return [result.name for result in results], "experiment"
    labels = [", ".join(shown(result.parameters[key]) for key in keys) for result in results]
    times = Counter(labels)  # other code can give other figures with the same parameters
    unique = [
        f"{label} ({result.name})" if times[label] > 1 else label for label, result in zip(labels, results, strict=True)
    ]
    return unique, ", ".join(keys)


def write_picture(groups: Sequence[Sequence[Result]], path: str | Path = PICTURE) -> None:
    """Draw each group on axes of its own, and save them as one PNG."""
    from cvae.commands.rate_distortion import draw_rate_distortion
    from cvae.figures.figures import save  # slow to import, and no error of ours needs it

    save(draw_rate_distortion(panels_of(groups)), path)


def panels_of(groups: Sequence[Sequence[Result]]) -> list["Panel"]:
    """What the picture shows of each group."""
    from cvae.commands.rate_distortion import Panel

    panels = []
    for group in groups:
        labels, label_name = label_results(group)
        points = np.array([(result.kl, result.reconstruction) for result in group])
        title = f"Rate and distortion: {group[0].task_name}"
        panels.append(Panel(title, points, labels, label_name, *find_curves(group), find_sweep(group)))
    return panels


def find_curves(results: Sequence[Result]) -> tuple[list[list[list[int]]], str]:
    """Which of `results` to join, by index: those that differ in one quantity alone, in its order; and its name.

    A point of a curve is the runs that differ in their seed alone, of which the first of each seed counts.
    Of several quantities it is the one of the fewest curves, and the last such of params.yaml: a sweep over three
    latent_dims and five beta gives a curve over beta for each latent_dims. None are joined, where that would
    take more than ten curves.
    """
    keys = [key for key in varied(results) if key != "seed"]
    points = []
    for runs in by_configuration(results):
        firsts: dict[Value, int] = {}
        for index in runs:
            firsts.setdefault(results[index].parameters["seed"], index)
        points.append(list(firsts.values()))
    best, name = [], ""
    for along in keys:
        if not all(isinstance(result.parameters[along], int | float) for result in results):
            continue
        curves: dict[tuple, dict[Value, list[int]]] = {}
        for point in points:
            parameters = results[point[0]].parameters
            others = tuple(parameters[key] for key in keys if key != along)
            curves.setdefault(others, {})[parameters[along]] = point
        joined = [[curve[value] for value in sorted(curve)] for curve in curves.values()]
        if max(map(len, joined)) > 1 and len(joined) <= (len(best) or 10):
            best, name = joined, along
    return best, name


def find_sweep(results: Sequence[Result]) -> "Sweep | None":
    """The accuracies, nll and negative ELBO of `results` over what varies along the curves of `find_curves`.

    None, if there are no curves, more than can be told apart, or none of these figures but the ELBO.
    """
    from cvae.commands.sweep import MOST_CURVES, Sweep

    curves, along = find_curves(results)
    others = [key for key in varied(results) if key not in (along, "seed")]

    def column(figure: str) -> np.ndarray:
        return np.array([getattr(result, figure) for result in results], dtype=float)

    shares = {
        "label_accuracy (test images)": 100 * column("label_accuracy"),
        "sample_accuracy (images drawn)": 100 * column("sample_accuracy"),
    }
    shares = {name: figure for name, figure in shares.items() if np.isfinite(figure).any()}
    nats = {}
    for count in sample_counts(results):
        has_count = [result.nll_samples == count for result in results]
        nats[f"nll (bound of {shown(count)} samples)"] = np.where(has_count, column("nll"), np.nan)
    if not (shares or nats) or not 1 <= len(curves) <= MOST_CURVES:
        return None
    nats["negative_elbo"] = column("negative_elbo")
    values = [result.parameters[along] for result in results]
    labels = [", ".join(shown(results[curve[0][0]].parameters[key]) for key in others) for curve in curves]
    return Sweep(along, values, curves, labels, ", ".join(others), shares, nats)


def is_current(files: Mapping[str, bytes]) -> bool:
    """Whether metrics/test.json among `files` was measured with the params.yaml among them, by their dvc.lock."""
    try:
        params, lock = load_yaml(files["params.yaml"].decode()), parse_lock(files[LOCK].decode())
        measured, digest = parameters_behind(lock, MEASURED), md5_of(files[MEASURED])
        if measured is None or all(made.outs.get(MEASURED) != digest for made in lock.values()):
            return False
        return all(params.get(key) == measured[key] for key in measured if key not in IMMATERIAL)
    except (ValueError, AttributeError, RecursionError, yaml.YAMLError):  # one of the three is damaged or not there
        return False


def find_results(names: Sequence[str], revs: Sequence[str], num: int) -> tuple[list[Result], list[str]]:
    """`read_results` of what DVC knows of `num` commits back from each of `revs`, or from HEAD.

    Raises:
        UserError: git or DVC refuses this repository, it has no such revision, or no run of some name.
    """
    from dvc.api import exp_show
    from dvc.exceptions import DvcException
    from pygit2 import GitError

    require_git()
    try:
        rows = exp_show(revs=list(revs) or None, num=num)
    except (DvcException, GitError, UnicodeError) as error:  # the last from git, of a --rev that is not text
        raise UserError(f"DVC cannot list the experiments: {one_line(error)}") from None
    return read_results(rows, names, current_revisions(row["rev"] for row in rows))


def current_revisions(revs: Iterable[str]) -> set[str]:
    """Those of `revs`, commits or the workspace, whose figures are of their parameters.

    DVC reads both as they stand in a commit, where one may have been edited without the other.
    """
    files = (MEASURED, "params.yaml", LOCK)
    revs = set(revs)
    contents = files_at(revs - {"workspace"}, files)
    contents |= {("workspace", file): Path(file).read_bytes() for file in files if Path(file).is_file()}
    return {rev for rev in revs if is_current({file: contents.get((rev, file), b"") for file in files})}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser("compare", prog="python -m cvae.commands.compare", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="compare only these, called as `dvc exp show` does")
    parser.add_argument("--rev", action="append", default=[], help="start from this commit, not HEAD; may be repeated")
    parser.add_argument(
        "-n", "--num", type=whole(-1), default=1, help="look at this many commits back from there; -1: all"
    )
    return parser.parse_args(argv)


def main() -> None:
    arguments = parse_arguments()
    require_root()
    results, notes = find_results(arguments.names, arguments.rev, arguments.num)
    for note in notes:
        print(note)
    if len(results) < 2:
        count = "is one result, and nothing to compare it with" if results else "are no results to compare"
        raise UserError(f"there {count}; {SWEEP}; {EARLIER}")
    groups = by_task(results)
    for group in groups:
        print(f"\n{heading(group)}")
        print(format_table(group))
        if means := format_means(group):
            print(f"\n{means}")

    write_table(groups)
    write_picture(groups)
    print(f"\n{PICTURE} draws it, {TABLE} has every digit.")


if __name__ == "__main__":
    run("compare", main)
