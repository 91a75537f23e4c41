"""Write results as text tables for a terminal, and as CSV."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from cvae.commands.compare.results import (
    COMPARED,
    CONFIGURATION,
    FIGURES,
    figures_of,
    sample_counts,
    shown,
    shown_figure,
    task_name,
    varied,
)
from cvae.support.files import write_whole
from cvae.tracking.tasks import measured_on

TABLE, PICTURE = Path("plots/rate_distortion.csv"), Path("plots/rate_distortion.png")
SPARED = ("active_units", "nll_samples", "kl", "reconstruction", "sample_accuracy", "test_nll")  # least missed first
AVERAGED = [figure for figure, digits in FIGURES.items() if digits != "d"]


def heading(results: pd.DataFrame) -> str:
    """Return the heading of a task's table: the task and the units."""
    parts = [
        f"{task_name(results)}: {measured_on(results.iloc[0])}, nats per image",
        "kl is the rate, reconstruction the distortion",
    ]
    if "labels" in varied(results):
        parts.append("with labels none, nats are of the image alone, not given its label")
    if len(counts := sample_counts(results)) == 1:
        parts.append(f"nll from {counts[0]} samples")
    elif counts:
        parts.append("compare nll only at equal nll_samples")
    return "; ".join(parts)


def format_table(results: pd.DataFrame, width: float = math.inf) -> str:
    """Format the results of one task for a terminal of `width` characters."""
    figures = figures_of(results)
    if len(sample_counts(results)) == 1:
        figures.remove("nll_samples")  # the heading gives it
    columns = {"experiment": results["experiment"].tolist()}
    columns |= {key: [shown(value) for value in results[key]] for key in varied(results)}
    columns |= {figure: [shown_figure(figure, value) for value in results[figure]] for figure in figures}
    return _fitted(columns, width, ["left"] + ["right"] * (len(columns) - 1))


def format_means(results: pd.DataFrame, width: float = math.inf) -> str:
    """Format the means over seeds: a row for each configuration of one task that was run with several seeds.

    Return an empty string if there is no such configuration. A dash means that fewer than two seeds have the figure.
    """
    figures, counts = {}, sample_counts(results)
    for figure in AVERAGED:
        if figure == "nll" and len(counts) > 1:
            for count in counts:
                figures[f"nll ({count} samples)"] = results["nll"].where(results["nll_samples"] == count)
        else:
            figures[figure] = results[figure]
    runs = results[COMPARED].assign(**figures)
    # One row per seed, even if it was run twice
    seeds = runs.groupby(COMPARED, sort=False, dropna=False, as_index=False).first()

    keys = [key for key in varied(results) if key != "seed"]
    rows, has_fewer = [], False
    for _, group in seeds.groupby(CONFIGURATION, sort=False, dropna=False):
        if len(group) < 2:
            continue
        row = {key: shown(group[key].iloc[0]) for key in keys} | {"seeds": str(len(group))}
        for name, values in figures.items():
            mean, deviation, count = group[name].agg(["mean", "std", "count"])
            if count > 1:
                digits, is_fewer = FIGURES[values.name], count < len(group)
                row[name] = f"{mean:{digits}} ± {deviation:{digits}}" + f" ({count:.0f})" * is_fewer
                has_fewer |= is_fewer
        rows.append(row)
    if not rows:
        return ""
    table = pd.DataFrame(rows, columns=[*keys, "seeds", *figures]).dropna(axis=1, how="all").fillna("–")
    title = "mean ± standard deviation over seeds" + "; (n): over n seeds that have the figure" * has_fewer
    return f"{title}\n{_fitted(table.to_dict('list'), width, ['right'] * table.shape[1])}"


def _fitted(columns: Mapping[str, Sequence[str]], width: float, sides: Sequence[str]) -> str:
    """Format a table for `width` characters.

    If it is too wide, break the names of its columns, then leave out the figures in `SPARED` one after another.
    """
    broken = {name: name.replace("_", "_\n").replace(" (", "\n(") for name in columns}
    for names, spared in (({}, 0), *((broken, count) for count in range(len(SPARED) + 1))):
        kept = [name for name in columns if name not in SPARED[:spared]]
        rows = [[names.get(name, name) for name in kept], *zip(*(columns[name] for name in kept), strict=True)]
        text = tabulate(rows, tablefmt="plain", colalign=sides[: len(kept)], disable_numparse=True)
        if max(map(len, text.splitlines())) <= width:
            break
    return text


def write_table(groups: Sequence[pd.DataFrame], path: str | Path = TABLE) -> None:
    """Write all results as one CSV file: unrounded figures, and the parameters that differ."""
    results = pd.concat(groups)
    columns = ["experiment", *varied(results), *figures_of(results)]
    write_whole({path: results[columns].to_csv(index=False, lineterminator="\n").encode()})
