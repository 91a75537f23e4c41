"""All pictures that render draws, for latents on a line, on a plane, and in more dimensions."""

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
from cvae.data.idx import LABELS, SIDE
from cvae.embedding import embed_dataset, read_latents, write_latents
from cvae.figures import drawing, rendering, style
from cvae.figures.latent_plane import decode, fit_plane
from cvae.model import CVAE

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
        assert sorted(path.name for path in (folder / name).iterdir()) == [f"{label}.png" for label in range(LABELS)]
        for label in range(LABELS):
            assert_picture(folder / name / f"{label}.png", ONE[latent_dims])
    assert_picture(folder / "reconstructions.png", (1200, 720))
    assert_picture(folder / "styles.png", (800, 800))


@pytest.mark.parametrize("latent_dims", [1, 4])
def test_every_picture_exists_has_its_size_and_is_not_blank(tmp_path, splits, latent_dims):
    render_all(tmp_path, splits, latent_dims)
    assert_all_pictures(tmp_path, latent_dims)


def test_pictures_of_a_plane_are_complete_and_repeat_to_the_byte(tmp_path, splits):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        render_all(tmp_path / folder, splits, latent_dims=2)
    assert_all_pictures(tmp_path / "a", latent_dims=2)
    pictures = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(pictures) == 2 * LABELS + 5  # latents.parquet is among them
    for picture in pictures:
        assert (tmp_path / "a" / picture).read_bytes() == (tmp_path / "b" / picture).read_bytes(), picture


# Draws one picture of each kind, also that of compared runs, and then prints the settings of the caller's pyplot.
DRAW_ALL = """
import os
import numpy as np, pandas as pd
from cvae.data.idx import LABELS, PIXELS, SIDE
from cvae.figures import drawing, label_view, style
from matplotlib import font_manager
from cvae.commands.compare.panels import write_picture
from helpers.results import measured, table

if "ARIAL" in os.environ:
    serif = font_manager.findfont("DejaVu Serif")
    font_manager.fontManager.ttflist.insert(0, font_manager.FontEntry(serif, name="Arial", weight=400))

view = label_view.LabelView(3, "3", ("a", "b"), np.full((5, 2), -1.0), np.zeros(2), 1.0, 4.0, np.eye(5 * SIDE), 2.0)
images = np.linspace(0, 1, LABELS * LABELS * PIXELS).reshape(LABELS, LABELS, SIDE, SIDE)
history = pd.DataFrame({f"{a}_{b}": [-1.0, 2.0] for a in ("train", "test") for b in ("loss", "reconstruction", "kl")})
names = [str(label) for label in range(LABELS)]
pictures = {
    "one": drawing.draw_one(view, drawing.draw_latents, "title"),
    "overview": drawing.draw_overview([view] * LABELS, drawing.draw_manifold, "title"),
    "pairs": drawing.draw_reconstructions(images, images[::-1], names, "title"),
    "styles": drawing.draw_styles(images, ["-1.0"] * LABELS, names, "title"),
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
    pictures, settings = draw("matplotlibrc", MATPLOTLIBRC)
    assert pictures == expected
    assert settings == "lower 20.0 SVG"
    pictures, settings = draw("notebook", MPLBACKEND="module://matplotlib_inline.backend_inline")
    assert pictures == expected
    assert settings.startswith("upper 10.0")
    assert draw("another", MPLBACKEND="SVG", ARIAL="installed") == (expected, "upper 10.0 SVG")


@pytest.mark.parametrize("epochs", [1, 100])
def test_training_curves_are_drawn(tmp_path, epochs):
    names = [f"{split}_{part}" for split in ("train", "test") for part in ("loss", "reconstruction", "kl")]
    history = pd.DataFrame({name: np.exp(-np.arange(epochs) / 10) for name in names} | {"epoch": np.arange(epochs) + 1})
    history.to_csv(tmp_path / "training.csv", index=False)
    rendering.render_training(tmp_path / "training.csv", "mnist", "gaussian likelihood", tmp_path / "training.png")
    assert_picture(tmp_path / "training.png", (1500, 460))


def test_reconstructions_belong_to_the_images_above_them(monkeypatch, tmp_path, splits):
    model, test, shown = make_model(2), splits["test"], []
    monkeypatch.setattr(drawing, "draw_reconstructions", lambda *arrays: shown.extend(arrays) or style.new_figure())
    rendering.render_reconstructions(model, test, "digits", tmp_path / "picture.png")
    originals, reconstructions = shown[:2]
    for label in (0, 7):
        chosen = test.images[test.labels == label][: rendering.RECONSTRUCTIONS] / 255
        np.testing.assert_allclose(originals[label], chosen.reshape(-1, SIDE, SIDE), atol=1e-6)
        mu, _ = model.encode(torch.tensor(chosen, dtype=torch.float32), torch.full((len(chosen),), label))
        np.testing.assert_allclose(reconstructions[label], decode(model, mu.numpy(), label), atol=1e-6)


def test_a_row_of_styles_is_one_z_with_every_label(monkeypatch, tmp_path):
    model, shown = make_model(2), []
    monkeypatch.setattr(drawing, "draw_styles", lambda *arrays: shown.extend(arrays) or style.new_figure())
    rendering.render_styles(model, "digits", 0, tmp_path / "picture.png")
    z = torch.randn(rendering.STYLES, 2, generator=generator(0, "styles")).numpy() * model.prior_std
    for row, label in ((0, 0), (3, 8), (rendering.STYLES - 1, LABELS - 1)):
        np.testing.assert_allclose(shown[0][row, label], decode(model, z[row : row + 1], label)[0], atol=1e-6)


def scatter(folder, latent_dims: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    """Write the scatter file of 4,000 images; return it with the labels, posterior means and samples it should hold."""
    numbers = np.random.default_rng(0)
    labels = numbers.integers(0, LABELS, 4_000).astype(np.uint8)
    mu = numbers.normal(size=(4_000, latent_dims)).astype(np.float32)
    z = mu + numbers.normal(size=mu.shape).astype(np.float32)
    rendering.write_scatter(labels, mu, z, folder / "latents.csv")
    count = rendering.SCATTERED
    return pd.read_csv(folder / "latents.csv"), labels[:count], mu[:count], z[:count]


def test_the_scatter_file_has_samples_of_z_as_they_are(tmp_path):
    table, labels, _, z = scatter(tmp_path, latent_dims=2)
    np.testing.assert_array_equal(table["label"], labels)
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
    assert set(zip(table["name_1"], table["name_2"], strict=True)) == {("z_0", "label")}
