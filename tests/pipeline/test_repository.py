"""The main repository and its temporary copies, and threads shared between experiments."""

import os
import subprocess
import sys

import psutil
import pytest

from cvae.compute import threads
from cvae.compute.threads import SPINS, busy_cores, share_cores
from cvae.pipeline.repository import experiments_at_once, main_repository


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository in which DVC runs two queued experiments and one with `--temp`. The test starts at its root."""
    root = tmp_path / "a repository"
    for copy in ("tmp1/.dvc/tmp", "tmp2", "standalone/tmp3", "celery/broker", "run", "cache"):
        (root / ".dvc/tmp/exps" / copy).mkdir(parents=True)
    monkeypatch.chdir(root)
    for variable in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(variable, "")  # so that the test's own value is removed at its end
        monkeypatch.delenv(variable)
    monkeypatch.setattr(threads, "cores", lambda: 4)
    monkeypatch.setattr(threads, "busy_cores", lambda: 0)
    return root


@pytest.mark.parametrize("folder", [".", ".dvc/tmp/exps/tmp1", ".dvc/tmp/exps/standalone/tmp3"])
def test_the_main_repository_is_found_from_every_copy(repository, monkeypatch, folder):
    monkeypatch.chdir(repository / folder)
    monkeypatch.setenv("DVC_ROOT", "/somewhere/else")  # as in a shell that a stage of another repository opened
    assert main_repository() == repository


@pytest.mark.parametrize("folder", [".dvc/tmp/exps/tmp1", ".dvc/tmp/exps/standalone/tmp3"])
def test_experiments_that_run_at_once_are_counted(repository, monkeypatch, folder):
    monkeypatch.chdir(repository / folder)
    assert experiments_at_once() == 3


def test_the_repository_itself_counts_as_one(repository):
    assert experiments_at_once() == 1


def waiting() -> tuple[str | None, str | None]:
    return os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT")


@pytest.mark.parametrize(
    ("folder", "threads", "policy"),
    [
        (".dvc/tmp/exps/tmp2", 2, ("PASSIVE", None)),  # 3 × 2 threads on 4 cores
        (".dvc/tmp/exps/tmp2", 1, (None, SPINS)),
        (".", 4, (None, SPINS)),
        (".", 8, ("PASSIVE", None)),
    ],
    ids=["too many", "enough cores", "alone", "too many of one"],
)
def test_waiting_threads_sleep_if_there_are_more_threads_than_cores(repository, monkeypatch, folder, threads, policy):
    monkeypatch.chdir(repository / folder)
    share_cores(threads, experiments_at_once())
    assert waiting() == policy


@pytest.mark.parametrize(
    ("busy", "own", "policy"),
    [(2, 2, (None, SPINS)), (3, 2, ("PASSIVE", None)), (4, 1, (None, SPINS))],
    ids=["room", "no room", "nothing waits"],
)
def test_waiting_threads_sleep_if_other_programs_need_their_cores(repository, monkeypatch, busy, own, policy):
    monkeypatch.setattr(threads, "busy_cores", lambda: busy)
    share_cores(own, experiments_at_once())
    assert waiting() == policy


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux, to pin a program to a core")
def test_a_busy_program_is_noticed():
    own = os.sched_getaffinity(0)
    core = {min(own)}
    program = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(program.pid, core)
        os.sched_setaffinity(0, core)  # only this core counts, whatever else the machine does
        busy_cores()
        assert busy_cores() == 1
    finally:
        os.sched_setaffinity(0, own)
        program.kill()
        program.wait()


@pytest.mark.parametrize("error", [psutil.AccessDenied(), PermissionError(13, "no")], ids=["psutil", "OS"])
def test_where_nobody_may_look_no_core_counts_as_busy(monkeypatch, error):
    def refuse(*_, **__) -> None:
        raise error

    monkeypatch.setattr(psutil, "cpu_percent", refuse)
    assert busy_cores() == 0


@pytest.mark.parametrize(("processes", "policy"), [("4", (None, SPINS)), ("5", ("PASSIVE", None))])
def test_processes_of_one_training_count_too(repository, monkeypatch, processes, policy):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    share_cores(1, experiments_at_once())
    assert waiting() == policy


@pytest.mark.parametrize(("variable", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "7")])
@pytest.mark.parametrize("folder", [".", ".dvc/tmp/exps/tmp2"])
def test_a_users_own_setting_is_kept(repository, monkeypatch, folder, variable, value):
    monkeypatch.chdir(repository / folder)
    monkeypatch.setenv(variable, value)
    share_cores(2, experiments_at_once())
    assert os.environ[variable] == value
    assert variable == "GOMP_SPINCOUNT" or "GOMP_SPINCOUNT" not in os.environ
