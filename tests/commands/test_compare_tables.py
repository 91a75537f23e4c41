"""The tables of `cvae compare`: results, their means over seeds, and CSV."""

import csv
import re

from helpers.results import MEASURED, measured, result, row, table

from cvae.commands.compare.panels import find_curves
from cvae.commands.compare.results import by_task, read_results
from cvae.commands.compare.tables import format_means, format_table, heading, write_table


def test_the_table_has_what_varies_and_every_figure():
    results = table(result("a", latent_dims=10), result("b", latent_dims=9), result("c", latent_dims=9, beta=0.5))
    lines = format_table(results).splitlines()
    figures = ["kl", "reconstruction", "negative_elbo", "active_units"]
    assert lines[0].split() == ["experiment", "latent_dims", "beta", *figures]
    assert [line.split()[:3] for line in lines[1:]] == [["c", "9", "0.5"], ["b", "9", "1"], ["a", "10", "1"]]
    assert len({len(line) for line in lines}) == 1


def test_a_table_wider_than_the_terminal_breaks_names_then_leaves_out_figures():
    results = table(*(result(f"latents-{d}", latent_dims=d, **MEASURED) for d in (1, 16)))
    columns = ["latent_dims", "kl", "reconstruction", "negative_elbo", "nll", "label_accuracy", "sample_accuracy"]
    header, line, _ = lines = format_table(results, 120).splitlines()
    assert header.split() == ["experiment", *columns, "active_units"]
    assert line.split()[-4:] == ["22.500", "0.9700", "0.9000", "2"]

    first, second, line, _ = lines = format_table(results, 90).splitlines()
    assert first.split()[:5] == ["experiment", "latent_", "kl", "reconstruction", "negative_"]
    assert second.split() == ["dims", "elbo", "accuracy", "accuracy", "units"]
    assert len(line.split()) == 9
    assert max(map(len, lines)) <= 90

    for width, kept in ((80, 7), (60, 6), (50, 5)):  # the parameters that differ are always there
        lines = format_table(results, width).splitlines()
        assert max(map(len, lines)) <= width
        assert lines[2].split()[:2] == ["latents-1", "1"]
        assert len(lines[2].split()) == kept


def test_means_wider_than_the_terminal_leave_out_figures_too():
    results = table(*(result("", latent_dims=d, seed=s, **MEASURED) for d in (1, 2) for s in (0, 1)))
    assert "reconstruction" in format_means(results)
    _, *lines = format_means(results, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["latent_", "seeds", "negative_", "nll", "label_", "sample_"]


def test_a_parameter_or_figure_that_a_run_lacks_is_a_dash():
    old = result("old", 10.0, beta=None, active_units=None)
    _, *lines = format_table(table(result("new", **MEASURED), old)).splitlines()
    assert lines[1].split() == ["old", "–", "10.000", "20.000", "30.000", "–", "–", "–", "–"]


def test_a_list_of_widths_is_shown_as_in_params_yaml():
    assert "  [200, 200]  " in format_table(table(result("a", hidden_dims="[200, 200]"), result("b")))


def test_the_heading_gives_the_samples_behind_nll_unless_they_differ():
    same = [result("a", **MEASURED), result("b", latent_dims=4, **MEASURED)]
    assert heading(table(*same)).endswith("; nll from 500 samples")
    assert "nll_samples" not in format_table(table(*same))
    other = result("c", latent_dims=8, **MEASURED | {"nll_samples": 5000})
    results = table(*same, other, result("old", latent_dims=9))
    assert heading(results).endswith("; compare nll only at equal nll_samples")
    lines = [line.split() for line in format_table(results).splitlines()]
    assert [line[lines[0].index("nll_samples")] for line in lines[1:]] == ["500", "500", "5000", "–"]
    assert "nll" not in heading(table(result("a"), result("b", latent_dims=4)))


# Means over seeds


def cells_of_means(*results: dict) -> list[list[str]]:
    """Return the cells of the table of means, the header first."""
    _, *lines = format_means(table(*results)).splitlines()
    return [re.split(r" {2,}", line.strip()) for line in lines]


def test_seeds_have_their_mean_and_sample_standard_deviation():
    """For 1, 2, 3 and 6, these are 3 and √(14/3). With ddof 0, the deviation would be √3.5."""
    header, cells = cells_of_means(
        *(
            result("", n, 20 + n, seed=n, nll=22.5 + n, nll_samples=500, label_accuracy=n / 10, sample_accuracy=0.9)
            for n in (1, 2, 3, 6)
        )
    )
    assert header == [
        "seeds",
        "kl",
        "reconstruction",
        "negative_elbo",
        "nll",
        "label_accuracy",
        "sample_accuracy",
    ]
    assert cells == [
        "4",
        "3.000 ± 2.160",
        "23.000 ± 2.160",
        "26.000 ± 4.320",
        "25.500 ± 2.160",
        "0.3000 ± 0.2160",
        "0.9000 ± 0.0000",
    ]


def test_each_configuration_of_several_seeds_has_a_row():
    seeds = [result("", d + s, latent_dims=d, beta=0.5, seed=s) for d in (16, 4) for s in (0, 2)]
    rows = cells_of_means(*seeds, result("", seed=1), result("", latent_dims=16, epochs=3, seed=1))
    assert [row[:5] for row in rows] == [
        ["latent_dims", "beta", "epochs", "seeds", "kl"],
        ["4", "0.5", "100", "2", "5.000 ± 1.414"],
        ["16", "0.5", "100", "2", "17.000 ± 1.414"],
    ]


def test_seeds_of_a_parameter_that_older_runs_lack_are_a_configuration():
    old = [result("", 3 + s, beta=None, seed=s) for s in (0, 2)]
    rows = cells_of_means(*old, *(result("", 5 + s, seed=s) for s in (0, 2)))
    assert [row[:3] for row in rows[1:]] == [["1", "2", "6.000 ± 1.414"], ["–", "2", "4.000 ± 1.414"]]


def test_without_two_seeds_of_a_configuration_there_are_no_means():
    assert format_means(table(*(result("", latent_dims=d, seed=d) for d in (2, 4)))) == ""
    assert format_means(table(result("a"), result("b", kl=4))) == ""  # different code, but the same seed


def test_nll_has_a_mean_for_each_number_of_samples():
    counts = [500, 500, 500, 5000, 5000, 50]
    results = [result("", n, nll=22.0 + n, nll_samples=count, seed=n) for n, count in enumerate(counts)]
    header, cells = cells_of_means(*results)
    assert header == ["seeds", "kl", "reconstruction", "negative_elbo", "nll (500 samples)", "nll (5000 samples)"]
    assert cells[0] == "6"
    assert cells[-2:] == ["23.000 ± 1.000 (3)", "25.500 ± 0.707 (2)"]
    assert "(n): over n seeds" in format_means(table(*results))
    assert "(n)" not in format_means(table(*results[:3]))


def test_a_seed_measured_twice_counts_once_for_each_number_of_samples():
    once = [result("", nll=22.0 + s, nll_samples=500, seed=s) for s in (0, 1, 2)]
    again = [result("again", nll=21.0 + s, nll_samples=5000, seed=s) for s in (0, 1, 2)]
    _, cells = cells_of_means(*once, *again)
    assert cells[0] == "3"
    assert cells[-2:] == ["23.000 ± 1.000", "22.000 ± 1.000"]


def test_a_figure_that_fewer_than_two_seeds_have_is_a_dash_among_the_means():
    results = [result("", latent_dims=d, seed=s, label_accuracy=0.9 if d + s else None) for d in (0, 1) for s in (0, 1)]
    header, *rows = cells_of_means(*results)
    assert header[-1] == "label_accuracy"
    assert [row[-1] for row in rows] == ["–", "0.9000 ± 0.0000"]
    assert "label_accuracy" not in format_means(table(*results[:2]))


def test_seeds_count_wherever_they_ran_and_each_counts_once():
    where = [
        {"device": "cpu", "threads": 1.0},
        {"device": "cuda", "threads": 8.0},
        {"launcher": "srun", "threads": 4.0},
    ]
    rows = [row(f"{s}", 3.0 + s, seed=float(s), **ran) for s, ran in enumerate(where)]
    again = row("a", 3.001, seed=0.0, threads=8.0)  # the same seed, except for rounding
    for runs in (rows, [*rows, again]):
        results, _ = read_results(runs)
        assert len(results) == len(runs)
        assert format_means(results).splitlines()[-1].split()[:4] == ["3", "4.000", "±", "1.000"]
        assert find_curves(results) == ([], "")


# CSV


def test_csv_has_every_digit_and_every_parameter_that_differs(tmp_path):
    one = result("a", 3.3857248, 26.63851, beta=1.0, **MEASURED | {"nll": 28.123457})
    write_table(by_task(table(one, result("b", 1, 2, dataset="kmnist", beta=0.1))), tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="") as file:
        rows = {row["experiment"]: row for row in csv.DictReader(file)}
    figures = {"kl": "3.3857248", "reconstruction": "26.63851", "negative_elbo": "30.024235", "active_units": "2"}
    figures |= {"nll": "28.123457", "nll_samples": "500", "label_accuracy": "0.97", "sample_accuracy": "0.9"}
    assert rows["a"] == {"experiment": "a", "dataset": "mnist", "beta": "1.0"} | figures
    assert rows["b"]["nll"] == ""
    assert (rows["b"]["dataset"], rows["b"]["beta"]) == ("kmnist", "0.1")


def test_csv_has_the_columns_of_the_table(tmp_path):
    results = table(measured(), measured(latent_dims=4))
    write_table([results], tmp_path / "table.csv")
    columns = (tmp_path / "table.csv").read_text().splitlines()[0].split(",")
    assert [column for column in columns if column != "nll_samples"] == format_table(results).splitlines()[0].split()
