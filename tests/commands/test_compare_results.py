"""`cvae compare` reads results: which are compared, in which order, and what sets them apart."""

import numpy as np
import pytest
import yaml
from helpers.repository import PROJECT
from helpers.results import MEASURED, PARAMETERS, result, row, table

from cvae.commands.compare.results import by_task, figures_of, read_results, sample_counts, task_name, varied
from cvae.commands.compare.tables import format_table, heading
from cvae.support.errors import UserError
from cvae.tracking.tasks import measured_on


def names_of(rows: list[dict], *names: str) -> list[str]:
    """Return the names of the results that are kept."""
    results, _ = read_results(rows, names)
    return sorted(results["experiment"])


def test_a_result_has_the_figures_of_the_test_set_and_the_parameters_behind_them():
    results, _ = read_results([row("one", 3.3857248, 26.63851, latent_dims=4.0, beta=0.5)])
    found = results.iloc[0]
    assert found[["experiment", "kl", "reconstruction", "active_units"]].tolist() == ["one", 3.3857248, 26.63851, 2]
    assert found[list(PARAMETERS)].to_dict() == PARAMETERS | {"latent_dims": 4, "beta": 0.5}
    assert found["negative_elbo"] == 30.024235  # not weighted by beta
    assert found[list(MEASURED)].isna().all()


def test_a_result_has_the_figures_that_older_versions_did_not_measure():
    results, _ = read_results([row("one", **MEASURED | {"nll_samples": 500.0})])
    assert results[list(MEASURED)].iloc[0].to_dict() == MEASURED
    assert sample_counts(results) == [500]


def test_results_are_set_apart_by_every_parameter_that_decides_the_figures():
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
    _, notes = read_results(rows)
    assert names_of(rows) == ["a", "c"]
    assert notes == ["The same result as a: b, main."]


def test_results_that_differ_in_a_parameter_or_a_figure_are_kept_apart():
    assert names_of([row("a"), row("b", seed=1.0), row("c", kl=3.01), row("d", label_accuracy=0.97)]) == list("abcd")


def test_the_samples_behind_nll_set_results_apart_only_if_nll_differs():
    rows = [row("a", nll=22.5, nll_samples=500.0), row("b", nll=22.5, nll_samples=5000.0)]
    assert names_of(rows) == ["a"]
    rows[1]["nll"] = 22.4
    assert names_of(rows) == ["a", "b"]
    assert names_of([row("a", nll_samples=500.0), row("b", nll_samples=5000.0)]) == ["a"]


def test_unfinished_and_incomplete_runs_are_left_out_with_a_note():
    """A failed or running one has figures too: those of the run before it."""
    rows = [row("a"), row("b", State="Success"), row("c", State="Failed"), row("d", State="Running")]
    rows += [row("e", None, None, State="Queued"), row("f", State="Queued"), row("g", kl=None), row("h", kl=np.nan)]
    rows += [row("i", kl="!")]
    _, notes = read_results(rows)
    assert names_of(rows) == ["a"]
    assert notes[0].startswith("Left out: 1 failed, 2 queued, 1 running;")
    assert notes[1].endswith("without kl and reconstruction: g, h, i.")
    assert notes[2] == "The same result as a: b."


def test_an_older_run_without_a_parameter_or_a_figure_is_compared():
    old = row("old")
    del old["beta"], old["active_units"]
    results, _ = read_results([old, row("new")])
    assert varied(results) == ["beta"]
    assert results["experiment"].tolist() == ["new", "old"]


def test_an_older_run_may_have_the_word_none_for_a_parameter_that_did_not_exist():
    """`dvc.api.exp_show()` fills it in if a newer run has the parameter."""
    old = row("old", kl=3.1, validation_images="None", patience="None", labels="None", images="None")
    results, _ = read_results([old, row("new")])
    assert varied(results) == []
    assert measured_on(results.iloc[1]) == "test images"


def test_a_run_older_than_binary_pixels_and_other_activations_counts_as_one_of_grey_pixels():
    old = row("old", kl=3.1)
    del old["binarize"], old["activation"]
    results, _ = read_results([old, row("new")])
    assert varied(results) == []
    assert [task_name(group) for group in by_task(results)] == ["mnist, gaussian likelihood, grey pixels"]


def test_names_and_patterns_choose_results():
    rows = [row("main"), row("dims-2", kl=1.0), row("dims-4", kl=2.0)]
    assert names_of(rows, "dims-2", "main") == ["dims-2", "main"]
    assert names_of(rows, "dims-*") == ["dims-2", "dims-4"]


def test_an_unknown_name_is_reported_in_one_line():
    with pytest.raises(UserError, match=r"no run is called c; choose from a, b, main") as caught:
        read_results([row("main"), row("a", kl=1.0), row("b", kl=2.0)], ["a", "c"])
    assert "\n" not in str(caught.value)


def test_results_are_sorted_by_what_varies_and_numbers_by_size():
    results = table(result("a", latent_dims=10), result("b", latent_dims=9), result("c", latent_dims=9, beta=0.5))
    assert results["experiment"].tolist() == ["c", "b", "a"]
    assert varied(results) == ["latent_dims", "beta"]


def test_widths_are_sorted_single_layers_first_then_by_number():
    """`dvc.api.exp_show()` returns a number as a float, and a list as text, even of a single width."""
    widths = ["[1000, 20]", "[200, 200]", 512.0, "[20, 30, 40]", "[64]"]
    results, _ = read_results([row(f"{width}", hidden_dims=width) for width in widths])
    assert results["hidden_dims"].tolist() == [64, 512, "[200, 200]", "[1000, 20]", "[20, 30, 40]"]


def test_data_sets_likelihoods_and_kinds_of_pixels_are_separate_tasks():
    results = [result("a", latent_dims=3), result("b", dataset="kmnist", epochs=5), result("c", likelihood="bernoulli")]
    binary = [result(name, likelihood="bernoulli", binarize=name) for name in ("static", "dynamic")]
    groups = {task_name(group): group for group in by_task(table(*results, result("d"), *binary))}
    assert {name: group["experiment"].tolist() for name, group in groups.items()} == {
        "mnist, gaussian likelihood, grey pixels": ["d", "a"],
        "kmnist, gaussian likelihood, grey pixels": ["b"],
        "mnist, bernoulli likelihood, grey pixels": ["c"],
        "mnist, bernoulli likelihood, binary pixels": ["dynamic", "static"],
    }
    assert varied(groups["mnist, gaussian likelihood, grey pixels"]) == ["latent_dims"]
    assert varied(groups["mnist, bernoulli likelihood, binary pixels"]) == ["binarize"]


def test_models_and_labels_are_parameters_of_one_task_and_older_runs_have_the_articles():
    old = row("old", kl=3.1)
    del old["model"], old["labels"]
    own = {"model": "cvae.models.convolutional:ConvolutionalCVAE"}
    results, _ = read_results([old, row("new", kl=3.2), row("vae", kl=9.0, labels="none"), row("own", kl=5.0, **own)])
    (group,) = by_task(results)
    assert varied(group) == ["model", "labels"]
    cells = {name: cells for name, *cells in (line.split()[:3] for line in format_table(group).splitlines())}
    assert cells["old"] == cells["new"] == ["CVAE", "given"]
    assert (cells["vae"], cells["own"]) == (["CVAE", "none"], ["ConvolutionalCVAE", "given"])
    assert "with labels none, nats are of the image alone" in heading(group)
    assert "labels" not in heading(group[group["labels"] == "given"])


def own_images(name: str, **others) -> dict:
    images = {"images": "data/own", "image_size": 32.0, "channels": 3.0, "test_share": 0.15}
    return row(name, dataset="images", **images | others)


def test_your_own_images_are_a_task_for_each_folder_and_what_shapes_them():
    rows = [
        own_images("a"),
        own_images("b", kl=4.0),
        own_images("c", images="data/other"),
        own_images("d", channels=1.0),
    ]
    results, _ = read_results([*rows, own_images("e", image_size=64.0), own_images("f", test_share=0.3), row("g")])
    tasks = {task_name(group).partition(", gaussian")[0]: group["experiment"].tolist() for group in by_task(results)}
    assert tasks == {
        "data/own (image_size 32, channels 3, test_share 0.15)": ["a", "b"],
        "data/other (image_size 32, channels 3, test_share 0.15)": ["c"],
        "data/own (image_size 32, channels 1, test_share 0.15)": ["d"],
        "data/own (image_size 64, channels 3, test_share 0.15)": ["e"],
        "data/own (image_size 32, channels 3, test_share 0.3)": ["f"],
        "mnist": ["g"],
    }


def test_parameters_of_your_own_images_set_no_other_results_apart():
    results, notes = read_results([row("a"), row("b", images="data/other", image_size=64.0), row("c", kl=4.0)])
    assert notes == ["The same result as a: b."]
    assert varied(results) == []


def test_only_figures_that_a_run_has_are_shown():
    figures = figures_of(table(result("a", label_accuracy=0.97), result("b", latent_dims=4)))
    assert figures == ["kl", "reconstruction", "negative_elbo", "label_accuracy", "active_units"]


def validated(name: str, kl: float, **others) -> dict:
    """Return a row with validation images, whose test figures are better than its validation figures."""
    figures = {"metrics/validation.json:kl": kl, "metrics/validation.json:reconstruction": 21.0}
    figures |= {"metrics/validation.json:nll": kl + 20.0, "metrics/test.json:nll": 5.0}
    return row(name, kl=0.1, reconstruction=1.0, validation_images=5000.0, **figures, **others)


def test_results_with_validation_images_are_compared_by_validation_figures():
    results, _ = read_results([validated("a", 3.0), validated("b", 2.0, latent_dims=4.0)])
    assert results["kl"].tolist() == [3.0, 2.0]
    assert results["negative_elbo"].tolist() == [24.0, 23.0]
    assert results["nll"].tolist() == [23.0, 22.0]
    assert results["test_nll"].tolist() == [5.0, 5.0]
    assert heading(results).startswith(
        "mnist, gaussian likelihood, grey pixels: 5000 validation images, nats per image;"
    )


def test_results_that_lack_their_validation_figures_are_left_out():
    incomplete = {"metrics/validation.json:kl": None}
    results, notes = read_results([row("a"), validated("b", 3.0) | incomplete])
    assert results["experiment"].tolist() == ["a"]
    assert notes == ["Left out, without kl and reconstruction: b."]


def test_results_measured_on_other_images_are_separate_tasks():
    rows = [row("a"), validated("b", 3.0), validated("c", 2.0) | {"validation_images": 300.0}]
    old = row("old", kl=3.1)
    del old["validation_images"], old["patience"]
    results, _ = read_results([*rows, old])
    tasks = {measured_on(group.iloc[0]): group["experiment"].tolist() for group in by_task(results)}
    assert tasks == {
        "test images": ["a", "old"],
        "300 validation images": ["c"],
        "5000 validation images": ["b"],
    }
    assert [column for column in figures_of(results) if column == "test_nll"] == ["test_nll"]
    assert "test_nll" not in figures_of(by_task(results)[0])
