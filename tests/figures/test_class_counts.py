"""All pictures for any number of classes, with and without labels, and for images of any shape."""

import numpy as np
import pytest
from helpers.models import make_model
from helpers.pictures import assert_legible, texts_of
from helpers.rendered import LONG, make_split, names, render_all, size_of

from cvae.data.dataset import Schema, Split
from cvae.figures import rendering

KINDS = {  # schema, latents, panels of an overview, its size
    "one": (Schema((32, 32, 3), LONG[:1], "Mine"), 2, 1, (700, 700)),
    "one, a line": (Schema((32, 32, 1), LONG[:1]), 1, 1, (700, 450)),
    "two": (Schema((28, 28, 1), LONG[:2], "Mine"), 2, 2, (1400, 820)),
    "four, a line": (Schema((16, 32, 3), LONG, "Mine"), 1, 4, (1500, 332)),
    "five": (Schema((28, 28, 3), names(5), "Mine"), 4, 5, (1500, 445)),
    "seven": (Schema((28, 28, 1), names(7), "Mine", ink=True), 2, 7, (1500, 950)),
    "26": (Schema((16, 16, 1), names(26), "Mine"), 2, 26, (1500, 2100)),
    "47, a line": (Schema((16, 16, 1), names(47), "Mine"), 1, 30, (1500, 1170)),
    "200": (Schema((16, 16, 3), names(200), "Mine"), 2, 30, (1500, 2070)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_any_number_of_classes_are_legible_and_state_what_they_leave_out(
    tmp_path, monkeypatch, figures, kind
):
    schema, latent_dims, panels, size = KINDS[kind]
    count = len(schema.classes)
    looked_at = {*range(4), *range(count - 4, count)}  # of the pictures of single classes; others cost minutes
    draw_one = rendering.draw_one
    monkeypatch.setattr(
        rendering, "draw_one", lambda view, *others: draw_one(view, *others) if view.label in looked_at else None
    )
    render_all(tmp_path, make_model(schema, latent_dims=latent_dims).requires_grad_(False), each=2)

    shares = {
        "latents.png": panels,
        "manifolds.png": panels,
        "reconstructions.png": panels,
        "styles.png": min(count, 30),
    }
    singles = [f"{folder}/{label}.png" for folder in ("latents", "manifolds") for label in range(count)]
    assert set(figures) == {*shares, *singles, "hero.png"}
    for name in ("hero.png", *shares, *singles[:4], *singles[-4:]):
        assert_legible(figures[name])
    for name, shown in shares.items():
        texts = "\n".join(text.get_text() for text in texts_of(figures[name]))
        assert (f"{shown} of {count} classes" in texts) == (shown < count), name
        assert (f"; plots/{name.removesuffix('.png')} has all" in texts) == (
            shown < count and name in ("latents.png", "manifolds.png")
        )
    for name in ("latents.png", "manifolds.png"):
        assert len(figures[name].axes) == panels
    assert len(figures["reconstructions.png"].axes) == panels
    assert size_of(figures["latents.png"]) == size
    for name in shares:
        assert max(size_of(figures[name])) <= 2200


@pytest.mark.parametrize(("height", "width"), [(48, 24), (16, 32)])
def test_pictures_of_images_that_are_not_square_keep_sensible_proportions(tmp_path, figures, height, width):
    render_all(tmp_path, make_model(Schema((height, width, 1), names(8), "Mine"), latent_dims=2).requires_grad_(False))
    for name, figure in figures.items():
        assert_legible(figure)
        across, down = size_of(figure)
        assert 0.4 < across / down < (5 if name == "hero.png" else 3), name
        for axes in figure.axes:
            if name != "latents.png" and "latents/" not in name and axes.images:
                box, (rows, columns) = axes.get_window_extent(), axes.images[0].get_array().shape[:2]
                assert box.height / box.width == pytest.approx(rows / columns, rel=0.01), name
                assert box.width * box.height > 0.1 * across * down / len(figure.axes), name


@pytest.mark.parametrize("latent_dims", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 7, 47])
def test_a_model_without_labels_has_one_view_of_all_images_and_samples(tmp_path, figures, count, latent_dims):
    schema = Schema((16, 20, 3), names(count), "Mine")
    render_all(tmp_path, make_model(schema, labels="none", latent_dims=latent_dims).requires_grad_(False), each=3)
    assert set(figures) == {
        "latents.png",
        "manifolds.png",
        "all/all.png",
        "reconstructions.png",
        "styles.png",
        "hero.png",
    }
    for figure in figures.values():
        assert_legible(figure)
    title = "\n".join(text.get_text() for text in texts_of(figures["latents.png"])).replace("\n", " ")
    assert f"in the colours of their {count} classes" in title
    assert ("too many for a legend" in title) == (count > 20)
    if latent_dims > 1:
        points = figures["latents.png"].axes[0].collections[-1]
        assert len(points.get_offsets()) == 3 * count
        assert len(np.unique(points.get_facecolor(), axis=0)) == min(count, 20)
    assert len(figures["manifolds.png"].axes) == 1
    assert len(figures["reconstructions.png"].axes) == min(count, 30)
    assert texts_of(figures["styles.png"])[0].get_text() == "Mine: samples from the prior"


def test_the_pictures_of_all_images_are_in_a_folder_of_their_own(tmp_path):
    """`dvc plots diff` fails on a folder with 0.png and all.png."""
    render_all(tmp_path, make_model(labels="none").requires_grad_(False))
    for name in ("latents", "manifolds"):
        assert [path.relative_to(tmp_path / name).as_posix() for path in (tmp_path / name).rglob("*.png")] == [
            "all/all.png"
        ]
        assert (tmp_path / name / "all/all.png").read_bytes() == (tmp_path / f"{name}.png").read_bytes()


def test_classes_with_few_or_no_images_have_blank_cells(tmp_path, figures):
    schema = Schema((28, 28, 3), ("none", "one", "many"), "Mine")
    split = make_split(schema, 12)
    picked = np.r_[12:13, 24:36]
    test = Split(split.images[picked], split.labels[picked])
    render_all(tmp_path, make_model(schema, latent_dims=4).requires_grad_(False), each=1, test=test)
    assert_legible(figures["reconstructions.png"])
    assert [text.get_text() for text in texts_of(figures["reconstructions.png"])].count("no test image") == 1
    for axes, images in zip(figures["reconstructions.png"].axes, (0, 1, 10), strict=True):
        pixels = axes.images[0].get_array()
        blank = (pixels.reshape(2, 28, 10, 28, 3) == 1).all(axis=(0, 1, 3, 4))
        assert blank.tolist() == [False] * images + [True] * (10 - images)
