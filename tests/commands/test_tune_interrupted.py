"""`cvae tune` that is killed or interrupted: no trial is lost, none is done twice."""

import os
import re
import signal
import time

import pytest
from helpers.processes import closed_port, kill_group, wait_for
from helpers.repository import Repository
from helpers.studies import experiments, figures, outcomes, processes_below, started, tune, tuning

from cvae.commands.tune.study import COMPARED, WARM_UP, Plan, Study, create_study
from cvae.pipeline.parameters import read_parameters

TRIALS = 3
SPACE = ("-S", "latent_dims=2..32", "--trials", str(TRIALS), "-j", "2")


def slow(seconds: float) -> tuple[str, ...]:
    """Return the setting with which each trial takes some `seconds`."""
    return "-S", f"grid_range={seconds}"


def assert_complete(repository: Repository) -> None:
    """Check that each trial has one experiment and its value, and that nothing is left behind."""
    found = outcomes(repository, "first")
    assert sorted(found) == list(range(TRIALS))
    assert {state for state, *_ in found.values()} == {"COMPLETE"}
    assert experiments(repository) == [f"first-{number}" for number in range(TRIALS)]
    for number, (_, value, params) in found.items():
        assert figures(repository, f"first-{number}")["nll"] == value
        assert int(value) == params["latent_dims"]
    assert list((repository.root / ".dvc/tmp/exps/tune").iterdir()) == []
    assert repository.git("status", "--porcelain") == ""


@pytest.mark.parametrize("still_run", [True, False], ids=["still running", "finished meanwhile"])
def test_trials_that_outlive_their_search_are_taken_in(quick, still_run):
    trials = quick.root / ".dvc/tmp/exps/tune"
    with tuning(quick, "first", *SPACE, *slow(6 if still_run else 3)) as search:
        wait_for(lambda: len(started(quick)) == 2)
        os.kill(search.pid, signal.SIGKILL)
        search.wait()
        assert processes_below(trials), "the trials go on by themselves"
        if not still_run:
            wait_for(lambda: not processes_below(trials))
        assert experiments(quick) == []
        tune(quick, "first")
    assert_complete(quick)
    assert sorted(started(quick)) == [0, 1, 2], "no trial ran twice"


def test_trials_that_were_killed_with_their_search_run_again_under_their_names(quick):
    with tuning(quick, "first", *SPACE, *slow(6)) as search:
        wait_for(lambda: len(started(quick)) == 2)
        kill_group(search)
        for process in processes_below(quick.root / ".dvc/tmp/exps/tune"):
            process.kill()
        before = outcomes(quick, "first")
        assert [state for state, *_ in before.values()] == ["RUNNING", "RUNNING"]
        printed = tune(quick, "first").stdout
    assert_complete(quick)
    assert sorted(started(quick)) == [0, 0, 1, 1, 2]
    after = outcomes(quick, "first")
    assert [after[number][2] for number in (0, 1)] == [before[number][2] for number in (0, 1)]
    assert "first-0: " in printed


@pytest.mark.long
def test_a_search_can_be_killed_at_any_moment(quick):
    import random

    moments = random.Random(0)
    for attempt in range(12):
        with tuning(quick, "first", *SPACE, *slow(1)) as search:
            time.sleep(moments.uniform(0.3, 6))
            kill_group(search)
            if attempt % 2:
                for process in processes_below(quick.root / ".dvc/tmp/exps/tune"):
                    process.kill()
    tune(quick, "first", *SPACE, *slow(1))
    assert_complete(quick)


def test_ctrl_c_ends_all_trials_quietly_and_says_how_to_resume(quick):
    with tuning(quick, "first", *SPACE, *slow(60)) as search:
        wait_for(lambda: len(started(quick)) == 2)
        os.killpg(search.pid, signal.SIGINT)
        assert search.wait(60) == 130
        assert processes_below(quick.root / ".dvc/tmp/exps/tune") == []
    assert list((quick.root / ".dvc/tmp/exps/tune").iterdir()) == []
    printed = (quick.root / ".dvc/tmp/tune.log").read_text()
    assert printed == "Interrupted; `cvae tune first` resumes.\n"
    assert [state for state, *_ in outcomes(quick, "first").values()] == ["RUNNING", "RUNNING"]
    assert quick.git("status", "--porcelain") == ""


@pytest.fixture
def median(quick, empty_database, monkeypatch):
    """Return a function that begins a study: its five complete trials are better than any other can be."""

    def begin(seconds: float) -> Repository:
        """`seconds`: how long each of the twenty epochs of the next trial takes."""
        (quick.root / "mlflow.db").write_bytes(empty_database.read_bytes())
        monkeypatch.chdir(quick.root)
        head = quick.git("rev-parse", "HEAD").strip()
        settings = ["latent_dims=2..32", "grid_size=99", "epochs=20", f"grid_range={seconds}"]
        plan = Plan(settings, "nll", 0, read_parameters().model_dump(), head, head)
        create_study("first", plan, {"trials": COMPARED + 1, "jobs": 1, "pruning": True})
        study = Study("first")
        for _ in range(COMPARED):
            number = study.propose()
            study.values(number)
            study.report(number, dict.fromkeys(range(1, 21), 1.0))
            study.complete(number, 1.0)
        return quick

    return begin


def test_a_trial_that_falls_behind_is_pruned(median):
    lab = median(0.6)
    printed = tune(lab, "first").stdout
    assert outcomes(lab, "first")[COMPARED][0] == "PRUNED"
    line = rf"first-{COMPARED}: latent_dims=\d+: pruned after epoch (\d+); best 1 \(first-0\)"
    epoch = int(re.search(line, printed)[1])
    assert 20 // WARM_UP <= epoch < 20, "after the warm-up, and before the end"
    (run,) = lab.runs()
    assert run.info.status == "KILLED"
    tags = {"study": "first", "study.trial": str(COMPARED), "study.pruned": f"after epoch {epoch}"}
    assert tags.items() <= run.data.tags.items()
    assert not (lab.root / "checkpoints").exists()
    assert experiments(lab) == []


def test_without_pruning_such_a_trial_runs_to_its_end(median):
    lab = median(0.1)
    tune(lab, "first", "--no-pruning")
    assert outcomes(lab, "first")[COMPARED][0] == "COMPLETE"
    assert [run.info.status for run in lab.runs()] == ["FINISHED"]


def test_without_mlflow_one_line_says_that_no_trial_is_pruned(median):
    server = f"http://127.0.0.1:{closed_port()}"
    lab = median(0.1)
    done = tune(lab, "first", MLFLOW_TRACKING_URI=server, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert re.fullmatch(r"tune: MLflow at http://.*; until it can be used, no trial is pruned\n", done.stderr)
    assert outcomes(lab, "first")[COMPARED][0] == "COMPLETE"
