"""What MLflow holds after train and track, read back through its own client, whatever happened on the way."""

import errno
import http.server
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest
from helpers.processes import FOREIGN, closed_port, environment, kill_group, mlflow_server, wait_for
from helpers.repository import PROJECT, Repository
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput

from cvae.compute.devices import open_device
from cvae.compute.seeding import generator
from cvae.model import CVAE
from cvae.pipeline.parameters import read_parameters
from cvae.support.errors import UserError
from cvae.tracking import current_run, fetch, live, registry, runs, store, writers
from cvae.tracking.description import NOTE
from cvae.tracking.live import LiveRun
from cvae.tracking.location import Location, locate
from cvae.tracking.record import record
from cvae.tracking.run_keys import recorded
from cvae.tracking.store_errors import explain
from cvae.training.loop import Training

TASK = {"dataset": "digits", "likelihood": "gaussian", "binarize": "none", "nll_samples": 50}
EPOCHS = 30  # of digits, several seconds on one core
MEASURED = {"device": "an abacus", "torch.version": "0.0"}


@pytest.fixture(autouse=True)
def _no_foreign_variables(monkeypatch):
    for name in os.environ:
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # so that what MLflow sets here ends with the test


@pytest.fixture
def workspace(repository, empty_database, tmp_path, monkeypatch) -> Repository:
    """Results as the pipeline left them and no run yet, at a path with a space; few pictures, to be quick."""
    workspace = repository.copy(tmp_path / "a repository", "cache", "[1-9].png")
    (workspace.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    monkeypatch.chdir(workspace.root)
    return workspace


@pytest.fixture
def params(workspace) -> dict:
    return read_parameters("params.yaml").model_dump()


def rows() -> list[dict]:
    return pd.read_csv("plots/training.csv").astype({"epoch": int}).to_dict("records")


def train(params: dict, seconds: str = "1.0") -> None:
    """What stages/train.py does with its live run, when training makes what the workspace holds."""
    with LiveRun(params, MEASURED) as run:
        for row in rows():
            run.log(row)
        run.complete({"train.seconds": seconds})


def history(client, run, name: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name))


def assert_whole(client, run) -> None:
    """That `run` has what track logs of the workspace: the parameters, every epoch once, the files and the model."""
    assert run.info.status == "FINISHED"
    assert "pipeline.key" in run.data.tags
    assert run.data.params == {name: str(value) for name, value in recorded(read_parameters().model_dump()).items()}
    for column in rows()[0].keys() - {"epoch"}:
        name = "train/article_loss" if column == "article_loss" else column.replace("_", "/", 1)
        assert history(client, run, name) == [(row["epoch"], row[column]) for row in rows()]
    files = set(os.listdir(run.info.artifact_uri))
    assert files >= {"latents", "manifolds", "latents.png", "images", "test.json", "training.csv", "params.yaml"}
    assert len(run.outputs.model_outputs) == 1


def steps_of_all(workspace: Repository) -> int:
    return sum(len(history(workspace.client, run, "train/loss")) for run in workspace.runs())


# What a process does with the store, which reads its parameters and rows from its arguments
LIVE = """
import json, sys, time
from cvae.tracking.live import LiveRun
params, tags, rows = json.loads(sys.argv[1])
with LiveRun(params, tags) as live:
    for row in rows:
        live.log(row)
    time.sleep(600)
"""
RECORD_AND_DIE = """
import json, os, signal, sys
import mlflow
from cvae.tracking import record
place, name = {
    "create": (record, "log_results"),
    "upload": (mlflow.MlflowClient, "log_model_artifacts"),
    "describe": (record, "_tag"),
}[sys.argv[2]]
setattr(place, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
record.record(json.loads(sys.argv[1]))
"""


@contextmanager
def live_training(params: dict, count: int = 1, launcher: tuple = (), folder: Path | None = None, **variables: str):
    """A process that trains, for ever, after it has logged `count` epochs; killed at the end."""
    work = json.dumps([params, {**MEASURED, runs.CHECKPOINT: "of this training"}, rows()[:count]])
    command = [*launcher, sys.executable, "-c", LIVE, work]
    process = subprocess.Popen(command, cwd=folder, env=environment(PYTHONPATH="src", **variables))
    try:
        yield process
    finally:
        if process.poll() is None:
            for each in [*psutil.Process(process.pid).children(recursive=True), process]:
                each.kill()
            process.wait()


def kill_in_track(params: dict, moment: str) -> None:
    """Record the results in a process that is killed at that moment."""
    command = [sys.executable, "-c", RECORD_AND_DIE, json.dumps(params), moment]
    assert subprocess.run(command, env=environment(PYTHONPATH="src")).returncode == -signal.SIGKILL


# One run for one result


def test_results_from_the_cache_make_a_run_with_their_whole_history(workspace, params):
    record(params)
    (run,) = workspace.runs()
    assert_whole(workspace.client, run)
    assert run.data.tags["dvc.stage"] == "track"
    assert Path(run.info.artifact_uri).is_relative_to(workspace.root)


def test_a_file_of_the_root_that_track_reads_is_recorded_too(workspace, params):
    """As a person may add one to track's dependencies."""
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("metrics/test.json,", "metrics/test.json, README.md,"))
    for _ in range(2):
        record(params)
    (run,) = workspace.runs()
    assert_whole(workspace.client, run)
    assert Path(run.info.artifact_uri, "README.md").read_bytes() == Path("README.md").read_bytes()


def test_the_run_that_train_left_is_completed(workspace, params):
    train(params)
    (left,) = workspace.runs()
    assert left.info.status == "FINISHED"
    assert history(workspace.client, left, "train/loss") == [(row["epoch"], row["train_loss"]) for row in rows()]

    record(params)
    (run,) = workspace.runs()
    assert run.info.run_id == left.info.run_id
    assert_whole(workspace.client, run)
    assert run.data.tags.items() >= {**MEASURED, "train.seconds": "1.0", "dvc.stage": "train"}.items()


def test_epochs_that_the_live_run_lacks_are_added(workspace, params):
    with LiveRun(params, MEASURED) as run:
        run.log(rows()[1])
        run.complete({})
    record(params)
    (run,) = workspace.runs()
    assert run.data.tags["dvc.stage"] == "train"
    assert_whole(workspace.client, run)


def test_the_same_results_under_another_name_are_the_same_run(workspace, params, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "first")
    record(params)
    (first,) = workspace.runs()
    for name in ("second", "first"):
        monkeypatch.setenv("DVC_EXP_NAME", name)
        record(params)
    (run,) = workspace.runs()
    assert run.data.tags["dvc.experiments"] == "first second"
    assert run.info.run_name == "first"
    assert run.info.end_time == first.info.end_time


def test_a_run_describes_itself_and_names_its_experiments(workspace, params, monkeypatch):
    changed = params | {"latent_dims": 4}
    monkeypatch.setenv("DVC_EXP_NAME", "first")
    train(changed)
    assert "**4**" in note(workspace), "while it trains, already"
    record(changed)
    assert "| **latent_dims** | **4** | 2 |" in note(workspace)
    assert "| beta | 1.0 | |" in note(workspace)
    assert "dvc exp apply first" in note(workspace)
    assert workspace.git("rev-parse", "HEAD")[:12] in note(workspace)

    monkeypatch.setenv("DVC_EXP_NAME", "second")
    record(changed)
    assert "dvc exp apply second" in note(workspace)


def test_ten_runs_have_ten_colours(workspace, params):
    location = locate()
    with store.locked():
        client, experiment = store.open_store(location)
        for _ in range(12):
            runs.create_run(client, experiment, params, {})
    colours = [run.data.tags["mlflow.runColor"] for run in workspace.runs()]
    assert all(len(set(colours[start : start + 10])) == 10 for start in range(3))


def test_a_description_that_a_person_wrote_is_kept(workspace, params, monkeypatch):
    record(params)
    (run,) = workspace.runs()
    workspace.client.set_tag(run.info.run_id, NOTE, "the one for the talk")
    monkeypatch.setenv("DVC_EXP_NAME", "again")
    record(params)
    assert note(workspace) == "the one for the talk"


def note(workspace: Repository) -> str:
    (run,) = workspace.runs()
    return run.data.tags[NOTE]


def test_a_training_of_some_length_has_system_metrics(workspace, params, monkeypatch):
    monkeypatch.setattr(live, "SAMPLING", 0.1)
    with LiveRun(params, MEASURED) as run:
        run.log(rows()[0])
        wait_for(lambda: any("system/cpu_utilization_percentage" in run.data.metrics for run in workspace.runs()))
        run.complete({})
    (run,) = workspace.runs()
    assert 0 <= run.data.metrics["system/cpu_utilization_percentage"] <= 100


def test_losses_are_logged_where_the_system_cannot_be_measured(workspace, params, monkeypatch, capfd):
    from mlflow.system_metrics import system_metrics_monitor

    monkeypatch.delattr(system_metrics_monitor.SystemMetricsMonitor, "start")
    train(params)
    (run,) = workspace.runs()
    assert run.info.status == "FINISHED"
    assert len(history(workspace.client, run, "train/loss")) == len(rows())
    assert capfd.readouterr().err == ""


def test_a_repeated_training_leaves_no_second_run(workspace, params):
    for seconds in ("1.0", "2.0"):
        train(params, seconds)
        record(params)
    (run,) = workspace.runs()
    assert_whole(workspace.client, run)
    assert run.data.tags["train.seconds"] == "2.0"


def test_another_picture_makes_a_new_run_and_going_back_finds_the_old_one(workspace, params):
    train(params)
    picture = Path("plots/manifolds.png")
    original = picture.read_bytes()
    record(params)
    (before,) = workspace.runs()

    picture.write_bytes(Path("plots/latents.png").read_bytes())
    record(params | {"grid_size": 5})
    assert len(workspace.runs()) == 2
    after, new = sorted(workspace.runs(), key=lambda run: run.info.run_id != before.info.run_id)
    assert after.data.to_dictionary() == before.data.to_dictionary()
    assert after.info.end_time == before.info.end_time
    assert Path(after.info.artifact_uri, "manifolds.png").read_bytes() == original
    assert (new.info.status, new.data.params["grid_size"]) == ("FINISHED", "5")
    assert new.data.tags["train.seconds"] == "1.0", "measured once, true of every run of this training"

    picture.write_bytes(original)
    record(params)
    assert len(workspace.runs()) == 2


def test_another_experiments_live_run_is_left_to_its_own_track(workspace, params, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "slow")
    train(params)
    monkeypatch.setenv("DVC_EXP_NAME", "quick")
    train(params)
    record(params)
    runs = {run.info.run_name: run for run in workspace.runs()}
    assert set(runs) == {"slow", "quick"}
    assert "pipeline.key" not in runs["slow"].data.tags
    assert_whole(workspace.client, runs["quick"])


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
    ids=["all", "the model", "a picture", "cut short", "weights cut short", "an empty MLmodel"],
)
def test_a_run_whose_files_are_gone_is_completed_again(workspace, params, damage, capsys):
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
    assert versions[best(workspace)] == model.model_uri, "the registry hands out the model that is there"

    record(params)
    assert capsys.readouterr().out.splitlines()[-1].startswith("These results are already MLflow run ")


def test_a_run_that_was_killed_while_it_was_completed_again_is_not_taken_for_whole(workspace, params, monkeypatch):
    record(params)
    shutil.rmtree(workspace.root / "mlartifacts")
    with monkeypatch.context() as patch:
        patch.setattr("cvae.tracking.served_model.log", interrupt)
        with pytest.raises(KeyboardInterrupt):
            record(params)
    (half,) = workspace.runs()
    assert "pipeline.key" not in half.data.tags

    record(params)
    (run,) = workspace.runs()
    assert_whole(workspace.client, run)


# Killed


@pytest.mark.parametrize(("name", "moment"), [("", "create"), ("interrupted", "upload")])
def test_killed_half_way_through_track_ends_as_one_whole_run(workspace, params, monkeypatch, name, moment):
    monkeypatch.setenv("DVC_EXP_NAME", name)
    train(params)
    (left,) = workspace.runs()
    kill_in_track(params, moment)

    monkeypatch.setenv("DVC_EXP_NAME", "")  # the next `dvc repro`
    record(params)
    (run,) = workspace.runs()
    assert run.info.run_id == left.info.run_id
    assert_whole(workspace.client, run)
    assert run.data.tags["train.seconds"] == "1.0"
    assert not [name for name in run.data.tags if name.startswith("writer.")]


def test_killed_half_way_through_a_track_without_a_training_ends_as_one_whole_run(workspace, params):
    kill_in_track(params, "describe")
    (half,) = workspace.runs()
    record(params)
    (run,) = workspace.runs()
    assert run.info.run_id == half.info.run_id
    assert_whole(workspace.client, run)


def interrupt(*_) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_in_track_leaves_no_run_open(workspace, params, monkeypatch):
    train(params)
    with monkeypatch.context() as patch:
        patch.setattr("cvae.tracking.results._log_files", interrupt)
        with pytest.raises(KeyboardInterrupt):
            record(params)
    [run] = workspace.runs()
    assert run.info.status == "KILLED"

    record(params)
    [run] = workspace.runs()
    assert_whole(workspace.client, run)


@pytest.mark.parametrize(
    ("place", "name", "trained"),
    [
        ("cvae.tracking.record", "log_results", True),
        ("mlflow.MlflowClient", "log_batch", False),
        ("mlflow.MlflowClient", "log_artifact", False),
        ("cvae.tracking.served_model", "log", True),
        ("mlflow.MlflowClient", "log_model_artifacts", False),
        ("cvae.tracking.record", "_tag", True),
    ],
)
def test_failed_tracks_leave_one_run_which_the_next_completes(workspace, params, monkeypatch, place, name, trained):
    if trained:
        train(params)
    reasons = {
        "a file: No space": OSError(errno.ENOSPC, "No space", "a file"),
        "ended by SIGTERM": KeyboardInterrupt("ended by SIGTERM"),
        "odd": RuntimeError("odd"),
    }
    for reason, error in reasons.items():
        with monkeypatch.context() as patch:
            patch.setattr(f"{place}.{name}", raising(error))
            with pytest.raises((UserError, KeyboardInterrupt, RuntimeError)):
                record(params)
        (run,) = workspace.runs()
        assert reason in run.data.tags["error"]
        assert run.info.status == ("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
    record(params)
    (whole,) = workspace.runs()
    assert whole.info.run_id == run.info.run_id
    assert_whole(workspace.client, whole)
    assert "error" not in whole.data.tags
    assert len(history(workspace.client, whole, "final_test/nll")) == 1


def raising(error: BaseException):
    def fail(*_, **__):
        raise error

    return fail


def test_artifacts_that_cannot_be_written_leave_one_failed_run_that_says_why(workspace, params):
    (workspace.root / "mlartifacts").symlink_to("/proc/nothing")
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"mlartifacts/.*: No such file or directory; it is a folder of this machine"
        ):
            record(params)
        (run,) = workspace.runs()
        assert run.info.status == "FAILED"
        assert "No such file or directory" in run.data.tags["error"]
    (workspace.root / "mlartifacts").unlink()
    record(params)
    (whole,) = workspace.runs()
    assert whole.info.run_id == run.info.run_id
    assert_whole(workspace.client, whole)


def test_artifacts_that_a_server_cannot_write_are_said_to_be_the_servers(workspace, params, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    port, kept = closed_port(), tmp_path / "kept"
    kept.symlink_to("/proc/nothing")
    with mlflow_server(workspace.root, port, "--artifacts-destination", str(kept)):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        for _ in range(2):
            with pytest.raises(UserError, match="the server cannot use its own folder of artifacts"):
                record(params)
            (run,) = workspace.runs()
            assert run.info.status == "FAILED"
        kept.unlink()
        record(params)
        (whole,) = workspace.runs()
        assert (whole.info.run_id, whole.info.status) == (run.info.run_id, "FINISHED")
        assert "error" not in whole.data.tags

        client = MlflowClient(f"http://127.0.0.1:{port}")  # with --default-artifact-root, experiments are such ones
        client.create_experiment("elsewhere", artifact_location="/proc/nothing/kept")
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "elsewhere")
        with pytest.raises(
            UserError, match=r"/proc/nothing.*; it is a folder of this machine, which the server leaves"
        ):
            record(params)


def test_an_attempt_for_other_results_gives_way_to_them(workspace, params, monkeypatch):
    """The parameters of a run are there for good."""
    train(params)
    with monkeypatch.context() as patch:
        patch.setattr("cvae.tracking.results._log_files", raising(RuntimeError("odd")))
        with pytest.raises(RuntimeError):
            record(params)
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("grid_size: 20", "grid_size: 5"))
    record(params | {"grid_size": 5})
    (run,) = workspace.runs()
    assert_whole(workspace.client, run)
    assert run.data.tags["train.seconds"] == "1.0"


def test_another_experiments_failed_attempt_is_left_to_it(workspace, params, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "failed")
    with monkeypatch.context() as patch:
        patch.setattr("cvae.tracking.results._log_files", raising(RuntimeError("odd")))
        with pytest.raises(RuntimeError):
            record(params)
    monkeypatch.setenv("DVC_EXP_NAME", "other")
    record(params | {"grid_size": 5})
    assert (status_of(workspace, "failed"), status_of(workspace, "other")) == ("FAILED", "FINISHED")
    monkeypatch.setenv("DVC_EXP_NAME", "failed")
    record(params)
    assert [run.info.status for run in workspace.runs()] == ["FINISHED", "FINISHED"]


def test_a_run_is_closed_when_its_process_is_dead_and_not_before(workspace, params):
    with live_training(params, DVC_EXP_NAME="endless") as process:
        wait_for(lambda: steps_of_all(workspace) == 1)
        (endless,) = workspace.runs()
        record(params)
        assert status_of(workspace, "endless") == "RUNNING"

        process.kill()
        wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)  # dead, if nobody asked yet
        record(params)
    (run,) = workspace.runs()
    assert_whole(workspace.client, run)
    closed = workspace.client.get_run(endless.info.run_id).info
    assert (closed.status, closed.lifecycle_stage) == ("KILLED", "deleted"), "its results are recorded"


def status_of(workspace, name: str) -> str:
    (run,) = [run for run in workspace.runs() if run.info.run_name == name]
    return run.info.status


def close(workspace: Repository) -> list[str]:
    """What every stage and `make ui` begin with; returns the runs' statuses."""
    with store.locked():
        runs.close_killed_runs(*store.open_store(locate()))
    return [run.info.status for run in workspace.runs()]


@pytest.fixture(scope="session")
def namespace() -> tuple[str, ...]:
    """The command that runs another one in a PID namespace of its own, as a container does."""
    command = ["unshare", "--pid", "--fork", "--mount-proc"]
    if os.geteuid() != 0:
        command[1:1] = ["--user", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        outcome = pytest.fail if os.environ.get("CI") else pytest.skip
        outcome("no PID namespace can be had here")
    return tuple(command)


def test_a_training_in_a_container_is_judged_by_its_lock(workspace, params, namespace):
    """Process 1 is another one here, and was there before the run; the host's name is the same."""
    with live_training(params, launcher=namespace) as process:
        wait_for(lambda: steps_of_all(workspace) == 1)
        assert close(workspace) == ["RUNNING"]
        (inner,) = psutil.Process(process.pid).children()
        inner.kill()
        process.wait()
        assert close(workspace) == ["KILLED"]


def test_a_training_elsewhere_is_left_alone(workspace, params, tmp_path, monkeypatch):
    """In a copy of its repository, which has the file that the training locks in the original; on another machine."""
    with live_training(params):
        wait_for(lambda: steps_of_all(workspace) == 1)
        (name,) = [name for name in workspace.runs()[0].data.tags if name.startswith("writer.")]
        shutil.copytree(workspace.root / ".dvc/tmp", tmp_path / "aside/.dvc/tmp")
        folder = tmp_path / "aside/.dvc/tmp/writers"
        assert (folder / name.removeprefix("writer.")).is_file()
        assert not writers.is_abandoned(folder, workspace.runs()[0])
    assert not writers.is_abandoned(folder, workspace.runs()[0])
    folder = workspace.root / ".dvc/tmp/writers"
    (tmp_path / "boot").write_text("another kernel, as after a reboot or of a virtual machine")
    monkeypatch.setattr(writers, "BOOT", tmp_path / "boot")
    if writers.MACHINE.exists():
        assert writers.is_abandoned(folder, workspace.runs()[0])
    monkeypatch.setattr(writers, "MACHINE", tmp_path / "none")
    assert not writers.is_abandoned(folder, workspace.runs()[0])


def test_a_run_that_names_no_writer_is_left_alone(workspace, params):
    """As one of an earlier version of this project, or of another program."""
    train(params)
    (run,) = workspace.runs()
    workspace.client.update_run(run.info.run_id, status="RUNNING")
    assert close(workspace) == ["RUNNING"]
    workspace.client.set_tag(run.info.run_id, "writer.of another kind", "1")
    assert close(workspace) == ["RUNNING"]


def test_two_clones_that_train_the_same_at_once_have_a_run_each(workspace, params, tmp_path, empty_database):
    clone = workspace.copy(tmp_path / "clone")
    database = tmp_path / "shared/mlflow.db"
    variables = {"MLFLOW_TRACKING_URI": f"sqlite:///{database}"}
    shared = Repository(database.parent)
    with live_training(params, 1, **variables), live_training(params, 2, folder=clone.root, **variables):
        wait_for(lambda: database.exists() and steps_of_all(shared) == 3)
        assert [run.info.status for run in shared.runs()] == ["RUNNING", "RUNNING"]
        for run in shared.runs():  # as MLflow's UI can, or a version of this project that judged by host and process
            shared.client.set_terminated(run.info.run_id, "KILLED")
        with live_training(params, 2, folder=clone.root, **variables):
            wait_for(lambda: "RUNNING" in [run.info.status for run in shared.runs()])
            assert sorted(run.info.status for run in shared.runs()) == ["KILLED", "KILLED", "RUNNING"]


def test_of_many_that_take_a_run_at_once_one_has_it_at_most(workspace, params, tmp_path):
    train(params)
    (run,) = workspace.runs()

    def claim(number: int) -> bool:
        with writers.Writer(tmp_path / str(number)) as writer:
            start.wait()
            taken = writer.claim(workspace.client, run.info.run_id)
            end.wait()
            if taken:
                writer.release(workspace.client, run.info.run_id)
            return bool(taken)

    for _ in range(5):
        start, end = threading.Barrier(4), threading.Barrier(4)
        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(claim, range(4))) <= 1
    start, end = threading.Barrier(1), threading.Barrier(1)
    assert claim(0), "nobody left anything behind"


def test_track_does_not_write_to_a_run_that_another_writes_to(workspace, params, tmp_path):
    train(params)
    (run,) = workspace.runs()
    with writers.Writer(tmp_path / "another clone's") as another:
        assert another.claim(workspace.client, run.info.run_id)
        record(params)
        assert len(workspace.runs()) == 2, "nor has it deleted it"
        another.release(workspace.client, run.info.run_id)
    record(params)
    (whole,) = workspace.runs()
    assert whole.info.run_id != run.info.run_id
    assert_whole(workspace.client, whole)


# Interrupted, and then found in DVC's cache


def interrupt_training(params: dict) -> None:
    with suppress(KeyboardInterrupt), LiveRun(params, MEASURED | {runs.CHECKPOINT: json.dumps(params)}) as run:
        run.log(rows()[0])
        raise KeyboardInterrupt


def test_an_interrupted_run_of_the_training_that_made_the_results_goes_with_their_record(workspace, params):
    interrupt_training(params)
    interrupt_training(params | {"latent_dims": 9})
    record(params)
    assert sorted(run.info.status for run in workspace.runs()) == ["FINISHED", "KILLED"]
    (other,) = [run for run in workspace.runs() if run.info.status == "KILLED"]
    assert other.data.params["latent_dims"] == "9"
    record(params)
    assert len(workspace.runs()) == 2


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "from the cache"])
def test_an_interrupted_repeat_of_a_training_that_is_recorded_leaves_no_run(workspace, params, trained):
    if trained:
        train(params)
    record(params)
    interrupt_training(params)
    (whole,) = workspace.runs()
    assert_whole(workspace.client, whole)

    with open("src/cvae/model.py", "a") as code:
        code.write("# another training\n")
    interrupt_training(params)
    assert [run.info.status for run in workspace.runs()] == ["FINISHED", "KILLED"]


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("too\nbad"), "FAILED"), (KeyboardInterrupt(), "KILLED")], ids=["error", "Ctrl-C"]
)
def test_a_training_that_does_not_end_well_says_so(workspace, params, error, status):
    with pytest.raises(type(error)):
        fail(params, error)
    (run,) = workspace.runs()
    assert run.info.status == status
    assert run.data.tags.get("error") == ("too" if status == "FAILED" else None)
    assert len(history(workspace.client, run, "train/loss")) == 1


def fail(params: dict, error: BaseException) -> None:
    with LiveRun(params, MEASURED) as run:
        run.log(rows()[0])
        raise error


def test_a_failed_training_is_not_taken_for_the_results(workspace, params):
    with pytest.raises(ValueError, match="bad"):
        fail(params, ValueError("bad"))
    record(params)
    assert sorted(run.info.status for run in workspace.runs()) == ["FAILED", "FINISHED"]


# A server that is down, silent or gone


@pytest.fixture(scope="module")
def without_server(repository, tmp_path_factory) -> dict[str, subprocess.CompletedProcess]:
    """train and track, run where no server answers; both wait, so they wait together."""
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
    assert workspace.git("status", "--porcelain", "metrics", "plots") == "", "it made other results than with a server"
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
    ("uri", "told"),
    [
        ("postgresql://someone:hush@127.0.0.1:1/runs", "postgresql://127.0.0.1:1/runs: No module named 'psycopg"),
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
def test_a_store_that_cannot_be_used_is_told_in_one_line_without_its_secrets(
    workspace, params, monkeypatch, capfd, uri, told
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    train(params)
    with pytest.raises(UserError) as failed:
        record(params)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"train: MLflow at {told}")
    assert str(failed.value).startswith(f"MLflow at {told}")
    for printed in (line, str(failed.value)):
        assert "\n" not in printed
        assert not re.search("someone|hush|hu.{1,3}sh|hu/s", printed)


def test_a_silent_server_keeps_training_waiting_no_longer_than_its_patience(workspace, params, monkeypatch, capfd):
    monkeypatch.setattr(live, "SERVER_PATIENCE", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        train(params)
        assert time.monotonic() - started < 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "not done within 0.5 s" in line


def test_a_server_that_goes_away_is_missed_and_not_waited_for(workspace, params, monkeypatch, capfd):
    monkeypatch.setattr(live, "SERVER_PATIENCE", 2.0)
    uri = f"http://127.0.0.1:{(port := closed_port())}"
    artifacts = ("--default-artifact-root", str(workspace.root / "mlartifacts"))
    with mlflow_server(workspace.root, port, *artifacts) as process:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with LiveRun(params, MEASURED) as run:
            run.log(rows()[0])
            wait_for(lambda: steps_of_all(workspace) == 1)
            kill_group(process)
            capfd.readouterr()
            started = time.monotonic()
            run.log(rows()[1])
            run.complete({})
        assert time.monotonic() - started < 4
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"train: MLflow at {uri}: ")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # its database, which is ours, is back
    wait_for(lambda: "mlflow" not in [thread.name for thread in threading.enumerate()])
    record(params)
    assert sorted(run.info.status for run in workspace.runs()) == ["FINISHED", "KILLED"]


class FaultyServer(http.server.ThreadingHTTPServer):
    """Answers everything with `status` and `body`, or, where there is no status, not before it is stopped."""

    daemon_threads = True

    def __init__(self, status: int | None, body: str = ""):
        super().__init__(("127.0.0.1", 0), FaultyHandler)
        self.status, self.body = status, body.encode()
        self.asked, self.stopped = threading.Event(), threading.Event()
        self.uri = f"http://someone:pa%24s@127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


class FaultyHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.set()
        if self.server.status is None:
            self.server.stopped.wait(60)
            return
        self.send_response(self.server.status)
        self.send_header("Retry-After", "15")
        self.end_headers()
        self.wfile.write(self.server.body.replace(b"REQUEST", str(self.headers).encode()))

    do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (500, "", "too many 500 error responses"),
        (503, "", "too many 503 error responses"),
        (429, "", "too many 429 error responses"),  # which its Retry-After would have us wait for
        (401, "wrong: REQUEST", "failed with error code 401"),
        (403, "<html>no</html>", "failed with error code 403"),
        (200, "<!DOCTYPE html><html>Sign in</html>", "not in a valid JSON format"),
        (200, "[]", "not in a valid JSON format"),
        (200, "{}", "what answers there is not MLflow"),
        (None, "", "Read timed out"),
    ],
    ids=["500", "503", "429", "401", "403", "a web page", "a list", "nothing", "no answer"],
)
def test_a_server_that_is_of_no_use_ends_track_in_one_line_and_training_goes_on(
    workspace, params, monkeypatch, capfd, status, body, told
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")  # else seconds between two attempts
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
        assert told in printed
        assert "\n" not in printed
        assert not re.search(r"someone|pa%24s|pa\$s|c29tZW9uZTpwYSRz", printed)
    assert workspace.runs() == []


def test_a_row_is_logged_at_once_whatever_the_server_does(workspace, params, monkeypatch):
    monkeypatch.setattr(live, "SERVER_PATIENCE", 0.1)
    with FaultyServer(None) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        with LiveRun(params, MEASURED) as run:
            server.asked.wait(30)
            started = time.perf_counter()
            for _ in range(1000):
                run.log({"epoch": 1, "train_loss": 1.0})
            assert time.perf_counter() - started < 0.5


@pytest.mark.long
@pytest.mark.parametrize("status", [None, 500], ids=["no answer", "500"])
def test_a_server_that_is_of_no_use_slows_training_by_less_than_a_twentieth(
    workspace, params, digits, monkeypatch, status
):
    monkeypatch.setattr(live, "SERVER_PATIENCE", 0.1)
    open_device("cpu", 1, "float32")
    ratios = []
    for turn in range(9):
        seconds = {}
        for tracked in (turn % 2 == 0, turn % 2 == 1):
            with FaultyServer(status) as server, ExitStack() as stack:
                monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
                log = stack.enter_context(LiveRun(params, MEASURED)).log if tracked else lambda row: None
                seconds[tracked] = seconds_of_training(digits, log)
            wait_for(lambda: "mlflow" not in [thread.name for thread in threading.enumerate()])
        ratios.append(seconds[True] / seconds[False])
        print(f"with {seconds[True]:.2f} s, without {seconds[False]:.2f} s: {ratios[-1]:.3f}")
    assert statistics.median(ratios) < 1.05, ratios


def seconds_of_training(digits, log) -> float:
    """How long a training of a few seconds takes, each of whose epochs goes to `log`."""
    model = CVAE(2, 256, "gaussian", 0.5**0.5, "article")
    model.initialise(generator(0, "weights"))
    training = Training(model, *digits, epochs=EPOCHS, batch_size=128, learning_rate=1e-3, beta=1.0, seed=0)
    started = time.perf_counter()
    for row in training:
        log(row)
    return time.perf_counter() - started


# Where the store is


def test_an_experiment_in_another_folder_writes_to_the_main_repository(workspace, params, tmp_path, monkeypatch):
    aside = workspace.copy(workspace.root / ".dvc/tmp/exps/tmp-aside", "tmp")
    monkeypatch.chdir(aside.root)
    record(params)
    (run,) = workspace.runs()
    assert Path(run.info.artifact_uri).is_relative_to(workspace.root / "mlartifacts")
    assert not (aside.root / "mlflow.db").exists()
    assert not (aside.root / "mlruns").exists()


def test_a_relative_database_is_one_of_the_main_repository(workspace, params, empty_database, tmp_path, monkeypatch):
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


@pytest.mark.parametrize("uri", ["sqlite:///own.db?timeout=30", "sqlite+pysqlite:///own.db", "sqlite:////own.db"])
def test_a_database_is_the_file_that_sqlalchemy_says(workspace, params, monkeypatch, uri):
    uri = uri.replace("////", f"///{workspace.root}/")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    record(params)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    (run,) = MlflowClient(f"sqlite:///{workspace.root}/own.db").search_runs(["1"])
    assert run.info.status == "FINISHED"
    assert sorted(workspace.root.glob("*.db*")) == [workspace.root / "mlflow.db", workspace.root / "own.db"]


def test_a_repository_at_a_path_of_signs_that_addresses_quote_has_its_store_there(
    workspace, params, tmp_path, monkeypatch
):
    odd = workspace.copy(tmp_path / "100% of a#b, ü + c")
    monkeypatch.chdir(odd.root)
    train(params)
    record(params)
    record(params)
    (run,) = odd.runs()
    assert_whole(odd.client, run)
    assert Path(run.info.artifact_uri).is_relative_to(odd.root)
    assert set(tmp_path.iterdir()) == {workspace.root, odd.root}


@pytest.mark.parametrize("name", ["a?b", "100%20"])
def test_a_repository_at_a_path_that_mlflow_takes_for_another_is_told(
    workspace, params, tmp_path, monkeypatch, capfd, name
):
    odd = workspace.root.rename(tmp_path / name)
    monkeypatch.chdir(odd)
    before = set(tmp_path.rglob("*"))
    told = "MLflow at mlflow.db: its path may have no ? and no % before two digits; move it"
    with pytest.raises(UserError) as refused:
        record(params)
    assert str(refused.value) == told
    train(params)
    assert capfd.readouterr().err == f"train: {told}; training goes on, and track will log it\n"
    assert set(tmp_path.rglob("*")) == before


def test_a_moved_repository_is_told_in_one_line(workspace, params, tmp_path, monkeypatch, capfd):
    train(params)
    moved = workspace.root.rename(tmp_path / "moved")
    monkeypatch.chdir(moved)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    capfd.readouterr()
    with pytest.raises(UserError) as told:
        record(params)
    assert "keeps its files in ~/a repository/mlartifacts, but the repository is now in ~/moved: " in str(told.value)
    assert "\n" not in str(told.value)

    train(params)
    (line,) = capfd.readouterr().err.splitlines()
    assert "training goes on" in line
    assert str(tmp_path) not in line + str(told.value)
    assert len(Repository(moved).runs()) == 1


def test_a_store_may_be_links_to_another_disk(workspace, params, tmp_path, empty_database):
    (tmp_path / "disk").mkdir()
    for name in ("mlartifacts", "mlflow.db"):
        (workspace.root / name).unlink(missing_ok=True)
        (workspace.root / name).symlink_to(tmp_path / "disk" / name)
    (tmp_path / "disk/mlartifacts").mkdir()
    for _ in range(2):
        record(params)
    (run,) = workspace.runs()
    assert_whole(workspace.client, run)
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["mlartifacts", "mlflow.db"]
    assert (workspace.root / "mlflow.db").is_symlink()


def test_results_that_are_links_to_dvcs_cache_are_recorded(workspace, params, tmp_path):
    """As `dvc config cache.type symlink` has them."""
    (tmp_path / "cache").mkdir()
    files = [*Path("data/model").iterdir(), *Path("plots/latents").iterdir()]
    for number, file in enumerate(files):
        kept = file.rename(tmp_path / "cache" / str(number))
        file.symlink_to(kept)
    for _ in range(2):
        record(params)
    (run,) = workspace.runs()
    assert_whole(workspace.client, run)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("", "mlflow.db: Is a directory; move it away, then run it again"),
        ("sqlite:///params.yaml", "MLflow at params.yaml: file is not a database; move it away, or bring back a copy"),
        ("sqlite:///", "MLflow at sqlite:///: names no file; what is kept in memory ends with its stage"),
        ("sqlite:///:memory:", "MLflow at sqlite:///:memory:: names no file; what is kept in memory ends with its "),
        ("sqlite:////proc/own.db", "MLflow at /proc/own.db: /proc/own.db.new: "),
    ],
    ids=["a folder", "another file", "no name", "memory", "no such folder"],
)
def test_a_database_that_cannot_be_opened_is_told_at_once(workspace, params, monkeypatch, capfd, uri, told):
    """MLflow alone tries for a minute and a half."""
    (workspace.root / "mlflow.db").unlink()
    (workspace.root / "mlflow.db").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    started = time.monotonic()
    with pytest.raises(UserError) as refused:
        record(params)
    train(params)
    assert time.monotonic() - started < 10
    (line,) = capfd.readouterr().err.splitlines()
    assert str(refused.value).startswith(told)
    assert line.startswith(f"train: {told}")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE alembic_version SET version_num = 'ffff00001111'", "made by a newer MLflow than 3."),
        ("UPDATE alembic_version SET version_num = 'cc1f77228345'", "made by an older MLflow than 3."),
        ("DELETE FROM alembic_version", "damaged (alembic_version has 0 rows, not 1); bring back a copy, or "),
        ("DROP TABLE alembic_version", "damaged (alembic_version has 0 rows, not 1); bring back a copy, or "),
        ("INSERT INTO alembic_version VALUES ('cc1f77228345')", "damaged (alembic_version has 2 rows, not 1); "),
        ("DROP TABLE spans", "damaged (no table spans); bring back a copy, or move it away"),
        ("DROP TABLE experiments", "damaged (no table experiments); bring back a copy, or move it away"),
        ("; ".join(f"DROP TABLE {name}" for name in ("tags", "params", "metrics", "spans")), "and 1 more); bring back"),
    ],
)
def test_a_database_of_another_mlflow_or_a_damaged_one_is_told_and_left_as_it_is(
    workspace, params, capfd, damage, told
):
    with closing(sqlite3.connect("mlflow.db")) as database:
        database.executescript(damage)
    before = Path("mlflow.db").read_bytes()
    train(params)
    with pytest.raises(UserError) as refused:
        record(params)
    (line,) = capfd.readouterr().err.splitlines()
    for printed in (line.removeprefix("train: "), str(refused.value)):
        assert printed.startswith("MLflow at mlflow.db: ")
        assert told in printed
        assert "\n" not in printed
    assert Path("mlflow.db").read_bytes() == before


@pytest.mark.parametrize("version", [None, "0001_initial"])
def test_another_programs_database_is_told_and_left_as_it_is(workspace, params, monkeypatch, version):
    with closing(sqlite3.connect("site.db")) as database:
        database.executescript("CREATE TABLE auth_user (id INTEGER); CREATE TABLE django_migrations (id INTEGER)")
        if version:
            database.executescript(
                f"CREATE TABLE alembic_version (n); INSERT INTO alembic_version VALUES ('{version}')"
            )
    before = Path("site.db").read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///site.db")
    with pytest.raises(UserError, match=r"site.db: another program's database \(.*auth_user.*\); name another file"):
        record(params)
    assert Path("site.db").read_bytes() == before


def test_an_empty_database_is_taken(workspace, params):
    Path("mlflow.db").write_bytes(b"")
    record(params)
    (run,) = workspace.runs()
    assert run.info.status == "FINISHED"


def test_a_long_complaint_is_cut_between_words():
    location = Location("http://127.0.0.1:1", None)
    told = explain(location, ValueError("word " * 200))
    assert told.endswith("word …")
    assert len(told) < 340


def test_a_deleted_experiment_is_told_with_the_way_back(workspace, params):
    train(params)
    (run,) = workspace.runs()
    workspace.client.delete_experiment(run.info.experiment_id)
    with pytest.raises(UserError, match=f"mlflow experiments restore -x {run.info.experiment_id}"):
        record(params)


def test_a_first_ever_database_opened_by_four_at_once_works(workspace, params):
    (workspace.root / "mlflow.db").unlink()
    code = LIVE.replace("time.sleep(600)", "")
    command = [sys.executable, "-c", code, json.dumps([params, {}, rows()[:1]])]
    variables = environment(PYTHONPATH="src")
    processes = [subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[1] for process in processes] == [""] * 4
    runs = workspace.runs()
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    assert all(len(history(workspace.client, run, "train/loss")) == 1 for run in runs)


# The stage, and the model that it logs


@pytest.fixture(scope="module")
def tracked(repository, tmp_path_factory) -> tuple[Repository, subprocess.CompletedProcess]:
    """A workspace where `python -m stages.track` ran and made the database, and what it printed."""
    workspace = repository.copy(tmp_path_factory.mktemp("tracked") / "cvae", "cache")
    return workspace, workspace.run(sys.executable, "-m", "stages.track")


def test_track_prints_one_line_of_its_own(tracked):
    workspace, done = tracked
    (run,) = workspace.runs()
    assert done.stdout == f"These results are now MLflow run {run.info.run_name} ({run.info.run_id}) in mlflow.db\n"
    assert done.stderr == ""


def test_the_receipt_holds_the_key_alone(tracked):
    workspace, _ = tracked
    (run,) = workspace.runs()
    assert json.loads((workspace.root / "data/tracked.json").read_text()) == {
        "pipeline.key": run.data.tags["pipeline.key"]
    }


def model_folder(workspace: Repository) -> Path:
    (run,) = workspace.runs()
    (logged,) = run.outputs.model_outputs
    return Path(workspace.client.get_logged_model(logged.model_id).artifact_location)


def test_no_file_of_the_model_is_a_pickle(tracked):
    workspace, _ = tracked
    folder = model_folder(workspace)
    files = [path for path in folder.rglob("*") if path.is_file()]
    kinds = {".json", ".md", ".py", ".safetensors", ".txt", ".yaml", "MLmodel"}
    assert {path.suffix or path.name for path in files} == kinds
    assert not [path for path in files if path.read_bytes().startswith((b"\x80", b"PK"))]
    assert "cloudpickle" not in (folder / "MLmodel").read_text().replace("cloudpickle_version", "")


# The registry


def registered(workspace: Repository) -> list:
    """Every version in the workspace's registry, the oldest first."""
    return sorted(workspace.client.search_model_versions(), key=lambda version: int(version.version))


def best(workspace: Repository) -> str | None:
    """The version that has the alias."""
    found = workspace.client.get_registered_model("cvae").aliases.get("best")
    return None if found is None else str(found)


def set_nll(nll: float) -> None:
    figures = json.loads(Path("metrics/test.json").read_text())
    Path("metrics/test.json").write_text(json.dumps(figures | {"nll": nll}))


def enter(workspace: Repository, nll: float | None, **task: object) -> str:
    """What track does with a whole run of this test NLL; returns the version."""
    client, location = workspace.client, locate()
    with store.locked():
        _, experiment = store.open_store(location)
        run_id = client.create_run(experiment).info.run_id
        model = client.create_logged_model(experiment, "model", source_run_id=run_id)
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
        for name, value in (TASK | task).items():
            client.log_param(run_id, name, value)
        if nll is not None:
            client.log_metric(run_id, "final_test/nll", nll)
        print(registry.enter(client, location, run_id, "cvae"))
    (version,) = [version.version for version in registered(workspace) if version.run_id == run_id]
    return str(version)


def test_a_model_is_registered_once_when_a_name_is_given_and_not_before(workspace, params, capsys):
    set_nll(100.0)
    record(params)
    assert workspace.client.search_registered_models() == []

    named = params | {"registered_model": "cvae"}
    record(named)
    (run,) = workspace.runs()
    (version,) = registered(workspace)
    assert (version.name, version.run_id) == ("cvae", run.info.run_id)
    assert version.source.endswith(run.outputs.model_outputs[0].model_id)
    assert version.tags == {
        "dataset": "digits",
        "likelihood": "gaussian",
        "pixels": "grey",
        "nll_samples": str(params["nll_samples"]),
    }
    assert best(workspace) == "1"
    assert "version 1 of cvae" in capsys.readouterr().out

    workspace.client.delete_registered_model_alias("cvae", "best")  # as if it had been killed before
    workspace.client.delete_model_version_tag("cvae", "1", "dataset")
    record(named)
    (version,) = registered(workspace)
    assert version.tags["dataset"] == "digits"
    assert best(workspace) == "1"
    record(params)
    assert len(registered(workspace)) == 1


def test_best_is_the_version_of_the_lowest_nll(workspace):
    assert (enter(workspace, None), best(workspace)) == ("1", None)
    assert (enter(workspace, 100.0), best(workspace)) == ("2", "2")
    assert (enter(workspace, 101.0), best(workspace)) == ("3", "2")
    assert (enter(workspace, 99.0), best(workspace)) == ("4", "4")
    assert (enter(workspace, 99.0), best(workspace)) == ("5", "4")
    assert (enter(workspace, float("nan")), best(workspace)) == ("6", "4")
    workspace.client.delete_model_version("cvae", "4")
    assert (enter(workspace, 102.0), best(workspace)) == ("7", "5")


@pytest.mark.parametrize(
    ("task", "difference"),
    [
        ({"dataset": "mnist"}, "dataset digits, not mnist"),
        ({"likelihood": "bernoulli"}, "likelihood gaussian, not bernoulli"),
        ({"binarize": "static"}, "pixels grey, not binary"),
        ({"nll_samples": 5000}, "nll_samples 50, not 5000"),
    ],
)
def test_best_does_not_move_to_another_task(workspace, task, difference, capsys):
    enter(workspace, 100.0)
    capsys.readouterr()
    enter(workspace, 1.0, **task)
    assert best(workspace) == "1"
    (line,) = capsys.readouterr().out.splitlines()
    assert f"stays on version 1, whose NLL does not compare ({difference})" in line


def test_best_compares_models_of_binary_pixels_however_they_were_drawn_for_training(workspace):
    assert (enter(workspace, 100.0, binarize="static"), best(workspace)) == ("1", "1")
    assert (enter(workspace, 99.0, binarize="dynamic"), best(workspace)) == ("2", "2")


def forget_for_good(workspace: Repository, run_id: str) -> None:
    """What `mlflow gc` does with a run that was deleted in the UI."""
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", "sqlite:///mlflow.db", "--run-ids", run_id]
    workspace.run(*command, MLFLOW_TRACKING_URI="sqlite:///mlflow.db")


@pytest.mark.parametrize("for_good", [False, True])
def test_best_is_never_a_version_whose_run_was_deleted(workspace, capsys, for_good):
    client = workspace.client
    for nll in (101.0, 100.0, 99.0):
        enter(workspace, nll)
    enter(workspace, 1.0, dataset="mnist")
    held = client.get_model_version("cvae", "3")
    client.delete_run(held.run_id)
    if for_good:
        forget_for_good(workspace, held.run_id)
        store.open_store(locate())
    assert best(workspace) == "3", "MLflow leaves it there"
    capsys.readouterr()

    assert registry.chosen(client, "models:/cvae@best") == "models:/cvae/2"
    assert "the run of version 3, which is models:/cvae@best, was deleted; version 2 is best" in capsys.readouterr().out
    assert registry.chosen(client, "models:/cvae/3") == "models:/cvae/3"
    registry.move_aliases(client)
    assert best(workspace) == "2"
    for number in ("1", "2"):
        client.delete_run(client.get_model_version("cvae", number).run_id)
    with pytest.raises(UserError, match=r"run of version 2, which is models:/cvae@best, was deleted, and no other"):
        registry.chosen(client, "models:/cvae@best")
    assert (enter(workspace, 200.0, dataset="kmnist"), best(workspace)) == ("5", "5")


def test_a_model_whose_run_is_gone_for_good_is_fetched_without_parameters(workspace, params, tmp_path):
    record(params)
    (run,) = workspace.runs()
    (model,) = run.outputs.model_outputs
    weights, known = fetch.fetch_model(f"models:/{model.model_id}", tmp_path / "a")
    assert known["dataset"] == "digits"
    workspace.client.delete_run(run.info.run_id)
    forget_for_good(workspace, run.info.run_id)
    again, known = fetch.fetch_model(f"models:/{model.model_id}", tmp_path / "b")
    assert known == {}
    assert (again / "config.json").read_bytes() == (weights / "config.json").read_bytes()


def test_of_a_runs_models_the_newest_is_its_model(workspace):
    client = workspace.client
    _, experiment = store.open_store(locate())
    run_id = client.create_run(experiment).info.run_id
    ids = []
    while not ids or ids[-1] in (min(ids), max(ids)):  # the newest is neither the first nor the last that MLflow lists
        ids.append(client.create_logged_model(experiment, "model", source_run_id=run_id).model_id)
        client.log_outputs(run_id, [LoggedModelOutput(ids[-1], 0)])
    assert runs.newest_model(client, client.get_run(run_id)).model_id == ids[-1]


def test_a_store_without_a_registry_is_told_in_one_line_and_has_the_run(workspace, params, monkeypatch):
    named = params | {"registered_model": "cvae"}
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_REGISTRY_URI", "nowhere://there")
        with pytest.raises(UserError) as told:
            record(named)
    assert "not in the registry" in str(told.value)
    assert "\n" not in str(told.value)
    (run,) = workspace.runs()
    assert_whole(workspace.client, run)

    record(named)
    assert [version.run_id for version in registered(workspace)] == [run.info.run_id]


# A folder as the store, which MLflow calls a file store


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The repository whose experiment runs in a folder of its own, which is the working directory."""
    workspace = tmp_path / "cvae/.dvc/tmp/exps/tmp1"
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return tmp_path / "cvae"


@pytest.mark.parametrize(
    "form", ["./mlruns", "mlruns", "file:mlruns", "file:./mlruns", "file://{}/mlruns", "{}/mlruns"]
)
def test_a_folder_as_the_store_is_the_main_repositorys(temporary, monkeypatch, form):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", form.format(temporary))
    location = locate()
    assert (location.folder, location.shown) == (temporary / "mlruns", "mlruns")
    with pytest.raises(UserError, match=r"^mlruns: no MLflow store yet; "):
        current_run.require_store(location)
    with store.locked():
        client, experiment = store.open_store(location)
        run = runs.create_run(client, experiment, read_parameters(PROJECT / "params.yaml").model_dump(), {})
    current_run.require_store(location)
    client.log_text(run.info.run_id, "kept", "kept.txt")
    assert (temporary / "mlruns" / experiment / run.info.run_id / "meta.yaml").exists()
    assert [path.read_text() for path in (temporary / "mlartifacts").rglob("kept.txt")] == ["kept"]
    assert list(Path.cwd().iterdir()) == []
    # DVC stashes what git does not ignore, and git would drop the empty folders by which MLflow knows a run
    subprocess.run(["git", "check-ignore", "-q", "mlruns/0"], cwd=PROJECT, check=True)


@pytest.mark.parametrize("uri", ["C:\\mlruns", "~/mlruns", "a%20b", "sqlite:///./a.db", "sqlite:///../a.db"])
def test_no_relative_store_is_in_an_experiments_own_folder(temporary, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "./registry")
    with store.locked():
        client, experiment = store.open_store(locate())
    client.create_registered_model("cvae")
    place = client.get_experiment(experiment).artifact_location
    assert Path(place.removeprefix("file://")).is_relative_to(temporary.parent)
    assert not place.startswith(str(Path.cwd()))
    assert (temporary / "registry/models/cvae").is_dir()
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("allowed", [None, "", "false", "please"])
def test_a_folder_that_mlflow_does_not_take_is_told_with_its_variable(workspace, params, monkeypatch, capsys, allowed):
    if allowed is not None:
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", allowed)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    told = "MLflow at mlruns: a folder as the store needs MLFLOW_ALLOW_FILE_STORE=true; "
    with pytest.raises(UserError, match=f"^{told}"):
        record(params)
    train(params)
    assert told in capsys.readouterr().err
    assert not Path("mlruns").exists()


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"MLFLOW_TRACKING_URI": "file://mlruns"}, "MLflow at file://mlruns: names no folder of this machine; "),
        ({"MLFLOW_TRACKING_URI": "http://[::1/mlflow"}, "MLflow at http://[::1/mlflow: not an address; "),
        ({"MLFLOW_TRACKING_INSECURE_TLS": "perhaps"}, "MLFLOW_TRACKING_INSECURE_TLS value must be one of "),
        ({"REQUESTS_CA_BUNDLE": "/nowhere/ca.pem"}, "invalid path: /nowhere/ca.pem"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_variable_that_mlflow_cannot_use_is_told_in_one_line(workspace, params, monkeypatch, capfd, variables, told):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://127.0.0.1:{closed_port()}")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as refused:
        record(params)
    train(params)
    (line,) = capfd.readouterr().err.splitlines()
    for each in (line, str(refused.value)):
        assert told in each


def test_an_experiment_that_keeps_its_files_wherever_one_is_is_refused(workspace, params):
    experiment = workspace.client.create_experiment("cvae", artifact_location="mlartifacts")
    with sqlite3.connect("mlflow.db") as database:
        database.execute(
            "UPDATE experiments SET artifact_location = './mlruns/1' WHERE experiment_id = ?", [experiment]
        )
    with pytest.raises(UserError, match=r"keeps its files in \./mlruns/1, wherever a stage happens to run"):
        record(params)
