"""Choose what the picture shows of each task: points, labels, curves and sweeps."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cvae.commands.compare.results import COMPARED, CONFIGURATION, sample_counts, shown, task_name, varied
from cvae.commands.compare.tables import PICTURE
from cvae.tracking.tasks import measured_on, split_of

if TYPE_CHECKING:
    from cvae.commands.compare.rate_distortion import Panel
    from cvae.commands.compare.sweep import Sweep


def label_results(results: pd.DataFrame) -> tuple[list[str], str]:
    """Return a short label for each result of one task, and the name of what the labels give."""
    keys = varied(results)
    if not 1 <= len(keys) <= 3:
        return results["experiment"].tolist(), "experiment"
    labels = results[keys].map(shown).agg(", ".join, axis=1)
    # Different code can give other figures with the same parameters.
    labels = labels.mask(labels.duplicated(keep=False), labels + " (" + results["experiment"] + ")")
    return labels.tolist(), ", ".join(keys)


def write_picture(groups: Sequence[pd.DataFrame], path: str | Path = PICTURE) -> None:
    """Draw each task on its own axes, and save them as one PNG."""
    from cvae.commands.compare.rate_distortion import draw_rate_distortion
    from cvae.figures.style import save  # imported here because it is slow, and errors come earlier

    save(draw_rate_distortion(panels_of(groups)), path)


def panels_of(groups: Sequence[pd.DataFrame]) -> list["Panel"]:
    """Return what the picture shows of each task."""
    from cvae.commands.compare.rate_distortion import Panel

    panels = []
    for group in groups:
        title = f"{task_name(group)}: {measured_on(group.iloc[0])}"
        found = *label_results(group), *find_curves(group), find_sweep(group)
        panels.append(Panel(title, group, *found, split_of(group.iloc[0])))
    return panels


def find_curves(results: pd.DataFrame) -> tuple[list[pd.DataFrame], str]:
    """Group runs that differ in one quantity, apart from their seed, into curves; return them and the quantity's name.

    A curve has the first run of each seed. If several quantities vary, the curves follow the one that needs the
    fewest curves, or the last of these in params.yaml: a sweep over three latent_dims and five beta gives one curve
    over beta for each latent_dims. There are no curves if there would be more than ten.
    """
    runs = results.drop_duplicates(COMPARED)
    best, name = [], ""
    for along in varied(results):
        if along == "seed" or not runs[along].map(lambda value: isinstance(value, int | float)).all():
            continue
        others = [key for key in CONFIGURATION if key != along]
        curves = [curve for _, curve in runs.groupby(others, sort=False, dropna=False)]
        if max(curve[along].nunique() for curve in curves) > 1 and len(curves) <= (len(best) or 10):
            best, name = curves, along
    return best, name


def find_sweep(results: pd.DataFrame) -> "Sweep | None":
    """Return accuracies, nll and negative ELBO along the curves of `find_curves`.

    Return None if there are no curves, too many curves to tell apart, or no figures except the ELBO.
    """
    from cvae.commands.compare.sweep import MOST_CURVES, Sweep

    curves, along = find_curves(results)
    shares = {
        f"label_accuracy ({split_of(results.iloc[0])} images)": 100 * results["label_accuracy"],
        "sample_accuracy (sampled images)": 100 * results["sample_accuracy"],
    }
    shares = {name: figure for name, figure in shares.items() if figure.notna().any()}
    nats = {
        f"nll (bound of {count} samples)": results["nll"].where(results["nll_samples"] == count)
        for count in sample_counts(results)
    }
    if not (shares or nats) or not 1 <= len(curves) <= MOST_CURVES:
        return None
    nats["negative_elbo"] = results["negative_elbo"]
    figures = pd.DataFrame(shares | nats)
    swept = [figures.loc[curve.index].set_axis(curve[along].infer_objects()) for curve in curves]
    others = [key for key in varied(results) if key not in (along, "seed")]
    labels = [", ".join(shown(curve[key].iloc[0]) for key in others) for curve in curves]
    return Sweep(along, swept, labels, ", ".join(others), list(shares), list(nats), split_of(results.iloc[0]))
