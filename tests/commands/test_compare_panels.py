"""What the picture of `cvae compare` shows of each task: labels and curves."""

from helpers.results import measured, result, table

from cvae.commands.compare.panels import find_curves, find_sweep, label_results
from cvae.commands.compare.sweep import MOST_CURVES


def curves_of(*results: dict) -> tuple[list[list[list[int]]], str]:
    """Return the rows that each point of each curve has, and what the curves follow."""
    curves, along = find_curves(table(*results))
    return [[points.index.tolist() for _, points in curve.groupby(along)] for curve in curves], along


def test_labels_give_what_differs():
    assert label_results(table(result("a"), result("b", latent_dims=4))) == (["2", "4"], "latent_dims")
    both = table(result("a", latent_dims=4, beta=0.5), result("b"))
    assert label_results(both) == (["2, 1", "4, 0.5"], "latent_dims, beta")
    widths = table(result("a", hidden_dims="[200, 200]"), result("b", hidden_dims=64))
    assert label_results(widths) == (["64", "[200, 200]"], "hidden_dims")


def test_labels_that_would_be_equal_give_the_experiment_too():
    results = table(result("a"), result("b", kl=1), result("c", latent_dims=4))
    assert label_results(results)[0] == ["2 (a)", "2 (b)", "4"]


def test_labels_are_experiments_if_many_parameters_differ_or_none():
    many = table(result("a"), result("b", latent_dims=4, beta=0.5, epochs=3, seed=1))
    assert label_results(many) == (["a", "b"], "experiment")
    assert label_results(table(result("a"), result("b", kl=1))) == (["a", "b"], "experiment")


def test_a_curve_joins_runs_that_differ_in_one_quantity_in_its_order():
    assert curves_of(*(result(str(d), latent_dims=d) for d in (10, 2, 9))) == ([[[0], [1], [2]]], "latent_dims")
    twice = [result("a"), result("b", kl=1), result("c", latent_dims=4)]
    assert curves_of(*twice) == ([[[0], [2]]], "latent_dims")


def test_of_two_quantities_curves_follow_the_one_that_needs_fewer():
    pairs = [result("", latent_dims=d, beta=b) for d in (2, 4) for b in (2.0, 1.0, 0.5)]
    curves = [[[0], [1], [2]], [[3], [4], [5]]]
    assert curves_of(*pairs) == (curves, "beta")
    other = result("", latent_dims=8, beta=0.5, epochs=3)
    assert curves_of(*pairs, other) == ([*curves, [[6]]], "beta")


def test_there_are_no_more_than_ten_curves():
    eleven = [result("", latent_dims=d, beta=b) for d in range(1, 12) for b in range(1, 12)]
    assert curves_of(*eleven) == ([], "")


def test_curves_follow_numbers_only():
    assert curves_of(result("a", hidden_dims="[200, 200]"), result("b", hidden_dims=256)) == ([], "")


def test_all_seeds_of_a_configuration_are_one_point_of_a_curve():
    seeds = [result("", latent_dims=d, seed=s) for d in (2, 4) for s in range(11)]
    assert curves_of(*seeds) == ([[list(range(11)), list(range(11, 22))]], "latent_dims")
    grid = [result("", latent_dims=d, beta=b, seed=s) for d in (2, 4) for b in (1.0, 2.0, 3.0) for s in (0, 1)]
    assert curves_of(*grid) == ([[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]], "beta")
    assert curves_of(*(result("", seed=s) for s in (0, 1))) == ([], "")


def test_a_sweep_of_too_many_curves_is_not_drawn():
    many = [measured(latent_dims=d, beta=b) for d in range(MOST_CURVES + 1) for b in range(1, MOST_CURVES + 3)]
    assert find_sweep(table(*many)) is None
