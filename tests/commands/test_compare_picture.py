"""The rate–distortion picture of `cvae compare`: points, labels, curves and lines of equal sums."""

import itertools

import numpy as np
import pandas as pd
import pytest
from helpers.pictures import legends_of
from helpers.results import measured, result, table
from matplotlib.contour import ContourSet
from PIL import Image

from cvae.commands.compare.panels import panels_of, write_picture
from cvae.commands.compare.rate_distortion import NEAR, RADIUS, Panel, draw_rate_distortion
from cvae.commands.compare.results import by_task


def test_rate_is_drawn_to_the_right_and_distortion_upwards():
    drawn = panels_of([table(result("b", 5, 15, latent_dims=4), result("a", 3, 20))])
    (axes,) = draw_rate_distortion(drawn).axes
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), [[3, 20], [5, 15]])
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[3, 20], [5, 15]])
    assert (axes.get_xlabel()[:4], axes.get_ylabel()[:10]) == ("rate", "distortion")


def test_a_curve_goes_through_the_means_of_seeds_and_colours_its_runs():
    results = table(
        *(measured(latent_dims=d, beta=b, seed=s) for d in (2, 4) for b in (0.5, 1.0, 2.0) for s in (0, 1, 2))
    )
    axes, *_ = draw_rate_distortion(panels_of([results])).axes
    means = results[["kl", "reconstruction"]].to_numpy().reshape(2, 3, 3, 2).mean(2)
    colours = axes.collections[0].get_facecolors()
    for number, line in enumerate(axes.lines[:2]):
        np.testing.assert_allclose(line.get_xydata(), means[number])
        of_runs = colours[9 * number : 9 * (number + 1), :3]
        np.testing.assert_allclose(of_runs, np.tile(line.get_color(), (9, 1)))
    (legend,) = legends_of(axes)
    assert legend.get_texts()[0].get_text() == "means of seeds, in order of beta"


def made_up(name: str) -> Panel:
    """Return runs at places that are hard to label."""
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
    results = pd.DataFrame(points, columns=["kl", "reconstruction"]).assign(position=np.arange(len(points)))
    size = {"sweep": 30, "grid": 5}.get(name)
    curves = [results[start : start + size] for start in range(0, len(results), size)] if size else []
    return Panel(name, results, labels, "latent_dims", curves, "position")


def equal_sums_of(axes) -> ContourSet:
    (lines,) = (collection for collection in axes.collections if isinstance(collection, ContourSet))
    return lines


def labels_of(axes) -> list:
    """Return the labels of points, without the sums on the dashed lines."""
    return [text for text in axes.texts if text not in equal_sums_of(axes).labelTexts]


@pytest.mark.parametrize("name", ["two", "same point", "sweep", "grid", "names", "crowd"])
def test_every_point_has_a_label_that_covers_nothing(name):
    panel = made_up(name)
    figure = draw_rate_distortion([panel])
    (axes,) = figure.axes
    figure.canvas.draw()
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), panel.points)

    boxes = {text: text.get_window_extent() for text in axes.texts}
    labels = labels_of(axes)
    assert sorted(text.get_text() for text in labels) == sorted(panel.labels)
    assert len(boxes) > len(labels), "no dashed line has its sum"
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
        assert gaps.argmin() == index or gaps.min() > NEAR, f"{label} could be mistaken for another point's"


def test_dashed_lines_hold_equal_sums():
    (axes,) = draw_rate_distortion([made_up("two")]).axes
    lines = equal_sums_of(axes)
    drawn = [(level, path.vertices) for level, path in zip(lines.levels, lines.get_paths(), strict=True) if len(path)]
    assert len(drawn) > 3
    for level, vertices in drawn:
        np.testing.assert_allclose(vertices.sum(1), level)
    for text in lines.labelTexts:
        assert sum(text.get_position()) == pytest.approx(float(text.get_text()), abs=1e-6)


def test_each_task_has_its_own_axes(tmp_path):
    results = [result("a"), result("b", 5, 15, latent_dims=4), result("c", 30, 80, likelihood="bernoulli")]
    write_picture(by_task(table(*results)), tmp_path / "tasks.png")
    with Image.open(tmp_path / "tasks.png") as image:
        assert image.size == (2000, 720)
    write_picture(by_task(table(*results, measured(beta=2.0))), tmp_path / "sweep.png")
    with Image.open(tmp_path / "sweep.png") as image:
        assert image.size == (1800, 1440)


def test_the_picture_repeats_to_the_byte(tmp_path):
    results = [table(*(measured(latent_dims=d) for d in (1, 2)))]
    for name in ("one.png", "two.png"):
        write_picture(results, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
