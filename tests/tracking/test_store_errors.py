"""Stores that cannot be used: one line says why, without secrets, and training goes on."""

import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from helpers.processes import closed_port, environment
from helpers.tracking import FaultyServer, train

from cvae.support.errors import UserError
from cvae.tracking import live, store
from cvae.tracking.location import Location, locate
from cvae.tracking.record import record
from cvae.tracking.store_errors import explain


@pytest.fixture(scope="module")
def without_server(repository, tmp_path_factory) -> dict[str, subprocess.CompletedProcess]:
    """The finished stages train and track, run together while no server answers at their address."""
    workspace = repository.copy(tmp_path_factory.mktemp("down") / "cvae", "cache")
    variables = environment(MLFLOW_TRACKING_URI=f"http://someone:pa%24s@127.0.0.1:{closed_port()}")
    started = {
        stage: subprocess.Popen(
            [sys.executable, "-m", f"stages.{stage}"],
            cwd=workspace.root,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for stage in ("train", "track")
    }
    ended = {stage: process.communicate() for stage, process in started.items()}
    assert workspace.git("status", "--porcelain", "metrics", "plots") == "", "the results must be those with a server"
    return {
        stage: subprocess.CompletedProcess(process.args, process.returncode, *ended[stage])
        for stage, process in started.items()
    }


def test_training_without_a_server_warns_once_and_completes(without_server):
    train = without_server["train"]
    assert train.returncode == 0
    assert "Trained in" in train.stdout
    (line,) = train.stderr.splitlines()
    assert line.startswith("train: MLflow at http://127.0.0.1:")
    assert "training goes on" in line


def test_track_without_a_server_fails_in_one_line(without_server):
    track = without_server["track"]
    assert track.returncode == 1
    (line,) = track.stderr.splitlines()
    assert line.startswith("track: MLflow at http://127.0.0.1:")
    assert "Connection refused" in line
    assert track.stdout == ""


def test_no_password_is_printed(without_server):
    for done in without_server.values():
        assert "pa%24s" not in done.stdout + done.stderr
        assert "someone" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (500, "", "too many 500 error responses"),
        (503, "", "too many 503 error responses"),
        (429, "", "too many 429 error responses"),  # its Retry-After asks for a wait of 15 s
        (401, "wrong: REQUEST", "failed with error code 401"),
        (403, "<html>no</html>", "failed with error code 403"),
        (200, "<!DOCTYPE html><html>Sign in</html>", "not in a valid JSON format"),
        (200, "[]", "not in a valid JSON format"),
        (200, "{}", "the server there is not MLflow"),
        (None, "", "Read timed out"),
    ],
    ids=["500", "503", "429", "401", "403", "a web page", "a list", "an empty object", "no answer"],
)
def test_a_faulty_server_fails_track_in_one_line_and_does_not_stop_training(
    workspace, params, monkeypatch, capfd, status, body, expected
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")  # no seconds between two attempts
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(live, "SERVER_PATIENCE", 8.0)
    with FaultyServer(status, body) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        started = time.monotonic()
        train(params)
        with pytest.raises(UserError) as failed:
            record(params)
        assert time.monotonic() - started < 14
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"train: MLflow at http://127.0.0.1:{server.server_port}: ")
    assert line.endswith("; training goes on, and track will log it")
    for printed in (line, str(failed.value)):
        assert expected in printed
        assert "\n" not in printed
        assert not re.search(r"someone|pa%24s|pa\$s|c29tZW9uZTpwYSRz", printed)
    assert workspace.runs() == []


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("postgresql://someone:hush@127.0.0.1:1/runs", "postgresql://127.0.0.1:1/runs: "),
        ("postgresql://someone:hu%2Fsh@127.0.0.1:1/runs?password=hush", "postgresql://127.0.0.1:1/runs?…: "),
        ("mysql+pymysql://someone:hu/s#h@127.0.0.1:1/runs", "mysql+pymysql://127.0.0.1:1/runs: "),
        ("mssql+pyodbc:///?odbc_connect=UID%3Dsomeone%3BPWD%3Dhush", "mssql+pyodbc:///?…: "),
        ("postgresql://someone:hush@127.0.0.1:port/runs", "postgresql://127.0.0.1:port/runs: "),
        ("nonsense://someone:hush@127.0.0.1/runs", "nonsense://127.0.0.1/runs: "),
        ("http://127.0.0.1:1/?token=hush", "http://127.0.0.1:1/?…: "),
        ("http://someone:hu/sh@127.0.0.1:1", "http://127.0.0.1:1: "),
        ("http://someone:hush@127.0.0.1:port", "http://127.0.0.1:port: "),
    ],
)
def test_an_unusable_store_is_reported_in_one_line_without_its_secrets(
    workspace, params, monkeypatch, capfd, uri, expected
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    started = time.monotonic()
    train(params)
    with pytest.raises(UserError) as failed:
        record(params)
    assert time.monotonic() - started < 10
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"train: MLflow at {expected}")
    assert str(failed.value).startswith(f"MLflow at {expected}")
    for printed in (line, str(failed.value)):
        assert "\n" not in printed
        assert not re.search("someone|hush|hu.{1,3}sh|hu/s", printed)


@pytest.mark.parametrize(
    "uri",
    [
        *("mlruns", "./mlruns", "file:mlruns", "file://mlruns", "~/mlruns", "C:\\mlruns", "a%20b"),
        *("sqlite:///", "sqlite:///:memory:", "http://[::1/mlflow", "oracle"),
    ],
)
@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
def test_an_address_that_mlflow_cannot_use_is_reported_and_nothing_is_written(tmp_path, monkeypatch, variable, uri):
    """An experiment's folder is deleted with everything in it, so no store may be there."""
    workspace = tmp_path / "cvae/.dvc/tmp/exps/tmp1"
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv(variable, uri)
    expected = "MLflow cannot use this address; use a server (https://…) or a database (sqlite:///mlflow.db)"
    with pytest.raises(UserError, match=f"^MLflow at {re.escape(uri)}: {re.escape(expected)}"), store.locked():
        store.open_store(locate())
    assert list(workspace.iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MLFLOW_TRACKING_INSECURE_TLS": "perhaps"}, "MLFLOW_TRACKING_INSECURE_TLS value must be one of "),
        ({"REQUESTS_CA_BUNDLE": "/nowhere/ca.pem"}, "invalid path: /nowhere/ca.pem"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_variable_that_mlflow_cannot_use_is_reported_in_one_line(
    workspace, params, monkeypatch, capfd, variables, expected
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://127.0.0.1:{closed_port()}")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as refused:
        record(params)
    train(params)
    (line,) = capfd.readouterr().err.splitlines()
    for each in (line, str(refused.value)):
        assert expected in each


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("", "mlflow.db: Is a directory; move it away, then run it again"),
        ("sqlite:///params.yaml", "MLflow at params.yaml: file is not a database; move it away, or restore a copy"),
        ("sqlite:////proc/own.db", "MLflow at /proc/own.db: /proc/own.db.new: "),
    ],
    ids=["a folder", "another file", "no such folder"],
)
def test_a_database_that_cannot_be_opened_is_reported_at_once(workspace, params, monkeypatch, capfd, uri, expected):
    """MLflow itself would try for a minute and a half."""
    (workspace.root / "mlflow.db").unlink()
    (workspace.root / "mlflow.db").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    started = time.monotonic()
    with pytest.raises(UserError) as refused:
        record(params)
    train(params)
    assert time.monotonic() - started < 10
    (line,) = capfd.readouterr().err.splitlines()
    assert str(refused.value).startswith(expected)
    assert line.startswith(f"train: {expected}")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE alembic_version SET version_num = 'ffff00001111'",
        "UPDATE alembic_version SET version_num = 'ffff00001111'; DROP TABLE spans",
        "UPDATE alembic_version SET version_num = 'cc1f77228345'",
    ],
    ids=["newer", "newer, without a table of this one", "older"],
)
def test_a_database_of_another_mlflow_is_reported_and_left_unchanged(workspace, params, capfd, damage):
    with closing(sqlite3.connect("mlflow.db")) as database:
        database.executescript(damage)
    before = Path("mlflow.db").read_bytes()
    train(params)
    with pytest.raises(UserError) as refused:
        record(params)
    (line,) = capfd.readouterr().err.splitlines()
    for printed in (line.removeprefix("train: "), str(refused.value)):
        assert printed.startswith("MLflow at mlflow.db: made by a version of MLflow other than 3.")
        assert "mlflow db upgrade" in printed
        assert "\n" not in printed
    assert Path("mlflow.db").read_bytes() == before


@pytest.mark.parametrize("version", [None, "0001_initial"])
def test_another_programs_database_is_reported_and_left_unchanged(workspace, params, monkeypatch, version):
    with closing(sqlite3.connect("site.db")) as database:
        database.executescript("CREATE TABLE auth_user (id INTEGER); CREATE TABLE django_migrations (id INTEGER)")
        if version:
            database.executescript(
                f"CREATE TABLE alembic_version (n); INSERT INTO alembic_version VALUES ('{version}')"
            )
    before = Path("site.db").read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///site.db")
    with pytest.raises(
        UserError, match=r"site.db: the database of another program \(tables .*auth_user.*\); choose another file"
    ):
        record(params)
    assert Path("site.db").read_bytes() == before


def test_an_empty_database_file_is_used(workspace, params):
    Path("mlflow.db").write_bytes(b"")
    record(params)
    (run,) = workspace.runs()
    assert run.info.status == "FINISHED"


def test_a_long_error_is_cut_between_words():
    location = Location("http://127.0.0.1:1", None)
    shown = explain(location, ValueError("word " * 200))
    assert shown.endswith("word …")
    assert len(shown) < 340
