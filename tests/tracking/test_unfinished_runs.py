"""Runs that track could not complete, or whose files were lost: the next track completes them."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.processes import closed_port, environment, mlflow_server
from helpers.tracking import assert_complete, best, history, raising, registered, rows, status_of, train
from mlflow import MlflowClient

from cvae.support.errors import UserError
from cvae.tracking import runs
from cvae.tracking.record import record

RECORD_AND_DIE = """
import json, os, signal, sys
import mlflow
from cvae.tracking.record import record
setattr(mlflow.MlflowClient, sys.argv[2], lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
record(json.loads(sys.argv[1]))
"""


def kill_in_track(params: dict, call: str) -> None:
    """Record the results in a process that is killed when it makes this call of MLflow's client."""
    command = [sys.executable, "-c", RECORD_AND_DIE, json.dumps(params), call]
    assert subprocess.run(command, env=environment(PYTHONPATH="src")).returncode == -signal.SIGKILL


@pytest.mark.parametrize(("name", "call"), [("", "log_batch"), ("interrupted", "log_model_artifacts")])
def test_a_killed_track_is_completed_in_the_same_run(workspace, params, monkeypatch, name, call):
    monkeypatch.setenv("DVC_EXP_NAME", name)
    train(params)
    (left,) = workspace.runs()
    kill_in_track(params, call)

    monkeypatch.setenv("DVC_EXP_NAME", "")  # the next `dvc repro`
    record(params)
    (run,) = workspace.runs()
    assert run.info.run_id == left.info.run_id
    assert_complete(workspace.client, run)
    assert run.data.tags["train.seconds"] == "1.0"
    assert not [name for name in run.data.tags if name.startswith("writer.")]


def test_a_killed_track_of_cached_results_is_completed_in_the_same_run(workspace, params):
    kill_in_track(params, "set_terminated")
    (half,) = workspace.runs()
    record(params)
    (run,) = workspace.runs()
    assert run.info.run_id == half.info.run_id
    assert_complete(workspace.client, run)


def test_ctrl_c_in_track_leaves_no_run_open(workspace, params, monkeypatch):
    train(params)
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.log_artifact", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            record(params)
    (run,) = workspace.runs()
    assert run.info.status == "KILLED"

    record(params)
    (run,) = workspace.runs()
    assert_complete(workspace.client, run)


@pytest.mark.parametrize(
    ("call", "trained"),
    [
        ("mlflow.MlflowClient.update_run", True),
        ("mlflow.MlflowClient.log_batch", False),
        ("mlflow.MlflowClient.log_artifact", False),
        ("cvae.tracking.served_model.log", True),
        ("mlflow.MlflowClient.log_model_artifacts", False),
        ("cvae.tracking.description.of_run", True),
    ],
)
def test_failed_tracks_leave_one_run_that_the_next_completes(workspace, params, monkeypatch, call, trained):
    if trained:
        train(params)
    reasons = {
        "a file: No space": OSError(errno.ENOSPC, "No space", "a file"),
        "ended by SIGTERM": KeyboardInterrupt("ended by SIGTERM"),
        "odd": RuntimeError("odd"),
    }
    for reason, error in reasons.items():
        with monkeypatch.context() as patch:
            patch.setattr(call, raising(error))
            with pytest.raises((UserError, KeyboardInterrupt, RuntimeError)):
                record(params)
        (run,) = workspace.runs()
        assert reason in run.data.tags["error"]
        assert run.info.status == ("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
    record(params)
    (complete,) = workspace.runs()
    assert complete.info.run_id == run.info.run_id
    assert_complete(workspace.client, complete)
    assert "error" not in complete.data.tags
    assert len(history(workspace.client, complete, "final_test/nll")) == 1


def test_unwritable_artifacts_leave_one_failed_run_with_the_reason(workspace, params):
    (workspace.root / "mlartifacts").symlink_to("/proc/nothing")
    for _ in range(2):
        with pytest.raises(UserError, match=r"mlartifacts/.*: No such file or directory"):
            record(params)
        (run,) = workspace.runs()
        assert run.info.status == "FAILED"
        assert "No such file or directory" in run.data.tags["error"]
    (workspace.root / "mlartifacts").unlink()
    record(params)
    (complete,) = workspace.runs()
    assert complete.info.run_id == run.info.run_id
    assert_complete(workspace.client, complete)


def test_unwritable_artifacts_of_a_server_leave_one_failed_run(workspace, params, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    port, kept = closed_port(), tmp_path / "kept"
    kept.symlink_to("/proc/nothing")
    with mlflow_server(workspace.root, port, "--artifacts-destination", str(kept)):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        for _ in range(2):
            with pytest.raises(UserError, match="500"):
                record(params)
            (run,) = workspace.runs()
            assert run.info.status == "FAILED"
        kept.unlink()
        record(params)
        (complete,) = workspace.runs()
        assert (complete.info.run_id, complete.info.status) == (run.info.run_id, "FINISHED")
        assert "error" not in complete.data.tags

        client = MlflowClient(f"http://127.0.0.1:{port}")
        client.create_experiment("elsewhere", artifact_location="/proc/nothing/kept")
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "elsewhere")
        with pytest.raises(UserError, match=r"/proc/nothing.*; clients must write there themselves"):
            record(params)


def test_a_failed_attempt_is_replaced_by_the_run_of_newer_results(workspace, params, monkeypatch):
    """MLflow never changes the parameters of a run, so it cannot be completed with others."""
    train(params)
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.log_artifact", raising(RuntimeError("odd")))
        with pytest.raises(RuntimeError):
            record(params)
    workspace.set(grid_size=5)
    record(params | {"grid_size": 5})
    (run,) = workspace.runs()
    assert_complete(workspace.client, run)
    assert run.data.tags["train.seconds"] == "1.0"


def test_the_failed_attempt_of_another_experiment_is_left_to_it(workspace, params, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "failed")
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.log_artifact", raising(RuntimeError("odd")))
        with pytest.raises(RuntimeError):
            record(params)
    monkeypatch.setenv("DVC_EXP_NAME", "other")
    record(params | {"grid_size": 5})
    assert (status_of(workspace, "failed"), status_of(workspace, "other")) == ("FAILED", "FINISHED")
    monkeypatch.setenv("DVC_EXP_NAME", "failed")
    record(params)
    assert [run.info.status for run in workspace.runs()] == ["FINISHED", "FINISHED"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: shutil.rmtree(folder),
        lambda folder: shutil.rmtree(folder / "models"),
        lambda folder: [file.unlink() for file in folder.glob("*/artifacts/manifolds.png")],
        lambda folder: [file.write_bytes(b"") for file in folder.glob("*/artifacts/test.json")],
        lambda folder: [os.truncate(file, 10) for file in folder.rglob("model.safetensors")],
        lambda folder: [file.write_bytes(b"") for file in folder.rglob("MLmodel")],
    ],
    ids=["everything", "the model", "a picture", "an emptied file", "truncated weights", "an empty MLmodel"],
)
def test_a_run_whose_files_are_lost_is_completed_again(workspace, params, damage, capsys):
    train(params)
    record(params | {"registered_model": "cvae"})
    (before,) = workspace.runs()
    damage(workspace.root / "mlartifacts")
    capsys.readouterr()
    record(params | {"registered_model": "cvae"})
    assert capsys.readouterr().out.startswith("These results are again MLflow run ")

    (run,) = workspace.runs()
    assert run.info.run_id == before.info.run_id
    files = Path(run.info.artifact_uri)
    assert (files / "manifolds.png").read_bytes() == Path("plots/manifolds.png").read_bytes()
    assert (files / "test.json").read_bytes() == Path("metrics/test.json").read_bytes()
    for row in rows():
        assert (row["epoch"], row["test_loss"]) in history(workspace.client, run, "test/loss")
    assert len(history(workspace.client, run, "test/loss")) == len(rows())
    model = runs.newest_model(workspace.client, run)
    assert (Path(model.artifact_location) / "MLmodel").is_file()
    versions = {str(version.version): version.source for version in registered(workspace)}
    assert versions[best(workspace)] == model.model_uri, "the registry must not hand out the lost model"

    record(params)
    assert capsys.readouterr().out.splitlines()[-1].startswith("These results are already MLflow run ")


def test_a_run_killed_while_being_completed_again_counts_as_incomplete(workspace, params, monkeypatch):
    record(params)
    shutil.rmtree(workspace.root / "mlartifacts")
    with monkeypatch.context() as patch:
        patch.setattr("cvae.tracking.served_model.log", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            record(params)
    (half,) = workspace.runs()
    assert "pipeline.key" not in half.data.tags

    record(params)
    (run,) = workspace.runs()
    assert_complete(workspace.client, run)
