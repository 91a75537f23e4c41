"""The picture of a sweep in `cvae compare`: accuracies and nats over the swept quantity."""

import itertools

import numpy as np
import pytest
from helpers.pictures import entries_of, legends_of, lines_of, ticks_of
from helpers.results import MEASURED, measured, result, table
from matplotlib.axes import Axes

from cvae.commands.compare.panels import panels_of
from cvae.commands.compare.rate_distortion import draw_rate_distortion
from cvae.commands.compare.results import by_task


def axes_of_sweep(*results: dict) -> list[Axes]:
    """Draw the results; return the axes of the accuracies and of the nats."""
    _, *axes = draw_rate_distortion(panels_of([table(*results)])).axes
    return axes


def test_a_sweep_has_its_accuracies_and_nats_beside_its_curve():
    results = [measured(latent_dims=d) for d in (4, 1, 2, 3)]
    shares, nats = axes_of_sweep(*results)
    sorted_ = table(*results)
    expected = {
        shares: [100 * sorted_["label_accuracy"], 100 * sorted_["sample_accuracy"]],
        nats: [sorted_["nll"], sorted_["negative_elbo"]],
    }
    for axes, figures in expected.items():
        for line, figure in zip(lines_of(axes), figures, strict=True):
            np.testing.assert_allclose(line, np.stack(([1, 2, 3, 4], figure), axis=1))
    assert entries_of(shares) == [["label_accuracy (test images)", "sample_accuracy (sampled images)"]]
    assert entries_of(nats) == [["nll (bound of 500 samples)", "negative_elbo"]]
    assert (shares.get_ylabel(), nats.get_ylabel()) == ("percent", "nats per test image")
    assert nats.get_xlabel() == "latent_dims"
    assert shares.get_title() == "Accuracy and NLL over latent_dims"


def test_accuracies_have_axes_of_their_own_where_one_would_be_flat():
    results = [result(f"{d}", latent_dims=d, label_accuracy=d / 10, sample_accuracy=0.9 + d / 1000) for d in (1, 4, 8)]
    labels, samples, nats = axes_of_sweep(*results)
    for axes, name, values in (
        (labels, "label_accuracy", [10, 40, 80]),
        (samples, "sample_accuracy", [90.1, 90.4, 90.8]),
    ):
        (entries,) = entries_of(axes)
        assert [entry.split()[0] for entry in entries] == [name]
        np.testing.assert_allclose(lines_of(axes)[0][:, 1], values)
        low, high = axes.get_ylim()
        assert high - low < 2 * np.ptp(values)
    assert nats.get_xlabel() == "latent_dims"


def test_each_curve_has_the_same_colour_in_all_axes():
    results = table(*(measured(latent_dims=d, beta=b) for d in (2, 4, 8) for b in (0.5, 1.0, 2.0)))
    left, shares, nats = draw_rate_distortion(panels_of([results])).axes
    colours = [line.get_color() for line in left.lines[:3]]
    assert len(set(colours)) == 3
    for axes in (shares, nats):
        assert [bars.lines[0].get_color() for bars in axes.containers] == 2 * colours
        for line in lines_of(axes):
            np.testing.assert_array_equal(line[:, 0], [0.5, 1, 2])
    assert entries_of(shares)[1] == ["latent_dims:", "2", "4", "8"]


def test_several_seeds_are_drawn_as_their_mean_and_standard_deviation():
    results = [measured(latent_dims=d, seed=s) for d in (1, 2, 3) for s in (0, 1, 2)]
    shares, nats = axes_of_sweep(*results, measured(latent_dims=4))
    for axes, figure, unit in ((shares, "label_accuracy", 100), (nats, "nll", 1)):
        values = unit * np.array([one[figure] for one in results]).reshape(3, 3)
        bars = axes.containers[0]
        np.testing.assert_allclose(lines_of(axes)[0][:3, 1], values.mean(1))
        heights = [np.ptp(segment[:, 1]) for segment in bars.lines[2][0].get_segments() if len(segment)][:3]
        np.testing.assert_allclose(heights, 2 * values.std(1, ddof=1), atol=1e-9)
    np.testing.assert_array_equal(lines_of(nats)[0][:, 0], [1, 2, 3, 4])
    assert nats.get_xlabel() == "latent_dims (mean and standard deviation of 1 to 3 seeds)"


def test_the_axis_gives_the_number_of_seeds():
    _, nats = axes_of_sweep(*(measured(latent_dims=d, seed=s) for d in (1, 2, 3) for s in range(11)))
    assert [len(line) for line in lines_of(nats)] == [3, 3]
    assert nats.get_xlabel() == "latent_dims (mean and standard deviation of 11 seeds)"


def test_several_curves_have_the_means_of_their_own_seeds():
    grid = [measured(latent_dims=d, beta=b, seed=s) for d in (2, 4) for b in (0.5, 1.0, 2.0) for s in (0, 1)]
    shares, nats = axes_of_sweep(*grid)
    expected = np.array([one["nll"] for one in grid]).reshape(2, 3, 2).mean(2)
    np.testing.assert_allclose([line[:, 1] for line in lines_of(nats)[:2]], expected)
    assert entries_of(shares)[1] == ["latent_dims:", "2", "4"]


def test_nll_has_a_line_for_each_number_of_samples():
    _, nats = axes_of_sweep(*(measured(latent_dims=d, nll_samples=500 if d < 3 else 5000) for d in (1, 2, 3, 4)))
    assert entries_of(nats) == [["nll (bound of 500 samples)", "nll (bound of 5000 samples)", "negative_elbo"]]
    assert [list(line[:, 0]) for line in lines_of(nats)] == [[1, 2], [3, 4], [1, 2, 3, 4]]


def test_runs_without_a_figure_are_left_out_of_its_line():
    old = [result("old", 4 + d, 20 - d, latent_dims=d) for d in (1, 2)]
    shares, nats = axes_of_sweep(*old, measured(latent_dims=3), measured(latent_dims=4))
    assert [list(line[:, 0]) for line in lines_of(shares)] == [[3, 4], [3, 4]]
    assert [list(line[:, 0]) for line in lines_of(nats)] == [[3, 4], [1, 2, 3, 4]]


def test_only_figures_that_were_measured_are_drawn():
    assert axes_of_sweep(*(result("", 4 + d, 20 - d, latent_dims=d) for d in (1, 2))) == []
    (nats,) = axes_of_sweep(*(result("", latent_dims=d, nll=22.5, nll_samples=500) for d in (1, 2)))
    assert nats.get_title() == "NLL over latent_dims"
    shares, nats = axes_of_sweep(*(result("", latent_dims=d, label_accuracy=0.9) for d in (1, 2)))
    assert shares.get_title() == "Accuracy and negative ELBO over latent_dims"
    assert entries_of(shares) + entries_of(nats) == [["label_accuracy (test images)"], ["negative_elbo"]]


def test_a_sweep_without_labels_has_no_accuracies_beside_those_of_one_with_labels():
    without = {"labels": "none", "label_accuracy": None, "sample_accuracy": None}
    given = [measured(latent_dims=d) for d in (1, 2, 3)]
    shares, nats = axes_of_sweep(*given, *(measured(latent_dims=d, **without) for d in (1, 2, 3)))
    assert [len(line) for line in lines_of(shares)] == [3, 0, 3, 0]
    assert [len(line) for line in lines_of(nats)] == [3, 3, 3, 3]
    assert entries_of(shares)[1] == ["labels:", "given", "none"]
    (nats,) = axes_of_sweep(*(measured(latent_dims=d, **without) for d in (1, 2, 3)))
    assert nats.get_title() == "NLL over latent_dims"


def test_runs_that_are_not_a_sweep_have_no_second_picture():
    assert axes_of_sweep(measured(hidden_dims="[200, 200]"), measured(hidden_dims=256)) == []


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
    shares, nats = axes_of_sweep(*(result("", kl, 20, **{key: value}, **MEASURED) for kl, value in enumerate(values)))
    nats.figure.canvas.draw()
    assert shares.get_xscale() == nats.get_xscale() == scale
    assert [text.get_text() for text in ticks_of(nats)] == [f"{tick:.6g}" for tick in ticks]
    assert nats.get_xlabel() == f"{key} (log scale)" * (scale == "log") or scale == "linear"


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_no_tick_is_above_100_percent(share):
    figures = MEASURED | {"label_accuracy": 1.0, "sample_accuracy": share}
    shares, _ = axes_of_sweep(*(result("", d, 20, latent_dims=d, **figures) for d in (1, 2)))
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
    "labels": [measured(latent_dims=d, labels=labels) for d in (1, 2, 4) for labels in ("given", "none")],
    "tasks": [
        *(measured(latent_dims=d) for d in (1, 2)),
        *(measured(latent_dims=d, dataset="fashion-mnist", likelihood="bernoulli", binarize="static") for d in (1, 2)),
        measured(dataset="kmnist"),
    ],
}


@pytest.mark.parametrize("name", SWEEPS)
def test_no_text_of_the_picture_is_clipped_or_covers_another(name):
    figure = draw_rate_distortion(panels_of(by_task(table(*SWEEPS[name]))))
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
