"""Runs are closed once their writer is dead, and never written by two processes at once."""

import os
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from helpers.processes import wait_for
from helpers.repository import Repository
from helpers.tracking import assert_complete, live_training, status_of, steps_of_all, train

from cvae.tracking import runs, store, writers
from cvae.tracking.location import locate
from cvae.tracking.record import record


def test_a_run_is_closed_once_its_process_is_dead_and_not_before(workspace, params):
    with live_training(params, DVC_EXP_NAME="endless") as process:
        wait_for(lambda: steps_of_all(workspace) == 1)
        (endless,) = workspace.runs()
        record(params)
        assert status_of(workspace, "endless") == "RUNNING"

        process.kill()
        wait_for(lambda: is_dead(process.pid))  # but its parent has not collected it
        record(params)
    (run,) = workspace.runs()
    assert_complete(workspace.client, run)
    closed = workspace.client.get_run(endless.info.run_id).info
    assert (closed.status, closed.lifecycle_stage) == ("KILLED", "deleted"), "another run has its results"


def is_dead(pid: int) -> bool:
    """Return whether all threads have ended: the main one may end first, and the others still hold the lock."""
    process = psutil.Process(pid)
    return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() == 1


def close(workspace: Repository) -> list[str]:
    """Close runs as each stage does when it starts; return the statuses of all runs."""
    with store.locked():
        runs.close_killed_runs(*store.open_store(locate()))
    return [run.info.status for run in workspace.runs()]


@pytest.fixture(scope="session")
def namespace() -> tuple[str, ...]:
    """The command that runs another one in its own PID namespace, like a container."""
    command = ["unshare", "--pid", "--fork", "--mount-proc"]
    if os.geteuid() != 0:
        command[1:1] = ["--user", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        outcome = pytest.fail if os.environ.get("NO_SKIPS") else pytest.skip
        outcome("this machine does not allow PID namespaces")
    return tuple(command)


def test_a_training_in_a_container_is_judged_by_its_lock(workspace, params, namespace):
    """Its process id exists outside too, for another process, and the host's name is the same."""
    with live_training(params, launcher=namespace) as process:
        wait_for(lambda: steps_of_all(workspace) == 1)
        assert close(workspace) == ["RUNNING"]
        (inner,) = psutil.Process(process.pid).children()
        inner.kill()
        process.wait()
        assert close(workspace) == ["KILLED"]


def test_a_training_on_another_machine_or_in_another_clone_is_left_alone(workspace, params, tmp_path, monkeypatch):
    """A copy of the repository has a copy of the file that the training locks in the original."""
    with live_training(params):
        wait_for(lambda: steps_of_all(workspace) == 1)
        (name,) = [name for name in workspace.runs()[0].data.tags if name.startswith("writer.")]
        shutil.copytree(workspace.root / ".dvc/tmp", tmp_path / "aside/.dvc/tmp")
        folder = tmp_path / "aside/.dvc/tmp/writers"
        assert (folder / name.removeprefix("writer.")).is_file()
        assert not writers.is_abandoned(folder, workspace.runs()[0])
    assert not writers.is_abandoned(folder, workspace.runs()[0])
    folder = workspace.root / ".dvc/tmp/writers"
    (tmp_path / "boot").write_text("the kernel after a reboot, or that of a virtual machine")
    monkeypatch.setattr(writers, "BOOT", tmp_path / "boot")
    if writers.MACHINE.exists():
        assert writers.is_abandoned(folder, workspace.runs()[0])
    monkeypatch.setattr(writers, "MACHINE", tmp_path / "none")
    assert not writers.is_abandoned(folder, workspace.runs()[0])


def test_a_run_that_names_no_writer_is_left_alone(workspace, params):
    """Another program, or an earlier version of this project, may have made it."""
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
        for run in shared.runs():  # anybody may, in MLflow's UI
            shared.client.set_terminated(run.info.run_id, "KILLED")
        with live_training(params, 2, folder=clone.root, **variables):
            wait_for(lambda: "RUNNING" in [run.info.status for run in shared.runs()])
            assert sorted(run.info.status for run in shared.runs()) == ["KILLED", "KILLED", "RUNNING"]


def test_at_most_one_of_many_writers_claims_a_run(workspace, params, tmp_path):
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
    assert claim(0), "the others must have left nothing behind"


def test_track_leaves_a_run_alone_that_another_process_writes_to(workspace, params, tmp_path):
    train(params)
    (run,) = workspace.runs()
    with writers.Writer(tmp_path / "another clone's") as another:
        assert another.claim(workspace.client, run.info.run_id)
        record(params)
        assert len(workspace.runs()) == 2, "nor may track delete it"
        another.release(workspace.client, run.info.run_id)
    record(params)
    (complete,) = workspace.runs()
    assert complete.info.run_id != run.info.run_id
    assert_complete(workspace.client, complete)
