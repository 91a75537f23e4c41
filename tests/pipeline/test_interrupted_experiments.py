"""Pipelines that are killed or lose their tracking server, and what MLflow holds after the next `dvc repro`."""

import base64
from pathlib import Path

import mlflow
import pytest
from helpers.kills import DVC
from helpers.processes import closed_port, kill_group, mlflow_server, stage_process, wait_for
from helpers.repository import Repository, stages_run, started
from helpers.runs import assert_complete, steps
from mlflow import MlflowClient

from cvae.pipeline.repository import has_ended
from cvae.tracking.runs import PIPELINE_KEY, TRACKING


@pytest.fixture(scope="module")
def faults(repository, empty_database, tmp_path_factory) -> dict[str, list]:
    """The runs in one repository after each of four faults, and after the `dvc repro` that follows."""
    hurt = repository.copy(tmp_path_factory.mktemp("faults") / "cvae")
    (hurt.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    runs = {}

    hurt.set(learning_rate=10)
    hurt.run(*DVC, "repro", status=255)
    runs["diverged"] = hurt.runs()

    hurt.git("checkout", "params.yaml")
    hurt.set(epochs=1_000_000)
    with started(hurt, "repro") as dvc:
        wait_for(lambda: any(run.info.status == "RUNNING" and steps(hurt.client, run) for run in hurt.runs()))
        kill_group(dvc)
    runs["killed"] = hurt.runs()

    hurt.set(epochs=999_999)  # another training, which does not resume the first
    with started(hurt, "repro", SHELL="/bin/sh") as dvc:  # dash stays between DVC and the stage; bash does not
        known = {run.info.run_id for run in hurt.runs()}
        wait_for(lambda: any(run.info.run_id not in known and steps(hurt.client, run) for run in hurt.runs()))
        train = stage_process(dvc, "train")
        dvc.kill()
        wait_for(lambda: has_ended(train))
    runs["orphaned"] = hurt.runs()

    hurt.git("checkout", "params.yaml")
    hurt.set(seed=1)  # a training that DVC's cache does not have
    with started(hurt, "repro") as dvc:
        wait_for(lambda: any(TRACKING in run.data.tags for run in hurt.runs()))
        kill_group(dvc)
    runs["half tracked"] = hurt.runs()

    assert stages_run(hurt.dvc("repro")) == ["track"]
    runs["complete"] = hurt.runs()
    assert_complete(hurt.client, runs["complete"][-1])
    assert hurt.dvc("repro").endswith("Data and pipelines are up to date.\n")
    return runs


@pytest.mark.long
def test_a_training_that_diverges_leaves_a_failed_run_with_the_reason(faults):
    (run,) = faults["diverged"]
    assert run.info.status == "FAILED"
    assert "training diverged in epoch 1" in run.data.tags["error"]


@pytest.mark.long
def test_the_run_of_a_training_killed_with_its_dvc_is_closed_by_the_next(faults):
    *_, killed = faults["killed"]
    assert killed.info.status == "RUNNING", "SIGKILL leaves it no time to close its run"
    later = {run.info.run_id: run.info.status for run in faults["orphaned"]}
    assert later[killed.info.run_id] == "KILLED"


@pytest.mark.long
def test_a_training_ends_when_its_dvc_is_killed(faults):
    *_, orphan = faults["orphaned"]
    assert orphan.info.status == "KILLED"
    assert orphan.data.tags["error"].startswith("DVC was killed")


@pytest.mark.long
def test_repro_after_faults_makes_one_complete_run_and_leaves_none_open(faults):
    *_, half = faults["half tracked"]
    assert half.info.status in ("RUNNING", "FINISHED")
    assert PIPELINE_KEY not in half.data.tags
    assert [run.info.status for run in faults["complete"]] == ["FAILED", "KILLED", "KILLED", "FINISHED"]


# A tracking server, with artifacts, that goes away in mid-training and comes back


EPOCHS = 200  # enough to lose the server in the middle


@pytest.fixture(scope="module")
def served(repository, empty_database, tmp_path_factory):
    """A clone whose training lost its tracking server, with what was printed and recorded before and after."""
    clone = repository.copy(tmp_path_factory.mktemp("served") / "cvae")
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    backend = Repository(folder)
    port = closed_port()
    uri = f"http://127.0.0.1:{port}"
    keeping = ("--artifacts-destination", str(folder / "kept"))  # artifacts go through the server
    tracking = {
        "MLFLOW_TRACKING_URI": uri.replace("//", "//someone:pa%24sword@"),  # this server does not ask for one
        "MLFLOW_TRACKING_TOKEN": "a-token",
        "HOME": str(clone.root.parent),
    }

    clone.set(epochs=EPOCHS)
    with mlflow_server(folder, port, *keeping) as process, started(clone, "repro", **tracking) as dvc:
        train = stage_process(dvc, "train")
        wait_for(lambda: any(steps(backend.client, run) for run in backend.runs()))
        train.suspend()
        kill_group(process)
        train.resume()
        assert dvc.wait(timeout=120) != 0
    printed = (clone.root / ".dvc/tmp/printed.log").read_text()
    left = backend.runs()

    with mlflow_server(folder, port, *keeping):
        done = clone.run(*DVC, "repro", **tracking)
        yield clone, MlflowClient(uri), uri, folder, printed, left, done.stdout + done.stderr


def test_losing_the_server_in_mid_training_stops_track_but_not_training(served):
    *_, printed, (left,), _ = served
    assert "training goes on" in printed
    assert "Trained in" in printed
    assert "failed to reproduce 'track'" in printed
    assert left.info.status == "RUNNING"


def test_repro_records_everything_once_the_server_is_back(served):
    clone, client, *_, (left,), again = served
    assert stages_run(again) == ["track"]
    runs = client.search_runs([left.info.experiment_id], order_by=["attributes.start_time"])
    assert [run.info.status for run in runs] == ["FINISHED"], "it replaces the run that never ended"
    assert_complete(client, runs[0], EPOCHS)
    assert not [name for name in ("mlflow.db", "mlruns", "mlartifacts") if (clone.root / name).exists()]


def test_pictures_and_model_can_be_downloaded_from_the_server(served, tmp_path):
    clone, client, uri, *_ = served
    experiment = client.get_experiment_by_name("cvae")
    assert experiment.artifact_location.startswith("mlflow-artifacts:")
    (run,) = client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")
    picture = client.download_artifacts(run.info.run_id, "manifolds/3.png", str(tmp_path))
    assert Path(picture).read_bytes() == (clone.root / "plots/manifolds/3.png").read_bytes()
    (model,) = run.outputs.model_outputs
    source = client.get_logged_model(model.model_id).artifact_location
    files = mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(tmp_path), tracking_uri=uri)
    (weights,) = Path(files).rglob("model.safetensors")
    assert weights.read_bytes() == (clone.root / "data/model/model.safetensors").read_bytes()


def test_output_files_and_server_hold_neither_the_password_nor_the_home_folder(served):
    clone, _, _, folder, printed, _, again = served
    hidden = [b"someone:pa", b"pa%24sword", b"pa$sword", b"a-token", base64.b64encode(b"someone:pa$sword")]
    files = [file for root in (clone.root, folder) for file in root.rglob("*") if file.is_file()]
    files = [file for file in files if not file.is_relative_to(clone.root / "tests")]  # this file holds them
    assert {"mlflow.db", "printed.log", "MLmodel"} <= {file.name for file in files}
    assert not [file for file in files if any(secret in file.read_bytes() for secret in hidden)]
    assert not [secret for secret in hidden if secret in again.encode()]

    home = str(clone.root.parent)
    sent = [file for file in files if file.is_relative_to(folder) and file.name != "server.log"]
    assert not [file for file in sent if home.encode() in file.read_bytes()]
    assert home not in printed + again
