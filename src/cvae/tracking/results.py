"""The results in the workspace: read them, log them to a run, and check that a run has them."""

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cvae.artifacts.history import read_history
from cvae.data.dataset import Schema, classes_in_words, mnist_like, shape_in_words
from cvae.pipeline.dvc_lock import read_lock
from cvae.pipeline.dvc_yaml import files_in
from cvae.support.errors import UserError, one_line
from cvae.tracking import run_keys
from cvae.tracking.charts import LEARNING
from cvae.tracking.fetch import fetch_model
from cvae.tracking.live import log_rows, logged_epochs
from cvae.tracking.runs import INPUTS, newest_model, run_name, source_tags
from cvae.tracking.tasks import split_of


@dataclass(frozen=True)
class Results:
    """The contents of one run, except its files.

    Attributes:
        params: the parameters that the results were made with
        history: plots/training.csv, a row per epoch
        figures: the numbers of metrics/test.json, metrics/validation.json and the best epoch, by their names in MLflow
        hashes: tags with DVC's hashes of the data and the model
        schema: what the data are, according to the model
    """

    params: dict
    history: pd.DataFrame
    figures: dict[str, float]
    hashes: dict[str, str]
    schema: Schema


def read_results(params: dict) -> Results:
    """Read the results that were made with `params`.

    Raises:
        UserError: a file is missing or damaged.
    """
    return Results(params, read_history(run_keys.HISTORY), _figures(params), _hash_tags(), _schema())


def _figures(params: dict) -> dict[str, float]:
    """Return final figures by their names in MLflow, such as final_test/nll."""
    splits = ("validation", "test") if split_of(params) == "validation" else ("test",)
    figures = {
        f"final_{split}/{name}": value for split in splits for name, value in _numbers(split, "evaluate").items()
    }
    if "best_epoch" in (training := _numbers("train", "train")):
        figures["train/best_epoch"] = training["best_epoch"]
    return figures


def _numbers(name: str, stage: str) -> dict[str, float]:
    """Return the numbers in metrics/NAME.json, which `stage` writes. Leave out words, such as `likelihood`."""
    path, again = Path(f"metrics/{name}.json"), f"`dvc repro -sf {stage}` makes it again"
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


def _schema() -> Schema:
    """Return the schema in the model's config.json; models without one are older, and of images like MNIST's."""
    path = Path(run_keys.MODEL, "config.json")
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        return Schema.from_json(described["schema"]) if "schema" in described else mnist_like()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; `dvc repro -sf train` makes it again") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({one_line(error)}); `dvc repro -sf train` makes it again") from None


def _hash_tags() -> dict[str, str]:
    """Return DVC's hashes of the data and the model, from dvc.lock, as tags."""
    outs = {place: digest for made in read_lock().values() for place, digest in made.outs.items()}
    tags = {"data/raw": "dvc.data.raw", run_keys.MODEL: "dvc.data.model"}
    return {tag: outs[place] for place, tag in tags.items() if place in outs}


def log_results(client, run_id: str, results: Results) -> None:
    """Log everything that the run does not have yet."""
    import mlflow
    from mlflow.entities import Metric, Param, RunTag

    from cvae.tracking import served_model

    tags = source_tags() | results.hashes | {INPUTS: run_keys.inputs_key(results.params)}
    schema = results.schema
    tags |= {"data.classes": classes_in_words(schema.classes), "data.shape": shape_in_words(schema.shape)}
    client.log_batch(
        run_id,
        params=[Param(name, str(value)) for name, value in results.params.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    client.update_run(run_id, name=run_name(results.params))

    logged = logged_epochs(client, run_id)
    rows = results.history.to_dict("records")
    log_rows(client, run_id, [row for row in rows if row["epoch"] not in logged])
    run, now = client.get_run(run_id), int(time.time() * 1000)
    added = [
        Metric(name, value, now, 0) for name, value in results.figures.items() if run.data.metrics.get(name) != value
    ]
    client.log_batch(run_id, metrics=added)

    _log_files(client, run_id)
    with mlflow.start_run(run_id=run_id):
        own = results.params["dataset"] == "images" and results.schema.title
        _log_data(own or results.params["dataset"], tags.get("dvc.data.raw", ""))
        if not (run.outputs and run.outputs.model_outputs):
            served_model.log(run_keys.MODEL)
        elif not _has_the_model(model := newest_model(client, run)):  # an earlier attempt failed, or files are gone
            served_model.log(run_keys.MODEL, model)


def _log_files(client, run_id: str) -> None:
    """Log every file, and thumbnails as images: the charts page shows only images, the compare page only files."""
    from PIL import Image

    client.log_artifact(run_id, "params.yaml")
    for place, file in _artifact_paths().items():
        client.log_artifact(run_id, str(file), place.rpartition("/")[0] or None)
    for file in files_in(run_keys.THUMBNAILS):
        key, step = file.relative_to(run_keys.THUMBNAILS).with_suffix("").as_posix(), 0
        if key.startswith(f"{LEARNING}/"):
            key, step = LEARNING, int(file.stem)
        client.log_image(run_id, Image.open(file), key=key, step=step)


def _log_data(name: str, digest: str) -> None:
    import mlflow
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.exceptions import MlflowException

    source = CodeDatasetSource(tags={"dvc.path": "data/raw"})
    dataset = MetaDataset(source, name=name, digest=digest[:32] or None)
    try:
        mlflow.log_input(dataset, context="training")
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        # Of two clones that log the same new data at once, MLflow refuses one. Then it has the data.
        mlflow.log_input(dataset, context="training")


def has_its_files(client, run) -> bool:
    """Whether the run still has the files that `log_results` logged, including its model's."""
    try:
        if not _has_the_model(newest_model(client, run)):
            return False
    except UserError:
        return False
    places = _artifact_paths()
    folders = {place.rpartition("/")[0] for place in places}
    kept = [file for folder in folders for file in client.list_artifacts(run.info.run_id, folder)]
    sizes = {file.path: file.file_size for file in kept}
    return all(sizes.get(place) == file.stat().st_size for place, file in places.items())


def _has_the_model(model) -> bool:
    """Whether MLflow's `model` has the same files as the one in the workspace."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            fetched, _ = fetch_model(model.model_uri, folder)
            contents = [
                {file.name: file.read_bytes() for file in files_in(place)} for place in (fetched, run_keys.MODEL)
            ]
    except UserError:
        return False
    return contents[0] == contents[1]


def _artifact_paths() -> dict[str, Path]:
    """Map each artifact's path in a run to the file in the workspace. The path in the run lacks the first folder.

    The model is not among them, nor are thumbnails: MLflow has its own formats for them.
    """
    places = [place for place in run_keys.results() if place not in (run_keys.MODEL, run_keys.THUMBNAILS)]
    files = [file for place in places for file in files_in(place)]
    return {Path(*(file.parts[1:] or file.parts)).as_posix(): file for file in files}
