"""All pictures that render draws: latents on a line, on a plane and in more dimensions, and any number of classes."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.models import MNIST, make_model
from helpers.processes import environment
from helpers.rendered import make_split, names, render_all
from helpers.repository import PROJECT
from PIL import Image

from cvae.artifacts.snapshots import write_snapshots
from cvae.compute.seeding import generator
from cvae.data.dataset import Schema
from cvae.data.names import PANELS, spread
from cvae.embedding import embed
from cvae.figures import curves, learning, rendering, style, thumbnails
from cvae.figures.latent_plane import decode, fit_plane
from cvae.model import CVAE
from cvae.training.snapshots import Snapshots


def render_small(folder, model: CVAE) -> None:
    """Draw thumbnails of `model`, of up to three classes, and what it made of a few z after each of three epochs."""
    split = make_split(model.schema, 5)
    latents = embed(model, split, torch.randn(len(split), model.latent_dims, generator=generator(0, "noise")))
    drawn = model, split.labels, latents["mu"], latents["z"], 20, 2.0
    for view in rendering.label_views(*drawn, shown=range(3)):
        if view.label is not None:
            thumbnails.render_thumbnail(view, model.schema, folder / "thumbnails")
    overview, (styles, _) = rendering.overview_views(*drawn), rendering.decode_styles(model, 0)
    thumbnails.render_thumbnails(overview, styles, model, split, folder / "thumbnails")
    snapshots = Snapshots(model, 3, 0)
    for epoch in (1, 2, 3):
        snapshots.take(epoch)
    write_snapshots(snapshots.images.numpy(), snapshots.epochs, folder / "snapshots.npz")
    learning.render_learning(model, folder / "snapshots.npz", folder)


def assert_picture(path, size) -> None:
    with Image.open(path) as image:
        assert image.size == size, path
        pixels = np.asarray(image.convert("L"))
    assert pixels.std() > 3, f"{path} is blank"
    assert "Software" not in Image.open(path).info


@pytest.mark.parametrize(("latent_dims", "folders"), [(1, "a"), (2, "ab"), (4, "a")])
def test_pictures_of_ten_classes_are_complete_have_their_sizes_and_repeat_to_the_byte(tmp_path, latent_dims, folders):
    for folder in folders:
        render_all(tmp_path / folder, make_model(latent_dims=latent_dims).requires_grad_(False))
    for name, size in {"latents": (700, 450), "manifolds": (1400, 240)}.items():
        overview = (1500, 420) if latent_dims == 1 and name == "latents" else (1500, 720)
        assert_picture(tmp_path / f"a/{name}.png", overview)
        for label in range(10):
            assert_picture(tmp_path / f"a/{name}/{label}.png", size if latent_dims == 1 else (700, 700))
            assert_picture(tmp_path / f"a/thumbnails/{name}/{label}.png", (420, 420))
    assert_picture(tmp_path / "a/hero.png", (1660, 617))
    assert_picture(tmp_path / "a/reconstructions.png", (1200, 720))
    assert_picture(tmp_path / "a/styles.png", (800, 800))
    pictures = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.png"))
    assert len(pictures) == 4 * 10 + 5
    for picture in pictures:
        assert len({(tmp_path / folder / picture).read_bytes() for folder in folders}) == 1, picture


def test_views_are_drawn_one_after_another(monkeypatch, tmp_path):
    """The views of all classes may be too large to keep; an overview holds 30 of them."""
    model, alive = make_model(Schema((16, 16, 1), names(40))).requires_grad_(False), []
    monkeypatch.setattr(rendering, "save", lambda figure, path: None)
    monkeypatch.setattr(rendering, "draw_one", lambda view, draw, title, like: alive.append(view.label))
    monkeypatch.setattr(rendering, "draw_overview", lambda views, draw, title: alive.append(len(views)))
    latents = model, np.zeros(1), np.zeros((1, 2)), np.zeros((1, 2)), 4, 2.0
    views = rendering.label_views(*latents)
    next(views)
    assert alive == []
    monkeypatch.setattr(rendering, "render_thumbnail", lambda *view: None)
    rendering.render_labels(views, rendering.overview_views(*latents), model.schema, tmp_path)
    assert alive == [label for label in range(1, 40) for _ in range(2)] + [30, 30]


def test_classes_are_chosen_evenly():
    assert spread(5, 30) == [0, 1, 2, 3, 4]
    chosen = spread(47, 30)
    assert (len(set(chosen)), chosen[0], chosen[-1]) == (30, 0, 46)
    assert set(np.diff(chosen)) == {1, 2}


# Draws one picture of each kind, also that of compared runs, and then prints the settings of the caller's pyplot.
DRAW_ALL = """
import os
import numpy as np, pandas as pd
from cvae.figures import curves, label_view, style, tables, views
from matplotlib import font_manager
from cvae.commands.compare.panels import write_picture
from helpers.results import measured, table

if "ARIAL" in os.environ:
    serif = font_manager.findfont("DejaVu Serif")
    font_manager.fontManager.ttflist.insert(0, font_manager.FontEntry(serif, name="Arial", weight=400))

manifold = np.eye(5 * 28)
view = label_view.LabelView(
    3, "3", ("a", "b"), np.full((5, 2), -1.0), np.zeros(2), 1.0, 4.0, manifold, 5, 2.0, ink=True
)
images = np.linspace(0, 1, 10 * 10 * 784).reshape(10, 10, 28, 28)
history = pd.DataFrame({f"{a}_{b}": [-1.0, 2.0] for a in ("train", "test") for b in ("loss", "reconstruction", "kl")})
names = [str(label) for label in range(10)]
pictures = {
    "one": views.draw_one(view, views.draw_latents, "title"),
    "overview": views.draw_overview([view] * 10, views.draw_manifold, "title"),
    "pairs": tables.draw_reconstructions(images, images[::-1], names, "title", ink=True),
    "styles": tables.draw_styles(images, ["-1.0"] * 10, names, "title", ink=True),
    "table": tables.draw_table(images, "title", names, names, ink=False),
    "training": curves.draw_training(history.assign(epoch=[1, 2]), "title"),
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


def test_a_users_matplotlibrc_backend_and_fonts_change_no_picture_and_are_kept(tmp_path):
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
    pictures, settings = draw("matplotlibrc", MATPLOTLIBRC, ARIAL="installed")
    assert pictures == expected
    assert settings == "lower 20.0 SVG"
    pictures, settings = draw("notebook", MPLBACKEND="module://matplotlib_inline.backend_inline")
    assert pictures == expected
    assert settings.startswith("upper 10.0")


@pytest.mark.parametrize("epochs", [1, 100])
def test_training_curves_are_drawn(tmp_path, epochs):
    names = [f"{split}_{part}" for split in ("train", "test") for part in ("loss", "reconstruction", "kl")]
    history = pd.DataFrame({name: np.exp(-np.arange(epochs) / 10) for name in names} | {"epoch": np.arange(epochs) + 1})
    history.to_csv(tmp_path / "training.csv", index=False)
    rendering.render_training(tmp_path / "training.csv", MNIST, "gaussian likelihood", tmp_path / "training.png")
    assert_picture(tmp_path / "training.png", (1500, 460))


def test_reconstructions_belong_to_the_images_above_them(monkeypatch, tmp_path):
    model, test, shown = make_model().requires_grad_(False), make_split(MNIST, 12), []
    monkeypatch.setattr(
        rendering, "draw_reconstructions", lambda *arrays, ink: shown.extend(arrays) or style.new_figure()
    )
    rendering.render_reconstructions(model, test, tmp_path / "picture.png")
    originals, reconstructions = shown[:2]
    for label in (0, 7):
        chosen = test.images[test.labels == label][: rendering.RECONSTRUCTIONS] / 255
        np.testing.assert_allclose(originals[label], chosen.reshape(-1, 28, 28), atol=1e-6)
        mu, _ = model.encode(torch.tensor(chosen, dtype=torch.float32), torch.full((len(chosen),), label))
        np.testing.assert_allclose(reconstructions[label], decode(model, mu.numpy(), label), atol=1e-6)


@pytest.mark.parametrize("count", [3, 10, 47])
def test_a_row_of_styles_is_one_z_with_every_label(monkeypatch, tmp_path, count):
    model, shown = make_model(Schema((8, 6, 3), names(count))).requires_grad_(False), []
    monkeypatch.setattr(rendering, "draw_styles", lambda *arrays, ink: shown.extend(arrays) or style.new_figure())
    rendering.render_styles(model, *rendering.decode_styles(model, 0), tmp_path / "picture.png")
    z = torch.randn(rendering.STYLES, 2, generator=generator(0, "styles")).numpy() * model.prior_std
    labels = spread(count, PANELS)
    assert shown[2] == [model.schema.classes[label] for label in labels]
    for row, column in ((0, 0), (3, 2), (4, len(labels) - 1)):
        expected = decode(model, z[row : row + 1], labels[column])[0]
        np.testing.assert_allclose(shown[0][row, column], expected, atol=1e-6)


CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def scatter(folder, latent_dims: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    """Write the scatter file of 4,000 images; return it with the labels, posterior means and samples it should hold."""
    numbers = np.random.default_rng(0)
    labels = numbers.integers(0, 10, 4_000).astype(np.uint8)
    mu = numbers.normal(size=(4_000, latent_dims)).astype(np.float32)
    z = mu + numbers.normal(size=mu.shape).astype(np.float32)
    rendering.write_scatter(labels, mu, z, CLASSES, folder / "latents.csv")
    count = rendering.SCATTERED
    return pd.read_csv(folder / "latents.csv"), labels[:count], mu[:count], z[:count]


def test_the_scatter_file_has_samples_of_z_as_they_are(tmp_path):
    table, labels, _, z = scatter(tmp_path, latent_dims=2)
    assert table["label"].tolist() == [CLASSES[label] for label in labels]
    np.testing.assert_allclose(table[["axis_1", "axis_2"]], z, atol=5.1e-4)
    assert set(zip(table["name_1"], table["name_2"], strict=True)) == {("z_0", "z_1")}


def test_the_scatter_file_has_many_dimensions_on_one_plane_for_all_labels(tmp_path):
    table, _, mu, z = scatter(tmp_path, latent_dims=4)
    plane = fit_plane(mu)
    np.testing.assert_allclose(table[["axis_1", "axis_2"]], plane.project(z), atol=5.1e-4)
    assert set(zip(table["name_1"], table["name_2"], strict=True)) == {plane.names}


def test_the_scatter_file_of_one_dimension_has_a_strip_per_label(tmp_path):
    table, labels, _, z = scatter(tmp_path, latent_dims=1)
    np.testing.assert_allclose(table["axis_1"], z[:, 0], atol=5.1e-4)
    np.testing.assert_array_equal(table["axis_2"], labels)
    assert table["label"].tolist() == [CLASSES[label] for label in labels]
    assert set(zip(table["name_1"], table["name_2"], strict=True)) == {("z_0", "label")}


def test_the_scatter_file_has_all_classes_of_images_that_are_sorted_by_class(tmp_path):
    labels = np.arange(10).repeat(600).astype(np.uint8)
    z = np.random.default_rng(0).normal(size=(6_000, 2))
    rendering.write_scatter(labels, z, z, CLASSES, tmp_path / "latents.csv")
    counts = pd.read_csv(tmp_path / "latents.csv")["label"].value_counts()
    assert (set(counts.index), counts.min(), counts.sum()) == (set(CLASSES), 300, 3_000)


@pytest.mark.parametrize(
    ("count", "latent_dims", "labels"),
    [
        (1, 2, "given"),
        (2, 1, "given"),
        (5, 4, "given"),
        (26, 1, "given"),
        (47, 2, "given"),
        (47, 1, "none"),
        (200, 2, "given"),
        (5, 4, "none"),
    ],
)
def test_small_pictures_are_square_and_an_animation_has_a_frame_for_each_snapshot(tmp_path, count, latent_dims, labels):
    schema = Schema((16, 12, 3) if count in (2, 47) else (16, 16, 1), names(count), "Mine", ink=count == 5)
    render_small(tmp_path, make_model(schema, labels=labels, latent_dims=latent_dims).requires_grad_(False))
    small = sorted(
        path.relative_to(tmp_path / "thumbnails").as_posix() for path in tmp_path.glob("thumbnails/**/*.png")
    )
    each = [f"{kind}/{label}.png" for kind in ("latents", "manifolds") for label in range(min(count, 3))]
    overviews = [f"{name}.png" for name in ("latents", "manifolds", "reconstructions", "styles")]
    steps = [f"learning/{epoch:04}.png" for epoch in (1, 2, 3)]
    assert small == sorted([*overviews, *steps, *(each if labels == "given" else [])])
    for name in small:
        assert_picture(tmp_path / "thumbnails" / name, (420, 420))
    with Image.open(tmp_path / "learning.png") as animation:
        assert animation.n_frames == 3
        assert max(animation.size) < 1400
    assert (tmp_path / "learning.png").stat().st_size <= learning.MOST_BYTES
    assert sorted(path.name for path in (tmp_path / "learning").iterdir()) == [f"{epoch:04}.png" for epoch in (1, 2, 3)]


def test_a_large_animation_is_reduced_to_a_mebibyte():
    numbers = np.random.default_rng(0)
    frames = [Image.fromarray(numbers.integers(0, 256, (400, 800, 3), np.uint8)) for _ in range(12)]
    content = learning.animation(frames)
    assert len(content) <= learning.MOST_BYTES
    with Image.open(io.BytesIO(content)) as reduced:
        assert (reduced.n_frames, reduced.size) == (12, (200, 100))
    assert learning.animation(frames) == content


def test_scatters_are_framed_by_all_but_a_few_points_and_say_so(figures, tmp_path):
    model, numbers = make_model().requires_grad_(False), np.random.default_rng(0)
    z = numbers.normal(size=(20_000, 2))
    z[:7] = 50
    latents = model, np.arange(20_000) % 10, z, z, 4, 2.0
    rendering.render_labels([], rendering.overview_views(*latents), model.schema, tmp_path)
    outside = (np.abs(z).max(1) > 3.5).sum()
    assert figures["latents.png"].axes[0].get_xlim() == (-3.5, 3.5)
    assert f", except {outside} of 20,000 outside the frame" in figures["latents.png"].get_suptitle()


def test_manifolds_in_an_overview_have_ten_images_a_side():
    z = np.zeros((10, 2))
    latents = make_model().requires_grad_(False), np.arange(10), z, z, 20, 2.0
    assert {view.grid_size for view in rendering.overview_views(*latents)} == {10}
    assert next(rendering.label_views(*latents)).grid_size == 20


def test_training_curves_fit_the_later_epochs(monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr(rendering, "save", lambda figure, path: shown.append(figure))
    falling = 100.0 / np.arange(1, 101)
    columns = [f"{split}_{part}" for split in ("train", "test") for part in ("loss", "reconstruction", "kl")]
    table = pd.DataFrame(dict.fromkeys(columns, falling) | {"epoch": range(1, 101)})
    for epochs in (100, 4):
        table[:epochs].to_csv(tmp_path / "training.csv", index=False)
        rendering.render_training(tmp_path / "training.csv", MNIST, "gaussian likelihood", tmp_path / "training.png")
    assert falling[20] < shown[0].axes[0].get_ylim()[1] < falling[18]
    assert "axes fit epochs 21 to 100" in shown[0].get_suptitle()
    assert shown[1].axes[0].get_ylim()[1] > falling[0]
    training, test = shown[0].axes[0].lines[:2]
    assert (training.is_dashed(), test.is_dashed()) == (False, True)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_curves_name_the_split_that_was_held_out(split):
    columns = {f"{name}_{part}": [3.0, 2.0] for name in ("train", split) for part in ("loss", "reconstruction", "kl")}
    figure = curves.draw_training(pd.DataFrame({"epoch": [1, 2], **columns}), "title")
    legends = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert legends == [["training", split]] * 3
