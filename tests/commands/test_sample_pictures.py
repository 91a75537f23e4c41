"""What the pictures of `cvae sample` show."""

import re
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.locks import write_lock
from helpers.models import MNIST, make_model

from cvae.artifacts import saved_model
from cvae.commands.sample import drawing
from cvae.commands.sample.sources import Origin
from cvae.compute.seeding import generator
from cvae.data.binarisation import binarised
from cvae.data.dataset import Dataset, Schema, Split, save
from cvae.figures import captions, style
from cvae.figures import tables as image_tables
from cvae.figures import views as label_pictures
from cvae.figures.label_view import LabelView
from cvae.figures.latent_plane import decode
from cvae.model import CVAE
from cvae.support.errors import UserError

DIMS = (1, 2, 4)
SIDE, LABELS = MNIST.shape[0], len(MNIST.classes)
SECOND = slice(SIDE, 2 * SIDE)  # of the images along a side
KINDS = {
    "samples of all": [],
    "samples of one": ["--label", "7", "--count", "7"],
    "grid of all": ["grid", "--size", "3"],
    "grid of one": ["grid", "--label", "7"],
    "styles": ["styles", "--count", "3"],
    "interpolation": ["interpolate", "3", "8"],
}


def place(images: np.ndarray, picture: np.ndarray) -> tuple[int, int, int]:
    """Find `images`, (rows, columns, SIDE, SIDE), side by side in `picture`; return row, column and scale in pixels."""
    sheet = images.swapaxes(1, 2).reshape(len(images) * SIDE, -1)
    ink = style.INK(sheet, bytes=True)[..., 0]
    for scale in range(1, 7):
        wanted = ink.repeat(scale, axis=0).repeat(scale, axis=1)
        if np.less(picture.shape, wanted.shape).any():
            break
        windows = np.lib.stride_tricks.sliding_window_view(picture, wanted.shape)
        probed = (windows[:, :, ::19, ::19] == wanted[::19, ::19]).all((2, 3))
        for row, column in np.argwhere(probed):
            if (windows[row, column] == wanted).all():
                return int(row), int(column), scale
    raise AssertionError("these images are not in the picture")


def prior(model: CVAE, count: int, seed: int, purpose: str = "samples") -> np.ndarray:
    return (torch.randn(count, model.latent_dims, generator=generator(seed, purpose)) * model.prior_std).numpy()


def posterior_means(model: CVAE, split: Split, chosen) -> np.ndarray:
    x = torch.tensor(split.images[chosen], dtype=torch.float32) / 255
    return model.encode(x, torch.tensor(split.labels[chosen], dtype=torch.int64))[0].numpy()


def interpolation(model: CVAE, test: Split, a: int, b: int, path: np.ndarray) -> np.ndarray:
    """Return a row for each of two labels: `path` decoded as this label, beside the image that has it."""
    blank = np.zeros((SIDE, SIDE))
    before, after = (test.images[index].reshape(SIDE, SIDE) / 255 for index in (a, b))
    under_a, under_b = (decode(model, path, int(test.labels[index])) for index in (a, b))
    return np.array([[before, blank, *under_a, blank, blank], [blank, blank, *under_b, blank, after]])


# Each kind of picture


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_for_any_number_of_latents(draw, kind, dims):
    picture = draw(*KINDS[kind], dims=dims)
    assert picture.std() > 3, "blank"
    for border in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (border == 255).all(), "clipped"


@pytest.mark.parametrize("dims", DIMS)
def test_samples_of_a_class_are_decoded_from_the_prior(draw, folder, dims):
    model = saved_model.load(folder / str(dims))
    images = decode(model, prior(model, 7, seed=1), 7)
    images = np.concatenate((images, np.zeros((1, SIDE, SIDE)))).reshape(2, 4, SIDE, SIDE)
    place(images, draw("--label", "7", "--count", "7", "--seed", "1", dims=dims))


def test_the_served_model_returns_the_same_samples(draw, folder):
    from cvae.tracking.served_model import Generator

    served = Generator()
    served.load_context(SimpleNamespace(artifacts={"model": str(folder / "2")}))
    answer = served.predict(None, pd.DataFrame({"label": [7] * 4}), {"seed": 3})
    images = np.array(answer["image"].tolist() if isinstance(answer, pd.DataFrame) else answer)
    place(images.reshape(2, 2, SIDE, SIDE), draw("--label", "7", "--count", "4", "--seed", "3"))


def test_samples_of_all_classes_have_a_row_for_each(draw, folder):
    model = saved_model.load(folder / "2")
    images = decode(model, prior(model, 30, seed=0), np.arange(LABELS).repeat(3))
    place(images.reshape(LABELS, 3, SIDE, SIDE), draw("--count", "3"))


def test_a_row_of_styles_is_one_z_decoded_as_all_labels(draw, folder):
    model = saved_model.load(folder / "4")
    z = prior(model, 3, seed=5, purpose="styles")
    images = np.stack([decode(model, z, label) for label in range(LABELS)], axis=1)
    place(images, draw("styles", "--count", "3", "--seed", "5", dims=4))


def test_an_interpolation_connects_two_posterior_means_and_has_a_row_for_each_label(draw, folder, digits):
    model, (_, test) = saved_model.load(folder / "2"), digits
    a, b = 3, 8
    assert test.labels[a] != test.labels[b]
    first, second = posterior_means(model, test, [a, b])
    path = np.stack([first, (first + second) / 2, second])
    picture = draw("interpolate", str(a), str(b), "--count", "3")
    place(interpolation(model, test, a, b, path), picture)


def test_an_interpolation_between_images_of_the_same_label_has_one_row(draw, digits):
    _, test = digits
    a, b = np.flatnonzero(test.labels == 4)[:2]
    same, different = draw("interpolate", str(a), str(b)), draw("interpolate", "3", "8")
    assert 3 * SIDE - 25 < different.shape[0] - same.shape[0] < 3 * SIDE + 25  # a row of images, in steps of 25 pixels


@pytest.mark.parametrize("binarize", ["static", "dynamic"])
def test_a_model_of_binary_pixels_interpolates_between_binary_images(draw, folder, digits, tmp_path, binarize):
    model, test = saved_model.load(folder / "2"), binarised(digits[1], "test")
    shutil.copytree(folder / "2", tmp_path / "data/model")
    write_lock(tmp_path, "digits", binarize=binarize)
    arguments = ["interpolate", "3", "8", "--count", "2", "--data", str(folder / "data/raw")]
    picture = draw(*arguments, dims=None, here=tmp_path)
    place(interpolation(model, test, 3, 8, posterior_means(model, test, [3, 8])), picture)


@pytest.fixture
def tables(monkeypatch) -> list[tuple]:
    """Collect the tables of images that are drawn: the images, the title, the names of rows and of columns."""
    tables = []

    def draw_table(images, title, row_names=(), column_names=(), **_):
        tables.append((images, title, [*row_names], [*column_names]))
        return SimpleNamespace()

    monkeypatch.setattr(image_tables, "draw_table", draw_table)
    return tables


def some(count: int, shape=(4, 6, 3)) -> Schema:
    return Schema(shape, tuple(f"kind {label}" for label in range(count)), "things")


UNKNOWN = Origin()


@pytest.mark.parametrize(("classes", "each"), [(2, 16), (5, 16), (26, 16), (47, 16), (200, 5)])
def test_samples_of_any_number_of_classes_have_a_row_for_each(tables, classes, each):
    _, what = drawing.draw_samples(make_model(some(classes)), UNKNOWN, None, None, 0)
    [(images, title, rows, _)] = tables
    assert images.shape == (classes, each, 4, 6, 3)
    assert (title, rows) == ("things: samples from the prior", list(some(classes).classes))
    assert what == f"{each} samples of each class, seed 0"


def test_samples_of_the_only_class_form_a_square(tables):
    _, what = drawing.draw_samples(make_model(some(1)), UNKNOWN, None, None, 0)
    [(images, title, rows, _)] = tables
    assert (images.shape[:2], title, rows) == ((4, 4), "things: samples from the prior", [])
    assert what == "16 samples, seed 0"


def test_styles_of_many_classes_have_a_row_for_each_class(tables):
    for classes in (10, 26):
        drawing.draw_styles(make_model(some(classes)), UNKNOWN, 3, 0)
    (few, _, few_rows, few_columns), (many, title, rows, columns) = tables
    assert (few.shape[:2], len(few_rows), few_columns[1]) == ((3, 10), 3, "kind\n1")
    assert (many.shape[:2], rows[1], len(columns)) == ((26, 3), "kind 1", 3)
    assert "per column" in title
    model, z = make_model(some(26)), prior(make_model(some(26)), 3, 0, "styles")
    np.testing.assert_allclose(many[25], decode(model, z, 25), atol=1e-6)


@pytest.mark.parametrize("draw_kind", [drawing.draw_samples, drawing.draw_styles])
def test_too_many_images_for_one_picture_are_refused(draw_kind):
    arguments = (None, 39, 0) if draw_kind is drawing.draw_samples else (39, 0)
    with pytest.raises(UserError, match=r"^--count 39: for all 26 classes together, use at most 38$"):
        draw_kind(make_model(some(26)), UNKNOWN, *arguments)


def test_a_class_is_chosen_by_name_or_number(tables):
    model = make_model(some(3))
    for label in ("kind 2", "2"):
        _, what = drawing.draw_samples(model, UNKNOWN, label, 5, 0)
        assert what == "5 samples of kind 2, seed 0"
    (by_name, title, *_), (by_number, *_) = tables
    assert title == "things kind 2: samples from the prior"
    np.testing.assert_array_equal(by_name, by_number)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("kind2", "--label kind2: the model has no such class; did you mean kind 2?"),
        ("3", "--label 3: the model has no such class; it has kind 0, kind 1, kind 2"),
    ],
)
def test_an_unknown_class_is_refused_with_those_that_exist(label, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        drawing.draw_samples(make_model(some(3)), UNKNOWN, label, 5, 0)


def test_a_model_without_labels_draws_a_square_of_samples_one_grid_and_one_row(tables, views, tmp_path, monkeypatch):
    schema = some(3, (28, 28, 1))
    model = make_model(schema, labels="none")
    _, what = drawing.draw_samples(model, UNKNOWN, None, None, 0)
    assert what == "16 samples, seed 0"
    _, what = drawing.draw_grid(model, UNKNOWN, None, 3, 2.0, None)
    assert (len(views), what) == (1, "9 images across z from -2 to 2")
    split = Split(np.arange(3 * 784, dtype=np.uint8).reshape(3, 784), np.arange(3, dtype=np.uint8))
    save(Dataset(split, split, schema), tmp_path)
    drawing.draw_interpolation(model, UNKNOWN, 0, 1, 3, str(tmp_path))
    (square, _, no_names, _), (row, _, row_names, _) = tables
    assert (square.shape[:2], row.shape[:2], no_names, row_names) == ((4, 4), (1, 7), [], [])
    np.testing.assert_allclose(row[0][[0, -1]], split.images[:2].reshape(2, 28, 28) / 255)
    for refused in (
        lambda: drawing.draw_samples(model, UNKNOWN, "kind 1", 1, 0),
        lambda: drawing.draw_grid(model, UNKNOWN, "kind 1", 3, 2.0, None),
        lambda: drawing.draw_styles(model, UNKNOWN, 3, 0),
    ):
        with pytest.raises(UserError, match=r"the model was trained without labels") as caught:
            refused()
        assert "\n" not in str(caught.value)


def test_an_interpolation_of_colours_shows_both_images_and_leaves_gaps(tables, tmp_path):
    schema = some(2)
    split = Split(np.arange(2 * 72, dtype=np.uint8).reshape(2, 72), np.arange(2, dtype=np.uint8))
    save(Dataset(split, split, schema), tmp_path)
    drawing.draw_interpolation(make_model(schema), UNKNOWN, 0, 1, 2, str(tmp_path))
    [(images, _, rows, _)] = tables
    assert (images.shape, rows) == ((2, 6, 4, 6, 3), ["as kind 0", "as kind 1"])
    np.testing.assert_allclose(images[0, 0], split.images[0].reshape(4, 6, 3) / 255)
    assert np.isnan(images[0, 1]).all()
    assert np.isnan(images[0, -1]).all()


@pytest.fixture
def views(monkeypatch) -> list[LabelView]:
    """Collect the manifolds drawn during a test."""
    views, draw_manifold = [], label_pictures.draw_manifold
    monkeypatch.setattr(
        label_pictures, "draw_manifold", lambda axes, view: views.append(view) or draw_manifold(axes, view)
    )
    return views


def test_a_grid_has_the_requested_size_and_range(draw, folder, views):
    draw("grid", "--label", "7", "--size", "5", "--range", "1.5")
    [view] = views
    assert (view.label, view.grid_range, view.manifold.shape) == (7, 1.5, (5 * SIDE, 5 * SIDE))
    corner = decode(saved_model.load(folder / "2"), np.array([[-1.5, 1.5]]), 7)[0]
    np.testing.assert_allclose(view.manifold[:SIDE, :SIDE], corner, atol=1e-6)


def test_a_grid_of_many_latents_lies_through_the_training_images_of_its_label(draw, folder, digits, views):
    draw("grid", "--size", "3", dims=4)
    assert [view.label for view in views] == list(range(LABELS))
    model, (train, _) = saved_model.load(folder / "4"), digits
    for label in (0, 7):
        centre = posterior_means(model, train, train.labels == label).mean(0, keepdims=True)
        np.testing.assert_allclose(views[label].manifold[SECOND, SECOND], decode(model, centre, label)[0], atol=1e-4)


def test_a_grid_of_a_model_of_binary_pixels_lies_through_binary_images(draw, folder, digits, views, tmp_path):
    shutil.copytree(folder / "data/raw", tmp_path / "data/raw")
    shutil.copytree(folder / "4", tmp_path / "data/model")
    write_lock(tmp_path, "digits", binarize="static")
    draw("grid", "--size", "3", "--label", "7", dims=None, here=tmp_path)
    model, train = saved_model.load(folder / "4"), binarised(digits[0], "train")
    centre = posterior_means(model, train, train.labels == 7).mean(0, keepdims=True)
    np.testing.assert_allclose(views[0].manifold[SECOND, SECOND], decode(model, centre, 7)[0], atol=1e-4)


def test_a_grid_is_byte_identical_to_the_pipelines_picture(draw, repository, tmp_path):
    for arguments, picture in ((["--label", "7"], "manifolds/7.png"), ([], "manifolds.png")):
        draw("grid", *arguments, dims=None, here=repository.root)
        assert (tmp_path / "picture.png").read_bytes() == (repository.root / "plots" / picture).read_bytes()


@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_all_text_is_within_the_picture_and_none_overlaps(count):
    images = np.zeros((2, count, SIDE, SIDE))
    title = "Fashion-MNIST 9 ankle boot: between the posterior means of two test images"
    figure = image_tables.draw_table(
        images, title, ["as 9 ankle boot", "0"], ["image 59999", *[""] * (count - 1)], ink=True
    )
    width, height = figure.bbox.size
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
    assert len(boxes) == 4
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes if other is not box)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (5, 5), (7, 4), (16, 4), (100, 10), (1000, 40)])
def test_samples_form_a_table_with_few_gaps(count, columns):
    assert drawing.choose_columns(count) == columns


def test_a_title_names_data_set_and_class_as_far_as_they_are_known():
    pets = Schema((28, 28, 1), ("cat", "guinea pig"), "pets")
    assert captions.headline(pets, "samples", 1) == "pets guinea pig: samples"
    assert captions.headline(pets, "samples") == "pets: samples"
    assert captions.headline(MNIST, "samples", 3) == "Class 3: samples"
    assert captions.headline(MNIST, "samples") == "Samples"


def test_a_title_names_the_data_set_that_the_model_was_trained_on(draw, folder, tmp_path, monkeypatch):
    titles, draw_table = [], image_tables.draw_table
    monkeypatch.setattr(
        image_tables, "draw_table", lambda *drawn, **style: titles.append(drawn[1]) or draw_table(*drawn, **style)
    )
    (tmp_path / "params.yaml").write_text("dataset: fashion-mnits  # edited since, with a typo")
    shutil.copytree(folder / "2", tmp_path / "data/model")
    write_lock(tmp_path, "kmnist")
    shutil.copytree(folder / "2", tmp_path / "other")
    draw("--label", "1", "--count", "1", dims=None, here=tmp_path)
    draw("--label", "1", "--count", "1", "--model", "other", dims=None, here=tmp_path)
    assert titles == ["Kuzushiji-MNIST 1 ki: samples from the prior", "Class 1: samples from the prior"]
