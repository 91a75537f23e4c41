"""The registry: which models are in it, and which of them is the best."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from helpers.repository import Repository
from helpers.tracking import assert_complete, best, registered
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput

from cvae.support.errors import UserError
from cvae.tracking import fetch, registry, store
from cvae.tracking.location import locate
from cvae.tracking.record import record

TASK = {"dataset": "digits", "likelihood": "gaussian", "binarize": "none", "nll_samples": 50}


def set_nll(nll: float) -> None:
    figures = json.loads(Path("metrics/test.json").read_text())
    Path("metrics/test.json").write_text(json.dumps(figures | {"nll": nll}))


def enter(workspace: Repository, nll: float | None, validation_nll: float | None = None, **task: object) -> str:
    """Register the model of a run with these NLLs as track does; return the version."""
    client, location = workspace.client, locate()
    with store.locked():
        _, experiment = store.open_store(location)
        run_id = client.create_run(experiment).info.run_id
        model = client.create_logged_model(experiment, "model", source_run_id=run_id)
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
        for name, value in (TASK | task).items():
            client.log_param(run_id, name, value)
        if nll is not None:
            client.log_metric(run_id, "final_test/nll", nll)
        if validation_nll is not None:
            client.log_metric(run_id, "final_validation/nll", validation_nll)
        print(registry.enter(client, location, run_id, "cvae"))
    (version,) = [version.version for version in registered(workspace) if version.run_id == run_id]
    return str(version)


def test_a_model_is_registered_once_and_only_if_a_name_is_given(workspace, params, capsys):
    set_nll(100.0)
    record(params)
    assert workspace.client.search_registered_models() == []

    named = params | {"registered_model": "cvae"}
    record(named)
    (run,) = workspace.runs()
    (version,) = registered(workspace)
    assert (version.name, version.run_id) == ("cvae", run.info.run_id)
    assert version.source.endswith(run.outputs.model_outputs[0].model_id)
    assert version.tags == {
        "dataset": params["dataset"],
        "likelihood": params["likelihood"],
        "pixels": "grey",
        "measured_on": "test images",
        "nll_samples": str(params["nll_samples"]),
    }
    assert best(workspace) == "1"
    assert "version 1 of cvae" in capsys.readouterr().out

    workspace.client.delete_registered_model_alias("cvae", "best")  # as if track had been killed before
    workspace.client.delete_model_version_tag("cvae", "1", "dataset")
    record(named)
    (version,) = registered(workspace)
    assert version.tags["dataset"] == params["dataset"]
    assert best(workspace) == "1"
    record(params)
    assert len(registered(workspace)) == 1


def test_best_is_the_version_with_the_lowest_nll(workspace):
    assert (enter(workspace, None), best(workspace)) == ("1", None)
    assert (enter(workspace, 100.0), best(workspace)) == ("2", "2")
    assert (enter(workspace, 101.0), best(workspace)) == ("3", "2")
    assert (enter(workspace, 99.0), best(workspace)) == ("4", "4")
    assert (enter(workspace, 99.0), best(workspace)) == ("5", "4")
    assert (enter(workspace, float("nan")), best(workspace)) == ("6", "4")
    workspace.client.delete_model_version("cvae", "4")
    assert (enter(workspace, 102.0), best(workspace)) == ("7", "5")


def test_two_clones_that_register_one_model_at_once_leave_one_version(workspace, params, monkeypatch):
    create = MlflowClient.create_model_version

    def create_after_another(*arguments, **options):
        create(*arguments, **options)
        return create(*arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_model_version", create_after_another)
    record(params | {"registered_model": "cvae"})
    assert [str(version.version) for version in registered(workspace)] == ["1"]
    assert best(workspace) == "1"


def test_a_better_version_that_another_clone_enters_meanwhile_is_best(workspace, monkeypatch):
    place = MlflowClient.set_registered_model_alias

    def place_later(*arguments):
        monkeypatch.setattr(MlflowClient, "set_registered_model_alias", place)
        enter(workspace, 20.0)
        place(*arguments)

    monkeypatch.setattr(store, "locked", nullcontext)  # another clone has its own
    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", place_later)
    enter(workspace, 30.0)
    assert best(workspace) == "2"


def test_best_is_chosen_by_validation_and_never_by_test_figures(workspace, capsys):
    """Each next version is better on the test images, but only the third is better on the validation images."""
    held_out = {"validation_images": 5000}
    assert (enter(workspace, 100.0, 50.0, **held_out), best(workspace)) == ("1", "1")
    assert (enter(workspace, 99.0, 51.0, **held_out), best(workspace)) == ("2", "1")
    assert (enter(workspace, 98.0, 49.0, **held_out), best(workspace)) == ("3", "3")
    assert "`best` is now version 3, with NLL 49.0000 on 5000 validation images" in capsys.readouterr().out
    assert (enter(workspace, 97.0, None, **held_out), best(workspace)) == ("4", "3")
    enter(workspace, 1.0)
    assert best(workspace) == "3"
    assert "not comparable (measured_on 5000 validation images, not test images)" in capsys.readouterr().out


def test_versions_older_than_validation_count_as_measured_on_test_images(workspace):
    enter(workspace, 100.0)
    workspace.client.delete_model_version_tag("cvae", "1", "measured_on")
    assert (enter(workspace, 99.0, validation_images=0), best(workspace)) == ("2", "2")


OWN = {"dataset": "images", "images": "data/own", "image_size": 32, "channels": 3, "test_share": 0.15}


def test_best_compares_models_of_the_same_images_of_your_own_only(workspace, capsys):
    assert (enter(workspace, 100.0, **OWN), best(workspace)) == ("1", "1")
    assert (enter(workspace, 99.0, **OWN, labels="none", model="cvae.models.a:B"), best(workspace)) == ("2", "2")
    capsys.readouterr()
    assert (enter(workspace, 1.0, **OWN | {"image_size": 64}), best(workspace)) == ("3", "2")
    difference = "dataset data/own (image_size 32, channels 3, test_share 0.15), not data/own (image_size 64, "
    assert difference in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "difference"),
    [
        ({"dataset": "mnist"}, "dataset digits, not mnist"),
        ({"likelihood": "bernoulli"}, "likelihood gaussian, not bernoulli"),
        ({"binarize": "static"}, "pixels grey, not binary"),
        ({"nll_samples": 5000}, "nll_samples 50, not 5000"),
    ],
)
def test_best_does_not_move_to_another_task(workspace, task, difference, capsys):
    enter(workspace, 100.0)
    capsys.readouterr()
    enter(workspace, 1.0, **task)
    assert best(workspace) == "1"
    (line,) = capsys.readouterr().out.splitlines()
    assert f"stays on version 1, whose NLL is not comparable ({difference})" in line


def test_best_compares_static_and_dynamic_binary_pixels(workspace):
    assert (enter(workspace, 100.0, binarize="static"), best(workspace)) == ("1", "1")
    assert (enter(workspace, 99.0, binarize="dynamic"), best(workspace)) == ("2", "2")


def forget_for_good(workspace: Repository, run_id: str) -> None:
    """Remove a deleted run with `mlflow gc`."""
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", "sqlite:///mlflow.db", "--run-ids", run_id]
    workspace.run(*command, MLFLOW_TRACKING_URI="sqlite:///mlflow.db")


@pytest.mark.parametrize("for_good", [False, True])
def test_best_is_never_a_version_whose_run_was_deleted(workspace, capsys, for_good):
    client = workspace.client
    for nll in (101.0, 100.0, 99.0):
        enter(workspace, nll)
    enter(workspace, 1.0, dataset="mnist")
    held = client.get_model_version("cvae", "3")
    client.delete_run(held.run_id)
    if for_good:
        forget_for_good(workspace, held.run_id)
        store.open_store(locate())
    assert best(workspace) == "3", "MLflow itself leaves it there"
    capsys.readouterr()

    assert registry.resolve(client, "models:/cvae@best") == "models:/cvae/2"
    expected = "the run of version 3, which is models:/cvae@best, was deleted; version 2 is the best that remains"
    assert expected in capsys.readouterr().out
    assert registry.resolve(client, "models:/cvae/3") == "models:/cvae/3"
    registry.move_aliases(client)
    assert best(workspace) == "2"
    for number in ("1", "2"):
        client.delete_run(client.get_model_version("cvae", number).run_id)
    with pytest.raises(UserError, match=r"run of version 2, which is models:/cvae@best, was deleted, and no other"):
        registry.resolve(client, "models:/cvae@best")
    assert (enter(workspace, 200.0, dataset="kmnist"), best(workspace)) == ("5", "5")


def test_a_model_is_fetched_without_parameters_if_its_run_is_gone(workspace, params, tmp_path):
    record(params)
    (run,) = workspace.runs()
    (model,) = run.outputs.model_outputs
    weights, known = fetch.fetch_model(f"models:/{model.model_id}", tmp_path / "a")
    assert known["dataset"] == params["dataset"]
    workspace.client.delete_run(run.info.run_id)
    forget_for_good(workspace, run.info.run_id)
    again, known = fetch.fetch_model(f"models:/{model.model_id}", tmp_path / "b")
    assert known == {}
    assert (again / "config.json").read_bytes() == (weights / "config.json").read_bytes()


def test_a_missing_registry_is_reported_in_one_line_after_the_run_is_complete(workspace, params, monkeypatch):
    named = params | {"registered_model": "cvae"}
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_REGISTRY_URI", "nowhere://there")
        with pytest.raises(UserError) as failed:
            record(named)
    assert "not in the registry" in str(failed.value)
    assert "\n" not in str(failed.value)
    (run,) = workspace.runs()
    assert_complete(workspace.client, run)

    record(named)
    assert [version.run_id for version in registered(workspace)] == [run.info.run_id]
