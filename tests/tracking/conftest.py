"""Fixtures that tests of the MLflow store share."""

import os

import pytest
from helpers.processes import FOREIGN
from helpers.repository import Repository

from cvae.pipeline.parameters import read_parameters


@pytest.fixture(autouse=True)
def _no_foreign_variables(monkeypatch):
    for name in os.environ:
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # so that the test's end undoes what MLflow sets


@pytest.fixture
def workspace(repository, empty_database, tmp_path, monkeypatch) -> Repository:
    """A repository with results, few pictures and no run, at a path with a space; it is the working directory."""
    workspace = repository.copy(tmp_path / "a repository", "cache", "[1-9].png")
    (workspace.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    monkeypatch.chdir(workspace.root)
    return workspace


@pytest.fixture
def params(workspace) -> dict:
    return read_parameters("params.yaml").model_dump()
