"""What the picture shows of each task: points, labels, curves and sweeps."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cvae.commands.compare.results import Result, Value, by_configuration, sample_counts, shown, varied
from cvae.commands.compare.tables import PICTURE

if TYPE_CHECKING:
    from cvae.commands.compare.rate_distortion import Panel
    from cvae.commands.compare.sweep import Sweep


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
    from cvae.commands.compare.rate_distortion import draw_rate_distortion
    from cvae.figures.style import save  # slow to import, and no error of ours needs it

    save(draw_rate_distortion(panels_of(groups)), path)


def panels_of(groups: Sequence[Sequence[Result]]) -> list["Panel"]:
    """What the picture shows of each group."""
    from cvae.commands.compare.rate_distortion import Panel

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
    from cvae.commands.compare.sweep import MOST_CURVES, Sweep

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
