"""`cvae sample` as a command: what it prints, and how it reports mistakes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.processes import environment
from helpers.repository import PROJECT

from cvae.commands.program import invoke
from cvae.support.errors import UserError


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Run the real command in `folder`."""
    variables = {"PYTHONPATH": str(PROJECT / "src")} | variables
    command = [sys.executable, "-m", "cvae", "sample", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(**variables), capture_output=True, text=True)


def test_the_same_arguments_give_the_same_bytes_without_mlflow(folder, tmp_path):
    shutil.copytree(folder / "2", tmp_path / "data/model")
    first = run(tmp_path, "--label", "7", PYTHONPATH=hide("mlflow", tmp_path))
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == "samples.png: 16 samples of 7, seed 0, drawn by data/model\n"
    second = run(tmp_path, "--label", "7", "--count", "16", "--seed", "0", "--out", "new/sevens.png")
    assert second.stdout == "new/sevens.png: 16 samples of 7, seed 0, drawn by data/model\n"
    assert (tmp_path / "samples.png").read_bytes() == (tmp_path / "new/sevens.png").read_bytes()


def hide(package: str, folder: Path) -> str:
    """Return a PYTHONPATH without `package`."""
    missing = f"raise ModuleNotFoundError('No module named {package}', name='{package}')"
    (folder / "hidden").mkdir(exist_ok=True)
    (folder / "hidden" / f"{package}.py").write_text(missing)
    return f"{folder / 'hidden'}:{PROJECT / 'src'}"


MISTAKES = {
    "--count 0": "Invalid value for '--count': 0 is not in the range 1<=x<=1000.",
    "--label 3 --count 1000000": "Invalid value for '--count': 1000000 is not in the range 1<=x<=1000.",
    "interpolate 3 8 --count 1": "Invalid value for '--count': 1 is not in the range 2<=x<=50.",
    "interpolate 3": "Missing argument 'B'.",
    "styles grid": "Got unexpected extra argument (grid)",
    "styles --label 3": "No such option '--label'. Did you mean '--help'?",
    "grid --seed 3": "No such option '--seed'. Did you mean '--size'?",
    "--range 1": "No such option '--range'. Did you mean '--run'?",
    "--range 1 grid": "No such option '--range'. Did you mean '--run'?",
    "grid --range nan": "--range nan: use a number from 0.001 to 100",
    "grid --range 1e-300": "Invalid value for '--range': 1e-300 is not in the range 0.001<=x<=100.",
    "--run abc --model x": "--model, --run and --exp each name a model; use only one of them",
    "--lable 3": "No such option '--lable'. Did you mean '--label'?",
    "gird": "No such command 'gird'. Did you mean 'grid'?",
    "--out data": "--out data: is a folder; name a file in it",
    "--out x.jpg": "--out x.jpg: pictures are PNG files; choose a name that ends in .png",
    "--out file/x.png": "file/x.png: Not a directory; move away what is in its place, then run it again",
    "--model nowhere": "--model nowhere: no such folder; use a folder, models:/... or runs:/...",
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


def test_asking_for_a_run_makes_no_store(tmp_path):
    done = run(tmp_path, "--run", "0123")
    assert done.stderr == "sample: mlflow.db: no MLflow store yet; `dvc repro` records a run and its model\n"
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_model_is_reported_in_one_line(folder, tmp_path):
    shutil.copytree(folder / "2", tmp_path / "model")
    (tmp_path / "model/model.safetensors").write_bytes(b"no weights")
    done = run(tmp_path, "--model", "model")
    assert done.returncode == 1
    assert done.stderr.startswith("sample: model: damaged (")
    assert done.stderr.endswith(")\n"), "with advice for the pipeline's model"
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["interpolate", "3", "297"], "interpolate 297: data/raw has test images 0 to 296"),
        (["interpolate", "3", "8", "--data", "nowhere"], "--data nowhere: no such folder"),
        (["interpolate", "3", "8", "--data", "2"], r"2/train-images-idx3-ubyte.gz: missing"),
        (["grid", "--data", "data/raw"], "--data: a grid of a model of 2 latents needs no images"),
    ],
)
def test_missing_images_are_reported_in_one_line(draw, arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        draw(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("/proc/picture.png", "/proc/picture.png: No such file or directory; "),
        (f"{'a' * 300}.png", r"a+\.png: File name too long; "),
    ],
)
def test_a_picture_that_cannot_be_written_is_reported_in_one_line(folder, monkeypatch, out, message):
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=message) as caught:
        invoke("sample", ["sample", "--model", "2", "--out", out])
    assert "\n" not in str(caught.value)


def test_a_model_of_mlflow_draws_the_same_picture_as_the_pipelines(draw, repository, tmp_path):
    [recorded] = repository.runs()
    run_id = recorded.info.run_id
    done = run(repository.root, "--run", run_id, "--label", "7", "--out", str(tmp_path / "of_run.png"))
    assert done.stderr == ""
    assert done.stdout == f"{tmp_path}/of_run.png: 16 samples of 7, seed 0, drawn by MLflow run {run_id}\n"
    draw("--label", "7", dims=None, here=repository.root)
    assert (tmp_path / "of_run.png").read_bytes() == (tmp_path / "picture.png").read_bytes()
