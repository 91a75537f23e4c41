"""Training in two processes, started by torchrun as DVC does it, compared with training in one."""

import csv
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from helpers.processes import environment, wait_for
from helpers.repository import PROJECT, Repository, stages_run, started

from cvae.compute.processes import ONE_PROCESS, Processes, connected
from cvae.compute.threads import share_cores
from cvae.support.errors import UserError

TORCHRUN = "torchrun --standalone --nproc-per-node 2"


def test_shares_make_up_the_batch():
    batch = torch.arange(7)
    shares = [Processes(rank, 3).share(batch) for rank in range(3)]
    assert torch.equal(torch.cat(shares), batch)
    assert [len(share) for share in shares] == [3, 2, 2]
    assert len(Processes(2, 3).share(torch.arange(2))) == 0
    assert torch.equal(ONE_PROCESS.share(batch), batch)


def test_the_sum_over_one_process_is_its_own():
    numbers = torch.arange(3.0)
    ONE_PROCESS.sum(numbers)
    assert torch.equal(numbers, torch.arange(3.0))


@pytest.mark.parametrize("value", ["", "two", "0", "-1", "1.5", "9" * 5000])
def test_an_invalid_number_of_processes_is_reported(monkeypatch, value):
    for variable, read in (
        ("WORLD_SIZE", connected(torch.device("cpu")).__enter__),
        ("LOCAL_WORLD_SIZE", partial(share_cores, 1)),
    ):
        monkeypatch.setenv(variable, value)
        with pytest.raises(UserError, match=f"^{variable}: '{value:.30}.* is not a number of processes; torchrun"):
            read()


EXCHANGE = """
import json, sys
import torch
from cvae.compute.processes import connected

with connected(torch.device("cpu")) as processes:
    rank = processes.rank
    total, first = torch.tensor([1.0 + rank]), torch.tensor([1.0 + rank])
    processes.sum(total)
    processes.broadcast(first)
    values = [total.item(), first.item(), processes.from_first({"rank": rank})]
    open(f"{sys.argv[1]}/{rank}.json", "w").write(json.dumps(values))
"""


def test_two_processes_exchange_sums_tensors_and_objects(tmp_path):
    (tmp_path / "exchange.py").write_text(EXCHANGE)
    command = [sys.executable, "-m", *TORCHRUN.replace("torchrun", "torch.distributed.run").split()]
    variables = environment(PYTHONPATH=str(PROJECT / "src"), OMP_NUM_THREADS="1")
    subprocess.run([*command, tmp_path / "exchange.py", tmp_path], env=variables, check=True, timeout=120)
    for rank in (0, 1):
        total, first, value = json.loads((tmp_path / f"{rank}.json").read_text())
        assert (total, first, value) == (3, 1, {"rank": 0})
    assert ONE_PROCESS.from_first("own") == "own"


@pytest.fixture(scope="module")
def pair(repository, empty_database, tmp_path_factory) -> tuple[Repository, str, list[dict[str, float]]]:
    """A clone in which the experiment `pair` was trained in two processes, DVC's output, and the training curves."""
    pair = repository.copy(tmp_path_factory.mktemp("pair") / "cvae")
    (pair.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    printed = pair.dvc("exp", "run", "--name", "pair", "--set-param", f"launcher={TORCHRUN}", "train")
    return pair, printed, curves(pair.root)


def curves(folder: Path) -> list[dict[str, float]]:
    with open(folder / "plots/training.csv") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_two_processes_train_as_one(pair, repository):
    two, one = pair[-1], curves(repository.root)
    assert [row["epoch"] for row in two] == [1, 2]
    for name in two[0]:
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], rel=1e-4), name


def test_two_processes_make_one_run(pair):
    clone, printed, _ = pair
    assert stages_run(printed) == ["train"]
    assert printed.count("Training on 2 × CPU, 1 thread") == 1
    (run,) = clone.runs()
    assert (run.info.run_name, run.info.status) == ("pair", "FINISHED")
    assert run.data.tags["device"] == "2 × CPU, 1 thread"
    assert len(clone.client.get_metric_history(run.info.run_id, "train/loss")) == 2


@pytest.mark.long
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_that_dies_ends_the_training_with_its_cause(pair, rank):
    clone, *_ = pair
    clone.git("checkout", "params.yaml")
    clone.set(epochs=1_000_000, seed=rank, launcher=f'"{TORCHRUN}"')  # a seed, and so a run, per rank
    before = {run.info.run_id for run in clone.runs()}
    try:
        with started(clone, "repro") as dvc:
            wait_for(
                lambda: [
                    run
                    for run in clone.runs()
                    if run.info.run_id not in before and clone.client.get_metric_history(run.info.run_id, "train/loss")
                ]
            )
            below = psutil.Process(dvc.pid).children(recursive=True)
            (victim,) = [p for p in below if p.cmdline()[-1] == "stages.train" and p.environ().get("RANK") == rank]
            os.kill(victim.pid, signal.SIGKILL)
            assert dvc.wait(60) != 0
    finally:
        clone.git("checkout", "params.yaml")
    printed = (clone.root / ".dvc/tmp/printed.log").read_text()
    cause = printed[printed.index("Root Cause") :]
    assert f"rank      : {rank} " in cause
    assert f"Signal 9 (SIGKILL) received by PID {victim.pid}" in cause
    (run,) = [run for run in clone.runs() if run.info.run_id not in before]
    if rank == "1":
        assert run.info.status in ("FAILED", "KILLED")  # process 0 may see the lost contact first, or torchrun's signal
    else:
        assert run.info.status == "RUNNING", "process 0 was killed before it could close its run; the next one does"


def test_sigterm_closes_the_run_as_ctrl_c_does(pair):
    clone, *_ = pair
    before = {run.info.run_id for run in clone.runs()}
    clone.git("checkout", "params.yaml")
    clone.set(epochs=1_000_000)
    command = [sys.executable, "-m", "stages.train"]
    with open(clone.root / ".dvc/tmp/printed.log", "w") as log:
        train = subprocess.Popen(command, cwd=clone.root, env=environment(), stdout=log, stderr=log)
    try:
        wait_for(lambda: "epoch 2/" in (clone.root / ".dvc/tmp/printed.log").read_text())
        train.terminate()
        assert train.wait(30) == 130
    finally:
        train.kill()
        clone.git("checkout", "params.yaml")
    (run,) = [run for run in clone.runs() if run.info.run_id not in before]
    assert (run.info.status, run.data.tags["error"]) == ("KILLED", "ended by SIGTERM")


@pytest.mark.long
def test_a_training_that_diverges_in_two_processes_says_so_once_and_closes_its_run(pair):
    clone, *_ = pair
    before = {run.info.run_id for run in clone.runs()}
    clone.git("checkout", "params.yaml")
    clone.set(learning_rate=10, launcher=f'"{TORCHRUN}"')
    try:
        done = clone.run(sys.executable, "-m", "dvc", "repro", status=255)
    finally:
        clone.git("checkout", "params.yaml")
    assert (done.stdout + done.stderr).count("train: training diverged in epoch 1") == 1
    (run,) = [run for run in clone.runs() if run.info.run_id not in before]
    assert run.info.status == "FAILED"
    assert "training diverged in epoch 1" in run.data.tags["error"]
