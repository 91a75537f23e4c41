"""Saving a model and loading it; test_damaged_files.py has the ways in which its files can be damaged."""

import pytest
import torch
from helpers.models import MNIST

from cvae.artifacts import saved_model
from cvae.compute.seeding import generator
from cvae.model import CVAE
from cvae.support.errors import UserError


def make_model(**settings) -> CVAE:
    return CVAE(MNIST, **settings).initialise(generator(3, "weights"))


def test_a_saved_model_is_loaded_unchanged_and_its_bytes_repeat(tmp_path):
    model = make_model(latent_dims=3, hidden_dims=17, likelihood="bernoulli", prior_std=1.5)
    saved_model.save(model, tmp_path / "a")
    saved_model.save(model, tmp_path / "b")
    loaded = saved_model.load(tmp_path / "a")

    assert loaded.configuration() == model.configuration()
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_reported_in_one_line(tmp_path, name):
    saved_model.save(make_model(hidden_dims=4), tmp_path)
    (tmp_path / name).unlink()
    message = rf"^{tmp_path}/{name}: No such file or directory; `dvc repro train` makes the model$"
    with pytest.raises(UserError, match=message):
        saved_model.load(tmp_path)


def test_weights_of_another_configuration_are_reported_in_one_line(tmp_path):
    for dims in (2, 7):
        saved_model.save(make_model(hidden_dims=4, latent_dims=dims), tmp_path / str(dims))
    (tmp_path / "7/config.json").replace(tmp_path / "2/config.json")
    with pytest.raises(UserError, match=r"^[^\n]*its weights are not of the model in its config\.json: [^\n]*$"):
        saved_model.load(tmp_path / "2")
