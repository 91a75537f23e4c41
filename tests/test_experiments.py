"""Every way that DVC runs an experiment, and what MLflow then holds: one whole run for one result, in one store."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml
from conftest import Repository, environment
from mlflow import MlflowClient
from test_pipeline import PICTURES, stages_run
from test_tracking import answers, closed_port, wait_for

from cvae.tracking.store import PIPELINE_KEY, TRACKING

LOSS = "train_loss"
CURVES = [f"{split}_{part}" for split in ("train", "test") for part in ("loss", "reconstruction", "kl")]
CURVES += ["article_loss"]
FIGURES = ("loss", "reconstruction", "kl", "active_units")  # of metrics/test.json
DVC = [sys.executable, "-m", "dvc"]


def final(figure: str) -> str:
    """MLflow's name of a figure of metrics/test.json."""
    return f"final_test_{figure}"


def files_of(client: MlflowClient, run, folder: str | None = None) -> set[str]:
    """Paths of the run's artifacts, asked of MLflow, so that a server's are found too."""
    found = set()
    for entry in client.list_artifacts(run.info.run_id, folder):
        found |= files_of(client, run, entry.path) if entry.is_dir else {entry.path}
    return found


def assert_whole(client: MlflowClient, run, epochs: int = 2) -> None:
    """That nothing is missing from `run`: parameters, each step of each curve, figures, pictures, data and model."""
    assert run.info.status == "FINISHED"
    assert PIPELINE_KEY in run.data.tags
    assert {"dataset", "latent_dims", "epochs", "device", "threads", "grid_size"} <= run.data.params.keys()
    for name in CURVES:
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, name)]
        assert sorted(steps) == list(range(1, epochs + 1)), name
    assert {final(figure) for figure in FIGURES} <= run.data.metrics.keys()
    files = files_of(client, run)
    images = {name.removeprefix("images/").partition("+")[0] for name in files if name.startswith("images/")}
    assert files >= {*PICTURES, "params.yaml", "test.json", "train.json", "training.csv"}
    assert images == {name.removesuffix(".png").replace("/", "~") for name in PICTURES}
    assert len(run.inputs.dataset_inputs) == 1
    assert len(run.outputs.model_outputs) == 1


def as_it_is(run) -> tuple:
    """All that a run holds, to compare; which experiments share it may grow."""
    tags = {name: value for name, value in run.data.tags.items() if name != "dvc.experiments"}
    return run.info.run_id, run.info.status, run.info.end_time, run.data.params, run.data.metrics, tags


def by_experiment(runs: list) -> dict[str, object]:
    """Runs by each name of `dvc exp` that they have."""
    return {name: run for run in runs for name in run.data.tags.get("dvc.experiments", "").split()}


# dvc queue start, dvc exp run --run-all: workers that run experiments in folders of their own


@contextmanager
def no_worker_outlives(repository: Repository):
    try:
        yield
        repository.dvc("queue", "stop")  # they would wait ten seconds for more
        wait_for(lambda: not workers_of(repository))
    finally:
        for worker in workers_of(repository):
            for process in [*worker.children(recursive=True), worker]:
                process.kill()


def workers_of(repository: Repository) -> list[psutil.Process]:
    workers = []
    for file in (repository.root / ".dvc/tmp/exps/celery").glob("*.pid"):
        try:
            worker = psutil.Process(int(file.read_text()))
            if "queue-worker" in worker.cmdline():
                workers.append(worker)
        except psutil.Error:
            continue
    return workers


def wait_for_queue(repository: Repository, seconds: float = 300) -> None:
    """Wait until every experiment in the queue has succeeded; on a failure, or in time, say what they printed."""
    end = time.monotonic() + seconds
    while True:
        tasks = [line.split()[:2] + line.split()[-1:] for line in queue_lines(repository)]
        if all(status == "Success" for *_, status in tasks):
            return
        if time.monotonic() > end or any(status == "Failed" for *_, status in tasks):
            logs = [subprocess.run([*DVC, "queue", "logs", n], cwd=repository.root, env=environment(), text=True,
                    capture_output=True) for _, n, _ in tasks]
            pytest.fail(f"{tasks}\n" + "\n".join(log.stdout + log.stderr for log in logs))
        time.sleep(2)


def queue_lines(repository: Repository) -> list[str]:
    lines = repository.dvc("queue", "status").splitlines()
    return [line for line in lines if line.split()[-1:] and line.split()[-1] in ("Queued", "Running", "Success", "Failed")]


@pytest.fixture(scope="module")
def lab(repository, tmp_path_factory) -> Repository:
    """A clone at a path with a space, where nothing was recorded yet."""
    return repository.copy(tmp_path_factory.mktemp("lab") / "a lab" / "cvae")


@pytest.fixture(scope="module")
def sweep(lab) -> list:
    """Runs of three experiments: queued, then the workspace edited, then run by two workers, who make the database."""
    lab.dvc("exp", "run", "--queue", "--set-param", "latent_dims=range(1,4)")
    lab.set(epochs=7, seed=7)
    (lab.root / "stages/train.py").write_text("raise SystemExit('edited since')\n")
    assert not (lab.root / "mlflow.db").exists()
    with no_worker_outlives(lab):
        lab.dvc("queue", "start", "--jobs", "2")
        wait_for_queue(lab)
    assert lab.git("diff", "--name-only").split() == ["params.yaml", "stages/train.py"]
    lab.restore()
    return lab.runs()


def test_a_queue_with_two_workers_makes_a_whole_run_of_each_experiment(lab, sweep):
    assert sorted(run.data.params["latent_dims"] for run in sweep) == ["1", "2", "3"]
    for run in sweep:
        assert_whole(lab.client, run)
        assert run.data.tags["dvc.experiments"] == run.data.tags["dvc.experiment"] == run.info.run_name


def test_workers_who_make_the_database_between_them_log_training_as_it_goes(sweep):
    # latent_dims=2 was trained before and comes from DVC's cache, so that track alone makes its run
    logged_by = {run.data.params["latent_dims"]: run.data.tags["dvc.stage"] for run in sweep}
    assert logged_by == {"1": "train", "2": "track", "3": "train"}


def test_a_queued_experiment_runs_the_code_and_parameters_of_its_queueing(lab, sweep):
    parameters = yaml.safe_load(lab.git("show", "HEAD:params.yaml"))
    for run in sweep:
        expected = parameters | {"latent_dims": int(run.data.params["latent_dims"])}
        assert run.data.params == {name: str(value) for name, value in expected.items()}
        assert run.data.tags["git.commit"] == lab.git("rev-parse", "HEAD").strip()
        assert run.data.tags["git.dirty"] == "false"


def test_nothing_is_kept_in_the_temporary_folder_of_an_experiment(lab, sweep):
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


def test_repro_of_what_an_experiment_made_finds_its_run(lab, sweep):
    assert stages_run(lab.dvc("repro")) == ["track"]
    assert [as_it_is(run) for run in lab.runs()] == [as_it_is(run) for run in sweep]


# The same parameters under several names


@pytest.fixture(scope="module")
def named(lab, sweep) -> list:
    """Runs after one more experiment, and then two that repeat known ones: they take all they can from the cache."""
    small = ["--set-param", "hidden_dims=64", "--set-param", "seed=1"]
    lab.dvc("exp", "run", "--name", "small", *small)
    lab.restore()
    lab.dvc("exp", "run", "--queue", "--name", "small-again", *small)
    lab.dvc("exp", "run", "--queue", "--name", "three-again", "--set-param", "latent_dims=3")
    with no_worker_outlives(lab):
        lab.dvc("exp", "run", "--run-all", "--jobs", "2")
        wait_for_queue(lab)
    return lab.runs()


def test_an_experiment_of_several_parameters_adds_one_whole_run(lab, sweep, named):
    (added,) = [run for run in named if run.info.run_id not in {run.info.run_id for run in sweep}]
    assert_whole(lab.client, added)
    assert added.info.run_name == "small"
    assert (added.data.params["hidden_dims"], added.data.params["seed"]) == ("64", "1")
    assert added.data.tags["dvc.stage"] == "train"


def test_a_run_has_the_names_of_all_experiments_with_its_results(sweep, named):
    experiments = by_experiment(named)
    assert experiments["small"].data.tags["dvc.experiments"] == "small small-again"
    (three,) = [run for run in sweep if run.data.params["latent_dims"] == "3"]
    assert experiments["three-again"].data.tags["dvc.experiments"] == f"{three.info.run_name} three-again"
    assert as_it_is(experiments["three-again"]) == as_it_is(three)


# An experiment's results, back in the workspace


@pytest.fixture(scope="module")
def applied(lab, named) -> str:
    """What `dvc repro` printed after `dvc exp apply`."""
    lab.dvc("exp", "apply", "small")
    return lab.dvc("repro")


def test_repro_after_apply_finds_the_run_again(lab, named, applied):
    assert stages_run(applied) == ["track"]
    assert [as_it_is(run) for run in lab.runs()] == [as_it_is(run) for run in named]


def test_diffs_compare_the_figures_that_mlflow_has(lab, named, applied):
    experiments = by_experiment(named)
    before = next(run for run in named if run.data.params["latent_dims"] == "2" and run.info.run_name != "small")
    compared = json.loads(lab.dvc("exp", "diff", "HEAD", "small", "--json"))
    assert {name: (change["old"], change["new"]) for name, change in compared["params"]["params.yaml"].items()} == {
        "hidden_dims": (256, 64),
        "seed": (0, 1),
    }
    for diff in (compared["metrics"], json.loads(lab.dvc("metrics", "diff", "--json"))):
        change = diff["metrics/test.json"]["loss"]
        assert change["old"] == pytest.approx(before.data.metrics[final("loss")], rel=1e-7)
        assert change["new"] == pytest.approx(experiments["small"].data.metrics[final("loss")], rel=1e-7)


def test_plots_diff_draws_both_sides(lab, applied, tmp_path):
    lab.dvc("plots", "diff", "HEAD", "--out", str(tmp_path))
    page = (tmp_path / "index.html").read_text()
    for side in ("HEAD", "workspace"):
        assert f'"rev": "{side}"' in page
        for name in PICTURES:
            assert (tmp_path / "static" / f"{side}_plots_{name.replace('/', '_')}").stat().st_size, name


def test_a_branch_of_an_experiment_holds_the_figures_that_mlflow_has(lab, named):
    lab.dvc("exp", "branch", "small", "small-branch")
    figures = json.loads(lab.git("show", "small-branch:metrics/test.json"))
    logged = by_experiment(named)["small"].data.metrics
    assert {final(name): value for name, value in figures.items()}.items() <= logged.items()
