"""Where `cvae sample` finds models and images, and what it refuses."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.locks import write_lock
from helpers.models import MNIST

from cvae.artifacts import saved_model
from cvae.commands.sample.sources import Origin, Source, open_data, open_model
from cvae.data.dataset import Dataset, Schema, Split, save
from cvae.support.errors import UserError
from cvae.tracking import fetch

# The pipeline's model and images


@pytest.mark.parametrize("lock", [None, "", "stages: []", "<<<<<<< HEAD\n", "stages: {download: {params: }}", "\xff"])
def test_the_origin_is_unknown_without_a_usable_dvc_lock(folder, tmp_path, monkeypatch, lock):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "2", tmp_path / "data/model")
    if lock is not None:
        (tmp_path / "dvc.lock").write_bytes(lock.encode("latin-1"))
    _, origin = open_model(Source())
    assert origin == Origin(dataset=None, binarize=None)


def test_a_damaged_model_of_the_pipeline_is_reported_with_how_to_make_it_again(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "2", tmp_path / "data/model")
    (tmp_path / "data/model/config.json").write_text("{")
    with pytest.raises(UserError, match=r"^data/model: damaged .*; `dvc repro -sf train` makes it again"):
        open_model(Source())


def test_images_of_another_data_set_are_refused(tmp_path, monkeypatch):
    write_lock(tmp_path, "mnist")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data/raw is mnist, says dvc.lock, but the model was trained on kmnist; use"):
        open_data(None, Origin("kmnist"), MNIST)


PETS = Schema((28, 28, 1), ("cat", "dog"), "pets")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (replace(PETS, shape=(28, 28, 3)), "the model takes images of 28 × 28, but those in other are 28 × 28 × 3"),
        (
            replace(PETS, classes=("cow", "dog")),
            "the model's class 0 is cat, but that of other is cow",
        ),
    ],
)
def test_images_unlike_those_of_the_model_are_refused(tmp_path, monkeypatch, schema, message):
    monkeypatch.chdir(tmp_path)
    split = Split(np.zeros((2, schema.image_dims), np.uint8), np.arange(2, dtype=np.uint8))
    save(Dataset(split, split, schema), "other")
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        open_data("other", Origin(), PETS)


def test_images_without_names_fit_a_model_if_their_numbers_do(tmp_path):
    split = Split(np.zeros((2, 784), np.uint8), np.arange(2, dtype=np.uint8))
    save(Dataset(split, split, PETS), tmp_path)
    (tmp_path / "schema.json").unlink()
    assert len(open_data(str(tmp_path), Origin(), PETS).train) == 2
    with pytest.raises(UserError, match=r"the model knows 1 class \(cat\)"):
        open_data(str(tmp_path), Origin(), replace(PETS, classes=("cat",)))


def test_a_model_older_than_schemas_has_the_names_of_its_data_set(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "2", tmp_path / "data/model")
    write_lock(tmp_path, "fashion-mnist")
    model, origin = open_model(Source())
    assert (origin.dataset, model.schema.title) == ("fashion-mnist", "Fashion-MNIST")
    assert model.schema.classes[9] == "9 ankle boot"


@pytest.mark.parametrize("own", [True, False], ids=["--data", "data/raw"])
def test_damaged_images_are_reported_with_advice_only_if_the_pipeline_made_them(folder, tmp_path, monkeypatch, own):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "data/raw", "data/raw")
    labels = Path("data/raw/train-labels-idx1-ubyte.gz")
    labels.write_bytes(b"")
    with pytest.raises(UserError) as caught:
        open_data("data/raw" if own else None, Origin(), MNIST)
    message = f"{labels}: not an IDX file of bytes with 1 dimensions (starts )"
    assert str(caught.value) == (message if own else f"{message}; `dvc repro -sf download` brings it back")


# Models of DVC experiments


def test_a_model_of_an_experiment_comes_from_dvcs_cache(compared, tmp_path, monkeypatch):
    monkeypatch.chdir(compared.root)
    model, origin = open_model(Source(exp="wide"))
    assert (model.latent_dims, origin) == (4, Origin("digits", "none"))
    with pytest.raises(UserError, match=r"^--exp wild: .*; `dvc exp show` lists experiments$"):
        open_model(Source(exp="wild"))


# Models of MLflow


@pytest.mark.parametrize("damaged", ["model.safetensors", "config.json"])
@pytest.mark.parametrize(
    ("source", "name"),
    [
        (Source(run="0123"), "MLflow run 0123"),
        (Source(model="models:/cvae@best"), "models:/cvae@best"),
    ],
)
def test_a_damaged_model_of_mlflow_is_reported_by_its_name_there(folder, monkeypatch, source, name, damaged):
    def fetch_damaged(_, target: str) -> tuple[Path, dict[str, str]]:
        weights = shutil.copytree(folder / "2", Path(target) / "artifacts/model")
        (weights / damaged).write_bytes(b"{")
        return weights, {}

    monkeypatch.setattr(fetch, "fetch_run", fetch_damaged)
    monkeypatch.setattr(fetch, "fetch_model", fetch_damaged)
    with pytest.raises(UserError, match=rf"^{re.escape(name)}: damaged \(.*\)$"):
        open_model(source)


@pytest.fixture
def store(repository, monkeypatch) -> None:
    """The repository's store is the one that MLflow uses, until the test ends."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.chdir(repository.root)


def test_a_model_is_fetched_by_its_uri_with_its_parameters(store, repository, tmp_path):
    [recorded] = repository.runs()
    [model] = recorded.outputs.model_outputs
    for uri in (f"models:/{model.model_id}", f"runs:/{recorded.info.run_id}/model"):
        folder, params = fetch.fetch_model(uri, tmp_path / uri[:4])
        assert (params["dataset"], params["binarize"]) == ("digits", "none")
        for file in ("model.safetensors", "config.json"):
            assert (folder / file).read_bytes() == (repository.root / "data/model" / file).read_bytes()


def test_the_origin_of_a_model_is_read_from_its_run(store, repository):
    [recorded] = repository.runs()
    _, origin = open_model(Source(run=recorded.info.run_id))
    assert origin == Origin("digits", "none")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("deep", "deep"),
        ("dims-1*", "dims-1"),
        ("dims-*", "2 runs match dims-*: dims-1, dims-2; choose one of them"),
        ("dimms-1", "no MLflow run has the name or id 'dimms-1'; did you mean dims-1?"),
        ("[", "no MLflow run has the name or id '['; `make ui` lists all runs"),
    ],
)
def test_a_run_is_found_by_name_pattern_or_id(empty_database, tmp_path, name, found):
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


def test_a_model_whose_weights_lie_outside_it_is_refused(store, folder, tmp_path):
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


def test_a_missing_model_of_mlflow_is_reported_in_one_line(store, tmp_path):
    for uri in ("models:/cvae@best", "models:/m-0123", "models:/", "runs:/0123/model"):
        with pytest.raises(UserError, match=r"^MLflow at mlflow\.db: ") as caught:
            fetch.fetch_model(uri, tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no MLflow run has the name or id '0123'; `make ui` lists all runs"):
        fetch.fetch_run("0123", tmp_path)


def test_a_run_without_a_model_is_reported_in_one_line(store, empty_database, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    bare = client.create_run(client.create_experiment("cvae", artifact_location=str(tmp_path)), run_name="bare")
    with pytest.raises(UserError, match=rf"^run bare \({bare.info.run_id}\) has no model; track logs it") as caught:
        fetch.fetch_run(bare.info.run_id, tmp_path / "fetched")
    assert "\n" not in str(caught.value)
