import warnings
from itertools import pairwise

import numpy as np
import pytest
from helpers.pictures import assert_legible, texts_of
from matplotlib.colors import to_rgb

from cvae.data.names import LABEL_NAMES
from cvae.figures import label_view, style, tables, views

SIDE = 28


def make_view(dims: int, height: int = SIDE, width: int = SIDE, **fields: object) -> label_view.LabelView:
    numbers = np.random.default_rng(0)
    given = {
        "label": 3,
        "name": "3",
        "axis_names": ("a", "b")[:dims],
        "points": numbers.normal(size=(50, dims)),
        "prior_mean": np.array([0.5, -0.5])[:dims],
        "prior_std": 1.0,
        "reach": 4.0,
        "manifold": numbers.uniform(size=(5 * height if dims == 2 else height, 5 * width)),
        "grid_size": 5,
        "grid_range": 2.0,
        "ink": True,
    }
    return label_view.LabelView(**given | fields)


def axes_of(draw, view):
    """Return the axes that `draw` has drawn `view` on."""
    axes = style.new_figure().subplots()
    draw(axes, view)
    return axes


def pixels_of(figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def test_a_scatter_shows_every_point_and_the_prior_around_its_mean():
    view = make_view(2)
    axes = axes_of(views.draw_latents, view)
    np.testing.assert_allclose(axes.collections[0].get_offsets(), view.points)
    for count, line in enumerate(axes.lines, start=1):
        distances = np.linalg.norm(line.get_xydata() - view.prior_mean, axis=1)
        np.testing.assert_allclose(distances, count * view.prior_std)
    assert [text.get_text() for text in axes.texts] == ["prior σ", "2 σ"]
    np.testing.assert_array_equal(axes.get_xticks(), axes.get_yticks())
    assert axes.get_xlim() == axes.get_ylim() == (-4, 4)
    assert axes.get_aspect() == 1


def test_one_latent_has_its_density_and_that_of_the_prior():
    view = make_view(1, points=np.random.default_rng(0).normal(0.5, 1.0, size=(5000, 1)), reach=5.0)
    axes = axes_of(views.draw_latents, view)
    (x, estimated), (same, prior) = (line.get_data() for line in axes.lines)
    np.testing.assert_array_equal(x, same)
    np.testing.assert_allclose(estimated, prior, atol=0.03)  # the points are the prior's
    assert np.trapezoid(estimated, x) == pytest.approx(1, abs=0.01)
    assert [text.get_text() for text in axes.texts] == [" prior"]


@pytest.mark.parametrize("points", [np.zeros((0, 1)), np.zeros((1, 1)), np.ones((9, 1))])
def test_the_density_of_no_image_or_equal_ones_is_finite(points):
    for line in axes_of(views.draw_latents, make_view(1, points=points)).lines:
        assert np.isfinite(line.get_ydata()).all()


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (48, 24), (16, 32)])
def test_a_manifold_is_upright_with_square_pixels_and_its_outer_tiles_at_the_ends_of_the_range(dims, height, width):
    view = make_view(dims, height, width)
    axes = axes_of(views.draw_manifold, view)
    [image] = axes.images
    np.testing.assert_array_equal(image.get_array(), view.manifold)
    assert image.origin == "upper"
    half = 2.5 if dims == 2 else 0.5 * height / width
    left, right, bottom, top = image.get_extent()  # tiles of width 1, centres at -2 … 2
    assert (left, right, bottom, top) == pytest.approx((-2.5, 2.5, -half, half))
    pixels_of(axes.figure)
    box = axes.get_window_extent()
    assert box.height / box.width == pytest.approx(view.manifold.shape[0] / view.manifold.shape[1], rel=1e-3)


def test_neighbouring_labels_have_different_colours_however_many_they_are():
    colours = []
    for label in range(45):
        axes = axes_of(views.draw_latents, make_view(2, label=label))
        colours.append(tuple(axes.collections[0].get_facecolor()[0][:3]))
    assert colours[:10] == [to_rgb(f"C{label}") for label in range(10)]
    distances = [np.linalg.norm(np.subtract(a, b)) for a, b in pairwise(colours)]
    assert min(distances) > 0.15
    assert len(set(colours)) == 20


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("count", [2, 20, 21])
def test_a_view_of_all_images_has_each_points_own_colour_and_a_legend_of_up_to_20_classes(dims, count):
    labels = np.arange(50) % count
    classes = ("_hidden", "cost $5 or $6", *(f"class {label} of a long name" for label in range(2, count)))
    view = make_view(dims, label=None, name="", classes=classes, point_labels=labels)
    figure = views.draw_one(view, views.draw_latents, "title")
    assert_legible(figure)
    if dims == 2:
        points = figure.axes[0].collections[-1]
        assert len(points.get_offsets()) == 50
        for (x, *_), colour in zip(points.get_offsets().data, points.get_facecolor(), strict=True):
            [label] = labels[view.points[:, 0] == x]
            assert tuple(colour[:3]) == style.COLOURS[label % 20]
    else:
        assert [line.get_color() for line in figure.axes[0].lines[:-1]] == [
            style.COLOURS[label % 20] for label in range(count)
        ]
    names = [text.get_text().strip() for legend in figure.legends for text in legend.get_texts()]
    assert len(names) == (count if count <= 20 else 0)
    assert names[:2] == ["_hidden", r"cost \$5 or \$6"] or count > 20


@pytest.mark.parametrize("dataset", LABEL_NAMES)
def test_the_names_of_built_in_data_sets_are_not_shortened(dataset):
    names = LABEL_NAMES[dataset][:30]  # as many as a picture of styles has
    images = np.zeros((len(names), len(names), SIDE, SIDE))
    styles = tables.draw_styles(images, ["-1.0, -1.0"] * len(names), names, "title", ink=True)
    pairs = tables.draw_reconstructions(images[:, :6], images[:, :6], names, "title", ink=True)
    for figure in (styles, pairs):
        assert_legible(figure)
        assert set(names) <= {text.get_text().replace("\n", " ") for text in texts_of(figure)}


@pytest.mark.parametrize("colours", [(), (3,)], ids=["grey", "colour"])
@pytest.mark.parametrize("ink", [True, False])
def test_blank_cells_are_white_and_colours_are_right(ink, colours):
    images = np.full((3, 3, 16, 20, *colours), np.nan)
    images[0, 0] = 0.0
    shown = 255 if ink and not colours else 0
    for figure in (
        tables.draw_table(images, "title", ink=ink),
        tables.draw_styles(images, [""] * 3, "abc", "title", ink=ink),
        tables.draw_reconstructions(images, images, "abc", "title", ink=ink),
    ):
        pixels = pixels_of(figure)
        black = (pixels == 0).all(axis=2)
        assert (black.sum() > 500) == (shown == 0)
        assert black.mean() < 0.15
        if figure.axes:
            picture = figure.axes[0].images[0]
            assert np.isfinite(picture.get_array()).all()
            np.testing.assert_allclose(picture.to_rgba(picture.get_array(), norm=not colours)[0, 0, :3], shown / 255)
    if colours:
        images[0, 0] = [1.0, 0.5, 0.0]
        pixels = pixels_of(tables.draw_table(images, "title", ink=ink))
        assert ((pixels == [255, 127, 0]) | (pixels == [255, 128, 0])).all(axis=2).sum() == 16 * 20 * 6**2


def test_text_is_wrapped_and_then_shortened_and_dollars_are_plain():
    name = "a very long class name that never seems to end"
    assert style.fit(name, 1000, 11) == name
    first, second = style.fit(name, 120, 11, lines=2).split("\n")
    assert name.startswith(f"{first} {second.removesuffix('…')}")
    assert second.endswith("…")
    assert max(style.text_width(line, 11) for line in (first, second)) <= 120
    assert style.fit("Donaudampfschifffahrt", 60, 11)[-1] == "…"
    assert style.fit("$5 or $6", 200, 11) == r"\$5 or \$6"
    assert style.fit("one\ntwo three", 200, 11, lines=1) == "one\ntwo three"


@pytest.mark.parametrize("side", [16, 28, 64])
@pytest.mark.parametrize("count", [1, 47])
def test_a_table_has_room_for_its_images_and_names(side, count):
    images = np.random.default_rng(0).uniform(size=(2, count, side, side))
    names = [f"a long class name {number}" for number in range(count)]
    figure = tables.draw_table(images, "title", names[:2], names, ink=False)
    assert_legible(figure)
    width, height = figure.canvas.get_width_height()
    [sheet] = figure.images
    rows, columns = sheet.get_array().shape
    assert rows % (2 * side) == columns % (count * side) == 0
    assert rows < height
    assert columns < width
    assert columns / count >= 84


def test_letters_that_no_font_has_are_mentioned_once_and_warn_no_more(capsys, recwarn):
    style.mention_missing_letters(["cat", "Zoë"])
    assert capsys.readouterr().out == ""
    style.mention_missing_letters(["cat", "\U000103a0\U000103a1", "\U000103a0"])  # Old Persian
    assert capsys.readouterr().out.startswith(
        "No font here has \U000103a0 \U000103a1, so pictures show boxes instead; "
    )
    warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")  # as style does; pytest has its own filters
    tables.draw_table(np.zeros((1, 1, 8, 8)), "\U000103a0", ink=True)
    assert not [each for each in recwarn if "Glyph" in str(each.message)]
