"""`dvc repro` killed in the middle of a stage, all of its processes at once; then the next one, and what must hold.

A trial is a copy of a repository whose pipeline ran undisturbed, in which one stage has to run again: its outputs
are gone, from DVC's cache and run-cache too, so that nothing but running the stage brings them back.
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
PATIENCE = 60  # seconds for `dvc status`, which takes one or two, on a machine with other work

# DVC writes these two files in their place, so that a kill at that moment leaves half of one, and it then refuses to
# start. README's Questions say what helps: every result is in its cache.
TORN = re.compile(
    r"dvc\.lock' (validation failed|is invalid)|unable to read: 'dvc\.lock'|RWLock-file .* (corrupted|format error)"
)
BY_HAND = ("dvc.lock", ".dvc/tmp/rwlock")


@dataclass(frozen=True)
class Kill:
    """`after` is a share of the stage's usual duration.

    `waited`: whether the next command waits until the stage has ended too; else it starts as soon as DVC has, as a
    person does whose shell is back.
    """

    stage: str
    signal: signal.Signals
    after: float
    waited: bool = True

    def __str__(self) -> str:
        return f"{self.signal.name} at {self.after:.0%} of {self.stage}{'' if self.waited else ', not waited for'}"


@dataclass
class Tally:
    """What a series of trials came to."""

    kills: Counter
    late: int = 0  # the stage, and DVC after it, were quicker than usual
    repairs: int = 0
    resumed: int = 0  # repairs whose training went on from a checkpoint
    by_hand: int = 0

    def __str__(self) -> str:
        repairs = f"{self.repairs} repairs, {self.resumed} from a checkpoint, {self.by_hand} by hand"
        table = [f"{self.kills.total()} kills, {self.late} too late, {repairs}"]
        table += [f"{'':10}" + "".join(f"{number.name:>9}" for number in SIGNALS)]
        for stage in STAGES:
            table.append(f"{stage:10}" + "".join(f"{self.kills[stage, number]:>9}" for number in SIGNALS))
        return "\n".join(table)


def draw(chance: random.Random, stage: str) -> Kill:
    return Kill(stage, chance.choice(SIGNALS), chance.random(), chance.random() < 0.7)


# What a trial starts from


def spoil(repository: Repository, *stages: str) -> None:
    """Let only running `stages`, and track after them, make the repository whole again.

    Their entries in dvc.lock stay, with a wrong hash: taken out, DVC would put the new ones at the end.
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
    """Leave nothing that a stage made, as in a first clone."""
    spoil(repository, *STAGES)
    (repository.root / "dvc.lock").unlink()
    shutil.rmtree(repository.root / ".dvc/cache")


def hashes(repository: Repository, entry: dict) -> Iterable[str]:
    """Names in DVC's cache of all that a stage made: of its files, of its folders' lists, and of the files in these."""
    for out in entry.get("outs", []):
        yield out["md5"]
        if out["md5"].endswith(".dir") and cached(repository, out["md5"]).exists():
            yield from (file["md5"] for file in yaml.safe_load(cached(repository, out["md5"]).read_text()))


def cached(repository: Repository, digest: str) -> Path:
    return repository.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]


# Killing


def kill(repository: Repository, kill: Kill, usual: dict[str, float], processes: ExitStack) -> bool:
    """Start `dvc repro` and kill its process group as `kill` says; returns whether there was something to kill."""
    dvc = processes.enter_context(started(repository, "repro"))
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
    """Processes of the group that have not ended."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def repair(repository: Repository, tally: Tally) -> None:
    """`dvc repro`, which must succeed; if a kill tore a file of DVC's own, after what README says helps."""
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
    tally.resumed += "Resuming after epoch" in done.stdout


def trial(repository: Repository, kills: list[Kill], usual: dict[str, float], tally: Tally) -> None:
    """Kill `dvc repro` as often as there are `kills`, and then let one end."""
    with ExitStack() as processes:
        for one in kills:
            if kill(repository, one, usual, processes):
                tally.kills[one.stage, one.signal] += 1
            else:
                tally.late += 1
        repair(repository, tally)


# What must hold then


def differences(repository: Repository, undisturbed: Repository) -> list[str]:
    """All in which `repository` differs from one that nobody disturbed, but what is said below to differ rightly."""
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
    """A digest of each file in the repository; none where only that it is there matters.

    Not compared: git's files, which no repro touches; Python's byte code, which it writes whole or not at all; and
    what `cache_faults`, `store_faults` and `artifact_faults` look at.
    """
    found = {}
    for path in repository.root.rglob("*"):
        name = path.relative_to(repository.root).as_posix()
        if not path.is_file() or name.startswith((".git/", ".dvc/cache/", "mlartifacts/")) or "__pycache__" in name:
            continue
        if name in ("mlflow.db", ".dvc/tmp/printed.log"):
            continue
        # .dvc/tmp holds the files that DVC and we lock, and the time at which DVC first ran: never the same bytes
        found[name] = "" if name.startswith(".dvc/tmp/") else hashlib.md5(path.read_bytes()).hexdigest()
    return found


def cache_faults(repository: Repository, undisturbed: Repository) -> list[str]:
    """What is wrong with DVC's cache: something damaged, missing or left over.

    DVC writes a file of the cache under another name first and moves it. SIGKILL between the two leaves it there, which
    nothing reads: these files are allowed. `dvc gc` does not know them either.
    """
    found = []
    folder = repository.root / ".dvc/cache"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    theirs = undisturbed.root / ".dvc/cache"
    expected = {path.relative_to(theirs).as_posix() for path in theirs.rglob("*") if path.is_file()}
    names = {name for name in names if not re.search(r"(^|/)\.?\w{22}\.tmp$", name)}
    runs = {name for name in expected if name.startswith("runs/")}  # of stages that did not run again, there is none
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
    """What is wrong with MLflow's store: damage, no whole run or two, one that is open, artifacts of none.

    Runs that were killed stay, as KILLED, and those that track began and was killed over, as deleted: MLflow can
    restore them with their artifacts, and `mlflow gc` removes them for good.
    """
    with closing(sqlite3.connect(f"file:{root / 'mlflow.db'}?mode=ro", uri=True)) as database:
        ((health,),) = database.execute("pragma integrity_check")
        whole, active = "select run_uuid from tags where key = 'pipeline.key'", "lifecycle_stage = 'active'"
        whole = database.execute(
            f"select run_uuid, status from runs where {active} and run_uuid in ({whole})"
        ).fetchall()
        running = database.execute(f"select run_uuid from runs where {active} and status = 'RUNNING'").fetchall()
        known = {
            name for (name,) in database.execute("select run_uuid from runs union select model_id from logged_models")
        }
    folders = {path.name for place in ("", "models") for path in (root / "mlartifacts" / place).glob("*")} - {"models"}

    found = [] if health == "ok" else [f"mlflow.db: {health}"]
    if [status for _, status in whole] != ["FINISHED"]:
        found.append(f"whole runs: {whole}")
    elif logged(root) != logged(undisturbed):
        found.append(f"the whole run lacks something: {whole}")
    found += [f"RUNNING still: {run}" for run in running]
    return found + [f"artifacts of nothing: {name}" for name in sorted(folders - known)]


def logged(root: Path) -> tuple[set, set, set]:
    """Parameters, metrics and names of artifacts of the one whole run, but for what depends on the time it took."""
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
    names = {re.sub(r"\+step\+0\+.*(?=\.)", "", name) for name in names}  # MLflow's images: the time and a random name
    return params, metrics, names | {path.relative_to(*model).as_posix() for path in Path(*model).rglob("*")}


def measured(repository: Repository) -> dict[str, float]:
    """Seconds from the start of each stage to that of the next, or DVC's end, in a `dvc repro` that runs them all."""
    printed, began = repository.root / ".dvc/tmp/printed.log", {}
    printed.parent.mkdir(parents=True, exist_ok=True)
    with started(repository, "repro") as dvc:
        while dvc.poll() is None:
            for stage in re.findall(r"Running stage '(\w+)'", printed.read_text()):
                began.setdefault(stage, time.monotonic())
            time.sleep(0.02)
    assert dvc.returncode == 0, printed.read_text()
    assert list(began) == list(STAGES)
    moments = [*began.values(), time.monotonic()]
    return dict(zip(began, (end - start for start, end in pairwise(moments)), strict=True))
