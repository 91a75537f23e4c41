"""The charts page of MLflow's UI, laid out for this pipeline.

MLflow keeps a layout that a person shares as a tag of the experiment, and shows it to whoever follows the link.
Left to itself it draws one small card a metric and a picture, by the alphabet, and of a picture one corner.
"""

import json

VIEW = "cvae"
TAG = f"mlflow.sharedViewState.{VIEW}"

PARTS = ("loss", "reconstruction", "kl")
FIGURES = (*PARTS, "nll", "label_accuracy", "sample_accuracy", "label_gap", "active_units")
OVERVIEWS = ("manifolds", "latents", "reconstructions", "styles")


def page(experiment: str) -> str:
    """The path of the charts page in MLflow's UI."""
    return f"#/experiments/{experiment}/runs?compareRunsMode=CHART&viewStateShareKey={VIEW}"


def layout() -> str:
    """The value of `TAG`: curves, figures, and rows of pictures with a column a run, in MLflow 3.17's own terms."""
    digits = range(10)
    sections = [
        _section("Curves, nats per image: training and test", columns=3, cardHeight=360),
        _section("Overviews, a column a run", columns=1, cardHeight=900),
        _section("Manifolds, a row a digit", columns=1, cardHeight=900),
        _section("Latents, a row a digit", columns=1, cardHeight=900),
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
        "isAccordionReordered": True,  # else the sections are sorted by name
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
