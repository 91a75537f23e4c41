"""The comparison of runs: what is compared, in which order, and whether the picture shows it."""

import csv
import itertools
import json
import shutil
import sys

import numpy as np
import pytest
import yaml
from conftest import PROJECT
from matplotlib.contour import ContourSet
from PIL import Image

from cvae import comparison
from cvae.comparison import Result, by_task, find_curves, format_table, in_order, label_results, read_results, varied
from cvae.errors import UserError
from cvae.parameters import Parameters
from cvae.rate_distortion import NEAR, RADIUS, Panel, draw_rate_distortion

PARAMETERS = {key: value for key, value in Parameters().model_dump().items() if key not in comparison.IMMATERIAL}


def row(name: str, kl: float | None = 3.0, reconstruction: float | None = 20.0, **others) -> dict:
    """A row of `dvc.api.exp_show()`: every number a float, nothing but the name on an experiment's commit."""
    baseline = name in ("workspace", "main")
    figures = {"metrics/test.json:kl": kl, "metrics/test.json:reconstruction": reconstruction, "active_units": 2.0}
    figures |= {"metrics/train.json:kl": 99.0, "metrics/train.json:reconstruction": 99.0}
    parameters = {
        key: float(value) if isinstance(value, int) else value for key, value in Parameters().model_dump().items()
    }
    names = {"Experiment": None if baseline else name, "rev": name if baseline else "0123abc", "State": None}
    return names | figures | parameters | others


def result(name: str, kl: float = 3.0, reconstruction: float = 20.0, **parameters) -> Result:
    return Result(name, PARAMETERS | parameters, kl, reconstruction, 2)


# What is compared


def test_a_result_holds_the_test_set_figures_and_the_parameters_behind_them():
    ([found], _) = read_results([row("one", 3.3857248, 26.63851, latent_dims=4.0, beta=0.5)])
    assert (found.name, found.kl, found.reconstruction, found.active_units) == ("one", 3.3857248, 26.63851, 2)
    assert found.parameters == PARAMETERS | {"latent_dims": 4, "beta": 0.5}
    assert found.negative_elbo == 30.024235  # not weighed with beta


def test_parameters_that_set_results_apart_are_those_behind_the_figures_less_where_it_ran():
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    read = {key for stage in ("download", "train", "evaluate") for key in stages[stage]["params"]}
    assert set(PARAMETERS) == read - {"device", "threads"}


def test_equal_results_appear_once_under_the_experiments_name():
    rows = [row("workspace"), row("main"), row("b"), row("a", grid_size=30.0), row("c", seed=1.0)]
    results, notes = read_results(rows)
    assert [result.name for result in results] == ["a", "c"]
    assert notes == ["The same result as a: b, main."]


def test_results_that_differ_in_a_parameter_or_a_figure_are_kept_apart():
    rows = [row("a"), row("b", seed=1.0), row("c", kl=3.01)]
    assert [result.name for result in read_results(rows)[0]] == ["a", "b", "c"]


def test_unfinished_and_incomplete_runs_are_left_out_and_said_to_be():
    """A failed or running one has figures too: those of the run before it."""
    rows = [row("a"), row("b", State="Success"), row("c", State="Failed"), row("d", State="Running")]
    rows += [row("e", None, None, State="Queued"), row("f", State="Queued"), row("g", kl=None), row("h", kl=np.nan)]
    rows += [row("i", kl="!")]
    results, notes = read_results(rows)
    assert [result.name for result in results] == ["a"]
    assert notes[0].startswith("Left out: 1 failed, 2 queued, 1 running;")
    assert notes[1].endswith("metrics/test.json: g, h, i.")
    assert notes[2] == "The same result as a: b."


def test_an_older_run_without_a_parameter_or_active_units_is_compared():
    old = row("old")
    del old["beta"], old["active_units"]
    results, _ = read_results([old, row("new")])
    assert varied(results) == ["beta"]
    assert [result.name for result in in_order(results)] == ["new", "old"]
    assert format_table(in_order(results)).splitlines()[2].split() == ["old", "–", "3.000", "20.000", "23.000", "–"]


def test_names_restrict_and_an_unknown_one_is_told_in_one_line():
    rows = [row("main"), row("a", kl=1.0), row("b", kl=2.0)]
    assert [result.name for result in read_results(rows, ["b", "main"])[0]] == ["b", "main"]
    with pytest.raises(UserError, match=r"no run is called c; there are a, b, main") as caught:
        read_results(rows, ["a", "c"])
    assert "\n" not in str(caught.value)


# The table


def test_rows_are_sorted_by_what_varies_and_numbers_are_no_text():
    results = [result("a", latent_dims=10), result("b", latent_dims=9), result("c", latent_dims=9, beta=0.5)]
    assert [result.name for result in in_order(results)] == ["c", "b", "a"]
    lines = format_table(in_order(results)).splitlines()
    assert lines[0].split() == ["experiment", "latent_dims", "beta", *comparison.FIGURES]
    assert [line.split()[:3] for line in lines[1:]] == [["c", "9", "0.5"], ["b", "9", "1"], ["a", "10", "1"]]
    assert len({len(line) for line in lines}) == 1


def test_data_sets_and_likelihoods_are_kept_apart():
    results = [result("a", latent_dims=3), result("b", dataset="kmnist", epochs=5), result("c", likelihood="bernoulli")]
    groups = by_task([*results, result("d")])
    names = {group[0].task_name: [result.name for result in group] for group in groups}
    assert names == {
        "mnist, gaussian likelihood": ["d", "a"],
        "kmnist, gaussian likelihood": ["b"],
        "mnist, bernoulli likelihood": ["c"],
    }
    assert varied(groups[-1]) == ["latent_dims"]


def test_csv_has_every_digit_and_every_parameter_that_differs(tmp_path):
    groups = by_task([result("a", 3.3857248, 26.63851, beta=1.0), result("b", 1, 2, dataset="kmnist", beta=0.1)])
    comparison.write_table(groups, tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="") as file:
        rows = {row["experiment"]: row for row in csv.DictReader(file)}
    figures = {"kl": "3.3857248", "reconstruction": "26.63851", "negative_elbo": "30.024235", "active_units": "2"}
    assert rows["a"] == {"experiment": "a", "dataset": "mnist", "beta": "1.0"} | figures
    assert (rows["b"]["dataset"], rows["b"]["beta"]) == ("kmnist", "0.1")


# The picture


def test_labels_say_what_differs():
    assert label_results([result("a"), result("b", latent_dims=4)]) == (["2", "4"], "latent_dims")
    pair = [result("a", latent_dims=4, beta=0.5), result("b")]
    assert label_results(pair) == (["4, 0.5", "2, 1"], "latent_dims, beta")
    other_code = [result("a"), result("b", kl=1), result("c", latent_dims=4)]
    assert label_results(other_code)[0] == ["2 (a)", "2 (b)", "4"]
    many = [result("a"), result("b", latent_dims=4, beta=0.5, epochs=3, seed=1)]
    assert label_results(many) == (["a", "b"], "experiment")
    assert label_results([result("a"), result("b", kl=1)]) == (["a", "b"], "experiment")


def test_curves_join_runs_that_differ_in_one_quantity():
    dims = in_order([result(str(d), latent_dims=d) for d in (10, 2, 9)])
    assert find_curves(dims) == ([[0, 1, 2]], "latent_dims")
    assert [dims[index].parameters["latent_dims"] for index in find_curves(dims)[0][0]] == [2, 9, 10]
    pairs = in_order([result("", latent_dims=d, beta=b) for d in (2, 4) for b in (2.0, 1.0, 0.5)])
    assert find_curves(pairs) == ([[0, 1, 2], [3, 4, 5]], "beta")
    assert find_curves([*pairs, result("", latent_dims=8, beta=0.5, epochs=3)]) == ([[0, 1, 2], [3, 4, 5], [6]], "beta")
    seeds = in_order([result("", latent_dims=d, seed=s) for d in (2, 4) for s in (0, 1)])
    assert find_curves(seeds) == ([[0, 2], [1, 3]], "latent_dims")
    assert find_curves([result("", seed=s) for s in (0, 1)]) == ([], "")
    twice = [result("a"), result("b", kl=1), result("c", latent_dims=4)]
    assert find_curves(twice) == ([[0, 2]], "latent_dims")


def test_rate_is_drawn_to_the_right_and_distortion_upwards():
    panels = comparison.panels_of(by_task([result("b", 5, 15, latent_dims=4), result("a", 3, 20)]))
    (axes,) = draw_rate_distortion(panels).axes
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), [[3, 20], [5, 15]])
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[3, 20], [5, 15]])
    assert (axes.get_xlabel()[:4], axes.get_ylabel()[:10]) == ("rate", "distortion")


def made_up(name: str) -> Panel:
    numbers = np.random.default_rng(0)
    if name == "two":
        points, labels = np.array([[3.4, 26.6], [5.5, 21.2]]), ["2", "4"]
    elif name == "same point":
        points, labels = np.tile([[3.4, 26.6]], (3, 1)), ["a", "b", "c"]
    elif name == "sweep":
        rate = 8 * (1 - np.exp(-np.arange(1, 31) / 3))
        points, labels = np.stack((rate, 45 * np.exp(-rate / 4)), axis=1), [str(d) for d in range(1, 31)]
    elif name == "grid":
        dims, betas = np.repeat([2, 4, 8, 16, 32], 5), np.tile([0.25, 0.5, 1, 2, 4], 5)
        rate = 8 * (1 - np.exp(-dims / 4)) * betas**-0.35
        points = np.stack((rate, 45 * np.exp(-rate / 6) + 4 * np.exp(-dims / 4)), axis=1)
        labels = [f"{d}, {beta:g}" for d, beta in zip(dims, betas, strict=True)]
    elif name == "names":
        points, labels = numbers.normal((4, 25), (0.5, 2), (40, 2)), [f"jammy-bish-{i}" for i in range(40)]
    else:
        points = np.concatenate(([[8, 15]], numbers.normal((3.4, 26.6), (0.05, 0.1), (39, 2))))
        labels = [f"{i}, 0.5" for i in range(40)]
    curves = {"sweep": [range(30)], "grid": [range(start, start + 5) for start in range(0, 25, 5)]}.get(name, [])
    return Panel(name, points, labels, "latent_dims", curves, "latent_dims")


def equal_sums_of(axes) -> ContourSet:
    (lines,) = (collection for collection in axes.collections if isinstance(collection, ContourSet))
    return lines


def labels_of(axes) -> list:
    """The points' labels, without the sums of the dashed lines."""
    return [text for text in axes.texts if text not in equal_sums_of(axes).labelTexts]


@pytest.mark.parametrize("name", ["two", "same point", "sweep", "grid", "names", "crowd"])
def test_every_point_is_where_its_run_is_with_a_label_that_covers_nothing(name):
    panel = made_up(name)
    figure = draw_rate_distortion([panel])
    (axes,) = figure.axes
    figure.canvas.draw()
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), panel.points)

    boxes = {text: text.get_window_extent() for text in axes.texts}
    labels = labels_of(axes)
    assert sorted(text.get_text() for text in labels) == sorted(panel.labels)
    assert len(boxes) > len(labels), "no line of equal sums has its sum"
    for one, other in itertools.combinations(boxes, 2):
        assert not boxes[one].overlaps(boxes[other]), (one, other)
    for text, box in boxes.items():
        assert (box.min > axes.bbox.min).all(), text
        assert (box.max < axes.bbox.max).all(), text
        for point in axes.transData.transform(panel.points):
            gap = np.maximum(0, np.maximum(box.min - point, point - box.max))
            assert np.hypot(*gap) > RADIUS - 1, text


@pytest.mark.parametrize("name", ["two", "grid"])
def test_a_label_is_beside_its_own_point_and_no_other(name):
    panel = made_up(name)
    figure = draw_rate_distortion([panel])
    (axes,) = figure.axes
    figure.canvas.draw()
    points = axes.transData.transform(panel.points)
    for index, label in enumerate(panel.labels):
        (box,) = (text.get_window_extent() for text in labels_of(axes) if text.get_text() == label)
        gaps = np.linalg.norm(np.maximum(box.min - points, points - box.max).clip(min=0), axis=1)
        assert gaps[index] < 30
        assert gaps.argmin() == index or gaps.min() > NEAR, f"{label} could be taken for another point's"


def test_dashed_lines_hold_equal_sums():
    (axes,) = draw_rate_distortion([made_up("two")]).axes
    lines = equal_sums_of(axes)
    drawn = [(level, path.vertices) for level, path in zip(lines.levels, lines.get_paths(), strict=True) if len(path)]
    assert len(drawn) > 3
    for level, vertices in drawn:
        np.testing.assert_allclose(vertices.sum(1), level)
    for text in lines.labelTexts:
        assert sum(text.get_position()) == pytest.approx(float(text.get_text()), abs=1e-6)


def test_each_task_has_axes_of_its_own_and_the_picture_repeats_to_the_byte(tmp_path):
    results = [result("a"), result("b", 5, 15, latent_dims=4), result("c", 30, 80, likelihood="bernoulli")]
    for name in ("one.png", "two.png"):
        comparison.write_picture(by_task(results), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.size == (2000, 720)


# The command, on real experiments


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("seed: 0\nlearning_rate: 1e-05\ngrid_size: 9\n", True),  # a picture's parameter changes no figure
        ("seed: 1\nlearning_rate: 1e-05\n", False),
        ("seed: 0\n", False),
    ],
    ids=["as measured", "edited", "missing"],
)
def test_figures_are_of_the_parameters_that_dvc_locked(tmp_path, monkeypatch, params, expected):
    """As DVC writes a small number, which YAML 1.1 would take for text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(params)
    locked = {"train": "{seed: 0, learning_rate: 0.00001}", "render": "{grid_size: 20}"}
    stages = "".join(f"  {stage}: {{params: {{params.yaml: {values}}}}}\n" for stage, values in locked.items())
    (tmp_path / "dvc.lock").write_text(f"stages:\n{stages}")
    assert comparison.is_current("workspace") == expected


def run_command(repository, *arguments: str, status: int = 0):
    command = (sys.executable, "-m", "cvae.comparison", *arguments)
    return repository.run(*command, status=status, PYTHONPATH="src")


@pytest.fixture(scope="module")
def swept(repository, empty_database, tmp_path_factory):
    """The repository with experiments `one` and `three`, of that many latents, and the figures of each result."""
    copy = repository.copy(tmp_path_factory.mktemp("swept") / "cvae")
    shutil.copy(empty_database, copy.root / "mlflow.db")
    alone = run_command(copy, status=1)
    assert alone.stderr.startswith("compare: there is one result")
    assert "dvc exp run --queue" in alone.stderr
    assert alone.stderr.count("\n") == 1

    figures = {2: json.loads((copy.root / "metrics/test.json").read_text())}
    for name, latent_dims in (("three", 3), ("one", 1)):
        copy.dvc("exp", "run", "--name", name, "--set-param", f"latent_dims={latent_dims}", "evaluate")
        figures[latent_dims] = json.loads((copy.root / "metrics/test.json").read_text())
    copy.restore()
    return copy, figures


def test_the_command_compares_real_experiments(swept):
    repository, figures = swept
    branch = repository.git("branch", "--show-current").strip()
    repository.dvc("exp", "run", "--queue", "--set-param", "latent_dims=4")
    output = run_command(repository).stdout
    assert "Left out: 1 queued;" in output
    assert "digits, gaussian likelihood" in output

    with open(repository.root / "plots/rate_distortion.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["experiment"], row["latent_dims"]) for row in rows] == [("one", "1"), (branch, "2"), ("three", "3")]
    for row in rows:
        expected = figures[int(row["latent_dims"])]
        assert {key: float(row[key]) for key in ("kl", "reconstruction", "active_units")} == {
            key: expected[key] for key in ("kl", "reconstruction", "active_units")
        }
        assert float(row["negative_elbo"]) == pytest.approx(expected["loss"], abs=2e-6)  # beta is 1
    assert repository.git("status", "--porcelain") == ""


def test_a_workspace_edited_since_its_figures_is_left_out_and_torch_and_mlflow_are_not_imported(swept):
    repository, _ = swept
    check = "import sys; from cvae.comparison import main; main(); assert not {'torch', 'mlflow'} & set(sys.modules)"
    repository.set(latent_dims=7)
    try:
        command = (sys.executable, "-c", check, "one", "three", "workspace")
        output = repository.run(*command, PYTHONPATH="src").stdout
    finally:
        repository.git("checkout", "params.yaml")
    assert "Left out, edited since the figures were measured: workspace." in output
    assert [line.split()[0] for line in output.splitlines() if line.startswith(("one", "three"))] == [
        "one",
        "three",
    ]


def test_a_commit_edited_since_its_figures_is_left_out(swept):
    repository, _ = swept
    assert "Left out" not in run_command(repository, "one", "three").stdout
    repository.set(latent_dims=7)
    repository.git("commit", "--quiet", "--message", "Edit, and run nothing", "params.yaml")
    try:
        output = run_command(repository, "--num", "2").stdout
    finally:
        repository.git("reset", "--quiet", "--hard", "HEAD~1")
    branch = repository.git("branch", "--show-current").strip()
    assert f"Left out, edited since the figures were measured: {branch}." in output
    assert not [line for line in output.splitlines() if line.split()[1:2] == ["7"]]
