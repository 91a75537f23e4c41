"""`make run` ends with what to look at and what to type next, and that works."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from helpers.repository import Repository

HINT = "dvc push"
UNREACHABLE = {"MNIST_MIRROR": "/nonexistent"}


@pytest.fixture(scope="module")
def environment_folder(tmp_path_factory) -> Path:
    """A virtual environment with the packages of the current one, and DVC's command."""
    folder = tmp_path_factory.mktemp("environments") / "its-own"
    venv.create(folder, symlinks=True)
    (dvc := Path(sys.executable).with_name("dvc")).exists() or pytest.fail(f"no {dvc}")
    (folder / "bin/dvc").symlink_to(dvc)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (packages / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return folder


@pytest.fixture
def clone(repository, empty_database, tmp_path, environment_folder) -> Repository:
    clone = repository.copy(tmp_path / "cvae")
    (clone.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    subprocess.run(["make", "-ts", "setup", f"VENV={environment_folder}"], cwd=clone.root, check=True)
    return clone


def make(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Run `make` as in a new terminal: without DVC and this project on its paths, and not below another `make`."""
    left_out = {"PATH", "PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    path = f"{Path(shutil.which('make')).parent}:{Path(shutil.which('git')).parent}:/usr/bin:/bin"
    return subprocess.run(
        ["make", *arguments], cwd=root, env=kept | {"PATH": path} | variables, capture_output=True, text=True
    )


@pytest.mark.parametrize("has_data", [True, False], ids=["data", "no data"])
def test_make_run_ends_with_what_to_look_at_and_what_to_type(clone, environment_folder, has_data):
    if not has_data:
        shutil.rmtree(clone.root / "data/raw")
        clone.set(dataset="mnist")
    done = make(clone.root, "run", f"VENV={environment_folder}", **UNREACHABLE)
    assert done.returncode == 0, done.stderr
    assert HINT not in done.stdout
    assert ("dvc exp run -S dataset=mnist" in done.stdout) is not has_data
    _, _, closing = done.stdout.partition("Look at the pictures:")
    pictures = re.findall(r"plots/\w+\.png", closing)
    assert len(pictures) == 6
    assert all((clone.root / picture).exists() for picture in pictures)
    assert f"make ui VENV={environment_folder}" in closing
    assert f"make plots VENV={environment_folder}" in closing
    *_, activation = closing.strip().splitlines()
    tried = f"{activation.strip()} && dvc --version && python -c 'import cvae, sys; print(sys.prefix)'"
    path = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")}
    typed = subprocess.run(["bash", "-c", tried], cwd=clone.root, env=path, capture_output=True, text=True)
    assert typed.returncode == 0, typed.stderr
    assert typed.stdout.splitlines()[-1] == str(environment_folder)


def test_a_failed_make_run_ends_with_the_error(clone, environment_folder):
    clone.set(epochs=0)
    done = make(clone.root, "run", f"VENV={environment_folder}")
    assert done.returncode == 2
    assert "epochs is 0" in done.stderr
    assert "Running stage 'train'" in done.stdout
    assert "Look at" not in done.stdout
