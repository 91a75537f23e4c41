"""docs/slurm on a real Slurm cluster: a sweep as a job array, and one training in several processes."""

import re
import shlex
import shutil

import pytest
from helpers.processes import closed_port, mlflow_server, wait_for
from helpers.repository import Repository, stages_run
from helpers.runs import assert_complete
from helpers.slurm import DAEMONS, cluster, submit, wait_for_jobs
from mlflow import MlflowClient

NO_REMOTE = "The last commit has no default DVC remote to keep the results"
NO_SERVER = "MLFLOW_TRACKING_URI names no tracking server (http://...)"
SWEEP = "docs/slurm/experiments.sh"


@pytest.fixture(scope="module")
def slurm():
    if not all(DAEMONS.values()):
        pytest.skip("no Slurm: Debian has it in the packages munge, slurmctld and slurmd")
    with cluster() as variables:
        yield variables


@pytest.fixture(scope="module")
def lab(repository, slurm, empty_database, tmp_path_factory):
    """A repository with a DVC remote, and the variables that name the cluster and a tracking server."""
    folder = tmp_path_factory.mktemp("slurm")
    shutil.copy(empty_database, folder)
    lab = repository.copy(folder / "cvae")
    lab.dvc("remote", "add", "--default", "store", str(folder / "store"))
    lab.dvc("push")
    lab.git("commit", "--quiet", "--all", "--message", "A store")
    port = closed_port()
    with mlflow_server(folder, port, "--artifacts-destination", str(folder / "kept")):
        yield lab, slurm | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}


@pytest.fixture(scope="module")
def sweep(lab):
    """The output of five tasks: an experiment, the same again, another, one that fails, and one without parameters."""
    lab, variables = lab
    lines = ["dims-1 latent_dims=1"] * 2
    lines += ["wide-3 latent_dims=3 hidden_dims=[300,200]", "bad beta=x", "alone"]
    (lab.root / "sweep.txt").write_bytes("\r\n".join(lines).encode())
    job = submit(lab, "--array=1-5", "--cpus-per-task=1", SWEEP, "sweep.txt", **variables)
    wait_for_jobs(variables)
    return [(lab.root / f"slurm-{job}_{task}.out").read_text() for task in range(1, 6)], job


def runs(uri: str) -> dict[str, object]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("cvae")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_each_task_ends_in_one_complete_run(lab, sweep):
    (_, variables), (printed, _) = lab, sweep
    uri = variables["MLFLOW_TRACKING_URI"]
    found = runs(uri)
    assert sorted(found) == ["dims-1", "wide-3"], printed
    for run in found.values():
        assert_complete(MlflowClient(uri), run)
    assert found["wide-3"].data.params["hidden_dims"] == "[300, 200]"
    assert stages_run(printed[2])[0] == "train"  # the data came from the store


def test_another_clone_gets_the_results_and_trains_nothing(lab, sweep, tmp_path):
    lab, variables = lab
    lab.run("git", "clone", "--quiet", str(lab.root), str(tmp_path / "cvae"))
    clone = Repository(tmp_path / "cvae")
    clone.dvc("exp", "pull", "origin", "dims-1", "wide-3")
    assert {"dims-1", "wide-3"} <= set(clone.run("cvae", "compare").stdout.split())
    clone.dvc("exp", "apply", "wide-3")
    printed = clone.run("dvc", "repro", **variables).stdout
    assert stages_run(printed) == ["track"]
    assert "These results are already MLflow run wide-3" in printed
    assert len(runs(variables["MLFLOW_TRACKING_URI"])) == 2


def test_a_task_that_fails_says_why_and_keeps_its_clone(lab, sweep):
    (lab, variables), (printed, _) = lab, sweep
    assert "params.yaml: beta is 'x'" in printed[3]
    assert printed[4] == "sweep.txt: line 5 is not a name and parameters\n"
    assert [path.name for path in (lab.root / ".dvc/tmp/slurm").iterdir()] == ["bad"]
    lab.git("commit", "--quiet", "--allow-empty", "--message", "A correction")
    again = submit(lab, "--array=1,4", SWEEP, "sweep.txt", **variables)
    wait_for_jobs(variables)
    corrected = Repository(lab.root / ".dvc/tmp/slurm/bad/clone").git("rev-parse", "HEAD")
    assert corrected == lab.git("rev-parse", "HEAD")
    assert (lab.root / f"slurm-{again}_1.out").read_text().startswith("There is an experiment dims-1 already;")


def test_of_two_tasks_with_one_name_only_one_runs(sweep):
    printed, job = sweep
    refused, made = sorted(printed[:2], key=len)
    assert re.fullmatch(f"Task {job}_[12] makes dims-1 already\n", refused)
    assert "Pushed experiment dims-1" in made


@pytest.mark.parametrize(
    ("variables", "before", "expected"),
    [
        ({"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}, "true", NO_SERVER),
        ({}, "cd src", "There is no dvc.yaml here; submit this from the root of the repository"),
        ({}, "touch data/own/7.png", "data/own has changes; commit your images first"),
        ({}, "true", NO_REMOTE),
        ({}, "dvc remote add --quiet --default store /tmp", NO_REMOTE),  # not committed
    ],
)
def test_a_task_refuses_before_it_trains_what_would_lose_its_result(repository, tmp_path, variables, before, expected):
    copy = repository.copy(tmp_path / "a copy")
    (tmp_path / "sweep.txt").write_text("dims-2 latent_dims=2\n")
    task = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "1", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    command = f"{before}; bash {shlex.quote(str(copy.root / SWEEP))} {shlex.quote(str(tmp_path / 'sweep.txt'))}"
    done = copy.run("bash", "-c", command, status=1, **(task | variables))
    assert done.stderr == f"{expected}\n"
    assert "stages.train" not in done.stdout


@pytest.mark.long
def test_a_stopped_task_resumes_from_its_checkpoint(lab, sweep):
    lab, variables = lab
    epochs = 4000
    (lab.root / "long.txt").write_text(f"long epochs={epochs}\n")
    job = submit(lab, "--array=1", SWEEP, "long.txt", **variables, CHECKPOINT_SECONDS="0")
    log = lab.root / f"slurm-{job}_1.out"
    wait_for(lambda: log.exists() and f"epoch 9/{epochs}" in log.read_text())
    lab.run("scontrol", "requeue", f"{job}_1", **variables)
    wait_for(lambda: "Resuming after epoch" in log.read_text())
    lab.run("scancel", job, **variables)
    wait_for_jobs(variables)


def test_torchrun_trains_in_a_process_for_each_cpu(lab):
    lab, variables = lab
    job = submit(lab, "--cpus-per-task=2", "--wrap", "srun docs/slurm/torchrun.sh -m stages.train", **variables)
    wait_for_jobs(variables)
    printed = (lab.root / f"slurm-{job}.out").read_text()
    assert "Training on 2 × CPU, 1 thread" in printed
    assert "Trained in" in printed
