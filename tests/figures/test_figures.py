"""The pictures that render makes, for latents on a line, on a plane, and in more dimensions."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.processes import environment
from helpers.repository import PROJECT
from PIL import Image

from cvae.compute.seeding import generator
from cvae.data import idx
from cvae.data.names import LABEL_NAMES
from cvae.embedding import embed_dataset, read_latents, write_latents
from cvae.figures import drawing, label_view, rendering, style
from cvae.figures.latent_plane import decode, decode_manifold, fit_plane, tile
from cvae.model import CVAE
from cvae.support.errors import UserError

ONE = {1: (1400, 240), 2: (700, 700), 4: (700, 700)}
OVERVIEW = (1500, 720)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    idx.write_digits(folder)
    train, test = idx.load(folder)
    return {"train": train, "test": test}


def make_model(latent_dims: int) -> CVAE:
    return CVAE(latent_dims=latent_dims).initialise(generator(0, "weights")).requires_grad_(False)


def render_all(folder, splits, latent_dims: int) -> None:
    model = make_model(latent_dims)
    write_latents(embed_dataset(model, splits, seed=0), folder / "latents.parquet")
    mu, labels = read_latents(folder / "latents.parquet", "train", "mu", latent_dims)
    z, _ = read_latents(folder / "latents.parquet", "train", "z", latent_dims)
    views = rendering.label_views(model, "digits", labels, mu, z, grid_size=4, grid_range=2.0)
    rendering.render_labels(views, "digits", folder)
    rendering.render_reconstructions(model, splits["test"], "digits", folder / "reconstructions.png")
    rendering.render_styles(model, "digits", 0, folder / "styles.png")


def assert_picture(path, size) -> None:
    with Image.open(path) as image:
        assert image.size == size, path
        pixels = np.asarray(image.convert("L"))
    assert pixels.std() > 3, f"{path} is blank"
    assert "Software" not in Image.open(path).info


def assert_all_pictures(folder, latent_dims: int) -> None:
    for name in ("latents", "manifolds"):
        assert_picture(folder / f"{name}.png", OVERVIEW)
        assert sorted(path.name for path in (folder / name).iterdir()) == [f"{label}.png" for label in range(10)]
        for label in range(10):
            assert_picture(folder / name / f"{label}.png", ONE[latent_dims])
    assert_picture(folder / "reconstructions.png", (1200, 720))
    assert_picture(folder / "styles.png", (800, 800))


@pytest.mark.parametrize("latent_dims", [1, 4])
def test_every_picture_exists_has_its_size_and_is_not_blank(tmp_path, splits, latent_dims):
    render_all(tmp_path, splits, latent_dims)
    assert_all_pictures(tmp_path, latent_dims)


def test_pictures_of_a_plane_are_all_there_and_repeat_to_the_byte(tmp_path, splits):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        render_all(tmp_path / folder, splits, latent_dims=2)
    assert_all_pictures(tmp_path / "a", latent_dims=2)
    pictures = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(pictures) == 25  # latents.parquet too
    for picture in pictures:
        assert (tmp_path / "a" / picture).read_bytes() == (tmp_path / "b" / picture).read_bytes(), picture


# Draws one of each kind of picture, the compared runs' too, and prints what the caller's pyplot is set to afterwards.
DRAW_ALL = """
import os
import numpy as np, pandas as pd
from cvae.figures import drawing, label_view, style
from matplotlib import font_manager
from cvae.commands.compare.panels import write_picture
from helpers.results import measured, table

if "ARIAL" in os.environ:
    serif = font_manager.findfont("DejaVu Serif")
    font_manager.fontManager.ttflist.insert(0, font_manager.FontEntry(serif, name="Arial", weight=400))

view = label_view.LabelView(3, "3", ("a", "b"), np.full((5, 2), -1.0), np.zeros(2), 1.0, 4.0, np.eye(140), 2.0)
images = np.linspace(0, 1, 10 * 10 * 784).reshape(10, 10, 28, 28)
history = pd.DataFrame({f"{a}_{b}": [-1.0, 2.0] for a in ("train", "test") for b in ("loss", "reconstruction", "kl")})
names = list("0123456789")
pictures = {
    "one": drawing.draw_one(view, drawing.draw_latents, "title"),
    "overview": drawing.draw_overview([view] * 10, drawing.draw_manifold, "title"),
    "pairs": drawing.draw_reconstructions(images, images[::-1], names, "title"),
    "styles": drawing.draw_styles(images, ["-1.0"] * 10, names, "title"),
    "table": drawing.draw_table(images, "title", names, names),
    "training": drawing.draw_training(history.assign(epoch=[1, 2]), "title"),
}
for name, figure in pictures.items():
    style.save(figure, f"{name}.png")
write_picture([table(measured(beta=0.5), measured(beta=2.0), measured(seed=1, beta=2.0))], "compared.png")

import matplotlib.pyplot as plt
print(plt.rcParams["image.origin"], plt.rcParams["font.size"], plt.rcParams._get_backend_or_none())
"""
MATPLOTLIBRC = """
image.origin: lower
image.interpolation: bilinear
image.lut: 4
axes.unicode_minus: False
axes.titleweight: bold
axes.formatter.use_locale: True
axes.prop_cycle: cycler(color=["red", "black"])
font.family: serif
font.size: 20
mathtext.fontset: cm
text.usetex: True
figure.constrained_layout.h_pad: 0.5
figure.dpi: 40
savefig.facecolor: blue
path.simplify: False
lines.antialiased: False
backend: SVG
nonsense
"""


def test_a_matplotlibrc_a_notebooks_backend_and_installed_fonts_change_no_picture_and_stay_the_callers(tmp_path):
    def draw(name: str, settings: str = "", **variables: str) -> tuple[dict[str, bytes], str]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "matplotlibrc").write_text(settings)
        variables["PYTHONPATH"] = f"{PROJECT}/src:{PROJECT}/tests"
        command = [sys.executable, "-c", DRAW_ALL]
        done = subprocess.run(command, cwd=folder, env=environment(**variables), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return {path.name: path.read_bytes() for path in folder.glob("*.png")}, done.stdout.strip()

    expected, _ = draw("plain")
    assert len(expected) == 7
    drawn, settings = draw("matplotlibrc", MATPLOTLIBRC)
    assert drawn == expected
    assert settings == "lower 20.0 SVG"
    drawn, settings = draw("notebook", MPLBACKEND="module://matplotlib_inline.backend_inline")
    assert drawn == expected
    assert settings.startswith("upper 10.0")
    assert draw("another", MPLBACKEND="SVG", ARIAL="installed") == (expected, "upper 10.0 SVG")


@pytest.mark.parametrize("epochs", [1, 100])
def test_training_curves_are_drawn(tmp_path, epochs):
    names = [f"{split}_{part}" for split in ("train", "test") for part in ("loss", "reconstruction", "kl")]
    history = pd.DataFrame({name: np.exp(-np.arange(epochs) / 10) for name in names} | {"epoch": np.arange(epochs) + 1})
    history.to_csv(tmp_path / "training.csv", index=False)
    rendering.render_training(tmp_path / "training.csv", "mnist", "gaussian likelihood", tmp_path / "training.png")
    assert_picture(tmp_path / "training.png", (1500, 460))


def test_manifold_has_z_as_its_axes_with_y_upwards():
    """Each tile equals the decoder's image at its z: the first axis from left to right, the second from the bottom."""
    model = make_model(2)
    manifold = decode_manifold(model, fit_plane(np.zeros((5, 2))), label=3, grid_size=5, grid_range=2.0)
    assert manifold.shape == (140, 140)
    for row, column, z in ((4, 0, (-2, -2)), (4, 4, (2, -2)), (0, 0, (-2, 2)), (2, 3, (1, 0))):
        tile_there = manifold[28 * row : 28 * (row + 1), 28 * column : 28 * (column + 1)]
        np.testing.assert_allclose(tile_there, decode(model, np.array([z]), 3)[0], atol=1e-6)


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
        manifold=numbers.uniform(size=(140 if dims == 2 else 28, 140)),
        grid_range=2.0,
    )


def drawn(draw, view):
    axes = style.new_figure().subplots()
    draw(axes, view)
    return axes


def test_scatter_shows_every_point_and_the_prior_around_its_mean():
    view = make_view(2)
    axes = drawn(drawing.draw_latents, view)
    np.testing.assert_allclose(axes.collections[0].get_offsets(), view.points)
    circle = axes.lines[0].get_xydata()
    np.testing.assert_allclose(np.linalg.norm(circle - view.prior_mean, axis=1), 2 * view.prior_std)
    assert axes.get_xlim() == axes.get_ylim() == (-4, 4)
    assert axes.get_aspect() == 1


def test_strip_shows_every_point_and_the_prior_as_two_upright_lines():
    view = make_view(1)
    axes = drawn(drawing.draw_latents, view)
    np.testing.assert_allclose(axes.collections[0].get_offsets()[:, 0], view.points[:, 0])
    x, y = axes.lines[0].get_data()
    np.testing.assert_array_equal(x, [-1.5, -1.5, np.nan, 2.5, 2.5])
    np.testing.assert_array_equal(y, [-1, 1, np.nan, -1, 1])


@pytest.mark.parametrize("dims", [1, 2])
def test_manifold_picture_is_upright_with_its_outer_tiles_at_the_ends_of_the_range(dims):
    view = make_view(dims)
    [image] = drawn(drawing.draw_manifold, view).images
    np.testing.assert_array_equal(image.get_array(), view.manifold)
    assert image.origin == "upper"
    half = 2.5 if dims == 2 else 0.5
    assert image.get_extent() == pytest.approx([-2.5, 2.5, -half, half])  # tiles of width 1, centres at -2 … 2


def test_reconstructions_are_of_the_images_above_them(monkeypatch, tmp_path, splits):
    model, test, shown = make_model(2), splits["test"], []
    monkeypatch.setattr(drawing, "draw_reconstructions", lambda *arrays: shown.extend(arrays) or style.new_figure())
    rendering.render_reconstructions(model, test, "digits", tmp_path / "picture.png")
    originals, reconstructions = shown[:2]
    for label in (0, 7):
        chosen = test.images[test.labels == label][:10] / 255
        np.testing.assert_allclose(originals[label], chosen.reshape(-1, 28, 28), atol=1e-6)
        mu, _ = model.encode(torch.tensor(chosen, dtype=torch.float32), torch.full((10,), label))
        np.testing.assert_allclose(reconstructions[label], decode(model, mu.numpy(), label), atol=1e-6)


def test_a_row_of_styles_is_one_z_through_all_labels(monkeypatch, tmp_path):
    model, shown = make_model(2), []
    monkeypatch.setattr(drawing, "draw_styles", lambda *arrays: shown.extend(arrays) or style.new_figure())
    rendering.render_styles(model, "digits", 0, tmp_path / "picture.png")
    z = torch.randn(10, 2, generator=generator(0, "styles")).numpy() * model.prior_std
    for row, label in ((0, 0), (3, 8), (9, 9)):
        np.testing.assert_allclose(shown[0][row, label], decode(model, z[row : row + 1], label)[0], atol=1e-6)


def test_manifold_of_one_dimension_is_a_strip():
    manifold = decode_manifold(make_model(1), fit_plane(np.zeros((5, 1))), label=3, grid_size=5, grid_range=2.0)
    assert manifold.shape == (28, 140)


def test_decoder_runs_once_a_manifold(monkeypatch):
    model, calls = make_model(2), []
    plain = model.decode
    monkeypatch.setattr(model, "decode", lambda z, y: calls.append(len(z)) or plain(z, y))
    decode_manifold(model, fit_plane(np.zeros((5, 2))), label=3, grid_size=5, grid_range=2.0)
    assert calls == [25]


def test_plane_of_many_dimensions_holds_the_principal_axes():
    numbers = np.random.default_rng(0)
    spread = np.array([0.1, 3.0, 0.2, 2.0])
    mu = numbers.normal(size=(5000, 4)) * spread + np.array([1.0, 2.0, 3.0, 4.0])
    plane = fit_plane(mu)

    np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(np.abs(plane.axes), [[0, 1, 0, 0], [0, 0, 0, 1]], atol=0.05)
    np.testing.assert_allclose(plane.centre, mu.mean(0))
    assert plane.project(mu).std(0) == pytest.approx([3.0, 2.0], rel=0.05)
    np.testing.assert_allclose(plane.project(plane.lift(np.array([[1.0, -2.0]]))), [[1.0, -2.0]])
    share = 9 / (9 + 4 + 0.05)
    assert plane.names[0] == f"principal axis 1 of z ({share:.0%} of variance)"


def test_tile_lays_images_out_in_reading_order():
    images = np.arange(6).reshape(6, 1, 1).repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(tile(images, columns=3)[::2, ::2], [[0, 1, 2], [3, 4, 5]])


def scatter(folder, latent_dims: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    """The file that is written for 4,000 images, and their labels, posterior means and samples."""
    numbers = np.random.default_rng(0)
    labels = numbers.integers(0, 10, 4_000).astype(np.uint8)
    mu = numbers.normal(size=(4_000, latent_dims)).astype(np.float32)
    z = mu + numbers.normal(size=mu.shape).astype(np.float32)
    rendering.write_scatter(labels, mu, z, folder / "latents.csv")
    return pd.read_csv(folder / "latents.csv"), labels[:3_000], mu[:3_000], z[:3_000]


def test_scatter_file_has_samples_on_their_own_plane(tmp_path):
    table, labels, _, z = scatter(tmp_path, latent_dims=2)
    np.testing.assert_array_equal(table["label"], labels)
    np.testing.assert_allclose(table[["axis_1", "axis_2"]], z, atol=5.1e-4)
    assert set(zip(table["name_1"], table["name_2"], strict=True)) == {("z_0", "z_1")}


def test_scatter_file_has_samples_of_many_dimensions_on_one_plane_for_all_labels(tmp_path):
    table, _, mu, z = scatter(tmp_path, latent_dims=4)
    plane = fit_plane(mu)
    np.testing.assert_allclose(table[["axis_1", "axis_2"]], plane.project(z), atol=5.1e-4)
    assert set(zip(table["name_1"], table["name_2"], strict=True)) == {plane.names}


def test_scatter_file_of_a_line_has_a_strip_for_each_label(tmp_path):
    table, labels, _, z = scatter(tmp_path, latent_dims=1)
    np.testing.assert_allclose(table["axis_1"], z[:, 0], atol=5.1e-4)
    np.testing.assert_array_equal(table["axis_2"], labels)
    assert set(zip(table["name_1"], table["name_2"], strict=True)) == {("z_0", "label")}


@pytest.mark.parametrize("dataset", LABEL_NAMES)
def test_class_names_are_within_the_pictures_that_show_them(dataset):
    names, images = LABEL_NAMES[dataset], np.zeros((10, 10, 28, 28))
    styles = drawing.draw_styles(images, ["-1.0, -1.0"] * 10, names, "title")
    pairs = drawing.draw_reconstructions(images, images, names, "title")
    for figure in (styles, pairs):
        figure.canvas.draw()
        labels = [text for axes in figure.axes for text in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        assert set(names) <= {text.get_text() for text in labels}
        for text in labels:
            box = text.get_window_extent()
            assert figure.bbox.contains(box.x0, box.y0), text
            assert figure.bbox.contains(box.x1, box.y1), text


def test_latents_hold_every_image_and_what_the_encoder_says_of_it(tmp_path, splits):
    model = make_model(3)
    write_latents(embed_dataset(model, splits, seed=0), tmp_path / "latents.parquet")
    table = pd.read_parquet(tmp_path / "latents.parquet")

    names = [f"{quantity}_{d}" for quantity in ("mu", "sigma", "z") for d in range(3)]
    assert list(table.columns) == ["split", "index", "label", *names]
    assert table["split"].value_counts().to_dict() == {"train": 1500, "test": 297}
    test = table[table["split"] == "test"]
    assert (test["index"].to_numpy() == np.arange(297)).all()
    assert (test["label"].to_numpy() == splits["test"].labels).all()
    standardised = (table[["z_0", "z_1", "z_2"]].to_numpy() - table[["mu_0", "mu_1", "mu_2"]]) / table[
        ["sigma_0", "sigma_1", "sigma_2"]
    ].to_numpy()
    assert standardised.to_numpy().mean() == pytest.approx(0, abs=0.05)
    assert standardised.to_numpy().std() == pytest.approx(1, abs=0.05)


def test_a_damaged_latent_file_is_told_in_one_line(tmp_path, splits):
    path = tmp_path / "latents.parquet"
    with pytest.raises(UserError, match="missing"):
        read_latents(path, "train", "mu", 2)
    write_latents(embed_dataset(make_model(2), splits, seed=0), path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match="damaged") as caught:
        read_latents(path, "train", "mu", 2)
    assert "\n" not in str(caught.value)
