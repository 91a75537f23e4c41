"""How runs are coloured, superseded, and found to have a model."""

import pytest
from helpers.tracking import assert_complete, interrupt_training, train
from mlflow.entities import LoggedModelOutput

from cvae.tracking import runs, store
from cvae.tracking.location import locate
from cvae.tracking.record import record


def test_ten_consecutive_runs_have_ten_colours(workspace, params):
    location = locate()
    with store.locked(), runs.writer() as own:
        client, experiment = store.open_store(location)
        for _ in range(12):
            runs.create_run(client, experiment, params, {}, own)
    colours = [run.data.tags["mlflow.runColor"] for run in workspace.runs()]
    assert all(len(set(colours[start : start + 10])) == 10 for start in range(3))


def test_the_newest_model_of_a_run_is_its_model(workspace):
    client = workspace.client
    _, experiment = store.open_store(locate())
    run_id = client.create_run(experiment).info.run_id
    ids = []
    while not ids or ids[-1] in (min(ids), max(ids)):  # the newest is neither the first nor the last that MLflow lists
        ids.append(client.create_logged_model(experiment, "model", source_run_id=run_id).model_id)
        client.log_outputs(run_id, [LoggedModelOutput(ids[-1], 0)])
    assert runs.newest_model(client, client.get_run(run_id)).model_id == ids[-1]


def test_an_interrupted_run_is_deleted_once_its_results_are_recorded(workspace, params):
    interrupt_training(params)
    interrupt_training(params | {"latent_dims": 9})
    record(params)
    assert sorted(run.info.status for run in workspace.runs()) == ["FINISHED", "KILLED"]
    (other,) = [run for run in workspace.runs() if run.info.status == "KILLED"]
    assert other.data.params["latent_dims"] == "9"
    record(params)
    assert len(workspace.runs()) == 2


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "from the cache"])
def test_an_interrupted_repeat_of_a_recorded_training_leaves_no_run(workspace, params, trained):
    if trained:
        train(params)
    record(params)
    interrupt_training(params)
    (complete,) = workspace.runs()
    assert_complete(workspace.client, complete)

    with open("src/cvae/model.py", "a") as code:
        code.write("# another training\n")
    interrupt_training(params)
    assert [run.info.status for run in workspace.runs()] == ["FINISHED", "KILLED"]
