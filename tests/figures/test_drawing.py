import numpy as np
import pytest

from cvae.data.idx import LABELS, SIDE
from cvae.data.names import LABEL_NAMES
from cvae.figures import drawing, label_view, style


def make_view(dims: int) -> label_view.LabelView:
    numbers = np.random.default_rng(0)
    return label_view.LabelView(
        label=3,
        name="3",
        axis_names=("a", "b")[:dims],
        points=numbers.normal(size=(50, dims)),
        prior_mean=np.array([0.5, -0.5])[:dims],
        prior_std=1.0,
        reach=4.0,
        manifold=numbers.uniform(size=(5 * SIDE if dims == 2 else SIDE, 5 * SIDE)),
        grid_range=2.0,
    )


def axes_of(draw, view):
    """Return the axes that `draw` has drawn `view` on."""
    axes = style.new_figure().subplots()
    draw(axes, view)
    return axes


def test_a_scatter_shows_every_point_and_the_prior_around_its_mean():
    view = make_view(2)
    axes = axes_of(drawing.draw_latents, view)
    np.testing.assert_allclose(axes.collections[0].get_offsets(), view.points)
    circle = axes.lines[0].get_xydata()
    np.testing.assert_allclose(np.linalg.norm(circle - view.prior_mean, axis=1), 2 * view.prior_std)
    assert axes.get_xlim() == axes.get_ylim() == (-4, 4)
    assert axes.get_aspect() == 1


def test_a_strip_shows_every_point_and_the_prior_as_two_vertical_lines():
    view = make_view(1)
    axes = axes_of(drawing.draw_latents, view)
    np.testing.assert_allclose(axes.collections[0].get_offsets()[:, 0], view.points[:, 0])
    x, y = axes.lines[0].get_data()
    np.testing.assert_array_equal(x, [-1.5, -1.5, np.nan, 2.5, 2.5])
    np.testing.assert_array_equal(y, [-1, 1, np.nan, -1, 1])


@pytest.mark.parametrize("dims", [1, 2])
def test_a_manifold_is_upright_with_its_outer_tiles_at_the_ends_of_the_range(dims):
    view = make_view(dims)
    [image] = axes_of(drawing.draw_manifold, view).images
    np.testing.assert_array_equal(image.get_array(), view.manifold)
    assert image.origin == "upper"
    half = 2.5 if dims == 2 else 0.5
    assert image.get_extent() == pytest.approx([-2.5, 2.5, -half, half])  # tiles of width 1, centres at -2 … 2


@pytest.mark.parametrize("dataset", LABEL_NAMES)
def test_label_names_fit_into_the_pictures(dataset):
    names, images = LABEL_NAMES[dataset], np.zeros((LABELS, LABELS, SIDE, SIDE))
    styles = drawing.draw_styles(images, ["-1.0, -1.0"] * LABELS, names, "title")
    pairs = drawing.draw_reconstructions(images, images, names, "title")
    for figure in (styles, pairs):
        figure.canvas.draw()
        labels = [text for axes in figure.axes for text in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        assert set(names) <= {text.get_text() for text in labels}
        for text in labels:
            box = text.get_window_extent()
            assert figure.bbox.contains(box.x0, box.y0), text
            assert figure.bbox.contains(box.x1, box.y1), text
