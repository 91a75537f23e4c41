"""Artifacts that were damaged after they were made: whoever reads one says which, in one line, and how to mend it."""

import hashlib
import json
import struct
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers.repository import Repository, stages_run
from safetensors.torch import save
from stages import embed, evaluate, render

from cvae.artifacts import saved_model
from cvae.artifacts.history import read_history
from cvae.commands.sample import sources
from cvae.embedding import read_latents
from cvae.model import CVAE
from cvae.support.errors import UserError
from cvae.tracking import record


def refusal(read: Callable, *arguments: object) -> str:
    with pytest.raises(UserError) as caught:
        read(*arguments)
    assert str(caught.value).isprintable(), "more than one line, or a control character"
    return str(caught.value)


# The model


@pytest.fixture
def folder(tmp_path) -> Path:
    """A whole model of one latent and one hidden unit."""
    saved_model.save(CVAE(1, 1).initialise(torch.Generator().manual_seed(0)), tmp_path)
    return tmp_path


def configured(folder: Path, **values: object) -> dict:
    """What config.json holds, without its checksum, and with `values`; None takes a key away."""
    content = json.loads((folder / "config.json").read_text()) | {"sha256": None} | values
    return {key: value for key, value in content.items() if value is not None}


WIDTHS = "a whole number from 1 to 65536, or a list of 1 to 16 of them"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"colour": 1}, "'colour' is not a parameter; allowed: latent_dims, hidden_dims, likelihood, prior_std"),
        ({"latent_dims": None}, "latent_dims is missing; allowed: a whole number from 1 to 1024"),
        ({"latent_dims": 10**9}, "latent_dims is 1000000000; allowed: a whole number from 1 to 1024"),
        ({"latent_dims": 1.0}, "latent_dims is 1.0; allowed: a whole number from 1 to 1024"),
        ({"hidden_dims": []}, f"hidden_dims is []; allowed: {WIDTHS}"),
        ({"hidden_dims": True}, f"hidden_dims is True; allowed: {WIDTHS}"),
        ({"hidden_dims": [True]}, f"hidden_dims is [True]; allowed: {WIDTHS}"),
        ({"prior_std": "x"}, "prior_std is 'x'; allowed: a number from 0.001 to 1000.0"),
        ({"prior_std": float("nan")}, "prior_std is nan; allowed: a number from 0.001 to 1000.0"),
        ({"prior_std": 0}, "prior_std is 0; allowed: a number from 0.001 to 1000.0"),
        ({"likelihood": "poisson"}, "likelihood is 'poisson'; allowed: one of gaussian, bernoulli"),
        ({"activation": "gelu"}, "activation is 'gelu'; allowed: one of article, relu, tanh, sigmoid"),
    ],
    ids=str,
)
def test_a_wrong_value_in_a_models_configuration_is_reported(folder, values, told):
    (folder / "config.json").write_text(json.dumps(configured(folder, **values)))
    message = refusal(saved_model.load, folder)
    assert message.startswith(f"{folder}: damaged (config.json: {told}")
    assert message.endswith("); `dvc repro -sf train` makes it again")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        "null",
        "7",
        '"x"',
        "{}",
        "[" * 50_000,
        "9" * 5000,
        '{"seed": 1, "seed": 1}',
        "é".encode("latin-1"),
    ],
    ids=lambda content: ascii(content)[:20],
)
def test_a_configuration_that_is_none_is_told(folder, content):
    (folder / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refusal(saved_model.load, folder).startswith(f"{folder}: damaged (config.json")


WEIGHTS = {
    "empty": (lambda whole: b"", "header too small"),
    "cut short": (lambda whole: whole[:-1], "not fully covered"),
    "cut in its header": (lambda whole: whole[:100], "invalid header length"),
    "longer": (lambda whole: whole + b"x", "not fully covered"),
    "a header of terabytes": (lambda whole: struct.pack("<Q", 2**40) + whole[8:], "header too large"),
    "other numbers": (lambda whole: whole.replace(b'"F32"', b'"I32"'), "is int32 [1, 784], not float32 [1, 784]"),
    "another shape": (
        lambda whole: whole.replace(b"[784,1]", b"[1,784]"),
        "float32 [1, 784], not float32 [784, 1]",
    ),
    "another name": (lambda whole: whole.replace(b"decoder.bias", b"decoder.bios"), "'decoder.bias' is none"),
    "one weight more": (
        lambda whole: save({**of(whole), "more": torch.zeros(1)}),
        "'more' is float32 [1], not none",
    ),
    "not a number": (lambda whole: whole[:-4] + struct.pack("<f", float("nan")), "are not all finite numbers"),
    "infinite": (lambda whole: whole[:-4] + struct.pack("<f", float("inf")), "are not all finite numbers"),
    "one bit": (lambda whole: whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:], "not as they were saved"),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_damaged_weights_are_told(folder, kind):
    damage, told = WEIGHTS[kind]
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    message = refusal(saved_model.load, folder)
    assert message.startswith(f"{folder}: damaged (")
    assert told in message
    assert message.endswith("); `dvc repro -sf train` makes it again")


def of(whole: bytes) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    return load(whole)


def test_an_edited_configuration_of_the_same_weights_is_told(folder):
    edited = json.loads((folder / "config.json").read_text()) | {"likelihood": "bernoulli"}
    (folder / "config.json").write_text(json.dumps(edited))
    assert "not as they were saved, by the sha256 in config.json" in refusal(saved_model.load, folder)


def test_a_configuration_that_is_cut_short_and_closed_again_is_no_older_one(folder):
    edited = json.dumps(json.loads((folder / "config.json").read_text()) | {"prior_std": 0.7}, indent=2)
    lines = edited.splitlines()
    for count in range(1, len(lines)):
        (folder / "config.json").write_text("\n".join(lines[:count]).rstrip(",") + "\n}")
        assert refusal(saved_model.load, folder).startswith(f"{folder}: damaged (")


def test_a_model_older_than_the_checksum_and_the_choice_of_activations_is_loaded(folder):
    whole = saved_model.load(folder)
    (folder / "config.json").write_text(json.dumps(configured(folder, activation=None, hidden_dims=1)))
    assert saved_model.load(folder).configuration() == whole.configuration()


@pytest.mark.parametrize("damage", ["announces 270 GB of weights", "holds 100 GB"])
def test_a_model_that_is_not_as_large_as_it_says_costs_no_memory(folder, damage):
    if damage == "holds 100 GB":
        with (folder / "model.safetensors").open("ab") as file:
            file.truncate(10**11)  # takes no room on the disk
    else:
        huge = configured(folder, latent_dims=1024, hidden_dims=[65536] * 16)
        (folder / "config.json").write_text(json.dumps(huge))
    tracemalloc.start()
    before = resident()
    refusal(saved_model.load, folder)
    assert resident() - before < 2**28
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23


def resident() -> int:
    """Bytes of memory that this process has: torch's are not Python's."""
    import psutil

    return psutil.Process().memory_info().rss


# The stages, and what else reads what they made


@pytest.fixture
def workspace(repository, tmp_path, monkeypatch) -> Repository:
    workspace = repository.copy(tmp_path / "cvae", "cache", ".git")
    monkeypatch.chdir(workspace.root)
    return workspace


@pytest.mark.parametrize("stage", [evaluate, embed, render], ids=lambda stage: stage.__name__)
def test_every_stage_that_reads_the_model_says_how_it_is_made_anew(workspace, stage, monkeypatch):
    monkeypatch.setattr(evaluate, "share_cores", lambda *_: None)  # of this process, which goes on
    (workspace.root / "data/model/model.safetensors").write_bytes(b"")
    told = refusal(stage.main)
    assert told.startswith("data/model: damaged (model.safetensors: ")
    assert told.endswith("; `dvc repro -sf train` makes it again")


def of_another_model(path: Path) -> None:
    table = pd.read_parquet(path)
    table.assign(mu_2=table["mu_0"], z_2=table["z_0"]).to_parquet(path)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.write_bytes(b""), "damaged ("),
        (lambda path: path.write_bytes(path.read_bytes()[:-50]), "damaged ("),
        (lambda path: path.write_bytes(path.read_bytes()[50:]), "damaged ("),
        (lambda path: pd.read_parquet(path)[["label", "mu_0", "mu_1"]].to_parquet(path), "damaged ("),
        (lambda path: pd.read_parquet(path)[["split", "label"]].to_parquet(path), "damaged ("),
        (lambda path: pd.read_parquet(path).assign(label="seven").to_parquet(path), "damaged ("),
        (lambda path: pd.read_parquet(path).assign(label=10).to_parquet(path), "damaged (a mu or a label of train is"),
        (
            lambda path: pd.read_parquet(path).assign(label=None).to_parquet(path),
            "damaged (a mu or a label of train is",
        ),
        (lambda path: pd.read_parquet(path).assign(split="test").to_parquet(path), "damaged (a mu or a label of train"),
        (lambda path: pd.read_parquet(path).assign(mu_1=None).to_parquet(path), "damaged (a mu or a label of train is"),
        (of_another_model, "of a model of 3 latents, and data/model has 2; "),
    ],
)
def test_damaged_latents_are_told_by_render(workspace, damage, told):
    path = Path("data/latents.parquet")
    damage(path)
    message = refusal(render.main)
    assert message.startswith(f"{path}: {told}")
    assert message.endswith("; `dvc repro -sf embed` makes it again")
    assert message == refusal(read_latents, path, "train", "mu", 2)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: "", "damaged (No columns to parse from file)"),
        (lambda text: text[:20], "damaged (no column test_kl)"),
        (lambda text: text.splitlines()[0] + "\n", "damaged (epoch is not a number in every row)"),
        (lambda text: text[:-1], "damaged (not a whole row for every epoch from 1 on)"),
        (lambda text: text[:-20], "damaged ("),
        (lambda text: text.replace("\n2,", "\n3,"), "damaged (not a whole row for every epoch from 1 on)"),
        (lambda text: text.replace("\n2,", "\n2,much"), "damaged (train_loss is not a number in every row)"),
        (lambda text: text.replace("\n2,", "\n2,1e999"), "damaged (train_loss is not a number in every row)"),
        (lambda text: text.replace("\n2,", "\n2,1,"), "damaged ("),
        (lambda text: text.replace("test_kl", "kl"), "damaged (no column test_kl)"),
        (lambda text: text + "\0\n", "damaged ("),
    ],
)
def test_a_damaged_history_is_told_by_render_and_track(repository, tmp_path, damage, told):
    path = tmp_path / "training.csv"
    path.write_text(damage((repository.root / "plots/training.csv").read_text()))
    message = refusal(read_history, path)
    assert message.startswith(f"{path}: {told}")
    assert message.endswith("; `dvc repro -sf train` makes it again")


@pytest.mark.parametrize(
    ("path", "content", "told"),
    [
        ("plots/training.csv", "epoch\n1\n", "plots/training.csv: damaged (no column test_kl); `dvc repro -sf train` "),
        ("metrics/test.json", "{", "metrics/test.json: damaged (Expecting property name"),
        (
            "metrics/test.json",
            "[1]",
            "metrics/test.json: damaged (not an object of numbers and words); `dvc repro -sf ",
        ),
        ("metrics/test.json", "{}", "metrics/test.json: damaged (not an object of numbers and words); `dvc repro -sf "),
        ("metrics/test.json", '{"loss": null}', "metrics/test.json: damaged (not an object of numbers and words); "),
        ("dvc.lock", "<<<<<<< HEAD\n", "dvc.lock: damaged; `git checkout HEAD dvc.lock` brings it back"),
        ("dvc.lock", "stages: 7", "dvc.lock: damaged; `git checkout HEAD dvc.lock` brings it back"),
    ],
)
def test_track_tells_what_is_damaged_before_it_opens_the_store(workspace, path, content, told):
    (workspace.root / path).write_text(content)
    from cvae.pipeline.parameters import read_parameters

    assert refusal(record.record, read_parameters().model_dump()).startswith(told)
    assert not (workspace.root / "mlflow.db").exists()


def test_damaged_images_of_ones_own_are_told_without_the_pipelines_advice(workspace):
    (workspace.root / "data/raw/train-labels-idx1-ubyte.gz").write_bytes(b"")
    told = refusal(sources.open_data, "data/raw", sources.Origin())
    assert told == "data/raw/train-labels-idx1-ubyte.gz: not an IDX file of bytes with 1 dimensions (starts )"
    assert refusal(sources.open_data, None, sources.Origin()) == f"{told}; `dvc repro -sf download` brings it back"


@pytest.mark.long
def test_a_spoiled_object_of_dvcs_cache_is_told_by_the_stage_that_reads_it_and_made_anew_once_deleted(
    repository, tmp_path
):
    """DVC trusts a write-protected object of its cache without reading it, and so hands on what a disk made of it."""
    spoiled = repository.copy(tmp_path / "cvae")
    path = spoiled.root / "data/latents.parquet"
    whole = path.read_bytes()
    digest = hashlib.md5(whole).hexdigest()
    kept = spoiled.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    kept.chmod(0o644)
    kept.write_bytes(whole[:-50])
    kept.chmod(0o444)
    path.unlink()

    spoiled.dvc("repro", "embed")
    assert path.read_bytes() != whole
    done = spoiled.run(sys.executable, "-m", "dvc", "repro", "-sf", "render", status=255)
    assert "render: data/latents.parquet: damaged (" in done.stderr
    assert "; `dvc repro -sf embed` makes it again" in done.stderr

    kept.unlink()
    assert stages_run(spoiled.dvc("repro", "-sf", "embed")) == ["embed"]
    assert path.read_bytes() == kept.read_bytes() == whole
