"""Results as text tables for a terminal, and as CSV."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from cvae.artifacts.tables import csv_bytes
from cvae.commands.compare.results import (
    FIGURES,
    Result,
    Value,
    by_configuration,
    figures_of,
    sample_counts,
    shown,
    shown_figure,
    varied,
)
from cvae.support.files import write_whole

TABLE, PICTURE = Path("plots/rate_distortion.csv"), Path("plots/rate_distortion.png")
AVERAGED = [figure for figure in FIGURES if figure not in ("nll_samples", "active_units")]


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
