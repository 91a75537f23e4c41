"""`cvae sample`: what its pictures hold, and how it tells a mistake."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers.processes import environment
from helpers.repository import PROJECT
from PIL import Image

from cvae.artifacts import saved_model
from cvae.commands.program import invoke
from cvae.commands.sample import drawing, sources
from cvae.compute.seeding import generator
from cvae.data import idx
from cvae.data.binarisation import binarised
from cvae.figures import drawing as figures
from cvae.figures import style
from cvae.figures.label_view import LabelView
from cvae.figures.latent_plane import decode
from cvae.model import CVAE
from cvae.support.errors import UserError

DIMS = (1, 2, 4)
KINDS = {
    "samples of all": [],
    "samples of one": ["--digit", "7", "--count", "7"],
    "grid of all": ["grid", "--size", "3"],
    "grid of one": ["grid", "--digit", "7"],
    "styles": ["styles", "--count", "3"],
    "interpolation": ["interpolate", "3", "8"],
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """The digits in data/raw, and untrained models of one, two and four latents in 1, 2 and 4; not to be changed."""
    folder = tmp_path_factory.mktemp("sample")
    idx.write_digits(folder / "data/raw")
    for dims in DIMS:
        model = CVAE(latent_dims=dims, hidden_dims=32).initialise(generator(0, "weights")).requires_grad_(False)
        for weight in model.parameters():
            weight *= 3  # for images that differ as much as a trained model's
        saved_model.save(model, folder / str(dims))
    return folder


@pytest.fixture
def draw(folder, tmp_path, monkeypatch):
    """Draw picture.png as the command does, and return its grey levels; `dims` chooses the model in `folder`."""

    def draw(*arguments: str, dims: int | None = 2, here: Path = folder) -> np.ndarray:
        model = [] if dims is None else ["--model", str(dims)]
        monkeypatch.chdir(here)
        invoke("sample", ["sample", *arguments, *model, "--out", str(tmp_path / "picture.png")])
        with Image.open(tmp_path / "picture.png") as picture:
            return np.asarray(picture.convert("L"))

    return draw


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """The real command, in `folder`."""
    variables = {"PYTHONPATH": str(PROJECT / "src")} | variables
    command = [sys.executable, "-m", "cvae", "sample", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(**variables), capture_output=True, text=True)


def place(images: np.ndarray, picture: np.ndarray) -> tuple[int, int, int]:
    """Where `picture` has `images`, (rows, columns, 28, 28), side by side: row and column in pixels, and the scale."""
    sheet = images.swapaxes(1, 2).reshape(len(images) * 28, -1)
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


def posterior_means(model: CVAE, split: idx.Split, chosen) -> np.ndarray:
    x = torch.tensor(split.images[chosen], dtype=torch.float32) / 255
    return model.encode(x, torch.tensor(split.labels[chosen], dtype=torch.int64))[0].numpy()


def interpolation(model: CVAE, test: idx.Split, a: int, b: int, path: np.ndarray) -> np.ndarray:
    """The two rows of images of two labels: the latents `path` under each, beside the image of that label alone."""
    blank = np.zeros((28, 28))
    before, after = (test.images[index].reshape(28, 28) / 255 for index in (a, b))
    under_a, under_b = (decode(model, path, int(test.labels[index])) for index in (a, b))
    return np.array([[before, blank, *under_a, blank, blank], [blank, blank, *under_b, blank, after]])


def write_lock(root: Path, dataset: str, **trained: str) -> None:
    """What DVC writes of a pipeline that ran with this data set, and of train's parameters."""
    stages = {"download": {"dataset": dataset}, "train": trained}
    content = {"stages": {name: {"params": {"params.yaml": params}} for name, params in stages.items()}}
    (root / "dvc.lock").write_text(yaml.safe_dump(content))


# What the pictures hold


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_for_any_number_of_latents(draw, kind, dims):
    picture = draw(*KINDS[kind], dims=dims)
    assert picture.std() > 3, "blank"
    for border in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (border == 255).all(), "clipped"


@pytest.mark.parametrize("dims", DIMS)
def test_samples_of_a_digit_are_what_the_decoder_makes_of_the_prior(draw, folder, dims):
    model = saved_model.load(folder / str(dims))
    images = decode(model, prior(model, 7, seed=1), 7)
    images = np.concatenate((images, np.zeros((1, 28, 28)))).reshape(2, 4, 28, 28)
    place(images, draw("--digit", "7", "--count", "7", "--seed", "1", dims=dims))


def test_samples_are_those_of_the_served_model(draw, folder):
    from cvae.tracking.served_model import Generator

    served = Generator()
    served.load_context(SimpleNamespace(artifacts={"model": str(folder / "2")}))
    answer = served.predict(None, pd.DataFrame({"digit": [7] * 4}), {"seed": 3})
    images = np.array(answer["image"].tolist() if isinstance(answer, pd.DataFrame) else answer)
    place(images.reshape(2, 2, 28, 28), draw("--digit", "7", "--count", "4", "--seed", "3"))


def test_samples_of_all_digits_have_a_row_for_each(draw, folder):
    model = saved_model.load(folder / "2")
    images = decode(model, prior(model, 30, seed=0), np.arange(10).repeat(3))
    place(images.reshape(10, 3, 28, 28), draw("--count", "3"))


def test_a_row_of_styles_is_one_z_through_all_labels(draw, folder):
    model = saved_model.load(folder / "4")
    z = prior(model, 3, seed=5, purpose="styles")
    images = np.stack([decode(model, z, label) for label in range(10)], axis=1)
    place(images, draw("styles", "--count", "3", "--seed", "5", dims=4))


def test_an_interpolation_leads_from_one_posterior_mean_to_the_other_under_each_label(draw, folder, digits):
    model, (_, test) = saved_model.load(folder / "2"), digits
    a, b = 3, 8
    assert test.labels[a] != test.labels[b]
    first, second = posterior_means(model, test, [a, b])
    path = np.stack([first, (first + second) / 2, second])
    picture = draw("interpolate", str(a), str(b), "--count", "3")
    place(interpolation(model, test, a, b, path), picture)


def test_an_interpolation_between_images_of_one_label_is_one_row(draw, digits):
    _, test = digits
    a, b = np.flatnonzero(test.labels == 4)[:2]
    same, different = draw("interpolate", str(a), str(b)), draw("interpolate", "3", "8")
    assert different.shape[0] - same.shape[0] in (75, 100)  # a row of 84 pixels, in steps of 25


@pytest.mark.parametrize("binarize", ["static", "dynamic"])
def test_a_model_of_binary_pixels_interpolates_between_binary_images(draw, folder, digits, tmp_path, binarize):
    model, test = saved_model.load(folder / "2"), binarised(digits[1], "test")
    shutil.copytree(folder / "2", tmp_path / "data/model")
    write_lock(tmp_path, "digits", binarize=binarize)
    arguments = ["interpolate", "3", "8", "--count", "2", "--data", str(folder / "data/raw")]
    picture = draw(*arguments, dims=None, here=tmp_path)
    place(interpolation(model, test, 3, 8, posterior_means(model, test, [3, 8])), picture)


@pytest.fixture
def views(monkeypatch) -> list[LabelView]:
    """What the manifolds that are drawn in this test show."""
    views, draw_manifold = [], figures.draw_manifold
    monkeypatch.setattr(figures, "draw_manifold", lambda axes, view: views.append(view) or draw_manifold(axes, view))
    return views


def test_a_grid_has_the_size_and_range_that_are_asked_for(draw, folder, views):
    draw("grid", "--digit", "7", "--size", "5", "--range", "1.5")
    [view] = views
    assert (view.label, view.grid_range, view.manifold.shape) == (7, 1.5, (140, 140))
    corner = decode(saved_model.load(folder / "2"), np.array([[-1.5, 1.5]]), 7)[0]
    np.testing.assert_allclose(view.manifold[:28, :28], corner, atol=1e-6)


def test_a_grid_of_more_latents_lies_through_the_training_images_of_its_label(draw, folder, digits, views):
    draw("grid", "--size", "3", dims=4)
    assert [view.label for view in views] == list(range(10))
    model, (train, _) = saved_model.load(folder / "4"), digits
    for label in (0, 7):
        centre = posterior_means(model, train, train.labels == label).mean(0, keepdims=True)
        np.testing.assert_allclose(views[label].manifold[28:56, 28:56], decode(model, centre, label)[0], atol=1e-4)


def test_a_grid_of_a_model_of_binary_pixels_lies_through_binary_images(draw, folder, digits, views, tmp_path):
    shutil.copytree(folder / "data/raw", tmp_path / "data/raw")
    shutil.copytree(folder / "4", tmp_path / "data/model")
    write_lock(tmp_path, "digits", binarize="static")
    draw("grid", "--size", "3", "--digit", "7", dims=None, here=tmp_path)
    model, train = saved_model.load(folder / "4"), binarised(digits[0], "train")
    centre = posterior_means(model, train, train.labels == 7).mean(0, keepdims=True)
    np.testing.assert_allclose(views[0].manifold[28:56, 28:56], decode(model, centre, 7)[0], atol=1e-4)


def test_the_pipelines_own_pictures_are_grids_to_the_byte(draw, repository, tmp_path):
    for arguments, picture in ((["--digit", "7"], "manifolds/7.png"), ([], "manifolds.png")):
        draw("grid", *arguments, dims=None, here=repository.root)
        assert (tmp_path / "picture.png").read_bytes() == (repository.root / "plots" / picture).read_bytes()


@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_every_name_is_within_the_picture(count):
    images = np.zeros((2, count, 28, 28))
    title = drawing.entitle("fashion-mnist", "between the posterior means of two test images", 9)
    figure = figures.draw_table(images, title, ["as 9 ankle boot", "0"], ["image 59999", *[""] * (count - 1)])
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


def test_titles_name_what_is_known():
    assert drawing.entitle("fashion-mnist", "samples", 9) == "Fashion-MNIST 9 ankle boot: samples"
    assert drawing.entitle("mnist", "samples") == "MNIST: samples"
    assert drawing.entitle(None, "samples", 3) == "Label 3: samples"
    assert drawing.entitle(None, "samples") == "Samples"


def test_the_pipelines_model_is_titled_with_the_data_set_that_it_was_trained_on(draw, folder, tmp_path, monkeypatch):
    titles, draw_table = [], figures.draw_table
    monkeypatch.setattr(
        figures, "draw_table", lambda images, title, *names: titles.append(title) or draw_table(images, title, *names)
    )
    (tmp_path / "params.yaml").write_text("dataset: fashion-mnits  # edited since, and not rightly")
    write_lock(tmp_path, "kmnist")
    shutil.copytree(folder / "2", tmp_path / "data/model")
    shutil.copytree(folder / "2", tmp_path / "other")
    draw("--digit", "1", "--count", "1", dims=None, here=tmp_path)
    draw("--digit", "1", "--count", "1", "--model", "other", dims=None, here=tmp_path)
    assert titles == ["Kuzushiji-MNIST 1 ki: samples from the prior", "Label 1: samples from the prior"]


@pytest.mark.parametrize("lock", [None, "", "stages: []", "<<<<<<< HEAD\n", "stages: {download: {params: }}", "\xff"])
def test_without_a_dvc_lock_that_tells_it_the_origin_is_unknown(folder, tmp_path, monkeypatch, lock):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "2", tmp_path / "data/model")
    if lock is not None:
        (tmp_path / "dvc.lock").write_bytes(lock.encode("latin-1"))
    _, origin = sources.open_model(sources.Source())
    assert origin == sources.Origin(dataset=None, binarize=None)


# The command


def test_it_writes_where_it_says_the_same_bytes_each_time_and_needs_no_mlflow(folder, tmp_path):
    shutil.copytree(folder / "2", tmp_path / "data/model")
    without_mlflow = hide("mlflow", tmp_path)
    first = run(tmp_path, "--digit", "7", PYTHONPATH=without_mlflow)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == "samples.png: 16 samples of 7, seed 0, drawn by data/model\n"
    second = run(tmp_path, "--digit", "7", "--count", "16", "--seed", "0", "--out", "new/sevens.png")
    assert second.stdout == "new/sevens.png: 16 samples of 7, seed 0, drawn by data/model\n"
    assert (tmp_path / "samples.png").read_bytes() == (tmp_path / "new/sevens.png").read_bytes()

    (tmp_path / "mlflow.db").touch()
    third = run(tmp_path, "--run", "0123", PYTHONPATH=without_mlflow)
    assert third.stderr == (
        "sample: models of MLflow need the package mlflow; `pip install -r requirements.txt` installs it\n"
    )


def hide(package: str, folder: Path) -> str:
    """A PYTHONPATH on which `package` is not installed."""
    missing = f"raise ModuleNotFoundError('No module named {package}', name='{package}')"
    (folder / "hidden").mkdir(exist_ok=True)
    (folder / "hidden" / f"{package}.py").write_text(missing)
    return f"{folder / 'hidden'}:{PROJECT / 'src'}"


MISTAKES = {
    "--digit 12": "Invalid value for '--digit': 12 is not in the range 0<=x<=9.",
    "--digit x": "Invalid value for '--digit': 'x' is not a valid integer range.",
    "--count 0": "Invalid value for '--count': 0 is not in the range 1<=x<=1000.",
    "--digit 3 --count 1000000": "Invalid value for '--count': 1000000 is not in the range 1<=x<=1000.",
    "--count 51": "--count 51: samples of all ten digits can have from 1 to 50",
    "interpolate 3 8 --count 1": "Invalid value for '--count': 1 is not in the range 2<=x<=50.",
    "interpolate 3": "Missing argument 'B'.",
    "styles grid": "Got unexpected extra argument (grid)",
    "styles --digit 3": "No such option '--digit'.",
    "grid --seed 3": "No such option '--seed'. Did you mean '--size'?",
    "--range 1": "No such option '--range'. Did you mean '--run'?",
    "--range 1 grid": "No such option '--range'. Did you mean '--run'?",
    "grid --range nan": "--range nan: it spans z from -X to X, for X from 0.001 to 100",
    "grid --range 1e-300": "Invalid value for '--range': 1e-300 is not in the range 0.001<=x<=100.",
    "--run abc --model x": "--model, --run and --exp each name a model; give one of them",
    "--diigt 3": "No such option '--diigt'. Did you mean '--digit'?",
    "gird": "no such command 'gird'; did you mean grid?",
    "--out data": "--out data: is a folder; name a file in it",
    "--out x.jpg": "--out x.jpg: pictures are PNG files; its name must end in .png",
    "--out file/x.png": "--out file/x.png: {folder}/file is not a folder",
    "--model nowhere": "--model nowhere: no such folder, nor a models:/... or runs:/... of MLflow",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_in_one_line_before_torch_is_imported(mistake, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "file").touch()
    done = run(tmp_path, *mistake.split(), PYTHONPATH=hide("torch", tmp_path))
    assert done.stderr == f"sample: {MISTAKES[mistake].format(folder=tmp_path)}\n"
    assert done.stdout == ""
    assert done.returncode == (1 if mistake.startswith(("--out", "--model")) else 2)
    assert {path.name for path in tmp_path.iterdir()} == {"data", "file", "hidden"}


def test_a_run_is_asked_for_without_making_a_store(tmp_path):
    done = run(tmp_path, "--run", "0123")
    assert done.stderr == "sample: mlflow.db: no MLflow store yet; `dvc repro` records a run and its model\n"
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_model_is_told_in_one_line(folder, tmp_path):
    shutil.copytree(folder / "2", tmp_path / "model")
    (tmp_path / "model/model.safetensors").write_bytes(b"no weights")
    done = run(tmp_path, "--model", "model")
    assert done.returncode == 1
    assert done.stderr.startswith("sample: model: damaged (")
    assert done.stderr.endswith(")\n"), "with advice for the pipeline's model"
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("damaged", ["model.safetensors", "config.json"])
@pytest.mark.parametrize(
    ("source", "name"),
    [
        (sources.Source(run="0123"), "MLflow run 0123"),
        (sources.Source(model="models:/cvae@best"), "models:/cvae@best"),
    ],
)
def test_a_damaged_model_of_mlflow_goes_by_its_name_there(folder, monkeypatch, source, name, damaged):
    def fetch(arguments, target: str) -> tuple[Path, dict[str, str]]:
        weights = shutil.copytree(folder / "2", Path(target) / "artifacts/model")
        (weights / damaged).write_bytes(b"{")
        return weights, {}

    monkeypatch.setattr(sources, "fetch", fetch)
    with pytest.raises(UserError, match=rf"^{re.escape(name)}: damaged \(.*\)$"):
        sources.open_model(source)


def test_the_pipelines_model_if_damaged_is_told_how_it_is_made_anew(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "2", tmp_path / "data/model")
    (tmp_path / "data/model/config.json").write_text("{")
    with pytest.raises(UserError, match=r"^data/model: damaged .*; `dvc repro -sf train` makes it again"):
        sources.open_model(sources.Source())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["interpolate", "3", "297"], "interpolate 297: data/raw has test images 0 to 296"),
        (["interpolate", "3", "8", "--data", "nowhere"], "--data nowhere: no such folder"),
        (["interpolate", "3", "8", "--data", "2"], r"2/train-images-idx3-ubyte.gz: missing"),
        (["grid", "--data", "data/raw"], "--data: a grid over the latents of a model of 2 needs no images"),
    ],
)
def test_what_cannot_be_had_is_told_in_one_line(draw, arguments, told):
    with pytest.raises(UserError, match=told) as caught:
        draw(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("/proc/picture.png", "/proc/picture.png: No such file or directory; "),
        (f"{'a' * 300}.png", r"--out a+\.png: cannot be written \(File name too long\)"),
    ],
)
def test_a_picture_that_cannot_be_written_is_reported_in_one_line(folder, monkeypatch, out, message):
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=message) as caught:
        invoke("sample", ["sample", "--model", "2", "--out", out])
    assert "\n" not in str(caught.value)


def test_images_of_another_data_set_than_the_models_are_refused(tmp_path, monkeypatch):
    write_lock(tmp_path, "mnist")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data/raw is of mnist by dvc.lock, the model of kmnist; --data names"):
        sources.open_data(None, sources.Origin("kmnist"))


# Models of MLflow


def test_a_runs_model_is_the_pipelines(draw, repository, tmp_path):
    [recorded] = repository.runs()
    run_id = recorded.info.run_id
    done = run(repository.root, "--run", run_id, "--digit", "7", "--out", str(tmp_path / "of_run.png"))
    assert done.stderr == ""
    assert done.stdout == f"{tmp_path}/of_run.png: 16 samples of 7, seed 0, drawn by MLflow run {run_id}\n"
    draw("--digit", "7", dims=None, here=repository.root)
    assert (tmp_path / "of_run.png").read_bytes() == (tmp_path / "picture.png").read_bytes()


@pytest.fixture
def fetch(repository, tmp_path, monkeypatch):
    from cvae.tracking import fetch

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # so that what MLflow sets here ends with the test
    monkeypatch.chdir(repository.root)
    return fetch


def test_a_models_uri_brings_the_same_bytes_and_its_parameters(fetch, repository, tmp_path):
    [recorded] = repository.runs()
    [model] = recorded.outputs.model_outputs
    for uri in (f"models:/{model.model_id}", f"runs:/{recorded.info.run_id}/model"):
        folder, params = fetch.fetch_model(uri, tmp_path / uri[:4])
        assert (params["dataset"], params["binarize"]) == ("digits", "none")
        for file in ("model.safetensors", "config.json"):
            assert (folder / file).read_bytes() == (repository.root / "data/model" / file).read_bytes()


def test_a_models_origin_is_in_its_run(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.chdir(repository.root)
    [recorded] = repository.runs()
    _, origin = sources.open_model(sources.Source(run=recorded.info.run_id))
    assert origin == sources.Origin("digits", "none")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("deep", "deep"),
        ("dims-1*", "dims-1"),
        ("dims-*", "2 runs match dims-*: dims-1, dims-2; name one of them"),
        ("dimms-1", "no run of MLflow has the name or id 'dimms-1'; did you mean dims-1?"),
        ("[", "no run of MLflow has the name or id '['; `make ui` shows what there is"),
    ],
)
def test_a_run_is_found_by_its_name_or_a_pattern_of_it(empty_database, tmp_path, name, found):
    from mlflow import MlflowClient

    from cvae.tracking.named_run import named_run

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("cvae", artifact_location=str(tmp_path))
    for number, each in enumerate(("dims-1", "deep", "dims-2", "deep")):
        client.create_run(experiment, start_time=number, run_name=each)
    if " " in found:
        with pytest.raises(UserError, match=f"^{re.escape(found)}$"):
            named_run(client, name)
    else:
        run = named_run(client, name)
        assert run.info.run_name == found
        assert named_run(client, run.info.run_id).info.run_id == run.info.run_id
        assert found != "deep" or run.info.start_time == 3, "the newest of that name"


def test_an_experiments_model_is_drawn_from_dvcs_cache(compared, tmp_path, monkeypatch):
    monkeypatch.chdir(compared.root)
    model, origin = sources.open_model(sources.Source(exp="wide"))
    assert (model.latent_dims, origin) == (4, sources.Origin("digits", "none"))
    with pytest.raises(UserError, match=r"^--exp wild: .*; `dvc exp show` lists experiments$"):
        sources.open_model(sources.Source(exp="wild"))


def test_a_model_whose_weights_are_not_in_it_is_refused(fetch, folder, tmp_path):
    shutil.copytree(folder / "2", tmp_path / "fetched/beside")
    shutil.copytree(folder / "2", tmp_path / "logged/weights")
    for path, leads_out in (("weights", False), ("../beside", True), (str(tmp_path / "fetched/beside"), True)):
        described = {"flavors": {"python_function": {"artifacts": {"model": {"path": path}}}}}
        (tmp_path / "logged/MLmodel").write_text(yaml.safe_dump(described))
        uri = str(tmp_path / "logged")
        if leads_out:
            with pytest.raises(UserError, match=r"logged in mlflow\.db is not a model that this project logged"):
                fetch.fetch_model(uri, tmp_path / "fetched")
        else:
            weights, _ = fetch.fetch_model(uri, tmp_path / "fetched")
            saved_model.load(weights)


def test_a_model_that_mlflow_does_not_have_is_told_in_one_line(fetch, tmp_path):
    for uri in ("models:/cvae@best", "models:/m-0123", "models:/", "runs:/0123/model"):
        with pytest.raises(UserError, match=r"^MLflow at mlflow\.db: ") as caught:
            fetch.fetch_model(uri, tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no run of MLflow has the name or id '0123'; `make ui` shows what there is"):
        fetch.fetch_run("0123", tmp_path)


def test_a_run_without_a_model_is_told_in_one_line(fetch, empty_database, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    bare = client.create_run(client.create_experiment("cvae", artifact_location=str(tmp_path)), run_name="bare")
    with pytest.raises(UserError, match=rf"^run bare \({bare.info.run_id}\) has no model; track logs it") as caught:
        fetch.fetch_run(bare.info.run_id, tmp_path / "fetched")
    assert "\n" not in str(caught.value)
