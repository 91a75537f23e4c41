"""Lay out the charts page of MLflow's UI for this pipeline.

MLflow stores a shared layout as a tag of the experiment, and shows it to anyone who follows its link. Its default page
has one small card for each metric and picture, in alphabetical order, and crops pictures to a corner.
"""

import json

VIEW = "cvae"
TAG = f"mlflow.sharedViewState.{VIEW}"

PARTS = ("loss", "reconstruction", "kl")
FIGURES = (*PARTS, "nll", "label_accuracy", "sample_accuracy", "label_gap", "active_units")
OVERVIEWS = ("manifolds", "latents", "reconstructions", "styles")


def page(experiment: str) -> str:
    """Return the path of the charts page in MLflow's UI."""
    return f"#/experiments/{experiment}/runs?compareRunsMode=CHART&viewStateShareKey={VIEW}"


def layout() -> str:
    """Return the value of `TAG`: curves, figures, and pictures with a column per run, in the format of MLflow 3.17."""
    digits = range(10)
    sections = [
        _section("Curves, nats per image: training and test", columns=3, cardHeight=360),
        _section("Overviews, one column per run", columns=1, cardHeight=900),
        _section("Manifolds, one row per digit", columns=1, cardHeight=900),
        _section("Latents, one row per digit", columns=1, cardHeight=900),
        _section("Trained model, on the test images", columns=4, cardHeight=300),
        *(_section(name, shown=False) for name in ("train", "test", "final_test", "latents", "manifolds")),
    ]
    curves, overviews, manifolds, latents, figures = (section["uuid"] for section in sections[:5])
    charts = [
        *(_line(curves, [f"train/{part}", f"test/{part}"]) for part in PARTS),
        _images(overviews, list(OVERVIEWS)),
        _images(manifolds, [f"manifolds/{digit}" for digit in digits]),
        _images(latents, [f"latents/{digit}" for digit in digits]),
        *(_bar(figures, f"final_test/{part}") for part in FIGURES),
    ]
    state = {
        "compareRunSections": sections,
        "compareRunCharts": charts,
        "isAccordionReordered": True,  # without it, sections are sorted by name
        "hideEmptyCharts": True,
    }
    return json.dumps(state, separators=(",", ":"))


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
        yAxisKey="metric",
        lineSmoothness=0,
        useGlobalLineSmoothing=False,
        runsCountToCompare=20,
    )


def _bar(section: str, metric: str) -> dict:
    return _chart(section, "BAR", metric, metricKey=metric, runsCountToCompare=20)


def _images(section: str, keys: list[str]) -> dict:
    return _chart(section, "IMAGE", keys[0], imageKeys=keys, step=0, showRunParams=False)
