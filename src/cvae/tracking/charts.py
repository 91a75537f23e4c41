"""Lay out the charts page of MLflow's UI for this pipeline.

MLflow stores a shared layout as a tag of the experiment, and shows it to anyone who follows its link. Its default page
has one small card for each metric and picture, in alphabetical order, and crops pictures to a corner.
"""

import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path

VIEW = "cvae"
TAG = f"mlflow.sharedViewState.{VIEW}"

PARTS = ("loss", "reconstruction", "kl")
FIGURES = (*PARTS, "nll", "label_accuracy", "sample_accuracy", "label_gap", "active_units")
OVERVIEWS = ("manifolds", "latents", "reconstructions", "styles")
LEARNING = "learning"  # one image for each of some epochs
PER_CLASS = ("manifolds", "latents")  # folders in plots/ with a picture of each class
HIDDEN = ("train", "validation", "test", "final_validation", "final_test", "latents", "manifolds")  # sections
MOST_ROWS = 30  # of pictures; further ones are in the hidden sections, which MLflow fills itself


def page(experiment: str) -> str:
    """Return the path of the charts page in MLflow's UI."""
    return f"#/experiments/{experiment}/runs?compareRunsMode=CHART&viewStateShareKey={VIEW}"


def present_pictures() -> list[str]:
    """Return MLflow's keys of the pictures per class in the workspace: manifolds/0, …; a plain VAE has none."""
    files = [file for folder in PER_CLASS for file in Path("plots", folder).glob("*.png")]
    return [f"{file.parent.name}/{file.stem}" for file in files]


def pictures_in(layout: str) -> list[str]:
    """Return the keys of the pictures per class that `layout`, a value of `TAG`, has rows for."""
    return re.findall(rf'"((?:{"|".join(PER_CLASS)})/\w+)"', layout)


def splits_in(layout: str) -> set[str]:
    """Return the held-out splits whose curves `layout`, a value of `TAG`, shows."""
    return set(re.findall(r'"(validation|test)/loss"', layout))


def layout(pictures: Iterable[str], splits: Collection[str] = ("test",)) -> str:
    """Return the value of `TAG`: curves, figures, and pictures with a column per run, in the format of MLflow 3.17.

    `pictures`: the keys of the pictures per class. Each gets a row, which is empty for runs without it.
    `splits`: the held-out splits of any run's curves. Final figures are always of the test images too.
    """
    rows = {folder: _in_order({key for key in pictures if key.startswith(f"{folder}/")}) for folder in PER_CLASS}
    curves_of = ["train", *(split for split in ("validation", "test") if split in splits)]
    measured_on = ["validation", "test"] if "validation" in splits else ["test"]
    sections = [
        _section("Curves in nats: held-out dashed, log epoch axis", columns=3, cardHeight=360),
        _section("How a model learns: move the slider", columns=1, cardHeight=420),
        _section("Overviews, one column per run", columns=1, cardHeight=900),
        _section("Manifolds, one row per class", columns=1, cardHeight=900),
        _section("Latents, one row per class", columns=1, cardHeight=900),
        *(_section(f"Trained model, on the {split} images", columns=2, cardHeight=260) for split in measured_on),
        *(_section(name, shown=False) for name in HIDDEN),
    ]
    curves, learning, overviews, manifolds, latents, *figures = (section["uuid"] for section in sections)
    charts = [
        *(_line(curves, [f"{split}/{part}" for split in curves_of]) for part in PARTS),
        _images(learning, [LEARNING], step=1),
        _images(overviews, list(OVERVIEWS)),
        *(
            _images(place, rows[name])
            for place, name in zip((manifolds, latents), PER_CLASS, strict=True)
            if rows[name]
        ),
        *(
            _bar(place, f"final_{split}/{name}")
            for place, split in zip(figures, measured_on, strict=False)
            for name in FIGURES
        ),
    ]
    state = {
        "compareRunSections": sections,
        "compareRunCharts": charts,
        "isAccordionReordered": True,  # without it, sections are sorted by name
        "hideEmptyCharts": True,
    }
    return json.dumps(state, separators=(",", ":"))


def _in_order(keys: set[str]) -> list[str]:
    """Return the first `MOST_ROWS` classes in their order."""
    return sorted(keys, key=lambda key: (len(key), key))[:MOST_ROWS]


def _section(name: str, shown: bool = True, **size: int) -> dict:
    return {"uuid": f"section {name}", "name": name, "display": shown, "isReordered": True, **size}


def _chart(section: str, kind: str, key: str, **settings: object) -> dict:
    return {"uuid": f"{kind} {key}", "type": kind, "metricSectionId": section, "deleted": False, **settings}


def _line(section: str, metrics: list[str]) -> dict:
    return _chart(
        section,
        "LINE",
        metrics[0],
        metricKey=metrics[0],
        selectedMetricKeys=metrics,
        xAxisKey="step",
        useGlobalXaxisKey=False,
        xAxisScaleType="log",  # the first epochs would squash the rest
        yAxisKey="metric",
        lineSmoothness=0,
        useGlobalLineSmoothing=False,
        runsCountToCompare=20,
    )


def _bar(section: str, metric: str) -> dict:
    return _chart(section, "BAR", metric, metricKey=metric, runsCountToCompare=20)


def _images(section: str, keys: list[str], step: int = 0) -> dict:
    return _chart(section, "IMAGE", keys[0], imageKeys=keys, step=step, showRunParams=False)
