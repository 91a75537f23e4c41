"""Where the store is, for every copy of a repository, and who may create it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.processes import environment
from helpers.repository import Repository
from helpers.tracking import LIVE, assert_complete, history, rows, train
from mlflow import MlflowClient

from cvae.support.errors import UserError
from cvae.tracking import store
from cvae.tracking.location import locate
from cvae.tracking.record import record


def test_an_experiment_in_a_temporary_folder_writes_to_the_main_repository(workspace, params, tmp_path, monkeypatch):
    aside = workspace.copy(workspace.root / ".dvc/tmp/exps/tmp-aside", "tmp")
    monkeypatch.chdir(aside.root)
    record(params)
    (run,) = workspace.runs()
    assert Path(run.info.artifact_uri).is_relative_to(workspace.root / "mlartifacts")
    assert not (aside.root / "mlflow.db").exists()
    assert not (aside.root / "mlruns").exists()


def test_a_relative_database_path_starts_from_the_main_repository(workspace, params, empty_database, monkeypatch):
    (workspace.root / "runs").mkdir()
    (workspace.root / "runs/own.db").write_bytes(empty_database.read_bytes())
    aside = workspace.copy(workspace.root / ".dvc/tmp/exps/tmp-aside", "tmp")
    monkeypatch.chdir(aside.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs/own.db")
    train(params)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    client = MlflowClient(f"sqlite:///{workspace.root}/runs/own.db")
    experiment = client.get_experiment_by_name("cvae")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert Path(run.info.artifact_uri).is_relative_to(workspace.root / "runs/mlartifacts")
    assert workspace.client.get_experiment_by_name("cvae") is None


def test_a_relative_registry_path_starts_from_the_main_repository(workspace, empty_database, monkeypatch):
    (workspace.root / "registry.db").write_bytes(empty_database.read_bytes())
    aside = workspace.root / ".dvc/tmp/exps/tmp-aside"
    aside.mkdir(parents=True)
    monkeypatch.chdir(aside)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:///registry.db")
    with store.locked():
        client, _ = store.open_store(locate())
    client.create_registered_model("cvae")
    registry = MlflowClient(registry_uri=f"sqlite:///{workspace.root}/registry.db")
    assert [model.name for model in registry.search_registered_models()] == ["cvae"]
    assert list(aside.iterdir()) == []


@pytest.mark.parametrize("uri", ["sqlite:///own.db?timeout=30", "sqlite+pysqlite:///own.db", "sqlite:////own.db"])
def test_sqlite_addresses_with_a_query_or_a_driver_name_the_same_file(workspace, params, monkeypatch, uri):
    uri = uri.replace("////", f"///{workspace.root}/")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    record(params)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    (run,) = MlflowClient(f"sqlite:///{workspace.root}/own.db").search_runs(["1"])
    assert run.info.status == "FINISHED"
    assert sorted(workspace.root.glob("*.db*")) == [workspace.root / "mlflow.db", workspace.root / "own.db"]


def test_a_repository_path_may_contain_characters_that_addresses_quote(workspace, params, tmp_path, monkeypatch):
    odd = workspace.copy(tmp_path / "100% of a#b, ü + c")
    monkeypatch.chdir(odd.root)
    train(params)
    record(params)
    record(params)
    (run,) = odd.runs()
    assert_complete(odd.client, run)
    assert Path(run.info.artifact_uri).is_relative_to(odd.root)
    assert set(tmp_path.iterdir()) == {workspace.root, odd.root}


@pytest.mark.parametrize("name", ["a?b", "100%20"])
def test_a_repository_path_that_mlflow_misreads_is_reported(workspace, params, tmp_path, monkeypatch, capfd, name):
    odd = workspace.root.rename(tmp_path / name)
    monkeypatch.chdir(odd)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"^MLflow at mlflow.db: .* a path must not contain \? or %20$") as refused:
        record(params)
    train(params)
    assert capfd.readouterr().err == f"train: {refused.value}; training goes on, and track will log it\n"
    assert set(tmp_path.rglob("*")) == before


def test_a_moved_repository_is_reported_in_one_line(workspace, params, tmp_path, monkeypatch, capfd):
    train(params)
    moved = workspace.root.rename(tmp_path / "moved")
    monkeypatch.chdir(moved)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    capfd.readouterr()
    with pytest.raises(UserError) as refused:
        record(params)
    assert "keeps its files in ~/a repository/mlartifacts, but the repository is now in ~/moved: " in str(refused.value)
    assert "\n" not in str(refused.value)

    train(params)
    (line,) = capfd.readouterr().err.splitlines()
    assert "training goes on" in line
    assert str(tmp_path) not in line + str(refused.value)
    assert len(Repository(moved).runs()) == 1


def test_the_store_may_be_links_to_another_disk(workspace, params, tmp_path, empty_database):
    (tmp_path / "disk").mkdir()
    for name in ("mlartifacts", "mlflow.db"):
        (workspace.root / name).unlink(missing_ok=True)
        (workspace.root / name).symlink_to(tmp_path / "disk" / name)
    (tmp_path / "disk/mlartifacts").mkdir()
    for _ in range(2):
        record(params)
    (run,) = workspace.runs()
    assert_complete(workspace.client, run)
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["mlartifacts", "mlflow.db"]
    assert (workspace.root / "mlflow.db").is_symlink()


def test_a_deleted_experiment_is_reported_with_the_command_that_restores_it(workspace, params):
    train(params)
    (run,) = workspace.runs()
    workspace.client.delete_experiment(run.info.experiment_id)
    with pytest.raises(UserError, match=f"mlflow experiments restore -x {run.info.experiment_id}"):
        record(params)


def test_four_processes_can_create_the_database_at_once(workspace, params):
    (workspace.root / "mlflow.db").unlink()
    command = [sys.executable, "-c", LIVE, json.dumps([params, {}, rows()[:1], 0])]
    variables = environment(PYTHONPATH="src")
    processes = [subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[1] for process in processes] == [""] * 4
    runs = workspace.runs()
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    assert all(len(history(workspace.client, run, "train/loss")) == 1 for run in runs)
