"""Damaged files: whatever reads one names it in one line, and says how to make it again."""

import hashlib
import json
import math
import struct
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers.edited_models import install
from helpers.models import MNIST
from helpers.repository import Repository, stages_run
from safetensors.torch import load, save
from stages import embed, evaluate, render
from torch import nn

from cvae.artifacts import saved_model
from cvae.artifacts.history import read_history
from cvae.data.dataset import mnist_like
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
    """A model of one latent and one hidden unit."""
    saved_model.save(CVAE(MNIST, latent_dims=1, hidden_dims=1).initialise(torch.Generator().manual_seed(0)), tmp_path)
    return tmp_path


def configured(folder: Path, **values: object) -> dict:
    """Return the content of config.json without its checksum, changed by `values`; None removes a key."""
    content = json.loads((folder / "config.json").read_text()) | {"sha256": None} | values
    return {key: value for key, value in content.items() if value is not None}


def schema(**values: object) -> dict:
    return MNIST.as_json() | values


WIDTHS = "a whole number from 1 to 65536, or a list of 1 to 16 of them"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"colour": 1}, "'colour' is not a parameter; allowed: activation, hidden_dims, labels, latent_dims, "),
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
        ({"activation": ["relu"]}, "activation is ['relu']; allowed: one of article, relu, tanh, sigmoid"),
        ({"labels": "some"}, "labels is 'some'; allowed: one of given, none"),
        ({"labels": {}}, "labels is {}; allowed: one of given, none"),
        ({"model": 7}, "model is 7"),
        ({"model": "cvae.model:" + "X" * 1000}, "model is 'cvae.model:XXX"),
        ({"schema": [28, 28, 1]}, "a schema has the keys shape, classes, title and ink"),
        ({"schema": schema(shape=[10**9, 28, 1])}, "shape is [1000000000, 28, 1], not [height, width, channels]"),
        ({"schema": schema(shape=[28, 28, 2])}, "shape is [28, 28, 2], not [height, width, channels]"),
        ({"schema": schema(classes=["a", "a"])}, "classes are not 1 to 256 different "),
        ({"schema": schema(classes=[str(number) for number in range(257)])}, "classes are not 1 to 256 different "),
        ({"schema": schema(classes="abc")}, "classes are not 1 to 256 different "),
        ({"schema": schema(ink=1)}, "title is not "),
    ],
    ids=str,
)
def test_a_wrong_value_in_a_models_configuration_is_reported(folder, values, reason):
    (folder / "config.json").write_text(json.dumps(configured(folder, **values)))
    message = refusal(saved_model.load, folder)
    assert message.startswith(f"{folder}: damaged (config.json: {reason}")
    assert message.endswith("); `dvc repro -sf train` makes it again")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("os:system", "is os:system; allowed: cvae.model:CVAE, or "),
        ("cvae.support.errors:UserError", "is cvae.support.errors:UserError; allowed: "),
        ("cvae.models:os.system", "is cvae.models:os.system; allowed: "),
        ("cvae.models.nowhere:Net", "is cvae.models.nowhere:Net, but there is no cvae/models/nowhere.py in src"),
        ("cvae.model:Nothing", "is cvae.model:Nothing, but cvae.model has no class of that name"),
        ("cvae.model:Linear", "is cvae.model:Linear, but Linear is not a subclass of cvae.model.VAE"),
        ("cvae.model:VAE", "is cvae.model:VAE, but VAE is not a subclass of cvae.model.VAE"),
        ("cvae.model:CVAE\n\x1b[2J" + "x" * 100, "is cvae.model:CVAE \\x1b[2Jxxx"),
        ("", "is ; allowed: "),
    ],
    ids=lambda value: value[:30],
)
def test_a_model_of_a_class_that_is_not_here_is_reported_and_nothing_else_is_imported(folder, name, reason):
    (folder / "config.json").write_text(json.dumps(configured(folder, model=name)))
    before = set(sys.modules)
    message = refusal(saved_model.load, folder)
    assert message.startswith(f"{folder}/config.json: model {reason}")
    assert message.endswith("; `dvc repro -sf train` makes it again")
    assert len(message) < 500
    assert set(sys.modules) == before


def test_a_value_that_a_models_own_class_refuses_is_reported(folder, monkeypatch):
    class Own(CVAE):
        def __init__(self, schema, channels: int = 2, **settings):
            super().__init__(schema, **settings)
            self.layer = nn.Conv2d(1, channels, 3)

    name = install(monkeypatch, Own)
    for channels in ("x", -1, [2], {"a": 1}):
        (folder / "config.json").write_text(json.dumps(configured(folder, model=name, channels=channels)))
        message = refusal(saved_model.load, folder)
        assert message.startswith(f"{folder}: damaged (config.json: {name} cannot be built from it (")


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
def test_a_file_that_is_no_configuration_is_reported(folder, content):
    (folder / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refusal(saved_model.load, folder).startswith(f"{folder}: damaged (config.json")


def resaved(content: bytes, change: Callable[[dict], dict]) -> bytes:
    """Return the file's content after `change` to its tensors by name."""
    return save(change(load(content)))


def with_one(content: bytes, change: Callable[[torch.Tensor], torch.Tensor]) -> bytes:
    """Return the file's content after `change` to one of its tensors."""
    return resaved(content, lambda weights: weights | {min(weights): change(weights[min(weights)])})


def renamed(weights: dict) -> dict:
    return {f"{name}s" if name == min(weights) else name: weight for name, weight in weights.items()}


WEIGHTS = {
    "empty": (lambda content: b"", "header too small"),
    "cut short": (lambda content: content[:-1], "not fully covered"),
    "cut in its header": (lambda content: content[:100], "invalid header length"),
    "longer": (lambda content: content + b"x", "not fully covered"),
    "a header of terabytes": (lambda content: struct.pack("<Q", 2**40) + content[8:], "header too large"),
    "other numbers": (lambda content: with_one(content, lambda weight: weight.to(torch.int32)), " is int32 ["),
    "another shape": (lambda content: with_one(content, lambda weight: weight[None]), " is float32 [1, "),
    "another name": (lambda content: resaved(content, renamed), " is none, not float32 ["),
    "an extra weight": (
        lambda content: resaved(content, lambda weights: weights | {"more": torch.zeros(1)}),
        "'more' is float32 [1], not none",
    ),
    "not a number": (lambda content: with_one(content, lambda weight: weight * math.nan), "are not all finite numbers"),
    "infinite": (lambda content: with_one(content, lambda weight: weight + math.inf), "are not all finite numbers"),
    "one bit": (lambda content: content[:-4] + bytes([content[-4] ^ 1]) + content[-3:], "not as they were saved"),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_damaged_weights_are_reported(folder, kind):
    damage, reason = WEIGHTS[kind]
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    message = refusal(saved_model.load, folder)
    assert message.startswith(f"{folder}: damaged (")
    assert reason in message
    assert message.endswith("); `dvc repro -sf train` makes it again")


def test_an_edited_configuration_of_the_same_weights_is_reported(folder):
    edited = json.loads((folder / "config.json").read_text()) | {"likelihood": "bernoulli"}
    (folder / "config.json").write_text(json.dumps(edited))
    assert "not as they were saved, by the sha256 in config.json" in refusal(saved_model.load, folder)


def test_a_configuration_cut_short_and_closed_again_does_not_pass_for_an_older_one(folder):
    edited = json.dumps(json.loads((folder / "config.json").read_text()) | {"prior_std": 0.7}, indent=2)
    lines = edited.splitlines()
    for count in range(1, len(lines)):
        (folder / "config.json").write_text("\n".join(lines[:count]).rstrip(",") + "\n}")
        assert refusal(saved_model.load, folder).startswith(f"{folder}: damaged (")


def test_a_model_older_than_the_checksum_and_the_choice_of_activations_is_loaded(folder):
    expected = saved_model.load(folder).configuration()
    older = dict.fromkeys(["activation", "labels", "model", "schema"])
    (folder / "config.json").write_text(json.dumps(configured(folder, **older, hidden_dims=1)))
    assert saved_model.load(folder).configuration() == expected


def test_a_model_older_than_the_schema_is_loaded_and_its_checksum_holds(folder):
    model = saved_model.load(folder)
    older = {  # as in the last version without a schema
        "latent_dims": 1,
        "hidden_dims": [1],
        "likelihood": "gaussian",
        "prior_std": 0.5**0.5,
        "activation": "article",
    }
    weights = (folder / "model.safetensors").read_bytes()
    checksum = {"sha256": hashlib.sha256(json.dumps(older).encode() + weights).hexdigest()}
    (folder / "config.json").write_text(json.dumps(checksum | older, indent=2) + "\n")
    loaded = saved_model.load(folder)
    assert (type(loaded), loaded.schema, loaded.labels) == (CVAE, MNIST, "given")
    assert all(torch.equal(one, other) for one, other in zip(loaded.parameters(), model.parameters(), strict=True))

    (folder / "config.json").write_text(json.dumps(checksum | older | {"prior_std": 1.0}, indent=2) + "\n")
    assert "not as they were saved" in refusal(saved_model.load, folder)


@pytest.mark.parametrize(
    "damage", ["announces 270 GB of weights", "announces huge images", "announces a million classes", "holds 100 GB"]
)
def test_a_model_that_announces_a_wrong_size_takes_no_memory(folder, damage):
    if damage == "holds 100 GB":
        with (folder / "model.safetensors").open("ab") as file:
            file.truncate(10**11)  # a sparse file, which takes no space
    elif damage == "announces 270 GB of weights":
        huge = configured(folder, latent_dims=1024, hidden_dims=[65536] * 16)
        (folder / "config.json").write_text(json.dumps(huge))
    elif damage == "announces huge images":
        huge = configured(folder, schema=schema(shape=[1024, 1024, 3]), hidden_dims=65536)
        (folder / "config.json").write_text(json.dumps(huge))
    else:
        huge = configured(folder, schema=schema(classes=[str(number) for number in range(10**6)]))
        (folder / "config.json").write_text(json.dumps(huge))
    tracemalloc.start()
    before = resident()
    refusal(saved_model.load, folder)
    assert resident() - before < 2**28
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23


def resident() -> int:
    """Return the memory of this process in bytes, which includes torch's own."""
    import psutil

    return psutil.Process().memory_info().rss


# Files that stages read


@pytest.fixture
def workspace(repository, tmp_path, monkeypatch) -> Repository:
    workspace = repository.copy(tmp_path / "cvae", "cache", ".git")
    monkeypatch.chdir(workspace.root)
    return workspace


@pytest.mark.parametrize("stage", [evaluate, embed, render], ids=lambda stage: stage.__name__)
def test_each_stage_that_reads_a_damaged_model_says_how_to_make_it_again(workspace, stage, monkeypatch):
    monkeypatch.setattr(evaluate, "share_cores", lambda *_: None)  # would change this process
    (workspace.root / "data/model/model.safetensors").write_bytes(b"")
    message = refusal(stage.main)
    assert message.startswith("data/model: damaged (model.safetensors: ")
    assert message.endswith("; `dvc repro -sf train` makes it again")


@pytest.mark.parametrize("stage", [evaluate, embed, render], ids=lambda stage: stage.__name__)
@pytest.mark.parametrize(
    ("known", "message"),
    [
        (
            mnist_like(7),
            "the model knows 7 classes (0, 1, 2, 3, 4, …), but data/raw has 10 classes (0, 1, 2, 3, 4, …); ",
        ),
        (
            replace(MNIST, classes=(*"012345678", "nine")),
            "the model's class 9 is nine, but that of data/raw is 9; ",
        ),
        (
            replace(MNIST, shape=(14, 56, 1)),
            "the model takes images of 14 × 56, but those in data/raw are 28 × 28; ",
        ),
    ],
    ids=["class count", "class", "shape"],
)
def test_each_stage_reports_a_model_of_other_data(workspace, stage, known, message, monkeypatch):
    monkeypatch.setattr(evaluate, "share_cores", lambda *_: None)  # would change this process
    saved_model.save(CVAE(known, hidden_dims=1), workspace.root / "data/model")
    assert refusal(stage.main) == f"{message}`dvc repro train` trains it on them"


def replace_by_another_models(path: Path) -> None:
    table = pd.read_parquet(path)
    table.assign(mu_2=table["mu_0"], z_2=table["z_0"]).to_parquet(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
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
        (replace_by_another_models, "holds 3 latents, but data/model has 2; "),
    ],
)
def test_damaged_latents_are_reported_by_render(workspace, damage, reason):
    path = Path("data/latents.parquet")
    damage(path)
    message = refusal(render.main)
    assert message.startswith(f"{path}: {reason}")
    assert message.endswith("; `dvc repro -sf embed` makes it again")
    assert message == refusal(read_latents, path, "train", "mu", 2, 10)


@pytest.mark.parametrize(
    ("damage", "reason"),
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
def test_a_damaged_history_is_reported(repository, tmp_path, damage, reason):
    path = tmp_path / "training.csv"
    path.write_text(damage((repository.root / "plots/training.csv").read_text()))
    message = refusal(read_history, path)
    assert message.startswith(f"{path}: {reason}")
    assert message.endswith("; `dvc repro -sf train` makes it again")


@pytest.mark.parametrize(
    ("path", "content", "message"),
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
def test_track_reports_damage_before_it_opens_the_store(workspace, path, content, message):
    (workspace.root / path).write_text(content)
    from cvae.pipeline.parameters import read_parameters

    assert refusal(record.record, read_parameters().model_dump()).startswith(message)
    assert not (workspace.root / "mlflow.db").exists()


@pytest.mark.long
def test_a_damaged_object_in_dvcs_cache_is_reported_and_made_again_once_deleted(repository, tmp_path):
    """DVC trusts a write-protected object in its cache without reading it."""
    clone = repository.copy(tmp_path / "cvae")
    path = clone.root / "data/latents.parquet"
    content = path.read_bytes()
    digest = hashlib.md5(content).hexdigest()
    kept = clone.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    kept.chmod(0o644)
    kept.write_bytes(content[:-50])
    kept.chmod(0o444)
    path.unlink()

    clone.dvc("repro", "embed")
    assert path.read_bytes() != content
    done = clone.run(sys.executable, "-m", "dvc", "repro", "-sf", "render", status=255)
    assert "render: data/latents.parquet: damaged (" in done.stderr
    assert "; `dvc repro -sf embed` makes it again" in done.stderr

    kept.unlink()
    assert stages_run(clone.dvc("repro", "-sf", "embed")) == ["embed"]
    assert path.read_bytes() == kept.read_bytes() == content
