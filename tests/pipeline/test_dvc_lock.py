"""track refuses results that do not belong together, or do not belong to params.yaml."""

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from helpers.repository import Repository

from cvae.pipeline.dvc_lock import md5, read_lock, require_current
from cvae.pipeline.dvc_yaml import paths, stage
from cvae.support.errors import UserError
from cvae.tracking import run_keys


@pytest.fixture
def workspace(repository, tmp_path, monkeypatch) -> Repository:
    workspace = repository.copy(tmp_path / "cvae", ".git", "cache", "tmp")
    monkeypatch.chdir(workspace.root)
    return workspace


def test_md5_sums_are_the_same_as_dvcs(repository, monkeypatch):
    monkeypatch.chdir(repository.root)
    outs = {place: digest for made in read_lock().values() for place, digest in made.outs.items()}
    assert {place: md5(place) for place in outs} == outs
    assert {"data/raw", "data/model", "data/latents.parquet", "plots/latents", "metrics/test.json"} <= set(outs)


def test_the_results_of_repro_are_current(workspace):
    require_current(run_keys.results())
    workspace.set(registered_model="cvae")  # changes no result
    require_current(run_keys.results())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"learning_rate": 0.5}, "params.yaml: learning_rate is 0.5, but train ran with 0.001 (dvc.lock); "),
        ({"dataset": "mnist"}, "params.yaml: dataset is 'mnist', but download ran with 'digits' (dvc.lock); "),
        ({"nll_samples": 7}, "params.yaml: nll_samples is 7, but evaluate ran with 50 (dvc.lock); "),
        ({"grid_size": 7}, "params.yaml: grid_size is 7, but render ran with 20 (dvc.lock); "),
        ({"launcher": "nice"}, "train ran as `python -m stages.train` (dvc.lock), not as `nice -m stages.train`; "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_edited_parameters_are_refused(workspace, edit, message):
    workspace.set(**edit)
    with pytest.raises(UserError) as refused:
        require_current(run_keys.results())
    assert str(refused.value).startswith(message)
    assert str(refused.value).endswith("`dvc repro` makes the results again")


@contextmanager
def edited_yaml(name: str) -> Iterator[dict]:
    """Yield the content of a YAML file, and write it back."""
    content = yaml.safe_load(Path(name).read_text())
    yield content
    Path(name).write_text(yaml.safe_dump(content, sort_keys=False))


def test_a_number_in_a_stages_command_is_accepted(workspace):
    """DVC may write a number in another way than params.yaml does."""
    with edited_yaml("dvc.yaml") as pipeline, edited_yaml("dvc.lock") as lock:
        pipeline["stages"]["train"]["cmd"] += " ${learning_rate}"
        lock["stages"]["train"]["cmd"] += " 1e-3"
    require_current(run_keys.results())


@pytest.fixture
def images(workspace) -> str:
    """The folder data/own, which download reads because a parameter names it."""
    with edited_yaml("dvc.yaml") as pipeline, edited_yaml("dvc.lock") as lock:
        pipeline["stages"]["download"]["deps"] += ["data/${registered_model}"]
        lock["stages"]["download"]["deps"] += [{"path": "data/own", "md5": md5("data/own")}]
    workspace.set(registered_model="own")
    return "data/own"


def test_a_folder_that_a_parameter_names_is_current(images):
    assert images in paths(stage("download"), "deps")
    require_current(run_keys.results())


def test_a_folder_in_the_repository_may_be_named_by_its_whole_path(images):
    """DVC writes it to dvc.lock as a relative one."""
    with edited_yaml("dvc.yaml") as pipeline:
        pipeline["stages"]["download"]["deps"][-1] = f"{Path.cwd()}/data/${{registered_model}}"
    require_current(run_keys.results())


def test_a_folder_outside_the_repository_is_current(images, tmp_path):
    outside = str(tmp_path / "own")
    with edited_yaml("dvc.yaml") as pipeline, edited_yaml("dvc.lock") as lock:
        pipeline["stages"]["download"]["deps"][-1] = f"{tmp_path}/${{registered_model}}"
        lock["stages"]["download"]["deps"][-1]["path"] = outside
    require_current(run_keys.results())
    assert paths(stage("download"), "deps")[-1] == outside


def test_another_folder_than_the_one_that_was_read_is_refused(images, workspace):
    workspace.set(registered_model="other")
    message = (
        "params.yaml names data/other, which download has not read (dvc.lock); `dvc repro` makes the results again"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        require_current(run_keys.results())


def test_a_path_that_params_yaml_does_not_complete_is_reported(workspace):
    with edited_yaml("dvc.yaml") as pipeline:
        pipeline["stages"]["download"]["deps"] += ["data/${imges}"]
    with pytest.raises(UserError, match=r"^dvc\.yaml: data/\$\{imges\} cannot be filled in from params\.yaml$"):
        require_current(run_keys.results())


def test_a_damaged_params_yaml_is_reported(workspace):
    Path("params.yaml").write_text("<<<<<<< HEAD\n")
    with pytest.raises(UserError, match=r"^params\.yaml: "):
        require_current(run_keys.results())


def test_a_users_own_inputs_are_accepted_and_checked_if_a_stage_makes_them(workspace):
    Path("metrics/own.csv").write_text("hello\n")
    with edited_yaml("dvc.yaml") as pipeline:
        pipeline["stages"]["own"] = {"cmd": "true", "outs": ["metrics/own.csv"]}
        pipeline["stages"]["track"]["deps"] += ["README.md", "metrics/own.csv"]
    assert {"README.md", "metrics/own.csv"} < set(run_keys.results())
    with pytest.raises(UserError, match=r"^metrics/own.csv: dvc.lock does not say how it was made; `dvc repro` "):
        require_current(run_keys.results())
    with edited_yaml("dvc.lock") as lock:
        lock["stages"]["own"] = {"cmd": "true", "outs": [{"path": "metrics/own.csv", "md5": md5("metrics/own.csv")}]}
    require_current(run_keys.results())
    Path("metrics/own.csv").write_text("bye\n")
    with pytest.raises(UserError, match=r"^metrics/own.csv: changed since own wrote it"):
        require_current(run_keys.results())


def test_a_parameter_removed_from_a_stage_is_not_compared(workspace):
    """dvc.lock keeps it until the stage runs again."""
    with edited_yaml("dvc.yaml") as pipeline:
        for stage in ("train", "evaluate"):
            pipeline["stages"][stage]["params"].remove("beta")
    workspace.set(beta=2.0)
    require_current(run_keys.results())


@pytest.mark.parametrize("content", ["<<<<<<< HEAD\nstages:\n=======\n>>>>>>> x\n", "", "stages", "[]"])
def test_a_damaged_dvc_yaml_is_reported(workspace, content):
    Path("dvc.yaml").write_text(content)
    with pytest.raises(UserError, match=r"^dvc.yaml: damaged \(.+\); `git checkout HEAD dvc.yaml` brings it back$"):
        require_current(["data/model"])


def test_a_stage_removed_from_dvc_yaml_is_not_compared(workspace):
    """DVC keeps it in dvc.lock."""
    with edited_yaml("dvc.lock") as lock:
        lock["stages"]["former"] = {"cmd": "x", "outs": [{"path": "data/model", "md5": "0"}]}
    require_current(run_keys.results())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda: Path("data/model/model.safetensors").write_bytes(b""), "data/model: changed since train wrote it"),
        (lambda: shutil.rmtree("data/model"), "data/model: changed since train wrote it"),
        (lambda: Path("metrics/test.json").write_text("{}"), "metrics/test.json: changed since evaluate wrote it"),
        (lambda: Path("plots/latents/3.png").unlink(), "plots/latents: changed since render wrote it"),
        (lambda: Path("plots/latents.png").unlink(), "plots/latents.png: changed since render wrote it"),
        (lambda: Path("dvc.lock").unlink(), "data/model: dvc.lock does not say how it was made; "),
        (lambda: Path("dvc.lock").write_text("<<<<<<< HEAD\n"), "dvc.lock: damaged; `git checkout HEAD dvc.lock` "),
    ],
    ids=["weights", "no model", "figures", "a picture of a folder", "a picture", "no dvc.lock", "a conflict"],
)
def test_files_that_dvc_lock_does_not_describe_are_refused(workspace, damage, message):
    damage()
    with pytest.raises(UserError) as refused:
        require_current(run_keys.results())
    assert str(refused.value).startswith(message)


def test_results_of_an_earlier_model_are_refused(workspace):
    """`dvc repro -s train` leaves them when it runs train alone."""
    weights = Path("data/model/model.safetensors")
    weights.write_bytes(weights.read_bytes()[::-1])
    with edited_yaml("dvc.lock") as lock:
        (model,) = [out for out in lock["stages"]["train"]["outs"] if out["path"] == "data/model"]
        model["md5"] = md5("data/model")
    with pytest.raises(UserError, match=r"^data/model: changed since evaluate read it \(dvc.lock\); `dvc repro` "):
        require_current(run_keys.results())


def test_track_alone_refuses_edited_parameters_and_starts_no_run(repository, tmp_path):
    """`dvc repro -sf track` runs track on whatever files are there."""
    edited = repository.copy(tmp_path / "cvae")
    edited.set(learning_rate=0.5)
    done = edited.run(sys.executable, "-m", "dvc", "repro", "-sf", "track", status=255)
    assert "track: params.yaml: learning_rate is 0.5, but train ran with 0.001 (dvc.lock); `dvc repro` " in done.stderr
    assert not (edited.root / "mlflow.db").exists()
    assert not (edited.root / "data/tracked.json").exists()
