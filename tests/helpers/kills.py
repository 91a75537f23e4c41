"""Kill `dvc repro` and all of its processes in the middle of a stage, run it again, and check the result.

A trial is a copy of a repository in which the pipeline has run. One stage must run again: its outputs are deleted, also
from DVC's cache and run-cache.
"""

import hashlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
import yaml

from helpers.processes import environment, wait_for
from helpers.repository import Repository, started

STAGES = ("download", "train", "evaluate", "embed", "render", "track")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
DVC = [sys.executable, "-m", "dvc"]
UP_TO_DATE = "Data and pipelines are up to date.\n"
PATIENCE = 60  # seconds for `dvc status`, which takes one or two on an idle machine

# DVC overwrites these two files in place. A kill at that moment leaves half a file, and DVC then refuses to start.
# docs/troubleshooting.md says what to do; all results are in the cache.
TORN = re.compile(
    r"dvc\.lock' (validation failed|is invalid)|unable to read: 'dvc\.lock'|RWLock-file .* (corrupted|format error)"
)
BY_HAND = ("dvc.lock", ".dvc/tmp/rwlock")


@dataclass(frozen=True)
class Kill:
    """A kill of `stage`. `after` is a share of the stage's usual duration.

    `waited`: the next command waits until the stage has ended too; otherwise it starts as soon as DVC has ended.
    """

    stage: str
    signal: signal.Signals
    after: float
    waited: bool = True

    def __str__(self) -> str:
        return f"{self.signal.name} at {self.after:.0%} of {self.stage}{'' if self.waited else ', without waiting'}"


@dataclass
class Tally:
    """The counts of a series of trials."""

    kills: Counter
    late: int = 0  # DVC had ended before the kill
    repairs: int = 0
    resumed: int = 0  # repairs that resumed training from a checkpoint
    by_hand: int = 0

    def __str__(self) -> str:
        repairs = f"{self.repairs} repairs, {self.resumed} from a checkpoint, {self.by_hand} by hand"
        table = [f"{self.kills.total()} kills, {self.late} too late, {repairs}"]
        table += [f"{'':10}" + "".join(f"{number.name:>9}" for number in SIGNALS)]
        for stage in STAGES:
            table.append(f"{stage:10}" + "".join(f"{self.kills[stage, number]:>9}" for number in SIGNALS))
        return "\n".join(table)


def random_kill(chance: random.Random, stage: str) -> Kill:
    return Kill(stage, chance.choice(SIGNALS), chance.random(), chance.random() < 0.7)


# What a trial starts from


def spoil(repository: Repository, *stages: str) -> None:
    """Delete all results of `stages`, so that only running them brings the results back.

    Their entries in dvc.lock stay, with a wrong hash; otherwise DVC would add the new entries at the end.
    """
    lock = repository.root / "dvc.lock"
    entries = yaml.safe_load(lock.read_text())["stages"]
    kept = {digest for other in entries if other not in stages for digest in hashes(repository, entries[other])}
    for stage in stages:
        before, header, after = lock.read_text().partition(f"\n  {stage}:\n")
        lock.write_text(before + header + re.sub(r"md5: \w+", f"md5: {'f' * 32}", after, count=1))
        for digest in set(hashes(repository, entries[stage])) - kept:
            cached(repository, digest).unlink(missing_ok=True)
        for out in entries[stage]["outs"]:
            path = repository.root / out["path"]
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    shutil.rmtree(repository.root / ".dvc/cache/runs", ignore_errors=True)


def forget(repository: Repository) -> None:
    """Delete everything that a stage made, as in a first clone."""
    spoil(repository, *STAGES)
    (repository.root / "dvc.lock").unlink()
    shutil.rmtree(repository.root / ".dvc/cache")


def hashes(repository: Repository, entry: dict) -> Iterable[str]:
    """Return the names in DVC's cache of everything a stage made: files, lists of folders, and the files in these."""
    for out in entry.get("outs", []):
        yield out["md5"]
        if out["md5"].endswith(".dir") and cached(repository, out["md5"]).exists():
            yield from (file["md5"] for file in yaml.safe_load(cached(repository, out["md5"]).read_text()))


def cached(repository: Repository, digest: str) -> Path:
    return repository.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]


# Killing


def kill(repository: Repository, kill: Kill, usual: dict[str, float], processes: ExitStack) -> bool:
    """Start `dvc repro` and kill its process group; return False if it had ended before."""
    dvc = processes.enter_context(started(repository, "repro", CHECKPOINT_SECONDS="0"))
    printed = repository.root / ".dvc/tmp/printed.log"
    wait_for(lambda: dvc.poll() is not None or f"Running stage '{kill.stage}'" in printed.read_text(errors="replace"))
    try:
        dvc.wait(kill.after * usual[kill.stage])
        return False
    except subprocess.TimeoutExpired:
        os.killpg(dvc.pid, kill.signal)
    dvc.wait(PATIENCE)
    if kill.waited:
        wait_for(lambda: not alive(dvc.pid))
    return True


def alive(group: int) -> list[psutil.Process]:
    """Return the processes of the group that have not ended."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def repair(repository: Repository, tally: Tally) -> None:
    """Run `dvc repro`, which must succeed; if a kill tore one of DVC's files, first do what the docs say."""
    tally.repairs += 1
    done = subprocess.run(
        [*DVC, "repro"], cwd=repository.root, env=environment(), capture_output=True, text=True, timeout=600
    )
    if done.returncode and TORN.search(done.stdout + done.stderr):
        tally.by_hand += 1
        for name in BY_HAND:
            (repository.root / name).unlink(missing_ok=True)
        done = repository.run(*DVC, "repro")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    tally.resumed += ", from checkpoints/" in done.stdout


def trial(repository: Repository, kills: list[Kill], usual: dict[str, float], tally: Tally) -> None:
    """Run and kill `dvc repro` for each of `kills`, then let it run to its end."""
    with ExitStack() as processes:
        for one in kills:
            if kill(repository, one, usual, processes):
                tally.kills[one.stage, one.signal] += 1
            else:
                tally.late += 1
        repair(repository, tally)


# What must hold then


def differences(repository: Repository, undisturbed: Repository) -> list[str]:
    """Return all differences to an undisturbed repository, except those that the functions below allow."""
    found = []
    ours, theirs = files(repository), files(undisturbed)
    found += [f"left behind: {name}" for name in sorted(ours.keys() - theirs.keys())]
    found += [f"missing: {name}" for name in sorted(theirs.keys() - ours.keys())]
    found += [f"differs: {name}" for name in sorted(ours.keys() & theirs.keys()) if ours[name] != theirs[name]]
    found += cache_faults(repository, undisturbed)
    found += store_faults(repository.root, undisturbed.root)
    began = time.monotonic()
    status = subprocess.run(
        [*DVC, "status"], cwd=repository.root, env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    if (status.stdout, status.stderr, status.returncode) != (UP_TO_DATE, "", 0):
        found.append(f"dvc status after {time.monotonic() - began:.0f} s: {status.stdout}{status.stderr}")
    return found


def files(repository: Repository) -> dict[str, str]:
    """Return a digest of each file in the repository, or "" if only its existence matters.

    Left out: git's files, which no repro touches; Python's byte code, which Python writes atomically; and the files
    that `cache_faults` and `store_faults` check.
    """
    found = {}
    for path in repository.root.rglob("*"):
        name = path.relative_to(repository.root).as_posix()
        if not path.is_file() or name.startswith((".git/", ".dvc/cache/", "mlartifacts/")) or "__pycache__" in name:
            continue
        if name in ("mlflow.db", ".dvc/tmp/printed.log"):
            continue
        # .dvc/tmp holds lock files and the time at which DVC first ran, which are never the same bytes
        found[name] = "" if name.startswith(".dvc/tmp/") else hashlib.md5(path.read_bytes()).hexdigest()
    return found


def cache_faults(repository: Repository, undisturbed: Repository) -> list[str]:
    """Return what is damaged, missing or left over in DVC's cache.

    DVC writes a file of the cache under another name and then moves it. SIGKILL between the two leaves that file, which
    nothing reads, so these files are allowed. `dvc gc` ignores them too.
    """
    found = []
    folder = repository.root / ".dvc/cache"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    theirs = undisturbed.root / ".dvc/cache"
    expected = {path.relative_to(theirs).as_posix() for path in theirs.rglob("*") if path.is_file()}
    names = {name for name in names if not re.search(r"(^|/)\.?\w{22}\.tmp$", name)}
    runs = {name for name in expected if name.startswith("runs/")}  # only stages that ran again have one
    found += [f"left in the cache: {name}" for name in sorted(names - expected)]
    found += [f"missing in the cache: {name}" for name in sorted(expected - runs - names)]
    for name in names & expected:
        content = (folder / name).read_bytes()
        if name.startswith("runs/"):
            right = content == (theirs / name).read_bytes()
        else:
            right = hashlib.md5(content).hexdigest() == name.removesuffix(".dir").rpartition("md5/")[2].replace("/", "")
        if not right:
            found.append(f"damaged in the cache: {name}")
    return found


def store_faults(root: Path, undisturbed: Path) -> list[str]:
    """Return what is wrong with MLflow's store: damage, not one complete run, open runs, artifacts without a run.

    Killed trainings stay as KILLED runs, and runs that track had started when it was killed stay as deleted ones.
    MLflow can restore these with their artifacts, and `mlflow gc` removes them for good.
    """
    with closing(sqlite3.connect(f"file:{root / 'mlflow.db'}?mode=ro", uri=True)) as database:
        ((health,),) = database.execute("pragma integrity_check")
        keyed, active = "select run_uuid from tags where key = 'pipeline.key'", "lifecycle_stage = 'active'"
        complete = database.execute(
            f"select run_uuid, status from runs where {active} and run_uuid in ({keyed})"
        ).fetchall()
        running = database.execute(f"select run_uuid from runs where {active} and status = 'RUNNING'").fetchall()
        known = {
            name for (name,) in database.execute("select run_uuid from runs union select model_id from logged_models")
        }
    folders = {path.name for place in ("", "models") for path in (root / "mlartifacts" / place).glob("*")} - {"models"}

    found = [] if health == "ok" else [f"mlflow.db: {health}"]
    if [status for _, status in complete] != ["FINISHED"]:
        found.append(f"complete runs: {complete}")
    elif logged(root) != logged(undisturbed):
        found.append(f"the complete run lacks something: {complete}")
    found += [f"still RUNNING: {run}" for run in running]
    return found + [f"artifacts without a run: {name}" for name in sorted(folders - known)]


def logged(root: Path) -> tuple[set, set, set]:
    """Return the parameters, metrics and names of artifacts of the complete run, without those that depend on time."""
    with closing(sqlite3.connect(f"file:{root / 'mlflow.db'}?mode=ro", uri=True)) as database:
        ((run, place),) = database.execute(
            "select r.run_uuid, artifact_uri from runs r join tags t on t.run_uuid = r.run_uuid "
            "where t.key = 'pipeline.key' and lifecycle_stage = 'active'"
        )
        params = set(database.execute("select key, value from params where run_uuid = ?", [run]))
        metrics = "select key, step, value from metrics where run_uuid = ? and key not like 'system/%'"
        metrics = set(database.execute(metrics, [run]))
        (model,) = database.execute("select artifact_location from logged_models where source_run_id = ?", [run])
    names = {file.relative_to(place).as_posix() for file in Path(place).rglob("*") if file.is_file()}
    names = {re.sub(r"(\+step\+\d+)\+.*(?=\.)", r"\1", name) for name in names}  # images have a time and a random name
    return params, metrics, names | {path.relative_to(*model).as_posix() for path in Path(*model).rglob("*")}


def measured(repository: Repository) -> dict[str, float]:
    """Run all stages with `dvc repro`, and return the seconds from the start of each to the start of the next."""
    printed, began = repository.root / ".dvc/tmp/printed.log", {}
    printed.parent.mkdir(parents=True, exist_ok=True)
    with started(repository, "repro", CHECKPOINT_SECONDS="0") as dvc:
        while dvc.poll() is None:
            for stage in re.findall(r"Running stage '(\w+)'", printed.read_text()):
                began.setdefault(stage, time.monotonic())
            time.sleep(0.02)
    assert dvc.returncode == 0, printed.read_text()
    assert list(began) == list(STAGES)
    moments = [*began.values(), time.monotonic()]
    return dict(zip(began, (end - start for start, end in pairwise(moments)), strict=True))
