"""track records results of one making only: those of the parameters that are there, and of each other."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml
from helpers.repository import Repository

from cvae.pipeline.dvc_lock import _is_of, md5, read_lock, require_current
from cvae.support.errors import UserError
from cvae.tracking import run_keys


@pytest.fixture
def workspace(repository, tmp_path, monkeypatch) -> Repository:
    workspace = repository.copy(tmp_path / "cvae", ".git", "cache", "tmp")
    monkeypatch.chdir(workspace.root)
    return workspace


def test_sums_are_dvcs_own(repository, monkeypatch):
    monkeypatch.chdir(repository.root)
    outs = {place: digest for made in read_lock().values() for place, digest in made.outs.items()}
    assert {place: md5(place) for place in outs} == outs
    assert {"data/raw", "data/model", "data/latents.parquet", "plots/latents", "metrics/test.json"} <= set(outs)


def test_results_as_repro_left_them_are_current(workspace):
    require_current(run_keys.results())
    workspace.set(registered_model="cvae")  # which changes no result
    require_current(run_keys.results())


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ({"learning_rate": 0.5}, "params.yaml: learning_rate is 0.5, but train ran with 0.001 (dvc.lock); "),
        ({"dataset": "mnist"}, "params.yaml: dataset is 'mnist', but render ran with 'digits' (dvc.lock); "),
        ({"nll_samples": 7}, "params.yaml: nll_samples is 7, but evaluate ran with 50 (dvc.lock); "),
        ({"grid_size": 7}, "params.yaml: grid_size is 7, but render ran with 20 (dvc.lock); "),
        ({"launcher": "nice"}, "train ran as `python -m stages.train` (dvc.lock), but is another now; "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_edited_parameters_are_told(workspace, edit, told):
    workspace.set(**edit)
    with pytest.raises(UserError) as refused:
        require_current(run_keys.results())
    assert str(refused.value).startswith(told)
    assert str(refused.value).endswith("`dvc repro` runs it again")


@pytest.mark.parametrize(
    ("template", "command", "expected"),
    [
        ("${launcher} -m stages.train", "python 'a b' $HOME -m stages.train", True),
        ("${launcher} -m stages.train", "python -m stages.train", False),
        ("run ${more.of} ${item} ${seed}", "run 1 2 3", True),
        ("run ${more.of}", "walk 1", False),
    ],
)
def test_a_command_is_of_dvc_yaml_whatever_else_stands_in_it(template, command, expected):
    """The parameters that are texts count; DVC has more to put in than those, and its own ways to write numbers."""
    assert _is_of(command, template, {"launcher": "python 'a b' $HOME", "seed": 0}) == expected


OWN_STAGE = """
  own:
    wdir: metrics
    cmd: "true"
    outs: [own.csv]
"""
OWN_LOCK = "  own:\n    cmd: 'true'\n    outs: [{path: own.csv, md5: b1946ac92492d2347c6235b4d2611184}]\n"


def test_inputs_of_ones_own_are_taken_whoever_makes_them(workspace):
    """A file that no stage makes, and one of a stage whose paths count from another folder."""
    Path("metrics/own.csv").write_text("hello\n")
    text = Path("dvc.yaml").read_text()
    text = text.replace(
        "      data/model, metrics/per_digit.csv,",
        "      README.md, metrics/own.csv, data/model, metrics/per_digit.csv,",
    )
    Path("dvc.yaml").write_text(text.replace("\nplots:\n", f"{OWN_STAGE}\nplots:\n", 1))
    assert {"README.md", "metrics/own.csv"} < set(run_keys.results())
    with pytest.raises(UserError, match=r"^dvc.lock does not say what made metrics/own.csv; `dvc repro` makes it$"):
        require_current(run_keys.results())
    Path("dvc.lock").write_text(Path("dvc.lock").read_text() + OWN_LOCK)
    require_current(run_keys.results())
    Path("metrics/own.csv").write_text("bye\n")
    with pytest.raises(UserError, match=r"^metrics/own.csv: not as own left it"):
        require_current(run_keys.results())


def test_what_dvc_yaml_no_longer_says_that_a_stage_reads_does_not_count(workspace):
    """dvc.lock keeps it until the stage runs again, which nothing makes it do."""
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace(" beta,", ""))
    workspace.set(beta=2.0)
    require_current(run_keys.results())


def test_a_frozen_stage_is_said_to_be_one(workspace):
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("    cmd: python -m stages.evaluate\n", FROZEN))
    workspace.set(nll_samples=7)
    with pytest.raises(UserError, match=r"evaluate ran with 50 .* once dvc.yaml has no `frozen: true` of evaluate$"):
        require_current(run_keys.results())


FROZEN = "    cmd: python -m stages.evaluate\n    frozen: true\n"


@pytest.mark.parametrize("content", ["<<<<<<< HEAD\nstages:\n=======\n>>>>>>> x\n", "", "stages", "[]"])
def test_a_damaged_dvc_yaml_is_told(workspace, content):
    Path("dvc.yaml").write_text(content)
    with pytest.raises(UserError, match=r"^dvc.yaml: damaged \(.+\); `git checkout HEAD dvc.yaml` brings it back$"):
        require_current(["data/model"])


def test_stages_that_dvc_yaml_no_longer_has_do_not_count(workspace):
    """DVC keeps them in dvc.lock."""
    former = "  former:\n    cmd: x\n    outs: [{path: data/model, md5: '0'}]\n"
    Path("dvc.lock").write_text(Path("dvc.lock").read_text() + former)
    require_current(run_keys.results())


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda: Path("data/model/model.safetensors").write_bytes(b""), "data/model: not as train left it"),
        (lambda: shutil.rmtree("data/model"), "data/model: not as train left it"),
        (lambda: Path("metrics/test.json").write_text("{}"), "metrics/test.json: not as evaluate left it"),
        (lambda: Path("plots/latents/3.png").unlink(), "plots/latents: not as render left it"),
        (lambda: Path("plots/latents.png").unlink(), "plots/latents.png: not as render left it"),
        (lambda: Path("dvc.lock").unlink(), "dvc.lock does not say what made data/model; "),
        (lambda: Path("dvc.lock").write_text("<<<<<<< HEAD\n"), "dvc.lock: damaged; `git checkout HEAD dvc.lock` "),
    ],
    ids=["weights", "no model", "figures", "a picture of a folder", "a picture", "no dvc.lock", "a conflict"],
)
def test_files_of_another_making_are_told(workspace, damage, told):
    damage()
    with pytest.raises(UserError) as refused:
        require_current(run_keys.results())
    assert str(refused.value).startswith(told)


def test_results_of_another_model_than_the_present_one_are_told(workspace):
    """As `dvc repro -s train` leaves them, which runs train alone."""
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    weights = Path("data/model/model.safetensors")
    weights.write_bytes(weights.read_bytes()[::-1])
    (model,) = [out for out in lock["stages"]["train"]["outs"] if out["path"] == "data/model"]
    model["md5"] = md5("data/model")
    Path("dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    with pytest.raises(UserError, match=r"^data/model: another than the one evaluate read \(dvc.lock\); `dvc repro` "):
        require_current(run_keys.results())


def test_track_alone_refuses_results_of_edited_parameters_and_begins_no_run(repository, tmp_path):
    """`dvc repro -sf track` runs it on whatever is there."""
    edited = repository.copy(tmp_path / "cvae")
    edited.set(learning_rate=0.5)
    done = edited.run(sys.executable, "-m", "dvc", "repro", "-sf", "track", status=255)
    assert "track: params.yaml: learning_rate is 0.5, but train ran with 0.001 (dvc.lock); `dvc repro` " in done.stderr
    assert not (edited.root / "mlflow.db").exists()
    assert not (edited.root / "data/tracked.json").exists()
