"""`cvae tune` with the real pipeline, on scikit-learn's digits."""

import json
import re

import pytest
from helpers.repository import Repository, stages_run
from helpers.runs import assert_complete
from helpers.studies import experiments, figures, outcomes, tune

SPACE = ("-S", "learning_rate=1e-4..1e-2 log", "-S", "epochs=1", "-S", "validation_images=300")


@pytest.fixture(scope="module")
def lab(repository, empty_database, tmp_path_factory) -> Repository:
    """A clone after a search of two trials at once."""
    lab = repository.copy(tmp_path_factory.mktemp("lab") / "a lab" / "cvae")
    (lab.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    tune(lab, "first", *SPACE, "--trials", "2", "-j", "2")
    return lab


def by_trial(lab: Repository, study: str) -> dict[str, object]:
    return {run.data.tags["study.trial"]: run for run in lab.runs() if run.data.tags.get("study") == study}


def test_each_trial_is_an_experiment_and_a_complete_run(lab):
    assert experiments(lab) == ["first-0", "first-1"]
    runs = by_trial(lab, "first")
    assert sorted(runs) == ["0", "1"]
    for number, (state, value, _) in outcomes(lab, "first").items():
        run = runs[str(number)]
        assert state == "COMPLETE"
        assert_complete(lab.client, run, epochs=1, split="validation")
        assert run.info.run_name == run.data.tags["dvc.experiment"] == f"first-{number}"
        assert run.data.metrics["final_validation/nll"] == figures(lab, f"first-{number}")["nll"] == value
        assert run.data.tags["dvc.stage"] == "train", "it was logged live"


def test_an_applied_trial_is_the_current_result(lab, tmp_path):
    applied = Repository(lab.root)
    applied.dvc("exp", "apply", "first-1")
    assert stages_run(applied.dvc("repro")) == ["track"]
    validation = json.loads((applied.root / "metrics/validation.json").read_text())
    assert validation["nll"] == outcomes(lab, "first")[1][1]
    applied.restore()


def test_a_trial_whose_result_is_already_recorded_tags_its_run(lab):
    before = by_trial(lab, "first")
    printed = tune(lab, "second", *SPACE, "--trials", "1").stdout  # the same seed, so the same proposal
    assert figures(lab, "second-0") == figures(lab, "first-0")
    (run,) = by_trial(lab, "second").values()
    assert run.info.run_id == before["0"].info.run_id
    assert run.data.tags["dvc.experiments"] == "first-0 second-0"
    log = (lab.root / "studies/second/second-0.log").read_text()
    assert stages_run(log) == ["track"]
    assert re.search(r"second-0: learning_rate=\S+: nll ", printed)
