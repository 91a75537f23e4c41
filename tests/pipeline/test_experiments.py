"""Every way that DVC runs an experiment, and what MLflow then holds: one whole run for one result, in one store."""

import base64
import csv
import io
import json
import sys
from pathlib import Path

import mlflow
import psutil
import pytest
import yaml
from helpers.pages import PICTURES
from helpers.processes import closed_port, kill_group, mlflow_server, wait_for
from helpers.queue import no_worker_outlives, wait_for_queue
from helpers.repository import Repository, stages_run, started
from mlflow import MlflowClient

from cvae.pipeline.repository import has_ended
from cvae.tracking.description import NOTE
from cvae.tracking.live import metric_name
from cvae.tracking.run_keys import recorded
from cvae.tracking.runs import PIPELINE_KEY, TRACKING

COLUMNS = [f"{split}_{part}" for split in ("train", "test") for part in ("loss", "reconstruction", "kl")]
CURVES = [metric_name(column) for column in [*COLUMNS, "article_loss"]]
FIGURES = ("loss", "reconstruction", "kl", "active_units")  # of metrics/test.json
DVC = [sys.executable, "-m", "dvc"]


def final(figure: str) -> str:
    """MLflow's name of a figure of metrics/test.json."""
    return f"final_test/{figure}"


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
    """All that a run holds, to compare; save its experiments' names, which grow, and the description that has them."""
    tags = {name: value for name, value in run.data.tags.items() if name not in ("dvc.experiments", NOTE)}
    return run.info.run_id, run.info.status, run.info.end_time, run.data.params, run.data.metrics, tags


def by_experiment(runs: list) -> dict[str, object]:
    """Runs by each name of `dvc exp` that they have."""
    return {name: run for run in runs for name in run.data.tags.get("dvc.experiments", "").split()}


# dvc queue start, dvc exp run --run-all: workers that run experiments in folders of their own


@pytest.fixture(scope="module")
def lab(repository, tmp_path_factory) -> Repository:
    """A clone at a path with a space, where nothing was recorded yet."""
    return repository.copy(tmp_path_factory.mktemp("lab") / "a lab" / "cvae")


@pytest.fixture(scope="module")
def sweep(lab) -> list:
    """Runs of two experiments: queued, then the workspace edited, then run by two workers, who make the database."""
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


def test_a_queue_with_two_workers_makes_a_whole_run_of_each_experiment(lab, sweep):
    assert sorted(run.data.params["latent_dims"] for run in sweep) == ["1", "2"]
    for run in sweep:
        assert_whole(lab.client, run)
        assert run.data.tags["dvc.experiments"] == run.data.tags["dvc.experiment"] == run.info.run_name


def test_workers_who_make_the_database_between_them_log_training_as_it_goes(sweep):
    # latent_dims=2 was trained before and comes from DVC's cache, so that track alone makes its run
    logged_by = {run.data.params["latent_dims"]: run.data.tags["dvc.stage"] for run in sweep}
    assert logged_by == {"1": "train", "2": "track"}


def test_a_queued_experiment_runs_the_code_and_parameters_of_its_queueing(lab, sweep):
    parameters = recorded(yaml.safe_load(lab.git("show", "HEAD:params.yaml")))
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
    """Runs after two experiments that repeat known ones under another name: they take all they can from the cache."""
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


# An experiment's results, back in the workspace


@pytest.fixture(scope="module")
def applied(lab, named) -> str:
    """What `dvc repro` printed after `dvc exp apply` of one of the sweep, which a worker ran elsewhere."""
    (one,) = [run for run in named if run.data.params["latent_dims"] == "1"]
    lab.dvc("exp", "apply", one.info.run_name)
    return lab.dvc("repro")


def test_repro_after_apply_finds_the_run_again(lab, named, applied):
    assert stages_run(applied) == ["track"]
    assert [as_it_is(run) for run in lab.runs()] == [as_it_is(run) for run in named]


def test_diffs_compare_the_figures_that_mlflow_has(lab, named, applied):
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


def test_a_branch_of_an_experiment_holds_the_figures_that_mlflow_has(lab, named):
    lab.dvc("exp", "branch", "one-again", "branch")
    figures = json.loads(lab.git("show", "branch:metrics/test.json"))
    logged = by_experiment(named)["one-again"].data.metrics
    numbers = {final(name): value for name, value in figures.items() if not isinstance(value, str)}
    assert len(numbers) == len(figures) - 2, "all but `likelihood` and `pixels`"
    assert numbers.items() <= logged.items()


# A repository that another one runs, and new pictures of a known training


@pytest.fixture(scope="module")
def elsewhere(repository, empty_database, tmp_path_factory) -> Repository:
    """A clone at a path that is not ASCII, with an empty store."""
    clone = repository.copy(tmp_path_factory.mktemp("elsewhere") / "Zoë's räume" / "cvae")
    (clone.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    return clone


@pytest.fixture(scope="module")
def leaked(elsewhere, tmp_path_factory) -> tuple[Path, list]:
    """Runs after `dvc repro` with what DVC sets for a stage of another project, and that project."""
    other = tmp_path_factory.mktemp("other")
    variables = {"DVC_ROOT": str(other), "DVC_EXP_NAME": "of-the-other", "DVC_STAGE": "nested"}
    elsewhere.run(*DVC, "repro", **variables)
    return other, elsewhere.runs()


def test_variables_of_another_dvc_project_do_not_lead_the_record_astray(elsewhere, leaked):
    other, (run,) = leaked
    assert list(other.iterdir()) == []
    assert_whole(elsewhere.client, run)
    assert Path(run.info.artifact_uri).is_relative_to(elsewhere.root)
    assert run.info.run_name == "digits epochs=2 threads=1 nll_samples=50"
    assert not [name for name, value in run.data.tags.items() if "of-the-other" in value]


@pytest.fixture(scope="module")
def redrawn(elsewhere, leaked) -> tuple[str, list]:
    """What `dvc exp run` printed after a change of the pictures alone, and the runs that there were then."""
    output = elsewhere.dvc("exp", "run", "--name", "coarse", "--set-param", "grid_size=4")
    return output, elsewhere.runs()


def test_new_pictures_make_a_whole_run_and_leave_the_old_one_as_it_was(elsewhere, leaked, redrawn):
    (before,) = leaked[1]
    output, (after, added) = redrawn
    assert stages_run(output) == ["render", "track"]
    assert as_it_is(after) == as_it_is(before)
    assert_whole(elsewhere.client, before)
    assert_whole(elsewhere.client, added)
    assert (added.info.run_name, added.data.params["grid_size"]) == ("coarse", "4")
    same, other = (Path(run.info.artifact_uri, "manifolds/3.png").read_bytes() for run in (before, added))
    assert same != other


def test_git_checkout_and_repro_go_back_to_the_first_run(elsewhere, redrawn):
    _, runs = redrawn
    elsewhere.git("checkout", "--", ".")
    assert stages_run(elsewhere.dvc("repro")) == ["track"]
    assert [as_it_is(run) for run in elsewhere.runs()] == [as_it_is(run) for run in runs]


# Killed, broken, and begun again


def steps(client: MlflowClient, run) -> int:
    return len(client.get_metric_history(run.info.run_id, CURVES[0]))


@pytest.fixture(scope="module")
def faults(repository, empty_database, tmp_path_factory) -> dict[str, list]:
    """The runs in one repository after each of four faults, and after the `dvc repro` that follows them."""
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

    hurt.set(epochs=999_999)  # another training, which does not go on in the run of the first
    with started(hurt, "repro", SHELL="/bin/sh") as dvc:  # Debian's stays between DVC and the stage; bash does not
        known = {run.info.run_id for run in hurt.runs()}
        wait_for(lambda: any(run.info.run_id not in known and steps(hurt.client, run) for run in hurt.runs()))
        below = psutil.Process(dvc.pid).children(recursive=True)
        (train,) = [process for process in below if process.cmdline()[1:] == ["-m", "stages.train"]]
        dvc.kill()
        wait_for(lambda: has_ended(train))
    runs["orphaned"] = hurt.runs()

    hurt.git("checkout", "params.yaml")
    with open(hurt.root / "src/cvae/training/loop.py", "a") as code:
        code.write("# so that DVC's cache does not have the training\n")
    with started(hurt, "repro") as dvc:
        wait_for(lambda: any(TRACKING in run.data.tags for run in hurt.runs()))
        kill_group(dvc)
    runs["half tracked"] = hurt.runs()

    assert stages_run(hurt.dvc("repro")) == ["track"]
    runs["whole"] = hurt.runs()
    assert_whole(hurt.client, runs["whole"][-1])
    assert hurt.dvc("repro").endswith("Data and pipelines are up to date.\n")
    return runs


@pytest.mark.long
def test_a_training_that_diverges_leaves_a_failed_run_that_says_why(faults):
    (run,) = faults["diverged"]
    assert run.info.status == "FAILED"
    assert "training diverged in epoch 1" in run.data.tags["error"]


@pytest.mark.long
def test_a_training_killed_with_its_dvc_is_closed_by_the_next(faults):
    *_, killed = faults["killed"]
    assert killed.info.status == "RUNNING", "killed with SIGKILL, it could not say so"
    later = {run.info.run_id: run.info.status for run in faults["orphaned"]}
    assert later[killed.info.run_id] == "KILLED"


@pytest.mark.long
def test_a_training_ends_when_its_dvc_is_killed(faults):
    *_, orphan = faults["orphaned"]
    assert orphan.info.status == "KILLED"
    assert orphan.data.tags["error"].startswith("DVC was killed")


@pytest.mark.long
def test_repro_after_faults_makes_one_whole_run_and_leaves_none_open(faults):
    *_, half = faults["half tracked"]
    assert half.info.status in ("RUNNING", "FINISHED")
    assert PIPELINE_KEY not in half.data.tags
    assert [run.info.status for run in faults["whole"]] == ["FAILED", "KILLED", "KILLED", "FINISHED"]


# A tracking server that keeps the artifacts too, gone in mid-training and back


@pytest.fixture(scope="module")
def served(repository, empty_database, tmp_path_factory):
    """A clone whose runs are on a server that was gone in mid-training, and a client of the server."""
    clone = repository.copy(tmp_path_factory.mktemp("served") / "cvae")
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    backend = Repository(folder)
    port = closed_port()
    uri = f"http://127.0.0.1:{port}"
    keeping = ("--artifacts-destination", str(folder / "kept"))  # as by default: artifacts go through the server
    tracking = {
        "MLFLOW_TRACKING_URI": uri.replace("//", "//someone:pa%24sword@"),  # which this server does not ask for
        "MLFLOW_TRACKING_TOKEN": "a-token",
        "HOME": str(clone.root.parent),
    }

    code = clone.root / "src/cvae/training/loop.py"
    waiting = "        yield row\n        while not __import__('os').path.exists('server-is-gone'):\n            pass\n"
    assert code.read_text().count("        yield row\n") == 1
    code.write_text(code.read_text().replace("        yield row\n", waiting))
    with mlflow_server(folder, port, *keeping) as process, started(clone, "repro", **tracking) as dvc:
        wait_for(lambda: any(steps(backend.client, run) for run in backend.runs()))
        kill_group(process)
        (clone.root / "server-is-gone").touch()
        assert dvc.wait(timeout=120) != 0
    printed = (clone.root / ".dvc/tmp/printed.log").read_text()
    left = backend.runs()

    with mlflow_server(folder, port, *keeping):
        done = clone.run(*DVC, "repro", **tracking)
        yield clone, MlflowClient(uri), uri, folder, printed, left, done.stdout + done.stderr


def test_a_server_gone_in_mid_training_stops_track_and_not_training(served):
    *_, printed, (left,), _ = served
    assert "training goes on" in printed
    assert "Trained in" in printed
    assert "failed to reproduce 'track'" in printed
    assert left.info.status == "RUNNING"


def test_repro_when_the_server_is_back_records_all_on_it(served):
    clone, client, *_, (left,), again = served
    assert stages_run(again) == ["track"]
    runs = client.search_runs([left.info.experiment_id], order_by=["attributes.start_time"])
    assert [run.info.status for run in runs] == ["FINISHED"], "what the server missed the end of is superseded"
    assert_whole(client, runs[0])
    assert not [name for name in ("mlflow.db", "mlruns", "mlartifacts") if (clone.root / name).exists()]


def test_pictures_and_model_come_back_through_the_server(served, tmp_path):
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


def test_what_is_printed_kept_and_sent_has_neither_the_servers_password_nor_the_home_folder(served):
    clone, _, _, folder, printed, _, again = served
    hidden = [b"someone:pa", b"pa%24sword", b"pa$sword", b"a-token", base64.b64encode(b"someone:pa$sword")]
    files = [file for root in (clone.root, folder) for file in root.rglob("*") if file.is_file()]
    files = [file for file in files if not file.is_relative_to(clone.root / "tests")]  # which hold them, as this does
    assert {"mlflow.db", "printed.log", "MLmodel"} <= {file.name for file in files}
    assert not [file for file in files if any(secret in file.read_bytes() for secret in hidden)]
    assert not [secret for secret in hidden if secret in again.encode()]

    home = str(clone.root.parent)
    sent = [file for file in files if file.is_relative_to(folder) and file.name != "server.log"]
    assert not [file for file in sent if home.encode() in file.read_bytes()]
    assert home not in printed + again
