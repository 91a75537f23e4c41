"""The layout of MLflow's charts page, which all runs of an experiment share."""

import json
from pathlib import Path

import pytest
from helpers.tracking import train

from cvae.tracking import charts, store
from cvae.tracking.location import locate


def rows(layout: str, folder: str = "manifolds") -> list[str]:
    """Return the rows of pictures per class, without their folder."""
    keys = [key for chart in json.loads(layout)["compareRunCharts"] for key in chart.get("imageKeys", [])]
    return [key.partition("/")[2] for key in keys if key.startswith(f"{folder}/")]


def pictures(*names: object) -> list[str]:
    return [f"{folder}/{name}" for folder in charts.PER_CLASS for name in names]


def test_the_page_has_the_splits_of_all_runs_and_no_others():
    lines = {}
    for splits in (["test"], ["validation"], ["validation", "test"]):
        stored = charts.layout([], splits)
        assert charts.splits_in(stored) == set(splits)
        lines[tuple(splits)] = next(
            chart["selectedMetricKeys"] for chart in json.loads(stored)["compareRunCharts"] if chart["type"] == "LINE"
        )
        bars = [chart["metricKey"] for chart in json.loads(stored)["compareRunCharts"] if chart["type"] == "BAR"]
        assert "final_test/nll" in bars
        assert ("final_validation/nll" in bars) == ("validation" in splits)
    assert lines == {
        ("test",): ["train/loss", "test/loss"],
        ("validation",): ["train/loss", "validation/loss"],
        ("validation", "test"): ["train/loss", "validation/loss", "test/loss"],
    }


def test_each_class_has_a_row_in_the_order_of_the_classes():
    assert rows(charts.layout(pictures(*range(26)))) == [str(label) for label in range(26)]
    assert rows(charts.layout(pictures(10, 9)), "latents") == ["9", "10"]


@pytest.mark.parametrize("count", [47, 200])
def test_of_many_classes_the_first_have_rows(count):
    shown = rows(charts.layout(pictures(*range(count))))
    assert shown == [*map(str, range(charts.MOST_ROWS))]


def test_a_layout_without_pictures_has_no_empty_chart():
    assert all(chart.get("imageKeys") != [] for chart in json.loads(charts.layout([]))["compareRunCharts"])


def test_the_pictures_of_learning_start_at_the_first_epoch():
    (chart,) = [
        chart
        for chart in json.loads(charts.layout([]))["compareRunCharts"]
        if chart.get("imageKeys") == [charts.LEARNING]
    ]
    assert chart["step"] == 1


def test_a_layout_tells_its_rows_whatever_else_is_in_it():
    assert set(charts.pictures_in(charts.layout(pictures(0, 11)))) == set(pictures(0, 11))
    assert charts.pictures_in("") == charts.pictures_in("{damaged") == []


def test_runs_of_different_classes_share_a_layout_that_training_does_not_shrink(workspace, params):
    def stored() -> list[str]:
        return rows(workspace.client.get_experiment_by_name("cvae").tags[charts.TAG])

    def open_with(*names: object) -> None:
        for folder in charts.PER_CLASS:
            for file in Path("plots", folder).iterdir():
                file.unlink()
            for name in names:
                Path("plots", folder, f"{name}.png").touch()
        with store.locked():
            store.open_store(locate())

    open_with(0, 1)
    assert stored() == ["0", "1"]
    open_with()
    train(params)
    assert stored() == ["0", "1"]
    open_with(*range(12))
    assert stored() == [*map(str, range(12))]
    open_with(0)
    assert stored() == [*map(str, range(12))]
