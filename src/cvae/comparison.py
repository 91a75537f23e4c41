"""`python -m cvae.comparison`: compare DVC's experiments by rate and distortion, as a table and a picture.

Rate is `kl` and distortion `reconstruction` of metrics/test.json: the KL to the prior and the negative expected
log-likelihood, both in nats per image of the test set, without the Gaussian's constant (Alemi et al. 2018,
"Fixing a Broken ELBO", section 2). Their sum is the negative ELBO whatever the run's `beta`; `loss` of
metrics/test.json weighs `kl` with it, so that it cannot be compared across values of beta.

Nats of one data set and likelihood say nothing about those of another: each pair gets a table and axes of its own.
What a run has in grid_size and grid_range moves no figure, and device and threads none but by rounding, so they
do not set runs apart.

The picture and its table are of this clone's experiments, which git does not carry, and are made again in
seconds: .gitignore names them. `git add --force` keeps one.
"""

import argparse
import csv
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tabulate import tabulate

from cvae.errors import UserError
from cvae.parameters import Parameters, load_yaml

if TYPE_CHECKING:
    from cvae.rate_distortion import Panel

TABLE, PICTURE = Path("plots/rate_distortion.csv"), Path("plots/rate_distortion.png")
TASK = ("dataset", "likelihood")
IMMATERIAL = ("device", "threads", "launcher", "grid_size", "grid_range")
FIGURES = ("kl", "reconstruction", "negative_elbo", "active_units")
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

    `parameters`: None stands for one that the run's version did not have; so does `active_units`.
    """

    name: str
    parameters: dict[str, Value]
    kl: float
    reconstruction: float
    active_units: int | None = None

    @property
    def negative_elbo(self) -> float:
        """To the eight digits of its parts, so that it equals `loss` where beta is 1."""
        return float(f"{self.kl + self.reconstruction:.8g}")

    @property
    def task(self) -> tuple[Value, ...]:
        return tuple(self.parameters[key] for key in TASK)

    @property
    def task_name(self) -> str:
        dataset, likelihood = self.task
        return f"{dataset or 'unknown data set'}, {likelihood or 'unknown'} likelihood"


def read_row(row: dict) -> Result | None:
    """The result in one row of `dvc.api.exp_show()`, which has every number as a float; None if figures lack."""
    figures = {key: row.get(f"metrics/test.json:{key}", row.get(key)) for key in ("kl", "reconstruction")}
    if not all(isinstance(figure, float) and math.isfinite(figure) for figure in figures.values()):
        return None
    keys = [key for key in Parameters.model_fields if key not in IMMATERIAL]
    parameters = {key: _whole(row.get(f"params.yaml:{key}", row.get(key))) for key in keys}
    units = _whole(row.get("metrics/test.json:active_units", row.get("active_units")))
    return Result(name_of(row), parameters, **figures, active_units=units if isinstance(units, int) else None)


def name_of(row: dict) -> str:
    return row["Experiment"] or row["rev"]


def _whole(value: Value) -> Value:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_results(rows: Sequence[dict], names: Sequence[str] = ()) -> tuple[list[Result], list[str]]:
    """The distinct results in `rows` of `dvc.api.exp_show()`, and a line for each thing that is left out.

    `names`: experiments, branches or commits to keep; all, if there are none. Of equal results the
    experiment's name is kept, or else the branch's: an experiment can be applied, and the workspace goes.

    Raises:
        UserError: there is no run of some name.
    """
    known = {alias for row in rows for alias in (row["Experiment"], row["rev"])}
    if unknown := [name for name in names if name not in known]:
        shown = ", ".join(sorted({name_of(row) for row in rows}))
        raise UserError(f"no run is called {unknown[0]}; there are {shown}; {EARLIER}")
    kept = [row for row in rows if not names or {row["Experiment"], row["rev"]} & set(names)]

    states, incomplete, equal = Counter(), [], {}
    kept.sort(key=lambda row: (not row["Experiment"], row["rev"] == "workspace", row["Experiment"] or ""))
    for row in kept:
        if row["State"] not in (None, "Success"):
            states[row["State"].lower()] += 1
        elif (result := read_row(row)) is None:
            incomplete.append(name_of(row))
        else:
            figures = (shown_figure(figure) for figure in (result.kl, result.reconstruction))
            same = (*result.parameters.items(), *figures, result.active_units)
            equal.setdefault(same, []).append(result)

    notes = []
    if states:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        notes.append("; ".join([f"Left out: {counts}", *(ADVICE[state] for state in ADVICE if state in states)]) + ".")
    if incomplete:
        notes.append(f"Left out, for want of kl and reconstruction in metrics/test.json: {', '.join(incomplete)}.")
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
    """Sorted by what varies, numbers as numbers, and by name where that is the same."""

    def order(value: Value) -> tuple:
        return (value is None, isinstance(value, str), value if value is not None else 0)

    keys = varied(results)
    return sorted(results, key=lambda result: ([order(result.parameters[key]) for key in keys], result.name))


def by_task(results: Sequence[Result]) -> list[list[Result]]:
    """`results` in order, apart for each data set and likelihood."""
    groups: dict[tuple, list[Result]] = {}
    for result in in_order(results):
        groups.setdefault(result.task, []).append(result)
    return [in_order(group) for group in groups.values()]


def shown(value: Value) -> str:
    return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def shown_figure(figure: float) -> str:
    return f"{figure:.3f}"


def format_table(results: Sequence[Result]) -> str:
    """A table of results of one task, for a terminal: names to the left, numbers to the right."""
    keys = varied(results)
    rows = [("experiment", *keys, *FIGURES)]
    for result in results:
        figures = map(shown_figure, (result.kl, result.reconstruction, result.negative_elbo))
        parameters = (shown(result.parameters[key]) for key in keys)
        rows.append((result.name, *parameters, *figures, shown(result.active_units)))
    sides = ["left"] + ["right"] * (len(rows[0]) - 1)
    return tabulate(rows, headers="firstrow", tablefmt="plain", colalign=sides, disable_numparse=True)


def write_table(groups: Sequence[Sequence[Result]], path: str | Path = TABLE) -> None:
    """Write all results as one CSV file, with the digits of the metrics files and the parameters that differ."""
    results = [result for group in groups for result in group]
    keys = varied(results)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["experiment", *keys, *FIGURES])
        for result in results:
            figures = (getattr(result, figure) for figure in FIGURES)
            writer.writerow([result.name, *(result.parameters[key] for key in keys), *figures])


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
    from cvae.figures import save  # slow to import, and no error of ours needs it
    from cvae.rate_distortion import draw_rate_distortion

    save(draw_rate_distortion(panels_of(groups)), path)


def panels_of(groups: Sequence[Sequence[Result]]) -> list["Panel"]:
    """What the picture shows of each group."""
    from cvae.rate_distortion import Panel

    panels = []
    for group in groups:
        labels, label_name = label_results(group)
        points = np.array([(result.kl, result.reconstruction) for result in group])
        title = f"Rate and distortion on the test images: {group[0].task_name}"
        panels.append(Panel(title, points, labels, label_name, *find_curves(group)))
    return panels


def find_curves(results: Sequence[Result]) -> tuple[list[list[int]], str]:
    """Which of `results` to join, by index: those that differ in one quantity alone, in its order; and its name.

    Of several quantities it is the one of the fewest curves, and the last such of params.yaml: a sweep over three
    latent_dims and five beta gives a curve over beta for each latent_dims. Of results with the same value the
    first is joined; none are, where that would take more than ten curves.
    """
    keys = varied(results)
    best, name = [], ""
    for along in keys:
        values = [result.parameters[along] for result in results]
        if along == "seed" or not all(isinstance(value, int | float) for value in values):
            continue
        curves: dict[tuple, dict[Value, int]] = {}
        for index, result in enumerate(results):
            others = tuple(result.parameters[key] for key in keys if key != along)
            curves.setdefault(others, {}).setdefault(values[index], index)
        joined = [[curve[value] for value in sorted(curve)] for curve in curves.values()]
        if max(map(len, joined)) > 1 and len(joined) <= (len(best) or 10):
            best, name = joined, along
    return best, name


def is_current(rev: str) -> bool:
    """Whether the figures of a commit, or of the workspace, are of its params.yaml: dvc.lock has what they are of."""
    params, lock = (_read(rev, file) for file in ("params.yaml", "dvc.lock"))
    measured: dict[str, Value] = {}
    for stage in lock.get("stages", {}).values():
        measured |= stage.get("params", {}).get("params.yaml", {})
    return all(params.get(key) == measured[key] for key in measured if key not in IMMATERIAL)


def _read(rev: str, file: str) -> dict:
    """A YAML file as it is at `rev`; empty, if there is none."""
    if rev == "workspace":
        text = Path(file).read_text() if Path(file).exists() else ""
    else:
        text = subprocess.run(["git", "show", f"{rev}:{file}"], capture_output=True, text=True).stdout
    return load_yaml(text) or {}


def find_results(names: Sequence[str], revs: Sequence[str], num: int) -> tuple[list[Result], list[str]]:
    """`read_results` of what DVC knows of `num` commits back from each of `revs`, or from HEAD.

    Raises:
        UserError: this is no DVC repository, it has no such revision, or no run of some name.
    """
    from dvc.api import exp_show
    from dvc.exceptions import DvcException

    try:
        rows = exp_show(revs=list(revs) or None, num=num)
    except DvcException as error:
        raise UserError(f"DVC cannot list the experiments: {' '.join(str(error).split())}") from None
    results, notes = read_results(rows, names)
    baselines = {row["rev"] for row in rows if not row["Experiment"]}
    if edited := [result.name for result in results if result.name in baselines and not is_current(result.name)]:
        results = [result for result in results if result.name not in edited]
        notes.append(f"Left out, edited since the figures were measured: {', '.join(edited)}.")
    return results, notes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cvae.comparison", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="compare only these, called as `dvc exp show` does")
    parser.add_argument("--rev", action="append", default=[], help="start from this commit, not HEAD; may be repeated")
    parser.add_argument("-n", "--num", type=int, default=1, help="look at this many commits back from there; -1: all")
    arguments = parser.parse_args()

    results, notes = find_results(arguments.names, arguments.rev, arguments.num)
    for note in notes:
        print(note)
    if len(results) < 2:
        count = "is one result, and nothing to compare it with" if results else "are no results to compare"
        raise UserError(f"there {count}; {SWEEP}; {EARLIER}")
    groups = by_task(results)
    for group in groups:
        print(f"\n{group[0].task_name}: test set, nats per image; kl is the rate, reconstruction the distortion")
        print(format_table(group))

    write_table(groups)
    write_picture(groups)
    print(f"\n{PICTURE} draws it, {TABLE} has every digit.")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"compare: {error}")
