"""One MLflow run for one result, whatever its stages did."""

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import mlflow
import pytest
from helpers.repository import Repository
from helpers.tracking import MEASURED, assert_complete, history, registered, rows, train
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from cvae.tracking import record as record_module
from cvae.tracking.description import NOTE
from cvae.tracking.live import LiveRun
from cvae.tracking.record import record
from cvae.tracking.results import log_results
from cvae.tracking.writers import Writer


def test_results_from_the_cache_become_a_run_with_the_full_history(workspace, params):
    record(params)
    (run,) = workspace.runs()
    assert_complete(workspace.client, run)
    assert run.data.tags["dvc.stage"] == "track"
    assert Path(run.info.artifact_uri).is_relative_to(workspace.root)


def test_a_dependency_of_track_in_the_root_is_recorded_too(workspace, params):
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("metrics/test.json,", "metrics/test.json, README.md,"))
    for _ in range(2):
        record(params)
    (run,) = workspace.runs()
    assert_complete(workspace.client, run)
    assert Path(run.info.artifact_uri, "README.md").read_bytes() == Path("README.md").read_bytes()


def test_results_that_are_links_to_dvcs_cache_are_recorded(workspace, params, tmp_path):
    """`dvc config cache.type symlink` makes them so."""
    (tmp_path / "cache").mkdir()
    files = [*Path("data/model").iterdir(), *Path("plots/latents").iterdir()]
    for number, file in enumerate(files):
        kept = file.rename(tmp_path / "cache" / str(number))
        file.symlink_to(kept)
    for _ in range(2):
        record(params)
    (run,) = workspace.runs()
    assert_complete(workspace.client, run)


def test_data_that_another_clone_logs_at_the_same_moment_is_logged_too(workspace, params, monkeypatch):
    log_input, refused = mlflow.log_input, []

    def refuse_once(*arguments, **options):
        if not refused:
            refused.append("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.experiment_id, datasets.name")
            raise mlflow.MlflowException(refused[0], BAD_REQUEST)
        log_input(*arguments, **options)

    monkeypatch.setattr(mlflow, "log_input", refuse_once)
    record(params)
    (run,) = workspace.runs()
    assert_complete(workspace.client, run)
    assert len(run.inputs.dataset_inputs) == len(refused) == 1


def test_the_run_that_train_left_is_completed(workspace, params):
    train(params)
    (left,) = workspace.runs()
    assert left.info.status == "FINISHED"
    assert history(workspace.client, left, "train/loss") == [(row["epoch"], row["train_loss"]) for row in rows()]

    record(params)
    (run,) = workspace.runs()
    assert run.info.run_id == left.info.run_id
    assert_complete(workspace.client, run)
    assert run.data.tags.items() >= {**MEASURED, "train.seconds": "1.0", "dvc.stage": "train"}.items()


def test_epochs_missing_from_the_live_run_are_added(workspace, params):
    with LiveRun(params, MEASURED) as run:
        run.log(rows()[1])
        run.complete({})
    record(params)
    (run,) = workspace.runs()
    assert run.data.tags["dvc.stage"] == "train"
    assert_complete(workspace.client, run)


def record_at_once(params, monkeypatch, meanwhile=lambda: None) -> None:
    """Record while another clone, with its own lock, does `meanwhile` and records the same."""

    def log_later(*arguments) -> None:
        monkeypatch.setattr("cvae.tracking.record.log_results", log_results)
        meanwhile()
        record(params)
        log_results(*arguments)

    monkeypatch.setattr("cvae.tracking.record.locked", nullcontext)
    monkeypatch.setattr("cvae.tracking.record.log_results", log_later)
    record(params)


def test_of_two_clones_that_record_the_same_at_once_the_first_keeps_its_run(workspace, params, monkeypatch, capsys):
    record_at_once(params, monkeypatch)
    (run,) = workspace.runs()
    assert_complete(workspace.client, run)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"These results are now MLflow run {run.info.run_name} ({run.info.run_id})")
    assert second.startswith(f"These results are already MLflow run {run.info.run_name} ({run.info.run_id})")


def test_a_clone_whose_run_another_one_deleted_takes_that_ones_run(workspace, params, monkeypatch, capsys):
    """Another clone deletes the run after it is complete, and before its own clone looks for repeats."""

    def keep_first_later(client, experiment: str, key: str, own: str) -> str:
        monkeypatch.setattr("cvae.tracking.record._keep_first", keep_first)
        client.delete_run(own)
        record(params)
        return keep_first(client, experiment, key, own)

    monkeypatch.setattr("cvae.tracking.record.locked", nullcontext)
    keep_first = record_module._keep_first
    monkeypatch.setattr("cvae.tracking.record._keep_first", keep_first_later)
    record(params | {"registered_model": "cvae"})
    (run,) = workspace.runs()
    assert_complete(workspace.client, run)
    printed = capsys.readouterr().out.splitlines()
    assert f"These results are already MLflow run {run.info.run_name} ({run.info.run_id})" in printed[1]
    assert [version.run_id for version in registered(workspace)] == [run.info.run_id]


def test_a_clone_that_is_killed_before_it_deletes_its_repeat_leaves_that_to_the_next(workspace, params, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("cvae.tracking.record._keep_first", lambda *arguments: arguments[-1])
        record_at_once(params, patch)
    assert len(workspace.runs()) == 2
    record(params)
    (run,) = workspace.runs()
    assert_complete(workspace.client, run)


def test_a_run_that_another_clone_completes_meanwhile_is_kept(workspace, params, monkeypatch, tmp_path):
    train(params)
    (run,) = workspace.runs()
    with Writer(tmp_path / "of another clone") as another:
        assert another.claim(workspace.client, run.info.run_id)
        record_at_once(params, monkeypatch, lambda: another.release(workspace.client, run.info.run_id))
    assert [each.info.run_id for each in workspace.runs()] == [run.info.run_id]
    assert_complete(workspace.client, workspace.runs()[0])


def test_a_repeated_training_leaves_no_second_run(workspace, params):
    for seconds in ("1.0", "2.0"):
        train(params, seconds)
        record(params)
    (run,) = workspace.runs()
    assert_complete(workspace.client, run)
    assert run.data.tags["train.seconds"] == "2.0"


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


def test_a_changed_picture_makes_a_new_run_and_going_back_finds_the_old_one(workspace, params):
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
    assert new.data.tags["train.seconds"] == "1.0", "every run of this training has what train measured"

    picture.write_bytes(original)
    record(params)
    assert len(workspace.runs()) == 2


def test_the_live_run_of_another_experiment_is_left_to_its_own_track(workspace, params, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "slow")
    train(params)
    monkeypatch.setenv("DVC_EXP_NAME", "quick")
    train(params)
    record(params)
    runs = {run.info.run_name: run for run in workspace.runs()}
    assert set(runs) == {"slow", "quick"}
    assert "pipeline.key" not in runs["slow"].data.tags
    assert_complete(workspace.client, runs["quick"])


def test_a_run_describes_itself_and_names_its_experiments(workspace, params, monkeypatch):
    usual = params["latent_dims"]
    changed = params | {"latent_dims": usual + 1}
    monkeypatch.setenv("DVC_EXP_NAME", "first")
    train(changed)
    assert f"**{usual + 1}**" in note(workspace), "already while it trains"
    record(changed)
    assert f"| **latent_dims** | **{usual + 1}** | {usual} |" in note(workspace)
    assert "| beta | 1.0 | |" in note(workspace)
    assert "dvc exp apply first" in note(workspace)
    assert workspace.git("rev-parse", "HEAD")[:12] in note(workspace)

    monkeypatch.setenv("DVC_EXP_NAME", "second")
    record(changed)
    assert "dvc exp apply second" in note(workspace)


def test_an_edited_description_is_kept(workspace, params, monkeypatch):
    record(params)
    (run,) = workspace.runs()
    workspace.client.set_tag(run.info.run_id, NOTE, "the one for the talk")
    monkeypatch.setenv("DVC_EXP_NAME", "again")
    record(params)
    assert note(workspace) == "the one for the talk"


def note(workspace: Repository) -> str:
    (run,) = workspace.runs()
    return run.data.tags[NOTE]


@pytest.fixture(scope="module")
def tracked(repository, tmp_path_factory) -> tuple[Repository, subprocess.CompletedProcess]:
    """A workspace where `python -m stages.track` created the database, and what it printed."""
    workspace = repository.copy(tmp_path_factory.mktemp("tracked") / "cvae", "cache")
    return workspace, workspace.run(sys.executable, "-m", "stages.track")


def test_track_prints_one_line(tracked):
    workspace, done = tracked
    (run,) = workspace.runs()
    assert done.stdout == f"These results are now MLflow run {run.info.run_name} ({run.info.run_id}) in mlflow.db\n"
    assert done.stderr == ""


def test_the_receipt_holds_only_the_key(tracked):
    workspace, _ = tracked
    (run,) = workspace.runs()
    assert json.loads((workspace.root / "data/tracked.json").read_text()) == {
        "pipeline.key": run.data.tags["pipeline.key"]
    }


def model_folder(workspace: Repository) -> Path:
    (run,) = workspace.runs()
    (logged,) = run.outputs.model_outputs
    return Path(workspace.client.get_logged_model(logged.model_id).artifact_location)


def test_no_file_of_the_logged_model_is_a_pickle(tracked):
    workspace, _ = tracked
    folder = model_folder(workspace)
    files = [path for path in folder.rglob("*") if path.is_file()]
    kinds = {".css", ".html", ".js", ".json", ".md", ".py", ".safetensors", ".txt", ".yaml", "MLmodel"}
    assert {path.suffix or path.name for path in files} == kinds
    assert not [path for path in files if path.read_bytes().startswith((b"\x80", b"PK"))]
    assert "cloudpickle" not in (folder / "MLmodel").read_text().replace("cloudpickle_version", "")
