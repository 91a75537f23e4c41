"""The comparison of runs: what is compared, in which order, and whether the picture shows it."""

import csv
import hashlib
import itertools
import json
import os
import re
import sys

import numpy as np
import pytest
import yaml
from helpers.repository import PROJECT, Repository
from helpers.results import MEASURED, PARAMETERS, measured, result
from matplotlib.contour import ContourSet
from matplotlib.legend import Legend
from PIL import Image

from cvae.commands.compare import command, experiments, panels, results, tables
from cvae.commands.compare.panels import find_curves, find_sweep, label_results
from cvae.commands.compare.rate_distortion import NEAR, RADIUS, Panel, draw_rate_distortion
from cvae.commands.compare.results import Result, by_task, in_order, read_results, varied
from cvae.commands.compare.sweep import MOST_CURVES
from cvae.commands.compare.tables import format_means, format_table, heading
from cvae.commands.program import invoke
from cvae.pipeline.parameters import Parameters
from cvae.support.errors import UserError


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


# What is compared


def test_a_result_holds_the_test_set_figures_and_the_parameters_behind_them():
    ([found], _) = read_results([row("one", 3.3857248, 26.63851, latent_dims=4.0, beta=0.5)])
    assert (found.name, found.kl, found.reconstruction, found.active_units) == ("one", 3.3857248, 26.63851, 2)
    assert found.parameters == PARAMETERS | {"latent_dims": 4, "beta": 0.5}
    assert found.negative_elbo == 30.024235  # not weighed with beta
    assert (found.nll, found.nll_samples, found.label_accuracy, found.sample_accuracy) == (None,) * 4

    ([found], _) = read_results([row("one", **MEASURED | {"nll_samples": 500.0})])
    assert {key: getattr(found, key) for key in MEASURED} == MEASURED
    assert isinstance(found.nll_samples, int)


def test_parameters_that_set_results_apart_are_those_behind_the_figures_less_where_it_ran():
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    read = {key for stage in ("download", "train", "evaluate") for key in stages[stage]["params"]}
    assert set(PARAMETERS) == read - {"device", "threads", "nll_samples"}


def test_equal_results_appear_once_under_the_experiments_name():
    rows = [
        row("workspace"),
        row("main"),
        row("b"),
        row("a", grid_size=30.0, registered_model="cvae"),
        row("c", seed=1.0),
    ]
    results, notes = read_results(rows)
    assert [result.name for result in results] == ["a", "c"]
    assert notes == ["The same result as a: b, main."]


def test_results_that_differ_in_a_parameter_or_a_figure_are_kept_apart():
    rows = [row("a"), row("b", seed=1.0), row("c", kl=3.01), row("d", label_accuracy=0.97)]
    assert [result.name for result in read_results(rows)[0]] == ["a", "b", "c", "d"]


def test_the_samples_behind_nll_set_results_apart_only_where_nll_does():
    rows = [row("a", nll=22.5, nll_samples=500.0), row("b", nll=22.5, nll_samples=5000.0)]
    assert [result.name for result in read_results(rows)[0]] == ["a"]
    rows[1]["nll"] = 22.4
    assert [result.name for result in read_results(rows)[0]] == ["a", "b"]
    without_nll = [row("a", nll_samples=500.0), row("b", nll_samples=5000.0)]
    assert [result.name for result in read_results(without_nll)[0]] == ["a"]


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


def test_a_run_older_than_binary_pixels_and_other_activations_is_one_of_grey_pixels():
    old = row("old", kl=3.1)
    del old["binarize"], old["activation"]
    results, _ = read_results([old, row("new")])
    assert varied(results) == []
    assert {result.task_name for result in results} == {"mnist, gaussian likelihood, grey pixels"}


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
    figures = ["kl", "reconstruction", "negative_elbo", "active_units"]
    assert lines[0].split() == ["experiment", "latent_dims", "beta", *figures]
    assert [line.split()[:3] for line in lines[1:]] == [["c", "9", "0.5"], ["b", "9", "1"], ["a", "10", "1"]]
    assert len({len(line) for line in lines}) == 1


def test_widths_are_sorted_one_layer_first_and_by_number():
    """As `dvc.api.exp_show()` has them: a number as a float, a list as text, and one of a single width too."""
    widths = ["[1000, 20]", "[200, 200]", 512.0, "[20, 30, 40]", "[64]"]
    results = in_order(read_results([row(f"{width}", hidden_dims=width) for width in widths])[0])
    assert [found.parameters["hidden_dims"] for found in results] == [
        64,
        512,
        "[200, 200]",
        "[1000, 20]",
        "[20, 30, 40]",
    ]
    assert label_results(results) == (["64", "512", "[200, 200]", "[1000, 20]", "[20, 30, 40]"], "hidden_dims")
    assert find_curves(results) == ([], "")
    assert "  [200, 200]  " in format_table(results)


def test_data_sets_likelihoods_and_kinds_of_pixels_are_kept_apart():
    results = [result("a", latent_dims=3), result("b", dataset="kmnist", epochs=5), result("c", likelihood="bernoulli")]
    binary = [result(draw, likelihood="bernoulli", binarize=draw) for draw in ("static", "dynamic")]
    groups = by_task([*results, result("d"), *binary])
    names = {group[0].task_name: [result.name for result in group] for group in groups}
    assert names == {
        "mnist, gaussian likelihood, grey pixels": ["d", "a"],
        "kmnist, gaussian likelihood, grey pixels": ["b"],
        "mnist, bernoulli likelihood, grey pixels": ["c"],
        "mnist, bernoulli likelihood, binary pixels": ["dynamic", "static"],
    }
    keys = {group[0].task_name: varied(group) for group in groups}
    assert keys["mnist, gaussian likelihood, grey pixels"] == ["latent_dims"]
    assert keys["mnist, bernoulli likelihood, binary pixels"] == ["binarize"]


def test_the_table_of_a_sweep_fits_a_terminal_and_has_a_dash_for_what_a_run_lacks():
    sweep = [result(f"jammy-bish{d}", 10.0, 20.0, latent_dims=d, **MEASURED) for d in (1, 16)]
    header, *lines = format_table([*sweep, result("old", latent_dims=20)]).splitlines()
    assert max(map(len, (header, *lines))) <= 120
    columns = ["latent_dims", "kl", "reconstruction", "negative_elbo", "nll", "label_accuracy", "sample_accuracy"]
    assert header.split() == ["experiment", *columns, "active_units"]
    assert lines[0].split()[-4:] == ["22.500", "0.9700", "0.9000", "2"]
    assert lines[2].split()[-4:] == ["–", "–", "–", "2"]


def test_columns_that_no_run_has_are_left_out(tmp_path):
    results = [result("a", label_accuracy=0.97), result("b", latent_dims=4)]
    tables.write_table([results], tmp_path / "table.csv")
    columns = ["experiment", "latent_dims", "kl", "reconstruction", "negative_elbo", "label_accuracy", "active_units"]
    assert (tmp_path / "table.csv").read_text().splitlines()[0].split(",") == columns
    assert format_table(results).splitlines()[0].split() == columns


def test_nll_says_its_samples_and_those_of_each_run_where_they_differ():
    same = [result("a", **MEASURED), result("b", latent_dims=4, **MEASURED)]
    assert heading(same).endswith("; nll of 500 samples")
    assert "nll_samples" not in format_table(same)
    other = [*same, result("c", latent_dims=8, **MEASURED | {"nll_samples": 5000}), result("old", latent_dims=9)]
    assert heading(other).endswith("; nll only compares at the same nll_samples")
    lines = [line.split() for line in format_table(other).splitlines()]
    assert [line[lines[0].index("nll_samples")] for line in lines[1:]] == ["500", "500", "5000", "–"]
    assert "nll" not in heading([result("a"), result("b", latent_dims=4)])


def means_of(results: list[Result]) -> list[list[str]]:
    """The cells of the table of means, the header first."""
    _, *lines = format_means(in_order(results)).splitlines()
    return [re.split(r" {2,}", line.strip()) for line in lines]


def test_seeds_of_a_configuration_have_their_mean_and_sample_standard_deviation_below_the_table():
    """Of 1, 2, 3 and 6 they are 3 and √(14/3); with ddof 0 the latter would be √3.5."""
    results = [
        result("", n, 20 + n, seed=n, nll=22.5 + n, nll_samples=500, label_accuracy=n / 10, sample_accuracy=0.9)
        for n in (1, 2, 3, 6)
    ]
    header, cells = means_of(results)
    figures = ["kl", "reconstruction", "negative_elbo", "nll", "label_accuracy", "sample_accuracy"]
    assert header == ["seeds", *figures]
    assert cells == [
        "4",
        "3.000 ± 2.160",
        "23.000 ± 2.160",
        "26.000 ± 4.320",
        "25.500 ± 2.160",
        "0.3000 ± 0.2160",
        "0.9000 ± 0.0000",
    ]


def test_each_configuration_of_two_seeds_has_a_row_of_means_and_one_of_a_single_seed_none():
    seeds = [result("", d + s, latent_dims=d, beta=0.5, seed=s) for d in (16, 4) for s in (0, 2)]
    rows = means_of([*seeds, result("", seed=1), result("", latent_dims=16, epochs=3, seed=1)])
    assert [row[:5] for row in rows] == [
        ["latent_dims", "beta", "epochs", "seeds", "kl"],
        ["4", "0.5", "100", "2", "5.000 ± 1.414"],
        ["16", "0.5", "100", "2", "17.000 ± 1.414"],
    ]
    assert format_means([result("", latent_dims=d, seed=d) for d in (2, 4)]) == ""
    assert format_means([result("a"), result("b", kl=4)]) == ""  # other code, and the seed is the same


def test_nll_of_other_sample_counts_has_a_mean_of_its_own():
    counts = [500, 500, 500, 5000, 5000, 50]
    results = [result("", n, nll=22.0 + n, nll_samples=count, seed=n) for n, count in enumerate(counts)]
    header, cells = means_of(results)
    assert header == ["seeds", "kl", "reconstruction", "negative_elbo", "nll (500 samples)", "nll (5000 samples)"]
    assert cells[0] == "6"
    assert cells[-2:] == ["23.000 ± 1.000 (3)", "25.500 ± 0.707 (2)"]
    assert "(n): over n seeds" in format_means(results)
    assert "(n)" not in format_means(results[:3])

    again = [result("again", nll=21.0 + s, nll_samples=5000, seed=s) for s in (0, 1, 2)]
    header, cells = means_of([*results[:3], *again])  # three seeds, each measured twice
    assert cells[0] == "3"
    assert cells[-2:] == ["23.000 ± 1.000", "22.000 ± 1.000"]


def test_a_figure_that_fewer_than_two_seeds_have_is_a_dash_among_the_means():
    results = [result("", latent_dims=d, seed=s, label_accuracy=0.9 if d + s else None) for d in (0, 1) for s in (0, 1)]
    header, *rows = means_of(results)
    assert header[-1] == "label_accuracy"
    assert [row[-1] for row in rows] == ["–", "0.9000 ± 0.0000"]
    assert "label_accuracy" not in format_means(results[:2])


def test_the_seeds_of_a_configuration_ran_anywhere_and_each_counts_once():
    where = [
        {"device": "cpu", "threads": 1.0},
        {"device": "cuda", "threads": 8.0},
        {"launcher": "srun", "threads": 4.0},
    ]
    rows = [row(f"{s}", 3.0 + s, seed=float(s), **ran) for s, ran in enumerate(where)]
    again = row("a", 3.001, seed=0.0, threads=8.0)  # the same seed but for rounding
    for runs in (rows, [*rows, again]):
        results, _ = read_results(runs)
        assert len(results) == len(runs)
        (_, cells) = means_of(results)
        assert cells[:2] == ["3", "4.000 ± 1.000"]
        assert find_curves(in_order(results)) == ([], "")


def test_csv_has_every_digit_and_every_parameter_that_differs(tmp_path):
    one = result("a", 3.3857248, 26.63851, beta=1.0, **MEASURED | {"nll": 28.123457})
    groups = by_task([one, result("b", 1, 2, dataset="kmnist", beta=0.1)])
    tables.write_table(groups, tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="") as file:
        rows = {row["experiment"]: row for row in csv.DictReader(file)}
    figures = {"kl": "3.3857248", "reconstruction": "26.63851", "negative_elbo": "30.024235", "active_units": "2"}
    figures |= {"nll": "28.123457", "nll_samples": "500", "label_accuracy": "0.97", "sample_accuracy": "0.9"}
    assert rows["a"] == {"experiment": "a", "dataset": "mnist", "beta": "1.0"} | figures
    assert rows["b"]["nll"] == ""
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
    assert find_curves(dims) == ([[[0], [1], [2]]], "latent_dims")
    assert [dims[index].parameters["latent_dims"] for (index,) in find_curves(dims)[0][0]] == [2, 9, 10]
    pairs = in_order([result("", latent_dims=d, beta=b) for d in (2, 4) for b in (2.0, 1.0, 0.5)])
    curves = [[[0], [1], [2]], [[3], [4], [5]]]
    assert find_curves(pairs) == (curves, "beta")
    other = result("", latent_dims=8, beta=0.5, epochs=3)
    assert find_curves([*pairs, other]) == ([*curves, [[6]]], "beta")
    eleven = in_order([result("", latent_dims=d, beta=b) for d in range(1, 12) for b in range(1, 12)])
    assert find_curves(eleven) == ([], "")
    twice = [result("a"), result("b", kl=1), result("c", latent_dims=4)]
    assert find_curves(twice) == ([[[0], [2]]], "latent_dims")


def test_the_seeds_of_a_configuration_are_one_point_of_its_curve_however_many_they_are():
    seeds = in_order([result("", latent_dims=d, seed=s) for d in (2, 4) for s in range(11)])
    assert find_curves(seeds) == ([[list(range(11)), list(range(11, 22))]], "latent_dims")
    grid = in_order(
        [result("", latent_dims=d, beta=b, seed=s) for d in (2, 4) for b in (1.0, 2.0, 3.0) for s in (0, 1)]
    )
    assert find_curves(grid) == ([[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]], "beta")
    assert find_curves([result("", seed=s) for s in (0, 1)]) == ([], "")


def test_a_curve_goes_through_the_means_of_the_seeds_and_each_run_has_its_colour():
    results = [measured(latent_dims=d, beta=b, seed=s) for d in (2, 4) for b in (0.5, 1.0, 2.0) for s in (0, 1, 2)]
    axes, *_ = draw_rate_distortion(panels.panels_of([in_order(results)])).axes
    points = np.array([(one.kl, one.reconstruction) for one in in_order(results)])
    means = points.reshape(2, 3, 3, 2).mean(2)
    colours = axes.collections[0].get_facecolors()
    for number, line in enumerate(axes.lines[:2]):
        np.testing.assert_allclose(line.get_xydata(), means[number])
        of_runs = colours[9 * number : 9 * (number + 1), :3]
        np.testing.assert_allclose(of_runs, np.tile(line.get_color(), (9, 1)))
    (legend,) = entries_of(axes)
    assert legend[0] == "means of seeds, in order of beta"


def test_rate_is_drawn_to_the_right_and_distortion_upwards():
    drawn = panels.panels_of(by_task([result("b", 5, 15, latent_dims=4), result("a", 3, 20)]))
    (axes,) = draw_rate_distortion(drawn).axes
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), [[3, 20], [5, 15]])
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[3, 20], [5, 15]])
    assert (axes.get_xlabel()[:4], axes.get_ylabel()[:10]) == ("rate", "distortion")


# The picture of a sweep


def drawn_sweep(results: list[Result]) -> tuple:
    """The axes of the accuracies and of the nats."""
    _, *axes = draw_rate_distortion(panels.panels_of([in_order(results)])).axes
    return tuple(axes)


def lines_of(axes) -> list[np.ndarray]:
    """The lines that join points, (n, 2) each."""
    return [bars.lines[0].get_xydata() for bars in axes.containers]


def legends_of(axes) -> list[Legend]:
    return [child for child in axes.get_children() if isinstance(child, Legend)]


def entries_of(axes) -> list[list[str]]:
    """What each legend says, the one next to the axes first."""
    return [[text.get_text() for text in legend.get_texts()] for legend in legends_of(axes)]


def ticks_of(axes) -> list:
    """The ticks of the axis to the right that are seen."""
    low, high = axes.get_xlim()
    return [text for text in axes.get_xticklabels() if low <= text.get_position()[0] <= high]


def test_a_sweep_has_its_accuracies_and_nats_beside_its_curve():
    results = [measured(latent_dims=d) for d in (4, 1, 2, 3)]
    shares, nats = drawn_sweep(results)
    results = in_order(results)
    expected = {
        shares: ([100 * r.label_accuracy for r in results], [100 * r.sample_accuracy for r in results]),
        nats: ([r.nll for r in results], [r.negative_elbo for r in results]),
    }
    for axes, figures in expected.items():
        for line, figure in zip(lines_of(axes), figures, strict=True):
            np.testing.assert_allclose(line, np.stack(([1, 2, 3, 4], figure), axis=1))
    assert entries_of(shares) == [["label_accuracy (test images)", "sample_accuracy (images drawn)"]]
    assert entries_of(nats) == [["nll (bound of 500 samples)", "negative_elbo"]]
    assert (shares.get_ylabel(), nats.get_ylabel()) == ("percent", "nats per test image")
    assert nats.get_xlabel() == "latent_dims"
    assert shares.get_title() == "Accuracy and NLL over latent_dims"


def test_each_curve_has_the_colour_that_it_has_to_the_left():
    results = [measured(latent_dims=d, beta=b) for d in (2, 4, 8) for b in (0.5, 1.0, 2.0)]
    left, shares, nats = draw_rate_distortion(panels.panels_of([in_order(results)])).axes
    colours = [line.get_color() for line in left.lines[:3]]
    assert len(set(colours)) == 3
    for axes in (shares, nats):
        assert [bars.lines[0].get_color() for bars in axes.containers] == 2 * colours
        for line in lines_of(axes):
            np.testing.assert_array_equal(line[:, 0], [0.5, 1, 2])
    assert entries_of(shares)[1] == ["latent_dims:", "2", "4", "8"]
    many = [measured(latent_dims=d, beta=b) for d in range(MOST_CURVES + 1) for b in range(1, MOST_CURVES + 3)]
    assert find_sweep(in_order(many)) is None


def test_several_seeds_are_drawn_as_their_mean_and_standard_deviation():
    results = [measured(latent_dims=d, seed=s) for d in (1, 2, 3) for s in (0, 1, 2)]
    shares, nats = drawn_sweep([*results, measured(latent_dims=4)])
    for axes, figure, unit in ((shares, "label_accuracy", 100), (nats, "nll", 1)):
        values = unit * np.array([getattr(one, figure) for one in results]).reshape(3, 3)
        bars = axes.containers[0]
        np.testing.assert_allclose(lines_of(axes)[0][:3, 1], values.mean(1))
        heights = [np.ptp(segment[:, 1]) for segment in bars.lines[2][0].get_segments() if len(segment)][:3]
        np.testing.assert_allclose(heights, 2 * values.std(1, ddof=1), atol=1e-9)
    np.testing.assert_array_equal(lines_of(nats)[0][:, 0], [1, 2, 3, 4])
    assert nats.get_xlabel() == "latent_dims (mean and standard deviation of 1 to 3 seeds)"


def test_a_sweep_of_many_seeds_has_its_second_panel_and_one_of_several_quantities_a_mean_a_curve():
    dims = [measured(latent_dims=d, seed=s) for d in (1, 2, 3) for s in range(11)]
    _, nats = drawn_sweep(dims)
    assert [len(line) for line in lines_of(nats)] == [3, 3]
    assert nats.get_xlabel() == "latent_dims (mean and standard deviation of 11 seeds)"

    grid = in_order([measured(latent_dims=d, beta=b, seed=s) for d in (2, 4) for b in (0.5, 1.0, 2.0) for s in (0, 1)])
    shares, nats = drawn_sweep(grid)
    expected = np.array([one.nll for one in grid]).reshape(2, 3, 2).mean(2)
    np.testing.assert_allclose([line[:, 1] for line in lines_of(nats)[:2]], expected)
    assert entries_of(shares)[1] == ["latent_dims:", "2", "4"]


def test_nll_of_other_sample_counts_is_a_line_of_its_own():
    results = [measured(latent_dims=d, nll_samples=500 if d < 3 else 5000) for d in (1, 2, 3, 4)]
    _, nats = drawn_sweep(results)
    assert entries_of(nats) == [["nll (bound of 500 samples)", "nll (bound of 5000 samples)", "negative_elbo"]]
    assert [list(line[:, 0]) for line in lines_of(nats)] == [[1, 2], [3, 4], [1, 2, 3, 4]]


def test_runs_without_the_figures_are_left_out_and_without_any_the_picture_is_as_it_was():
    old = [result("old", 4 + d, 20 - d, latent_dims=d) for d in (1, 2)]
    shares, nats = drawn_sweep([*old, measured(latent_dims=3), measured(latent_dims=4)])
    assert [list(line[:, 0]) for line in lines_of(shares)] == [[3, 4], [3, 4]]
    assert [list(line[:, 0]) for line in lines_of(nats)] == [[3, 4], [1, 2, 3, 4]]
    assert drawn_sweep(old) == ()

    (nats,) = drawn_sweep([result("", latent_dims=d, nll=22.5, nll_samples=500) for d in (1, 2)])
    assert nats.get_title() == "NLL over latent_dims"
    shares, nats = drawn_sweep([result("", latent_dims=d, label_accuracy=0.9) for d in (1, 2)])
    assert shares.get_title() == "Accuracy and negative ELBO over latent_dims"
    assert entries_of(shares) + entries_of(nats) == [["label_accuracy (test images)"], ["negative_elbo"]]
    assert drawn_sweep([measured(hidden_dims="[200, 200]"), measured(hidden_dims=256)]) == ()  # nothing swept


@pytest.mark.parametrize(
    ("key", "values", "scale", "ticks"),
    [
        ("latent_dims", range(1, 17), "linear", range(1, 17)),
        ("latent_dims", range(1, 31), "linear", range(0, 31, 5)),
        ("latent_dims", (1, 2, 8, 16), "log", (1, 2, 8, 16)),
        ("learning_rate", (1e-5, 1e-2), "log", (1e-5, 1e-2)),
        ("learning_rate", (1e-4, 1.1e-4, 1e-2), "log", (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)),
        ("beta", (0.0, 0.5, 1.0), "linear", (0, 0.5, 1)),
    ],
)
def test_the_swept_quantity_has_ticks_at_its_values_and_a_log_scale_across_decades(key, values, scale, ticks):
    results = [result("", key_, 20, **{key: value}, **MEASURED) for key_, value in enumerate(values)]
    shares, nats = drawn_sweep(results)
    nats.figure.canvas.draw()
    assert shares.get_xscale() == nats.get_xscale() == scale
    assert [text.get_text() for text in ticks_of(nats)] == [f"{tick:.6g}" for tick in ticks]
    assert nats.get_xlabel() == f"{key} (log scale)" * (scale == "log") or scale == "linear"


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_no_tick_is_above_a_hundred_percent(share):
    figures = MEASURED | {"label_accuracy": 1.0, "sample_accuracy": share}
    shares, _ = drawn_sweep([result("", d, 20, latent_dims=d, **figures) for d in (1, 2)])
    low, high = shares.get_ylim()
    assert max(tick for tick in shares.get_yticks() if low <= tick <= high) == 100


SWEEPS = {
    "two": [measured(latent_dims=d) for d in (2, 4)],
    "sixteen": [measured(latent_dims=d) for d in range(1, 17)],
    "curves": [measured(latent_dims=d, beta=b) for d in (2, 4, 8, 16, 32) for b in (0.25, 0.5, 1.0, 2.0)],
    "long names": [
        measured(latent_dims=d, hidden_dims=f"[{500 - i}, 200, 100]", prior_std=0.1234567 * i, learning_rate=1e-5 * i)
        for d in (2, 4)
        for i in range(1, 6)
    ],
    "seeds": [measured(latent_dims=d, seed=s) for d in (1, 2, 4) for s in (0, 1, 2)],
    "seeds of curves": [
        measured(latent_dims=d, learning_rate=rate, seed=s) for d in (2, 4) for rate in (1e-4, 1e-3) for s in (0, 1, 2)
    ],
    "sample counts": [measured(latent_dims=d, nll_samples=500 + d) for d in (1, 2, 3)],
    "no accuracies": [result("", d, 20, latent_dims=d, nll=22.5, nll_samples=500) for d in (1, 2)],
    "tasks": [
        *(measured(latent_dims=d) for d in (1, 2)),
        *(measured(latent_dims=d, dataset="fashion-mnist", likelihood="bernoulli", binarize="static") for d in (1, 2)),
        measured(dataset="kmnist"),
    ],
}


@pytest.mark.parametrize("name", SWEEPS)
def test_no_text_of_the_picture_is_clipped_or_covers_another(name):
    figure = draw_rate_distortion(panels.panels_of(by_task(SWEEPS[name])))
    figure.canvas.draw()
    boxes = {}
    for axes in figure.axes:
        things = [text for text in (axes.title, axes.xaxis.label, axes.yaxis.label) if text.get_text()]
        things += legends_of(axes) + (ticks_of(axes) if axes.get_xlabel() else [])
        boxes |= {thing: thing.get_window_extent() for thing in things}
    legends = [legend for axes in figure.axes for legend in legends_of(axes)]
    assert not any(boxes[legend].overlaps(axes.bbox) for legend in legends for axes in figure.axes)
    for thing, box in boxes.items():
        assert (box.min >= figure.bbox.min).all(), thing
        assert (box.max <= figure.bbox.max).all(), thing
    for one, other in itertools.combinations(boxes, 2):
        assert not boxes[one].overlaps(boxes[other]), (one, other)


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
    curves = [[[index] for index in curve] for curve in curves]
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
        panels.write_picture(by_task(results), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.size == (2000, 720)

    panels.write_picture(by_task([*results, measured(beta=2.0)]), tmp_path / "sweep.png")
    with Image.open(tmp_path / "sweep.png") as image:
        assert image.size == (1800, 1440)


# The command, on real experiments


MADE = b'{"kl": 3.0}'
DIGEST = hashlib.md5(MADE).hexdigest()
LOCKED = f"""\
stages:
  train:
    params: {{params.yaml: {{seed: 0, learning_rate: 0.00001, threads: 2}}}}
    outs: [{{path: data/model, md5: aaaa.dir}}]
  evaluate:
    deps: [{{path: data/model, md5: aaaa.dir}}]
    params: {{params.yaml: {{nll_samples: 50}}}}
    outs: [{{path: metrics/test.json, md5: {DIGEST}}}]
  render:
    deps: [{{path: data/model, md5: bbbb.dir}}]
    params: {{params.yaml: {{grid_size: 20}}}}
"""
PARAMS = "seed: 0\nlearning_rate: 1e-05\nnll_samples: 50\ngrid_size: 20\nthreads: 2\n"


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("params.yaml", "", "", True),  # a small number as DVC writes it, which YAML 1.1 would take for text
        ("params.yaml", "grid_size: 20", "grid_size: 9", True),  # a picture's parameter changes no figure
        ("params.yaml", "threads: 2", "threads: 1", True),
        ("params.yaml", "seed: 0", "seed: 1", False),
        ("params.yaml", "learning_rate: 1e-05\n", "", False),
        ("params.yaml", "nll_samples: 50", "nll_samples: 500", False),
        ("dvc.lock", "outs: [{path: data/model, md5: aaaa", "outs: [{path: data/model, md5: cccc", False),
        ("dvc.lock", f"md5: {DIGEST}", "md5: dddd", False),
        ("dvc.lock", "stages:", "stages", False),
        ("dvc.lock", LOCKED, "", False),
        ("metrics/test.json", "3.0", "2.0", False),
    ],
    ids=[
        "as measured",
        "picture",
        "threads",
        "edited",
        "missing",
        "another measure",
        "trained again, not yet evaluated",
        "another evaluation",
        "no YAML",
        "no lock",
        "edited figures",
    ],
)
def test_figures_are_of_the_parameters_that_dvc_locked(file, old, new, expected):
    files = {"params.yaml": PARAMS.encode(), "dvc.lock": LOCKED.encode(), "metrics/test.json": MADE}
    assert old.encode() in files[file]
    assert experiments.is_current(files | {file: files[file].replace(old.encode(), new.encode())}) == expected


def run_command(repository, *arguments: str, status: int = 0):
    command = (sys.executable, "-m", "cvae", "compare", *arguments)
    return repository.run(*command, status=status, PYTHONPATH="src")


@pytest.fixture(scope="module")
def clone(compared, tmp_path_factory) -> Repository:
    """A clone with a result of two latents and experiment `wide` of four, to be edited and put back."""
    return compared.copy(tmp_path_factory.mktemp("clone") / "cvae")


@pytest.fixture(scope="module")
def branch(clone) -> str:
    return clone.git("branch", "--show-current").strip()


def test_a_single_result_is_told_how_to_make_another(repository, tmp_path):
    alone = run_command(repository.copy(tmp_path / "cvae", "cache"), status=1)
    assert alone.stderr.startswith("compare: there is one result")
    assert "dvc exp run --queue" in alone.stderr
    assert alone.stderr.count("\n") == 1


def test_the_command_compares_real_experiments(clone, branch):
    wide = clone.git("for-each-ref", "--format=%(refname)", "refs/exps/**/wide").strip()
    figures = [json.loads(clone.git("show", f"{commit}:metrics/test.json")) for commit in (branch, wide)]
    clone.dvc("exp", "run", "--queue", "--set-param", "latent_dims=1")
    output = run_command(clone).stdout
    assert "Left out: 1 queued;" in output
    assert "digits, gaussian likelihood, grey pixels" in output

    with open(clone.root / "plots/rate_distortion.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["experiment"], row["latent_dims"]) for row in rows] == [(branch, "2"), ("wide", "4")]
    for row, expected in zip(rows, figures, strict=True):
        shown = [key for key in results.FIGURES if key in expected]
        assert {key: float(row[key]) for key in shown} == {key: expected[key] for key in shown}
        assert float(row["negative_elbo"]) == pytest.approx(expected["loss"], abs=2e-6)  # beta is 1
    assert clone.git("status", "--porcelain") == ""


@pytest.mark.parametrize("other", [{"seed": 1}, {"latent_dims": 4}], ids=["seeds", "no seeds"])
def test_the_command_prints_the_means_below_the_table_where_there_are_seeds(monkeypatch, tmp_path, capsys, other):
    results = [result("a"), result("b", kl=4.0, **other)]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.setattr(command, "find_results", lambda *_: (results, []))
    invoke("compare", ["compare"])
    table, *means, _ = capsys.readouterr().out.strip().split("\n\n")
    assert table.endswith(format_table(results))
    assert means == ([format_means(results)] if "seed" in other else [])


def test_widths_of_several_layers_are_shown_as_dvc_has_them(clone):
    clone.set(hidden_dims="[64, 32]")
    receipt = clone.root / "data/tracked.json"
    receipt.write_text("{}")  # DVC saves no experiment that lacks an output
    try:
        clone.dvc("exp", "save", "--name", "deep")
        output = run_command(clone, "deep", "wide").stdout
        clone.dvc("exp", "remove", "deep")
    finally:
        receipt.unlink()
        clone.git("checkout", "params.yaml")
    (line,) = (line for line in output.splitlines() if line.startswith("deep"))
    assert "  [64, 32]  " in line


def test_a_workspace_edited_since_its_figures_is_left_out_and_torch_and_mlflow_are_not_imported(clone, branch):
    check = (
        "import sys; from cvae.commands.program import invoke; invoke('compare', ['compare', *sys.argv[1:]]); "
        "assert not {'torch', 'mlflow'} & set(sys.modules)"
    )
    clone.set(latent_dims=7)
    try:
        command = (sys.executable, "-c", check, branch, "wide", "workspace")
        output = clone.run(*command, PYTHONPATH="src").stdout
    finally:
        clone.git("checkout", "params.yaml")
    assert "Left out, edited or damaged since the figures were measured: workspace." in output
    assert [line.split()[0] for line in output.splitlines() if line.startswith((branch, "wide"))] == [branch, "wide"]


def test_a_commit_edited_since_its_figures_is_left_out(clone, branch):
    assert "Left out" not in run_command(clone, branch, "wide").stdout
    clone.set(latent_dims=7)
    clone.git("commit", "--quiet", "--message", "Edit, and run nothing", "params.yaml")
    try:
        output = run_command(clone, "--num", "2").stdout
    finally:
        clone.git("reset", "--quiet", "--hard", "HEAD~1")
    assert f"Left out, edited or damaged since the figures were measured: {branch}, workspace." in output
    assert not [line for line in output.splitlines() if line.split()[1:2] == ["7"]]


def test_in_a_subdirectory_of_a_git_repository_a_row_is_of_its_own_parameters(repository, tmp_path):
    """git counts paths in a commit from its own root, which is not the project's in a monorepo."""
    project = Repository(tmp_path / "monorepo/projects/cvae")
    repository.copy(project.root, ".git", "cache")
    (project.root / "../../params.yaml").resolve().write_text("latent_dims: 2\n")  # another project's
    project.git("-C", str(tmp_path / "monorepo"), "init", "--quiet")
    project.git("config", "user.name", "Test")
    project.git("config", "user.email", "test@example.org")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "Run")
    project.set(latent_dims=9)
    project.git("commit", "--quiet", "--all", "--message", "Edit, and run nothing")
    done = run_command(project, "--num", "2", status=1)
    branch = project.git("branch", "--show-current").strip()
    assert done.stdout == f"Left out, edited or damaged since the figures were measured: {branch}, workspace.\n"
    assert done.stderr.startswith("compare: there is one result")


def test_a_repository_of_another_user_is_told_with_what_git_advises(repository, tmp_path):
    clone = repository.copy(tmp_path / "cvae", "cache")
    os.chown(clone.root, 4321, 4321)
    os.chown(clone.root / ".git", 4321, 4321)
    done = run_command(clone, status=1)
    advice = f"`git config --global --add safe.directory {clone.root}` lets you use it"
    assert done.stderr == f"compare: git: the repository belongs to another user; {advice}\n"
