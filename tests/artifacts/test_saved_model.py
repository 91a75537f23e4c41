"""Saving a model and loading it; test_damaged_files.py has the ways in which its files can be damaged."""

import pytest
import torch
from helpers.models import make_model

from cvae.artifacts import saved_model
from cvae.data.dataset import Schema
from cvae.model import LABELS
from cvae.support.errors import UserError


def test_a_saved_model_is_loaded_unchanged_and_its_bytes_repeat(tmp_path):
    model = make_model(latent_dims=3, hidden_dims=17, likelihood="bernoulli", prior_std=1.5)
    saved_model.save(model, tmp_path / "a")
    saved_model.save(model, tmp_path / "b")
    loaded = saved_model.load(tmp_path / "a")

    assert loaded.configuration() == model.configuration()
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("labels", LABELS)
def test_a_model_keeps_what_it_knows_of_its_data(tmp_path, labels):
    schema = Schema((8, 12, 3), ("Ärmel & Kragen", "сапог", "長靴 ", "👟"), title="Мода", ink=False)
    saved_model.save(make_model(schema, labels=labels, hidden_dims=4), tmp_path)
    loaded = saved_model.load(tmp_path)
    assert (loaded.schema, loaded.labels, loaded.label_count) == (schema, labels, 4 if labels == "given" else 0)
    assert "сапог" in (tmp_path / "config.json").read_text(encoding="utf-8"), "a person can read it"


@pytest.mark.parametrize("letter", ["x", '"', "ж", "長", "👟"])
def test_as_many_classes_as_there_can_be_with_the_longest_names_are_saved_and_loaded(tmp_path, letter):
    """No file system has names of folders that are longer."""
    name = letter * (252 // len(letter.encode()))
    schema = Schema((2, 2, 1), tuple(f"{name}{number:03}" for number in range(256)))
    saved_model.save(make_model(schema, hidden_dims=2), tmp_path)
    assert saved_model.load(tmp_path).schema == schema


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
