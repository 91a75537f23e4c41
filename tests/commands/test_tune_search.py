"""`cvae tune` in a repository with a quick pipeline: trials, their outcomes, and what is refused."""

import json
import os
import re

import pytest
from helpers.processes import wait_for
from helpers.repository import Repository
from helpers.studies import experiments, figures, outcomes, started, tune, tuning
from PIL import Image

from cvae.commands.tune import report
from cvae.commands.tune.study import Plan, Study, create_study
from cvae.pipeline.parameters import Parameters

SPACE = ("-S", "latent_dims=2..32", "-S", "learning_rate=1e-4..1e-2 log", "-S", "hidden_dims=[128],[256,256]")


# One search of two at once, with an edited workspace


@pytest.fixture(scope="module")
def searched(quick_origin, tmp_path_factory) -> tuple[Repository, str]:
    """A repository after a search of four trials, and what was printed. params.yaml and a text file had edits."""
    lab = quick_origin.copy(tmp_path_factory.mktemp("searched") / "cvae")
    lab.set(prior_std=0.5)
    (lab.root / "notes.txt").write_text("not in git")
    printed = tune(lab, "first", *SPACE, "-S", "epochs=2", "--trials", "4", "-j", "2")
    assert printed.stderr == ""
    return lab, printed.stdout


def test_each_trial_is_an_experiment_with_the_value_that_the_study_has(searched):
    lab, _ = searched
    assert experiments(lab) == ["first-0", "first-1", "first-2", "first-3"]
    found = outcomes(lab, "first")
    assert [state for state, *_ in found.values()] == ["COMPLETE"] * 4
    assert sorted(started(lab)) == [0, 1, 2, 3]
    for number, (_, value, params) in found.items():
        assert figures(lab, f"first-{number}")["nll"] == value
        assert int(value) == params["latent_dims"]


def test_an_experiment_has_the_trials_parameters_and_the_edits_of_the_workspace(searched):
    lab, _ = searched
    for number, (*_, params) in outcomes(lab, "first").items():
        (ref,) = lab.git("for-each-ref", "--format=%(refname)", f"refs/exps/*/*/first-{number}").split()
        made = lab.git("show", f"{ref}:params.yaml")
        assert f"latent_dims: {params['latent_dims']}\n" in made
        assert "epochs: 2\n" in made
        assert "prior_std: 0.5\n" in made
        rate = float(re.search(r"learning_rate: (\S+)", made)[1])
        assert rate == float(f"{params['learning_rate']:.3g}")


def test_the_workspace_stays_as_it_was(searched):
    lab, _ = searched
    assert lab.git("status", "--porcelain").split("\n")[:-1] == [" M params.yaml", "?? notes.txt"]
    assert lab.git("stash", "list") == ""
    assert list((lab.root / ".dvc/tmp/exps/tune").iterdir()) == []


def test_a_line_for_each_trial_and_a_table_are_printed(searched):
    lab, printed = searched
    lines = printed.splitlines()
    for line in lines[:4]:
        assert re.fullmatch(
            r"first-\d: latent_dims=\d+ learning_rate=[\d.e-]+ hidden_dims=\[[\d,]+\]: nll [\d.]+; "
            r"best [\d.]+ \(first-\d\)",
            line,
        )
    best = min(outcomes(lab, "first").items(), key=lambda item: item[1][1])[0]
    assert lines[5].split() == ["experiment", "latent_dims", "learning_rate", "hidden_dims", "validation", "nll"]
    assert lines[6].split()[0] == f"first-{best}"
    assert lines[10:12] == [
        "4 trials: 4 complete",
        f"`dvc exp apply first-{best}` brings the best into your workspace.",
    ]


def test_the_pictures_are_drawn_and_not_in_git(searched):
    lab, printed = searched
    for name in ("history", "parameters", "parallel"):
        file = f"plots/studies/first/{name}.png"
        assert file in printed
        with Image.open(lab.root / file) as picture:
            assert picture.convert("RGB").getcolors(50) is None, "less than fifty colours, so next to nothing is drawn"
    assert "studies" not in lab.git("status", "--porcelain")


def test_a_finished_study_runs_nothing_and_prints_its_table_again(searched):
    lab, printed = searched
    before = started(lab)
    again = tune(lab, "first").stdout
    assert again.startswith("first: 4 of 4 trials are finished\n")
    assert again.partition("\n\n")[2] == printed.partition("\n\n")[2]
    assert started(lab) == before


def test_an_experiment_can_be_applied(searched, tmp_path):
    lab = searched[0].copy(tmp_path / "cvae")
    lab.git("checkout", "--", ".")
    lab.dvc("exp", "apply", "first-1")
    assert json.loads((lab.root / "metrics/validation.json").read_text()) == figures(lab, "first-1")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-S", "latent_dims=2..8"], "first began with -S 'latent_dims=2..32'"),
        (["--metric", "label_accuracy"], "first began with --metric nll; leave --metric out to resume it"),
        (["--seed", "3"], "first began with --seed 0"),
    ],
)
def test_another_plan_is_refused_when_a_study_is_resumed(searched, arguments, reason):
    lab, _ = searched
    refused = tune(lab, "first", *arguments, status=1)
    assert reason in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_other_parameters_are_refused_when_a_study_is_resumed(searched, tmp_path):
    lab = searched[0].copy(tmp_path / "cvae")
    lab.set(beta=2.0, latent_dims=7)  # the second is searched, so its value here does not matter
    assert "4 trials: 4 complete" in tune(lab, "first").stdout, "nothing is left to run, so nothing can be wrong"
    refused = tune(lab, "first", "--trials", "5", status=1)
    assert refused.stderr == (
        "tune: params.yaml has changed since first began with beta: 1.0; set it back, or give the new search another "
        "name\n"
    )
    assert len(started(lab)) == 4


def test_edited_code_is_mentioned_and_trials_run_the_earlier_code(searched, tmp_path):
    lab = searched[0].copy(tmp_path / "cvae")
    (lab.root / "stages/train.py").write_text("raise SystemExit('edited since')\n")
    printed = tune(lab, "first", "--trials", "5").stdout
    assert "The code has changed since first began; its trials still run the earlier code.\n" in printed
    assert outcomes(lab, "first")[4][0] == "COMPLETE"


# What a search proposes


def proposals(name: str, seed: int = 0, interrupted: bool = False) -> list[dict]:
    """Return what fifteen trials try, one after another; the sampler learns from the tenth on.

    `interrupted`: end the search after each trial is proposed, and resume it.
    """
    settings = ["latent_dims=2..32", "learning_rate=1e-4..1e-2 log", "hidden_dims=[128],[256,256]"]
    plan = Plan(settings, "nll", seed, Parameters().model_dump(), "", "")
    create_study(name, plan, {"trials": 15, "jobs": 1, "pruning": False})
    study, tried = Study(name), []
    for _ in range(15):
        number = study.propose()
        if interrupted:
            study = Study(name)
            assert study.running() == [number]
        tried.append(study.values(number))
        assert study.values(number) == tried[-1], "a trial that is resumed has the values that it had"
        study.complete(number, abs(tried[-1]["latent_dims"] - 12) + 100 * tried[-1]["learning_rate"])
    return tried


def test_one_at_a_time_the_proposals_repeat_even_if_the_search_is_interrupted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tried = proposals("one")
    assert proposals("two") == proposals("three", interrupted=True) == tried
    assert not [values for values in proposals("four", seed=1) if values in tried]


def test_an_accuracy_is_maximised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = Plan(["latent_dims=2..32"], "label_accuracy", 0, Parameters().model_dump(), "", "")
    create_study("sharp", plan, {"trials": 3, "jobs": 1, "pruning": False})
    study = Study("sharp")
    for value in (0.5, 0.9, 0.7):
        number = study.propose()
        study.values(number)
        study.complete(number, value)
    assert study.best().number == 1
    assert report.table(study).splitlines()[1].startswith("sharp-1 ")
    assert study.optuna.best_trial.number == 1, "Optuna prefers the same"


# Failures


def test_a_failed_trial_is_passed_over_with_the_stages_message(quick):
    space = ("-S", "latent_dims=2..32", "-S", "learning_rate=0.001,10")
    printed = tune(quick, "first", *space, "--trials", "4", "-j", "2").stdout
    found = outcomes(quick, "first")
    failed = [number for number, (_, _, params) in found.items() if params["learning_rate"] == "10"]
    assert failed, "the space has a value that fails, and the seed finds it"
    assert [number for number, (state, *_) in found.items() if state == "FAIL"] == failed
    assert len(found) == 4
    assert experiments(quick) == [f"first-{number}" for number in found if number not in failed]
    (line,) = [line for line in printed.splitlines() if line.startswith(f"first-{failed[0]}: ")]
    assert "learning_rate=10: failed: train: training diverged in epoch 1; lower learning_rate; " in line
    assert f"4 trials: {4 - len(failed)} complete, {len(failed)} failed" in printed
    assert "Traceback" not in printed


def test_the_search_stops_if_the_first_three_trials_fail(quick):
    stopped = tune(quick, "first", "-S", "latent_dims=2..32", "-S", "learning_rate=10", "--trials", "9", status=1)
    assert len(outcomes(quick, "first")) == 3
    assert stopped.stderr.count("\n") == 1
    assert (
        "3 trials failed one after another, so the search stops; the last: train: training diverged" in stopped.stderr
    )


def test_a_trial_whose_experiment_git_cannot_fetch_is_taken_up_by_the_next_search(quick):
    git = quick.root / ".git"
    head = quick.git("rev-parse", "HEAD").strip()
    lock = git / "refs/exps" / head[:2] / head[2:] / "first-0.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    stopped = tune(quick, "first", "-S", "latent_dims=2..32", "--trials", "1", status=1)
    assert stopped.stderr.startswith("tune: git: ")
    assert [state for state, *_ in outcomes(quick, "first").values()] == ["RUNNING"]
    lock.unlink()
    tune(quick, "first")
    assert [state for state, *_ in outcomes(quick, "first").values()] == ["COMPLETE"]
    assert started(quick) == [0], "it ran once"


def test_git_need_not_know_the_user_outside_the_repository(quick, tmp_path):
    nobody = {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    tune(quick, "first", "-S", "latent_dims=2..32", "--trials", "1", **nobody)
    assert [state for state, *_ in outcomes(quick, "first").values()] == ["COMPLETE"]


def test_a_study_may_begin_in_a_shallow_clone_with_edits(quick, tmp_path):
    quick.git("commit", "--quiet", "--allow-empty", "--message", "Another")
    url = quick.root.resolve().as_uri()
    quick.git("clone", "--quiet", "--depth", "1", url, str(tmp_path / "shallow"))
    shallow = Repository(tmp_path / "shallow")
    for key in ("user.name", "user.email"):
        shallow.git("config", key, "test@example.org")
    (shallow.root / ".dvc/tmp").mkdir(exist_ok=True)
    shallow.set(prior_std=0.5)
    tune(shallow, "first", "-S", "latent_dims=2..32", "--trials", "1")
    assert [state for state, *_ in outcomes(shallow, "first").values()] == ["COMPLETE"]
    assert experiments(shallow) == ["first-0"]


# What is refused before anything runs


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["first"], "there is no study first yet; say what to search: cvae tune first -S 'latent_dims=2..32'"),
        (["first", "-S", "latent_dim=2..8"], "latent_dim is not a parameter; did you mean latent_dims?"),
        (["first", *SPACE, "-S", "validation_images=0"], "add -S validation_images=5000"),
        (["first", *SPACE, "--metric", "loss", "-S", "beta=0.5..2"], "it cannot be compared while beta is searched"),
        (["first", *SPACE, "--metric", "label_accuracy", "-S", "labels=none"], "a model without labels has none"),
        (["first", *SPACE, "--metric", "bits_per_dim", "-S", "binarize=static"], "is no code for pixels"),
        (["a/b", *SPACE], "'a/b' cannot be the name of a study"),
    ],
)
def test_a_search_that_cannot_work_is_refused_in_one_line(quick_origin, arguments, reason):
    refused = tune(quick_origin, *arguments, status=1)
    assert reason in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert refused.stdout == ""
    assert list((quick_origin.root / "studies").glob("*.db")) == []


def test_a_study_does_not_take_over_experiments_of_the_same_name(quick):
    quick.dvc("exp", "run", "--name", "first-0", "--set-param", "latent_dims=3")
    refused = tune(quick, "first", *SPACE, status=1)
    assert "there are experiments of a study first already" in refused.stderr
    assert refused.stderr.endswith("dvc exp remove first-0\n")


def test_a_study_cannot_be_searched_twice_at_once(quick):
    with tuning(quick, "first", *SPACE, "-S", "grid_range=60", "-S", "epochs=5", "--trials", "1"):
        wait_for(lambda: started(quick))
        refused = tune(quick, "first", status=1)
    assert refused.stderr == "tune: another `cvae tune` is searching first; wait for it, or choose another name\n"


def test_a_renamed_study_is_reported_in_one_line(searched, tmp_path):
    lab = searched[0].copy(tmp_path / "cvae")
    (lab.root / "studies/first.db").rename(lab.root / "studies/second.db")
    refused = tune(lab, "second", status=1)
    assert refused.stderr == "tune: studies/second.db: has another study; a study's file cannot be renamed\n"


def test_a_damaged_study_is_reported_in_one_line(quick):
    (quick.root / "studies").mkdir(exist_ok=True)
    (quick.root / "studies/first.db").write_text("not a database" * 100)
    refused = tune(quick, "first", status=1)
    assert refused.stderr.startswith("tune: studies/first.db: file is not a database")
    assert refused.stderr.count("\n") == 1
