"""The table of latents; tests/artifacts/test_damaged_files.py has more ways to damage it."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.models import MNIST

from cvae.compute.seeding import generator
from cvae.data.dataset import Schema, Split
from cvae.data.tensors import to_device
from cvae.embedding import embed_dataset, read_latents, write_latents
from cvae.model import CVAE
from cvae.support.errors import UserError


@pytest.fixture(scope="module")
def splits(digits):
    return dict(zip(("train", "test"), digits, strict=True))


def make_model(latent_dims: int) -> CVAE:
    return CVAE(MNIST, latent_dims=latent_dims).initialise(generator(0, "weights")).requires_grad_(False)


def test_the_latents_table_has_every_image_with_its_posterior(tmp_path, splits):
    model = make_model(3)
    write_latents(embed_dataset(model, splits, seed=0), tmp_path / "latents.parquet")
    table = pd.read_parquet(tmp_path / "latents.parquet")

    names = [f"{quantity}_{d}" for quantity in ("mu", "sigma", "z") for d in range(3)]
    assert list(table.columns) == ["split", "index", "label", *names]
    assert table["split"].value_counts().to_dict() == {name: len(split) for name, split in splits.items()}
    test = table[table["split"] == "test"]
    assert (test["index"].to_numpy() == np.arange(len(splits["test"]))).all()
    assert (test["label"].to_numpy() == splits["test"].labels).all()
    mu, sigma, z = np.split(table[names].to_numpy(), 3, axis=1)
    noise = (z - mu) / sigma
    assert noise.mean() == pytest.approx(0, abs=0.05)
    assert noise.std() == pytest.approx(1, abs=0.05)


def test_a_missing_or_damaged_table_is_reported_in_one_line(tmp_path, splits):
    path = tmp_path / "latents.parquet"
    with pytest.raises(UserError, match="missing"):
        read_latents(path, "train", "mu", 2)
    write_latents(embed_dataset(make_model(2), splits, seed=0), path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match="damaged") as caught:
        read_latents(path, "train", "mu", 2)
    assert "\n" not in str(caught.value)


def test_each_split_is_read_back_with_its_labels(tmp_path, splits):
    model, path = make_model(3), tmp_path / "latents.parquet"
    write_latents(embed_dataset(model, splits, seed=0), path)
    for name, split in splits.items():
        mu, log_sigma = model.encode(*to_device(split, torch.device("cpu")))
        for quantity, expected in (("mu", mu), ("sigma", log_sigma.exp())):
            values, labels = read_latents(path, name, quantity, 3)
            np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)
            np.testing.assert_array_equal(labels, split.labels)
        z, _ = read_latents(path, name, "z", 3)
        assert z.shape == (len(split), 3)


def test_images_of_any_size_are_embedded_in_parts(splits, monkeypatch):
    """The parts bound the memory: a colour image of 64 by 64 pixels is sixteen times one of MNIST."""
    schema = Schema((50, 50, 3), ("a",))
    model = CVAE(schema, labels="none", hidden_dims=2).initialise(generator(0, "weights")).requires_grad_(False)
    split = Split(np.random.RandomState(0).randint(0, 256, (1100, 7500)).astype(np.uint8), np.zeros(1100, np.uint8))
    asked, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda x, y: asked.append(len(x)) or encode(x, y))
    table = embed_dataset(model, {"test": split}, seed=0)
    assert asked == [1045, 55]
    mu, _ = encode(*to_device(split, torch.device("cpu")))
    np.testing.assert_allclose(table["mu_0"].to_numpy(), mu[:, 0], rtol=1e-4, atol=1e-6)


def test_the_same_seed_writes_the_same_bytes(tmp_path, splits):
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        write_latents(embed_dataset(make_model(2), splits, seed), tmp_path / name)
    first, again, other = ((tmp_path / name).read_bytes() for name in ("first", "again", "other"))
    assert first == again
    assert first != other


def test_latents_of_another_model_are_reported_in_one_line(tmp_path, splits):
    path = tmp_path / "latents.parquet"
    write_latents(embed_dataset(make_model(3), splits, seed=0), path)
    with pytest.raises(UserError, match=rf"^{path}: holds 3 latents, but data/model has 2; [^\n]*$"):
        read_latents(path, "train", "mu", 2)
