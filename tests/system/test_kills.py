"""Work that is killed at any moment, by any signal: nothing is lost, and nothing incomplete counts as done."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import zc.lockfile
from helpers.kills import (
    BY_HAND,
    DVC,
    STAGES,
    TORN,
    Kill,
    Tally,
    differences,
    forget,
    measured,
    random_kill,
    spoil,
    trial,
)
from helpers.processes import environment, stage_process, wait_for
from helpers.queue import no_worker_outlives, wait_for_queue
from helpers.repository import PROJECT, started

from cvae.pipeline.repository import has_ended
from cvae.tracking.current_run import current_run
from cvae.tracking.run_keys import RECEIPT

SEED = int(os.environ.get("KILLS_SEED", "0"))
TRIALS = int(os.environ.get("KILLS_TRIALS", "36"))  # each with one to three kills of one stage
FIRST_RUNS = 4  # from an empty repository, with a kill in every stage


def test_repro_recovers_from_a_kill_by_each_signal(repository, empty_database, tmp_path):
    hurt = repository.copy(tmp_path / "cvae")
    (hurt.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    stages = ("train", "render", "track")
    spoil(hurt, *stages)
    (hurt.root / "data/tracked.json").write_text('{"pipel')  # a torn receipt
    signals = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
    kills = [Kill(stage, number, after=0.5) for stage, number in zip(stages, signals, strict=True)]
    tally = Tally(Counter())
    trial(hurt, kills, dict.fromkeys(STAGES, 3.0), tally)
    assert tally.kills.total() == 3, f"{tally}"
    assert differences(hurt, repository) == []


@pytest.mark.long
def test_repro_recovers_from_kills_at_any_moment(repository, empty_database, tmp_path, capsys):
    """KILLS_SEED chooses other moments, and KILLS_TRIALS the number of trials."""
    began, tally, bad = time.monotonic(), Tally(Counter()), {}
    root, recorded = (
        tmp_path / "cvae",
        tmp_path / "recorded",
    )  # all at one path, since MLflow's store holds absolute paths

    undisturbed = repository.copy(tmp_path / "undisturbed")
    forget(undisturbed)  # its cache must hold no results of other parameters
    undisturbed.set(epochs=150)
    undisturbed.dvc("repro")
    first = undisturbed.copy(root)
    forget(first)
    usual = measured(first)
    assert differences(first, undisturbed) == [], "a run without kills"
    for name in ("mlflow.db", "mlartifacts"):
        copy(root / name, recorded / name)

    for number in range(TRIALS + FIRST_RUNS):
        chance = random.Random(f"{SEED} {number}")
        shutil.rmtree(root)
        hurt = undisturbed.copy(root)
        if number < TRIALS:
            stage = chance.choice(STAGES)
            spoil(hurt, stage)
            kills = [random_kill(chance, stage) for _ in range(chance.choice([1, 1, 2, 3]))]
            store = chance.choice(["none", "empty", "recorded"] if stage in ("train", "track") else ["recorded"])
        else:
            forget(hurt)
            kills, store = [random_kill(chance, stage) for stage in STAGES], "none"
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
            print(f"\n{time.monotonic() - began:6.0f} s  {trial_name}: {found or 'recovered'}", end="", flush=True)
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


# Files that DVC does not write atomically


@pytest.mark.long
@pytest.mark.parametrize("length", [0, 4096, 8192])
def test_the_documented_remedy_repairs_torn_dvc_files_without_training(repository, empty_database, tmp_path, length):
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
import mlflow.db, mlflow.store.tracking.sqlalchemy_store  # once for all children

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


def test_a_database_killed_while_it_is_created_is_created_by_the_next_process(tmp_path):
    command = [sys.executable, "-c", OPEN_AND_BE_KILLED]
    variables = environment(PYTHONPATH=str(PROJECT / "src"))
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True 0 mlflow.db\n", "")


@pytest.mark.parametrize(
    "content", [b"", b'{"pipel', b"[]", b"null", b'{"pipeline.key": 3}', b'{"pipeline.key": "\' or"}', b"\xff"]
)
def test_a_damaged_receipt_does_not_hide_the_present_run(compared, tmp_path, monkeypatch, content):
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
def test_ctrl_c_ends_a_program_quietly_even_as_it_starts(repository, program):
    for imports in (1, 30, 300):  # since the import of our runner
        said, status = interrupted(repository.root, program, imports)
        assert (said, status in (130, -signal.SIGINT)) == ([], True), f"after {imports} imports: {status}"


def interrupted(root: Path, program: str, imports: int) -> tuple[list[str], int]:
    """Send SIGINT after this number of imports; return what the program wrote to stderr, and its exit status."""
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


def test_importing_the_library_does_not_change_ctrl_c():
    code = "import signal, cvae.support.errors; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(PYTHONPATH=str(PROJECT / "src")), capture_output=True
    )
    assert done.stdout == b"True\n"


# Two commands at once


def test_a_second_repro_names_the_first_and_the_first_waits_for_the_lock(repository, empty_database, tmp_path):
    """Without --wait-for-lock, DVC gives up after three seconds and loses the training."""
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


@pytest.mark.long
@pytest.mark.parametrize("apart", [0.0, 0.5, 3.0, 6.0])
def test_of_two_repros_one_succeeds_and_the_other_names_the_lock(repository, empty_database, tmp_path, apart):
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
def test_the_documented_remedy_saves_a_training_that_found_the_lock_taken(repository, empty_database, tmp_path):
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
def test_a_repro_beside_a_queue_worker_loses_nothing(repository, empty_database, tmp_path):
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
