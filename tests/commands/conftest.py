"""Fixtures for the tests of commands."""

from pathlib import Path

import numpy as np
import pytest
from helpers.models import make_model
from helpers.repository import Repository, made_once
from helpers.studies import make_quick_repository
from PIL import Image

from cvae.artifacts import saved_model
from cvae.commands.program import invoke
from cvae.data.digits import write_digits

DIMS = (1, 2, 4)


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """The digits in data/raw, and untrained models of one, two and four latents in 1, 2 and 4. Tests change nothing."""
    folder = tmp_path_factory.mktemp("sample")
    write_digits(folder / "data/raw")
    for dims in DIMS:
        model = make_model(latent_dims=dims, hidden_dims=32).requires_grad_(False)
        for weight in model.parameters():
            weight *= 3  # so that images differ as much as those of a trained model
        saved_model.save(model, folder / str(dims))
    return folder


@pytest.fixture
def draw(folder, tmp_path, monkeypatch):
    """Draw picture.png with `cvae sample`, and return its grey levels; `dims` chooses the model in `folder`."""

    def draw(*arguments: str, dims: int | None = 2, here: Path = folder) -> np.ndarray:
        model = [] if dims is None else ["--model", str(dims)]
        monkeypatch.chdir(here)
        invoke("sample", ["sample", *arguments, *model, "--out", str(tmp_path / "picture.png")])
        with Image.open(tmp_path / "picture.png") as picture:
            return np.asarray(picture.convert("L"))

    return draw


@pytest.fixture(scope="session")
def quick_origin(tmp_path_factory) -> Repository:
    """A repository with a quick pipeline, for `cvae tune`; not to be changed."""
    return Repository(made_once(tmp_path_factory, "quick", make_quick_repository) / "cvae")


@pytest.fixture
def quick(quick_origin, tmp_path) -> Repository:
    """A copy of it, to be changed."""
    return quick_origin.copy(tmp_path / "cvae")
