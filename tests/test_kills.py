"""Work that is killed: at any moment, by any signal, nothing half-done is taken for done and nothing is lost."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from kills import STAGES, Kill, Tally, differences, draw, forget, measured, spoil, trial

SEED = int(os.environ.get("KILLS_SEED", "0"))
TRIALS = int(os.environ.get("KILLS_TRIALS", "36"))  # of one stage; each has one to three kills
FIRST_RUNS = 4  # from nothing, with a kill in every stage


@pytest.fixture(autouse=True)
def _sigint_reaches_children():
    """Started behind a shell's `&`, pytest ignores SIGINT, and what it starts would inherit that."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_repro_killed_by_each_signal_is_made_whole_by_the_next(repository, empty_database, tmp_path):
    hurt = repository.copy(tmp_path / "cvae")
    (hurt.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    stages = ("train", "render", "track")
    spoil(hurt, *stages)
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

    first = repository.copy(root)
    forget(first)
    usual = measured(first)
    assert differences(first, repository) == [], "the run that nobody disturbed"
    for name in ("mlflow.db", "mlartifacts"):
        copy(root / name, recorded / name)

    for number in range(TRIALS + FIRST_RUNS):
        chance = random.Random(f"{SEED} {number}")
        shutil.rmtree(root)
        hurt = repository.copy(root)
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
            found = differences(hurt, repository)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            found = [str(error)]
        if found:
            bad[trial_name] = found
        with capsys.disabled():
            print(f"\n{time.monotonic() - began:6.0f} s  {trial_name}: {found or 'whole'}", end="", flush=True)
    with capsys.disabled():
        print(f"\n{tally}\n{len(bad)} trials with differences, {time.monotonic() - began:.0f} s")
    assert bad == {}
    assert tally.kills.total() >= 60 or TRIALS < 36


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)
