"""The run of the current result is found by the files in the workspace, whatever was recorded last."""

import re
import shutil

import pytest
from helpers.repository import Repository
from mlflow import MlflowClient

from cvae.commands.sample.sources import Origin, Source, open_data, open_model
from cvae.support.errors import UserError
from cvae.tracking.current_run import current_run, how_to_record, made_with, require_store
from cvae.tracking.location import locate
from cvae.tracking.run_keys import RECEIPT


@pytest.fixture
def client(compared) -> MlflowClient:
    """A client of the store with both runs. Clones have no store."""
    return compared.client


@pytest.fixture
def clone(compared, tmp_path, monkeypatch) -> Repository:
    """A clone of `compared` with the receipt of the experiment `wide`; it is the working directory."""
    clone = compared.copy(tmp_path / "cvae")
    _, wide = compared.runs()
    (clone.root / RECEIPT).write_text(f'{{"pipeline.key": "{wide.data.tags["pipeline.key"]}"}}\n')
    monkeypatch.chdir(clone.root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return clone


def current_latent_dims(client: MlflowClient) -> str:
    """Return the `latent_dims` of the run that records the current result."""
    return current_run(client, client.get_experiment_by_name("cvae").experiment_id).data.params["latent_dims"]


def test_the_current_result_is_found_by_its_files(clone, client):
    assert current_latent_dims(client) == "2"
    clone.dvc("exp", "apply", "wide")
    clone.set(latent_dims=9)  # edited and not run yet
    assert current_latent_dims(client) == "4"
    clone.restore()
    (clone.root / RECEIPT).unlink()
    assert current_latent_dims(client) == "2"


def test_a_mix_of_two_results_has_no_run(clone, client):
    clone.dvc("exp", "apply", "wide")
    clone.git("checkout", "--", ".")
    with pytest.raises(UserError, match=r"^no run records the current result; `dvc repro && .*` makes one$"):
        current_latent_dims(client)
    shutil.rmtree("data/model")
    with pytest.raises(UserError, match=r"^data/model is missing; `dvc repro && .*` makes it and records the result$"):
        current_latent_dims(client)


def test_whole_numbers_in_dvc_lock_match_the_recorded_floats(clone, client):
    lock = clone.root / "dvc.lock"
    text, found = re.subn(r"beta: 1\.0$", "beta: 1", lock.read_text(), flags=re.MULTILINE)
    assert found
    lock.write_text(text)
    assert isinstance(made_with()["beta"], float)
    assert current_latent_dims(client) == "2"


def test_each_stages_own_parameters_count_if_track_failed_after_it(clone, client):
    clone.dvc("exp", "apply", "wide")
    lock = clone.root / "dvc.lock"
    before, track, after = re.split(r"(?m)^(  track:\n(?:    .*\n|  -.*\n)*)", lock.read_text())
    lock.write_text(before + track.replace("latent_dims: 4", "latent_dims: 2") + after)
    assert current_latent_dims(client) == "4"
    lock.write_text(before + after)  # it never ran
    assert current_latent_dims(client) == "4"
    lock.write_text((before + track + after).replace("latent_dims: 4", "latent_dims: -1"))
    with pytest.raises(UserError, match=r"^dvc.lock: latent_dims is -1; allowed: "):
        current_latent_dims(client)


def test_a_deleted_run_is_not_found(clone, client):
    run = current_run(client, client.get_experiment_by_name("cvae").experiment_id)
    client.delete_run(run.info.run_id)
    try:
        with pytest.raises(UserError, match="no run records the current result; `dvc repro -sf track` makes one"):
            current_latent_dims(client)
    finally:
        client.restore_run(run.info.run_id)


def test_the_suggested_command_records_the_current_result(clone, empty_database):
    """In this clone the receipt is the one in dvc.lock, so `dvc repro` alone would skip track."""
    (clone.root / "mlflow.db").write_bytes(empty_database.read_bytes())

    def record(expected: str) -> None:
        command = how_to_record()
        assert command == f"`{expected}`"
        for each in command.strip("`").split(" && "):
            clone.dvc(*each.split()[1:])
        run = current_run(clone.client, clone.client.get_experiment_by_name("cvae").experiment_id)
        assert run.data.params["latent_dims"] == "2"
        clone.client.delete_run(run.info.run_id)

    record("dvc repro -sf track")
    shutil.rmtree("data/model")
    record("dvc repro && dvc repro -sf track")
    shutil.rmtree("data/model")
    (clone.root / RECEIPT).unlink()
    record("dvc repro")


def test_a_missing_store_is_reported_with_the_command_that_creates_it(clone):
    with pytest.raises(UserError, match=r"^mlflow\.db: no MLflow store yet; `dvc repro -sf track` records a run"):
        require_store(locate())
    shutil.rmtree("data/model")
    (clone.root / RECEIPT).unlink()
    with pytest.raises(UserError, match=r"^mlflow\.db: no MLflow store yet; `dvc repro` records a run"):
        require_store(locate())


def test_a_model_has_no_origin_if_dvc_lock_describes_other_files(clone):
    origin = Origin("digits", "none")
    model, found = open_model(Source())
    assert found == origin
    open_data(None, origin, model.schema)
    labels = clone.root / "data/raw/t10k-labels-idx1-ubyte.gz"
    labels.unlink()  # it may be a link into DVC's cache
    labels.write_bytes(b"other images")
    with pytest.raises(
        UserError, match=r"^data/raw has changed since dvc.lock recorded digits; `dvc checkout data/raw`"
    ):
        open_data(None, origin, model.schema)
    clone.dvc("exp", "apply", "wide")
    clone.git("checkout", "--", ".")
    assert open_model(Source())[1] == Origin(None, None)
