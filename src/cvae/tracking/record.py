"""The whole record of a pipeline's results as one MLflow run, found again, completed or made."""

import importlib.metadata
import json
import tempfile
import time
from pathlib import Path

import pandas as pd

from cvae.errors import UserError, one_line
from cvae.fingerprint import files_in
from cvae.history import read_history
from cvae.outputs import write_whole
from cvae.provenance import read_lock
from cvae.tracking import description, keys, registry
from cvae.tracking.fetch import fetch_model
from cvae.tracking.live import log_rows, logged_epochs
from cvae.tracking.store import (
    PIPELINE_KEY,
    TRACKING,
    TRAINING_KEY,
    close_killed_runs,
    create_run,
    experiment_name,
    find,
    is_abandoned,
    locate,
    locked,
    newest_model,
    open_store,
    process_tags,
    run_name,
    source_tags,
    told_in_one_line,
)

MEASURED = ("device", "torch.version", "train.seconds", "train.images_per_second")  # tags that only train can set


def record(params: dict) -> str:
    """Log the results in the workspace, made with `params`, as one MLflow run; returns their pipeline key.

    A run that records exactly these results is reused, and completed again if its files are gone. Else the run that
    train left for them is completed; else, where training came from DVC's cache, a new one is made. The pipeline
    key is written last, so a run without it is not whole, and the next call replaces it.
    `params["registered_model"]`, if not empty, is a name of MLflow's registry, under which the model of the whole
    run is entered.

    Raises:
        UserError: the store cannot be used; DVC will run track again.
    """
    location, name = locate(), params[keys.DESTINATION]
    params = keys.recorded(params)
    history, figures, hashes = read_history(keys.HISTORY), _test_figures(), _hash_tags()
    advice = "; run `dvc repro` again when it can be used"
    with told_in_one_line(location, advice), locked():
        client, experiment = open_store(location)
        close_killed_runs(client, experiment)
        key, training = keys.pipeline_key(params), keys.training_key(params)
        same_training = find(client, experiment, TRAINING_KEY, training)
        measured = _measured(same_training)
        unfinished = [run for run in same_training if PIPELINE_KEY not in run.data.tags]
        known = find(client, experiment, PIPELINE_KEY, key)
        whole = next((run for run in known if _has_its_files(client, run)), None)

        if whole:
            run_id, verb = whole.info.run_id, "are already"
            ours = description.of_run(params, whole.data.tags)
            edited = whole.data.tags.get(description.NOTE, ours) != ours
            _tag(client, run_id, params, measured, keep_description=edited)
        else:
            if known:  # mlartifacts was deleted, say
                left, verb = known[0], "are again"
                client.delete_tag(left.info.run_id, PIPELINE_KEY)
            else:
                left = _choose_live(unfinished)
                verb = "complete" if left else "are now"
            tags = {"dvc.stage": "track", TRAINING_KEY: training, TRACKING: "true"}
            run_id = (left or create_run(client, experiment, params, tags)).info.run_id
            try:
                _complete(client, run_id, params, history, figures, hashes)
            except KeyboardInterrupt:
                client.set_terminated(run_id, "KILLED")
                raise
            _tag(client, run_id, params, measured)
            client.set_terminated(run_id, "FINISHED")
            client.set_tag(run_id, PIPELINE_KEY, key)
        for run in unfinished:  # a repeated training's, or one that track was killed over
            if run.info.run_id != run_id and not _may_be_completed(run):
                client.delete_run(run.info.run_id)
        called = client.get_run(run_id).info.run_name
    print(f"These results {verb} MLflow run {called} ({run_id}) in {location.shown}")
    if name:
        with told_in_one_line(location, advice), locked():
            entered = registry.enter(client, location, run_id, name)
        print(entered)
    return key


def _has_its_files(client, run) -> bool:
    """Whether the files that `_complete` logged to `run` are there, and those of its model."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            model, _ = fetch_model(newest_model(client, run).model_uri, folder)
            contents = [{file.name: file.read_bytes() for file in files_in(place)} for place in (model, keys.MODEL)]
    except UserError:
        return False
    places = _places()
    folders = {place.rpartition("/")[0] for place in places}
    kept = [file for folder in folders for file in client.list_artifacts(run.info.run_id, folder)]
    sizes = {file.path: file.file_size for file in kept}
    return contents[0] == contents[1] and all(sizes.get(place) == file.stat().st_size for place, file in places.items())


def _belongs_to_another(run) -> bool:
    """Whether an experiment other than this one made `run`."""
    return run.data.tags.get("dvc.experiment") != experiment_name()


def _may_be_completed(run) -> bool:
    """Whether another experiment's track may be about to complete `run`; not if it began and was killed."""
    return _belongs_to_another(run) and not (TRACKING in run.data.tags and is_abandoned(run))


def _choose_live(unfinished: list):
    """The run that train left for these results, this experiment's own first; none that track began to write."""
    live = [run for run in unfinished if TRACKING not in run.data.tags]
    return min(live, key=_belongs_to_another, default=None)


def _measured(runs: list) -> dict[str, str]:
    """What train measured, from the newest run of the same training that has it; else only what is known here."""
    for run in sorted(runs, key=lambda run: -run.info.start_time):
        if "train.seconds" in run.data.tags:
            return {name: run.data.tags[name] for name in MEASURED if name in run.data.tags}
    return {"torch.version": importlib.metadata.version("torch")}


def _complete(
    client, run_id: str, params: dict, history: pd.DataFrame, figures: dict[str, float], hashes: dict[str, str]
) -> None:
    """Log everything to the run that it does not have yet; `hashes` are tags, by which its data and model are known."""
    import mlflow
    from mlflow.entities import Metric, Param, RunTag

    from cvae.tracking import served_model

    tags = source_tags() | process_tags() | hashes | {TRACKING: "true"}
    client.log_batch(
        run_id,
        params=[Param(name, str(value)) for name, value in params.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    client.update_run(run_id, name=run_name(params))

    logged = logged_epochs(client, run_id)
    rows = history.to_dict("records")
    log_rows(client, run_id, [row for row in rows if row["epoch"] not in logged])
    now = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(f"final_test/{name}", value, now, 0) for name, value in figures.items()])

    _log_files(client, run_id)
    with mlflow.start_run(run_id=run_id):
        _log_data(params["dataset"], tags.get("dvc.data.raw", ""))
        served_model.log(keys.MODEL)


def _log_files(client, run_id: str) -> None:
    """Every file; a picture also as an image, for the grids of the charts page. The compare page shows files only."""
    from PIL import Image

    client.log_artifact(run_id, "params.yaml")
    for place, file in _places().items():
        client.log_artifact(run_id, str(file), place.rpartition("/")[0] or None)
        if file.suffix == ".png":
            client.log_image(run_id, Image.open(file), key=place.removesuffix(".png"), step=0)


def _places() -> dict[str, Path]:
    """The files of the results by their places among a run's, which has them without their first folder's name.

    Not the model's, which is logged in MLflow's own format.
    """
    files = [file for place in keys.results() if place != keys.MODEL for file in files_in(place)]
    return {Path(*(file.parts[1:] or file.parts)).as_posix(): file for file in files}


def _log_data(name: str, digest: str) -> None:
    import mlflow
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    source = CodeDatasetSource(tags={"dvc.path": "data/raw"})
    dataset = MetaDataset(source, name=name, digest=digest[:32] or None)
    mlflow.log_input(dataset, context="training")


def _test_figures() -> dict[str, float]:
    """The numbers in metrics/test.json, whose `likelihood` and `pixels` are words; raises `UserError` if damaged."""
    path, again = Path(keys.TEST_FIGURES), "`dvc repro -sf evaluate` makes it anew"
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {again}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({one_line(error)}); {again}") from None
    kinds = {type(value) for value in figures.values()} if isinstance(figures, dict) else set()
    if not kinds & {int, float} or kinds - {int, float, str}:
        raise UserError(f"{path}: damaged (not an object of numbers and words); {again}")
    return {name: value for name, value in figures.items() if not isinstance(value, str)}


def _hash_tags() -> dict[str, str]:
    """DVC's hashes of the data and the model, from dvc.lock; raises `UserError` if that is damaged."""
    outs = {place: digest for made in read_lock().values() for place, digest in made.outs.items()}
    tags = {"data/raw": "dvc.data.raw", keys.MODEL: "dvc.data.model"}
    return {tag: outs[place] for place, tag in tags.items() if place in outs}


def _tag(client, run_id: str, params: dict, measured: dict[str, str], keep_description: bool = False) -> None:
    """Add this experiment's name and what train measured to the run, and describe it."""
    from mlflow.entities import RunTag

    tags = client.get_run(run_id).data.tags | measured
    names = tags.get("dvc.experiments", "").split()
    if (name := experiment_name()) and name not in names:
        names.append(name)
    if names:
        tags["dvc.experiments"] = " ".join(names)
    if not keep_description:
        tags[description.NOTE] = description.of_run(params, tags)
    added = [*measured, "dvc.experiments", description.NOTE]
    client.log_batch(run_id, tags=[RunTag(name, tags[name]) for name in added if name in tags])


def write_receipt(key: str) -> None:
    """Write the file by which DVC knows that these results are recorded."""
    write_whole({keys.RECEIPT: (json.dumps({PIPELINE_KEY: key}) + "\n").encode()})
