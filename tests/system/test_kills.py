"""Work that is killed: at any moment, by any signal, nothing half-done is taken for done and nothing is lost."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import zc.lockfile
from helpers.kills import BY_HAND, DVC, STAGES, TORN, Kill, Tally, differences, draw, forget, measured, spoil, trial
from helpers.processes import environment, wait_for
from helpers.queue import no_worker_outlives, wait_for_queue
from helpers.repository import PROJECT, started, write_checkpoints_after_every_epoch

from cvae.pipeline.repository import has_ended
from cvae.tracking.current_run import current_run
from cvae.tracking.run_keys import RECEIPT

SEED = int(os.environ.get("KILLS_SEED", "0"))
TRIALS = int(os.environ.get("KILLS_TRIALS", "36"))  # of one stage; each has one to three kills
FIRST_RUNS = 4  # from nothing, with a kill in every stage


def test_repro_killed_by_each_signal_is_made_whole_by_the_next(repository, empty_database, tmp_path):
    hurt = repository.copy(tmp_path / "cvae")
    (hurt.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    stages = ("train", "render", "track")
    spoil(hurt, *stages)
    (hurt.root / "data/tracked.json").write_text('{"pipel')  # a receipt that was torn is no receipt
    signals = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
    kills = [Kill(stage, number, after=0.5) for stage, number in zip(stages, signals, strict=True)]
    tally = Tally(Counter())
    trial(hurt, kills, dict.fromkeys(STAGES, 3.0), tally)
    assert tally.kills.total() == 3, f"{tally}"
    assert differences(hurt, repository) == []


@pytest.mark.long
def test_repro_killed_at_any_moment_is_made_whole_by_the_next(repository, empty_database, tmp_path, capsys):
    """KILLS_SEED draws other moments, KILLS_TRIALS more or fewer; each trial has a generator of its own."""
    began, tally, bad = time.monotonic(), Tally(Counter()), {}
    root, recorded = tmp_path / "cvae", tmp_path / "recorded"  # one place for all: MLflow's store holds absolute paths

    undisturbed = repository.copy(tmp_path / "undisturbed")
    forget(undisturbed)  # so that its cache holds nothing of other parameters
    undisturbed.set(epochs=150)
    write_checkpoints_after_every_epoch(undisturbed)
    undisturbed.dvc("repro")
    first = undisturbed.copy(root)
    forget(first)
    usual = measured(first)
    assert differences(first, undisturbed) == [], "the run that nobody disturbed"
    for name in ("mlflow.db", "mlartifacts"):
        copy(root / name, recorded / name)

    for number in range(TRIALS + FIRST_RUNS):
        chance = random.Random(f"{SEED} {number}")
        shutil.rmtree(root)
        hurt = undisturbed.copy(root)
        if number < TRIALS:
            stage = chance.choice(STAGES)
            spoil(hurt, stage)
            kills = [draw(chance, stage) for _ in range(chance.choice([1, 1, 2, 3]))]
            store = chance.choice(["none", "empty", "recorded"] if stage in ("train", "track") else ["recorded"])
        else:
            forget(hurt)
            kills, store = [draw(chance, stage) for stage in STAGES], "none"
        if store == "empty":
            (root / "mlflow.db").write_bytes(empty_database.read_bytes())
        elif store == "recorded":
            for name in ("mlflow.db", "mlartifacts"):
                copy(recorded / name, root / name)
        trial_name = f"trial {number} of seed {SEED}, store {store}: {'; '.join(map(str, kills))}"
        try:
            trial(hurt, kills, usual, tally)
            found = differences(hurt, undisturbed)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            found = [str(error)]
        if found:
            bad[trial_name] = found
        with capsys.disabled():
            print(f"\n{time.monotonic() - began:6.0f} s  {trial_name}: {found or 'whole'}", end="", flush=True)
    with capsys.disabled():
        print(f"\n{tally}\n{len(bad)} trials with differences, {time.monotonic() - began:.0f} s")
    assert bad == {}
    assert TRIALS < 36 or (tally.kills.total() >= 60 and tally.resumed)


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


# What DVC does not write whole


@pytest.mark.long
@pytest.mark.parametrize("length", [0, 4096, 8192])
def test_what_readme_says_of_a_torn_file_of_dvcs_helps_and_trains_nothing(repository, empty_database, tmp_path, length):
    hurt = repository.copy(tmp_path / "cvae")
    (hurt.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    for name in BY_HAND:
        path = hurt.root / name
        path.write_bytes(path.read_bytes()[:length] if name == "dvc.lock" else b"")
    done = subprocess.run([*DVC, "repro"], cwd=hurt.root, env=environment(), capture_output=True, text=True)
    assert TORN.search(done.stdout + done.stderr)
    for name in BY_HAND:
        (hurt.root / name).unlink()
    assert "Running stage 'train'" not in hurt.dvc("repro")
    assert differences(hurt, repository) == []


# The store


OPEN_AND_BE_KILLED = """
import os, signal, time
from pathlib import Path
from cvae.tracking import location, quiet_mlflow, store

quiet_mlflow.import_mlflow()
import mlflow.db, mlflow.store.tracking.sqlalchemy_store  # once, for every child

def open_for(seconds):
    child, began = os.fork(), time.monotonic()
    if child == 0:
        with store.locked():
            store.open_store(location.locate())
        os._exit(0)
    while seconds is None or time.monotonic() < began + seconds:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status, time.monotonic() - began
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1], seconds

Path("undisturbed").mkdir()
os.chdir("undisturbed")
status, usual = open_for(None)
os.chdir("..")
killed = [open_for(usual * share)[0] == signal.SIGKILL for share in (0.1, 0.2, 0.4)]
status, _ = open_for(None)
print(any(killed), status, *sorted(path.name for path in Path().glob("mlflow.db*")))
"""


def test_a_first_database_killed_half_way_is_made_by_the_next(tmp_path):
    command = [sys.executable, "-c", OPEN_AND_BE_KILLED]
    variables = environment(PYTHONPATH=str(PROJECT / "src"))
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True 0 mlflow.db\n", "")


@pytest.mark.parametrize(
    "content", [b"", b'{"pipel', b"[]", b"null", b'{"pipeline.key": 3}', b'{"pipeline.key": "\' or"}', b"\xff"]
)
def test_a_damaged_receipt_changes_nothing_of_the_present_result(compared, tmp_path, monkeypatch, content):
    run, _ = compared.runs()
    clone = compared.copy(tmp_path / "cvae")
    monkeypatch.chdir(clone.root)
    (clone.root / RECEIPT).write_bytes(content)
    assert current_run(compared.client, run.info.experiment_id).info.run_id == run.info.run_id


# Ctrl-C


@pytest.mark.parametrize(
    "program",
    ["stages.train", "cvae sample", "cvae compare", "cvae ui", "cvae serve"],
)
def test_ctrl_c_ends_a_program_quietly_from_its_first_moment(repository, program):
    for imports in (1, 30, 300):  # that Python has made since our first module that does something
        said, status = interrupted(repository.root, program, imports)
        assert (said, status in (130, -signal.SIGINT)) == ([], True), f"after {imports} imports: {status}"


def interrupted(root: Path, program: str, imports: int) -> tuple[list[str], int]:
    """What a program wrote to stderr, and its exit status, when SIGINT came after that many imports."""
    command = [sys.executable, "-X", "importtime", "-m", *program.split()]
    variables = environment(PYTHONPATH=str(root / "src"))
    with subprocess.Popen(command, cwd=root, env=variables, stderr=subprocess.PIPE, text=True) as process:
        said, seen = [], -1
        for line in process.stderr:
            if not line.startswith("import time:"):
                said.append(line)
            elif seen >= 0 or line.split("|")[-1].strip() == "cvae.commands.runner":
                seen += 1
                if seen == imports:
                    process.send_signal(signal.SIGINT)
        return said, process.wait(60)


def test_importing_the_library_leaves_ctrl_c_alone():
    code = "import signal, cvae.support.errors; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(PYTHONPATH=str(PROJECT / "src")), capture_output=True
    )
    assert done.stdout == b"True\n"


# Two at once


def test_a_second_repro_says_who_is_at_work_and_the_first_waits_for_the_lock(repository, empty_database, tmp_path):
    """Without --wait-for-lock DVC gives up a training whose end finds the lock taken for three seconds."""
    hurt = repository.copy(tmp_path / "cvae")
    (hurt.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    spoil(hurt, "train")
    with started(hurt, "--wait-for-lock", "repro") as dvc:
        train = stage_process(dvc, "train")
        train.suspend()
        second = subprocess.run([*DVC, "repro"], cwd=hurt.root, env=environment(), capture_output=True, text=True)
        assert second.returncode != 0
        assert "is busy, it is being blocked by:\n" in second.stderr
        assert f"(PID {dvc.pid})" in second.stderr
        lock = zc.lockfile.LockFile(str(hurt.root / ".dvc/tmp/lock"))  # as `dvc push` holds it
        train.resume()
        wait_for(lambda: has_ended(train))
        time.sleep(4)
        lock.close()
        assert dvc.wait(120) == 0
    assert differences(hurt, repository) == []


def stage_process(dvc: subprocess.Popen, stage: str) -> psutil.Process:
    def found() -> list[psutil.Process]:
        below = psutil.Process(dvc.pid).children(recursive=True)
        return [process for process in below if process.cmdline()[1:] == ["-m", f"stages.{stage}"]]

    wait_for(lambda: dvc.poll() is not None or found())
    return found()[0]


@pytest.mark.long
@pytest.mark.parametrize("apart", [0.0, 0.5, 3.0, 6.0])
def test_of_two_repros_one_ends_well_and_the_other_says_why_not(repository, empty_database, tmp_path, apart):
    hurt = repository.copy(tmp_path / "cvae")
    (hurt.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    spoil(hurt, "train", "render")
    both = []
    for wait in (0, apart):
        time.sleep(wait)
        both.append(
            subprocess.Popen(
                [*DVC, "repro"],
                cwd=hurt.root,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    printed = [process.communicate()[0] for process in both]
    ended = [process.returncode for process in both]
    assert 0 in ended, "\n".join(printed)
    for text, status in zip(printed, ended, strict=True):
        assert status == 0 or "Unable to acquire lock" in text or "is being blocked by" in text
    assert differences(hurt, repository) == []


@pytest.mark.long
def test_what_readme_says_of_a_training_that_found_the_lock_taken_saves_it(repository, empty_database, tmp_path):
    hurt = repository.copy(tmp_path / "cvae")
    (hurt.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    spoil(hurt, "train")
    with started(hurt, "repro") as dvc:
        stage_process(dvc, "train")
        lock = zc.lockfile.LockFile(str(hurt.root / ".dvc/tmp/lock"))
        assert dvc.wait(120) != 0
        lock.close()
    assert "Unable to acquire lock" in (hurt.root / ".dvc/tmp/printed.log").read_text()
    hurt.dvc("commit", "--force", "train")
    assert "Running stage 'train'" not in hurt.dvc("repro")
    assert differences(hurt, repository) == []


@pytest.mark.long
def test_a_repro_beside_a_queues_worker_loses_nothing(repository, empty_database, tmp_path):
    hurt = repository.copy(tmp_path / "cvae")
    (hurt.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    hurt.dvc("exp", "run", "--queue", "--name", "beside", "--set-param", "latent_dims=3")
    spoil(hurt, "train")
    with no_worker_outlives(hurt):
        hurt.dvc("queue", "start")
        hurt.dvc("--wait-for-lock", "repro")
        wait_for_queue(hurt)
    assert (hurt.root / "dvc.lock").read_bytes() == (repository.root / "dvc.lock").read_bytes()
    assert hurt.git("status", "--porcelain") == ""
    assert sorted((run.info.status, run.data.params["latent_dims"]) for run in hurt.runs()) == [
        ("FINISHED", "2"),
        ("FINISHED", "3"),
    ]
    assert all("pipeline.key" in run.data.tags for run in hurt.runs())
