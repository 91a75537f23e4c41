"""Each way in which DVC runs an experiment leaves one complete MLflow run for each result, in one store."""

import csv
import io
import json
from pathlib import Path

import pytest
import yaml
from helpers.kills import DVC
from helpers.pages import PICTURES
from helpers.queue import no_worker_outlives, wait_for_queue
from helpers.repository import Repository, stages_run
from helpers.runs import assert_complete, final

from cvae.tracking.description import NOTE
from cvae.tracking.run_keys import recorded


def as_it_is(run) -> tuple:
    """Return all that a run holds, except the names of its experiments, which grow, and the description with them."""
    tags = {name: value for name, value in run.data.tags.items() if name not in ("dvc.experiments", NOTE)}
    return run.info.run_id, run.info.status, run.info.end_time, run.data.params, run.data.metrics, tags


def by_experiment(runs: list) -> dict[str, object]:
    """Return the runs by the names of their DVC experiments."""
    return {name: run for run in runs for name in run.data.tags.get("dvc.experiments", "").split()}


# dvc queue start and dvc exp run --run-all: workers run experiments in temporary folders


@pytest.fixture(scope="module")
def lab(repository, tmp_path_factory) -> Repository:
    """A clone at a path with a space, without any MLflow run."""
    return repository.copy(tmp_path_factory.mktemp("lab") / "a lab" / "cvae")


@pytest.fixture(scope="module")
def sweep(lab) -> list:
    """The runs of two queued experiments. The workspace is edited before two workers run them."""
    lab.dvc("exp", "run", "--queue", "--set-param", "latent_dims=range(1,3)")
    lab.set(epochs=7, seed=7)
    (lab.root / "stages/train.py").write_text("raise SystemExit('edited since')\n")
    assert not (lab.root / "mlflow.db").exists()
    with no_worker_outlives(lab):
        lab.dvc("queue", "start", "--jobs", "2")
        wait_for_queue(lab)
    assert lab.git("diff", "--name-only").split() == ["params.yaml", "stages/train.py"]
    lab.restore()
    return lab.runs()


def test_two_queue_workers_make_a_complete_run_of_each_experiment(lab, sweep):
    assert sorted(run.data.params["latent_dims"] for run in sweep) == ["1", "2"]
    for run in sweep:
        assert_complete(lab.client, run)
        assert run.data.tags["dvc.experiments"] == run.data.tags["dvc.experiment"] == run.info.run_name


def test_workers_that_create_the_database_together_still_log_live(sweep):
    # DVC's cache has the training of latent_dims=2, so its run is made by track
    logged_by = {run.data.params["latent_dims"]: run.data.tags["dvc.stage"] for run in sweep}
    assert logged_by == {"1": "train", "2": "track"}


def test_a_queued_experiment_runs_the_code_and_parameters_that_were_queued(lab, sweep):
    parameters = recorded(yaml.safe_load(lab.git("show", "HEAD:params.yaml")))
    for run in sweep:
        expected = parameters | {"latent_dims": int(run.data.params["latent_dims"])}
        assert run.data.params == {name: str(value) for name, value in expected.items()}
        assert run.data.tags["git.commit"] == lab.git("rev-parse", "HEAD").strip()
        assert run.data.tags["git.dirty"] == "false"


def test_no_store_is_in_the_temporary_folder_of_an_experiment(lab, sweep):
    for run in sweep:
        assert Path(run.info.artifact_uri).is_relative_to(lab.root / "mlartifacts")
        (model,) = run.outputs.model_outputs
        assert Path(lab.client.get_logged_model(model.model_id).artifact_location).is_relative_to(lab.root)
    stores = [path.parent for name in ("mlflow.db", "mlruns", "mlartifacts") for path in lab.root.rglob(name)]
    assert set(stores) == {lab.root}


def test_exp_show_has_the_test_figures_of_each_experiment(lab, sweep):
    rows = list(csv.DictReader(io.StringIO(lab.dvc("exp", "show", "--csv"))))
    shown = {row["Experiment"]: row for row in rows if row["State"] == "Success"}
    assert shown.keys() >= {run.info.run_name for run in sweep}
    for run in sweep:
        row = shown[run.info.run_name]
        assert row["latent_dims"] == run.data.params["latent_dims"]
        assert float(row["metrics/test.json:loss"]) == pytest.approx(run.data.metrics[final("loss")], rel=1e-7)


def test_repro_of_an_experiments_result_finds_its_run(lab, sweep):
    assert stages_run(lab.dvc("repro")) == ["track"]
    assert [as_it_is(run) for run in lab.runs()] == [as_it_is(run) for run in sweep]


# The same parameters under two names


@pytest.fixture(scope="module")
def named(lab, sweep) -> list:
    """The runs after two experiments that repeat known ones under new names, mostly from DVC's cache."""
    for name, latent_dims in (("one-again", 1), ("two-again", 2)):
        lab.dvc("exp", "run", "--queue", "--name", name, "--set-param", f"latent_dims={latent_dims}")
    with no_worker_outlives(lab):
        lab.dvc("exp", "run", "--run-all", "--jobs", "2")
        wait_for_queue(lab)
    return lab.runs()


def test_a_run_has_the_names_of_all_experiments_with_its_results(sweep, named):
    assert [as_it_is(run) for run in named] == [as_it_is(run) for run in sweep]
    first = {run.data.params["latent_dims"]: run.info.run_name for run in sweep}
    for name, latent_dims in (("one-again", "1"), ("two-again", "2")):
        assert by_experiment(named)[name].data.tags["dvc.experiments"] == f"{first[latent_dims]} {name}"


# An experiment's results in the workspace


@pytest.fixture(scope="module")
def applied(lab, named) -> str:
    """The output of `dvc repro` after `dvc exp apply` of an experiment from the sweep."""
    (one,) = [run for run in named if run.data.params["latent_dims"] == "1"]
    lab.dvc("exp", "apply", one.info.run_name)
    return lab.dvc("repro")


def test_repro_after_apply_finds_the_run_again(lab, named, applied):
    assert stages_run(applied) == ["track"]
    assert [as_it_is(run) for run in lab.runs()] == [as_it_is(run) for run in named]


def test_diffs_show_the_same_figures_as_mlflow(lab, named, applied):
    old, new = (next(run for run in named if run.data.params["latent_dims"] == dims) for dims in ("2", "1"))
    compared = json.loads(lab.dvc("exp", "diff", "HEAD", new.info.run_name, "--json"))
    assert compared["params"] == {"params.yaml": {"latent_dims": {"old": 2, "new": 1, "diff": -1}}}
    for metrics in (compared["metrics"], json.loads(lab.dvc("metrics", "diff", "--json"))):
        change = metrics["metrics/test.json"]["loss"]
        assert change["old"] == pytest.approx(old.data.metrics[final("loss")], rel=1e-7)
        assert change["new"] == pytest.approx(new.data.metrics[final("loss")], rel=1e-7)


def test_plots_diff_draws_both_sides(lab, applied, tmp_path):
    lab.dvc("plots", "diff", "HEAD", "--out", str(tmp_path))
    page = (tmp_path / "index.html").read_text()
    for side in ("HEAD", "workspace"):
        assert f'"rev": "{side}"' in page
        for name in PICTURES:
            assert (tmp_path / "static" / f"{side}_plots_{name.replace('/', '_')}").stat().st_size, name


def test_a_branch_of_an_experiment_has_the_same_figures_as_mlflow(lab, named):
    lab.dvc("exp", "branch", "one-again", "branch")
    figures = json.loads(lab.git("show", "branch:metrics/test.json"))
    logged = by_experiment(named)["one-again"].data.metrics
    numbers = {final(name): value for name, value in figures.items() if not isinstance(value, str)}
    assert len(numbers) == len(figures) - 2, "all but `likelihood` and `pixels`"
    assert numbers.items() <= logged.items()


# Variables of another DVC project, and new pictures of an old training


@pytest.fixture(scope="module")
def elsewhere(repository, empty_database, tmp_path_factory) -> Repository:
    """A clone at a path with non-ASCII letters, with an empty store."""
    clone = repository.copy(tmp_path_factory.mktemp("elsewhere") / "Zoë's räume" / "cvae")
    (clone.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    return clone


@pytest.fixture(scope="module")
def leaked(elsewhere, tmp_path_factory) -> tuple[Path, list]:
    """Another project, and the runs after `dvc repro` with the variables that DVC sets for a stage of that project."""
    other = tmp_path_factory.mktemp("other")
    variables = {"DVC_ROOT": str(other), "DVC_EXP_NAME": "of-the-other", "DVC_STAGE": "nested"}
    elsewhere.run(*DVC, "repro", **variables)
    return other, elsewhere.runs()


def test_variables_of_another_dvc_project_are_ignored(elsewhere, leaked):
    other, (run,) = leaked
    assert list(other.iterdir()) == []
    assert_complete(elsewhere.client, run)
    assert Path(run.info.artifact_uri).is_relative_to(elsewhere.root)
    assert run.info.run_name == "digits epochs=2 threads=1 nll_samples=50"
    assert not [name for name, value in run.data.tags.items() if "of-the-other" in value]


@pytest.fixture(scope="module")
def redrawn(elsewhere, leaked) -> tuple[str, list]:
    """The output of `dvc exp run` with a change to the pictures only, and the runs after it."""
    output = elsewhere.dvc("exp", "run", "--name", "coarse", "--set-param", "grid_size=4")
    return output, elsewhere.runs()


def test_new_pictures_make_a_complete_run_and_leave_the_old_one_unchanged(elsewhere, leaked, redrawn):
    (before,) = leaked[1]
    output, (after, added) = redrawn
    assert stages_run(output) == ["render", "track"]
    assert as_it_is(after) == as_it_is(before)
    assert_complete(elsewhere.client, before)
    assert_complete(elsewhere.client, added)
    assert (added.info.run_name, added.data.params["grid_size"]) == ("coarse", "4")
    same, other = (Path(run.info.artifact_uri, "manifolds/3.png").read_bytes() for run in (before, added))
    assert same != other


def test_git_checkout_and_repro_return_to_the_first_run(elsewhere, redrawn):
    _, runs = redrawn
    elsewhere.git("checkout", "--", ".")
    assert stages_run(elsewhere.dvc("repro")) == ["track"]
    assert [as_it_is(run) for run in elsewhere.runs()] == [as_it_is(run) for run in runs]
