"""The whole record of a pipeline's results as one MLflow run, found again, completed or made."""

import importlib.metadata
import json
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd

from cvae.artifacts.history import read_history
from cvae.pipeline.dvc_lock import read_lock
from cvae.pipeline.dvc_yaml import files_in
from cvae.support.errors import UserError, one_line, shown
from cvae.support.files import write_whole
from cvae.tracking import description, registry, run_keys
from cvae.tracking.fetch import fetch_model
from cvae.tracking.live import log_rows, logged_epochs
from cvae.tracking.store import (
    INPUTS,
    PIPELINE_KEY,
    TRACKING,
    TRAINING_KEY,
    Location,
    close_killed_runs,
    create_run,
    delete_superseded,
    experiment_name,
    find,
    locate,
    locked,
    newest_model,
    open_store,
    run_name,
    source_tags,
    told_in_one_line,
    writer,
)
from cvae.tracking.writers import untag

MEASURED = ("device", "torch.version", "train.seconds", "train.images_per_second")  # tags that only train can set


def record(params: dict) -> str:
    """Log the results in the workspace, made with `params`, as one MLflow run; returns their pipeline key.

    A run that records exactly these results is reused, and completed again if its files are gone. Else the run that an
    earlier attempt or train left for them is completed; else, where training came from DVC's cache, a new one is made.
    No run is taken that another process may still write to. The pipeline key is written last: a run without it is not
    complete. It ends FAILED or KILLED, with the reason in its `error` tag, and the next attempt takes it up again.
    `params["registered_model"]`, if not empty, is a name of MLflow's registry, under which the model of the complete
    run is entered.

    Raises:
        UserError: the store cannot be used; DVC will run track again.
    """
    location, name = locate(), params[run_keys.DESTINATION]
    params = run_keys.recorded(params)
    history, figures, hashes = read_history(run_keys.HISTORY), _test_figures(), _hash_tags()
    advice = "; run `dvc repro` again when it can be used"
    with told_in_one_line(location, advice), locked(), writer() as own:
        client, experiment = open_store(location)
        close_killed_runs(client, experiment)
        key, training = run_keys.pipeline_key(params), run_keys.training_key(params)
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
            candidates = [*known, *_completable(unfinished, key)]
            left = next((run for each in candidates if (run := own.take(client, each.info.run_id))), None)
            verb = "are now" if left is None else "are again" if PIPELINE_KEY in left.data.tags else "complete"
            tags = {"dvc.stage": "track", TRAINING_KEY: training, TRACKING: key}
            run_id = (left or create_run(client, experiment, params, tags, writer=own)).info.run_id
            try:
                client.set_tag(run_id, TRACKING, key)  # before any parameter, which nothing can change later
                untag(client, run_id, {PIPELINE_KEY} & left.data.tags.keys() if left else [])
                _complete(client, run_id, params, history, figures, hashes)
                _tag(client, run_id, params, measured)
                untag(client, run_id, {"error"} & client.get_run(run_id).data.tags.keys())
                client.set_terminated(run_id, "FINISHED")
                client.set_tag(run_id, PIPELINE_KEY, key)
            except BaseException as error:
                with suppress(Exception):  # the store may be what failed: then the next attempt closes it
                    _close(client, run_id, location, error)
                    own.leave(client, run_id)
                raise
            own.leave(client, run_id)
        for run in unfinished:  # a repeated training's, say
            if run.info.run_id != run_id and not _is_anothers(run, key):
                own.delete(client, run.info.run_id)
        delete_superseded(client, experiment)
        called = client.get_run(run_id).info.run_name
    print(f"These results {verb} MLflow run {called} ({run_id}) in {location.shown}")
    if name:
        with told_in_one_line(location, advice), locked():
            entered = registry.enter(client, location, run_id, name)
        print(entered)
    return key


def _close(client, run_id: str, location: Location, error: BaseException) -> None:
    """End a run that could not be completed, with the reason."""
    killed = isinstance(error, KeyboardInterrupt)
    reason = shown(str(error)) if killed else location.complaint(error)
    if reason:
        client.set_tag(run_id, "error", reason.splitlines()[0][:500])
    untag(client, run_id, [PIPELINE_KEY])  # the answer to setting it may have been what was lost
    client.set_terminated(run_id, "KILLED" if killed else "FAILED")


def _has_its_files(client, run) -> bool:
    """Whether the files that `_complete` logged to `run` are there, and those of its model."""
    try:
        if not _has_the_model(newest_model(client, run)):
            return False
    except UserError:
        return False
    places = _places()
    folders = {place.rpartition("/")[0] for place in places}
    kept = [file for folder in folders for file in client.list_artifacts(run.info.run_id, folder)]
    sizes = {file.path: file.file_size for file in kept}
    return all(sizes.get(place) == file.stat().st_size for place, file in places.items())


def _has_the_model(model) -> bool:
    """Whether MLflow's `model` has the files of the one in the workspace."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            fetched, _ = fetch_model(model.model_uri, folder)
            contents = [
                {file.name: file.read_bytes() for file in files_in(place)} for place in (fetched, run_keys.MODEL)
            ]
    except UserError:
        return False
    return contents[0] == contents[1]


def _belongs_to_another(run) -> bool:
    """Whether an experiment other than this one made `run`."""
    return run.data.tags.get("dvc.experiment") != experiment_name()


def _is_anothers(run, key: str) -> bool:
    """Whether `run` is for another experiment's track to complete, be it that it failed before."""
    return _belongs_to_another(run) and run.data.tags.get(TRACKING) != key


def _completable(unfinished: list, key: str) -> list:
    """The runs that may become the record of these results: what an earlier attempt left, then what train did.

    This experiment's own come first. One that was begun for other results has their parameters, for good.
    """
    fitting = [run for run in unfinished if run.data.tags.get(TRACKING, key) == key]
    return sorted(fitting, key=lambda run: (TRACKING not in run.data.tags, _belongs_to_another(run)))


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

    tags = source_tags() | hashes | {INPUTS: run_keys.inputs_key(params)}
    client.log_batch(
        run_id,
        params=[Param(name, str(value)) for name, value in params.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    client.update_run(run_id, name=run_name(params))

    logged = logged_epochs(client, run_id)
    rows = history.to_dict("records")
    log_rows(client, run_id, [row for row in rows if row["epoch"] not in logged])
    run, now = client.get_run(run_id), int(time.time() * 1000)
    figures = {f"final_test/{name}": value for name, value in figures.items()}
    added = [Metric(name, value, now, 0) for name, value in figures.items() if run.data.metrics.get(name) != value]
    client.log_batch(run_id, metrics=added)

    _log_files(client, run_id)
    with mlflow.start_run(run_id=run_id):
        _log_data(params["dataset"], tags.get("dvc.data.raw", ""))
        if not (run.outputs and run.outputs.model_outputs):
            served_model.log(run_keys.MODEL)
        elif not _has_the_model(model := newest_model(client, run)):  # an earlier attempt failed, or files were lost
            served_model.log(run_keys.MODEL, model)


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
    files = [file for place in run_keys.results() if place != run_keys.MODEL for file in files_in(place)]
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
    path, again = Path(run_keys.TEST_FIGURES), "`dvc repro -sf evaluate` makes it again"
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
    tags = {"data/raw": "dvc.data.raw", run_keys.MODEL: "dvc.data.model"}
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
    write_whole({run_keys.RECEIPT: (json.dumps({PIPELINE_KEY: key}) + "\n").encode()})
