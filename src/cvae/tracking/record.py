"""The whole record of a pipeline's results as one MLflow run, found again, completed or made."""

import importlib.metadata
import json
import re
import time
from pathlib import Path

import pandas as pd
import yaml

from cvae.errors import UserError, one_line
from cvae.fingerprint import files_in
from cvae.history import read_history
from cvae.outputs import write_whole
from cvae.tracking import description, keys, registry
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
    open_store,
    process_tags,
    run_name,
    source_tags,
    told_in_one_line,
)

RECEIPT = "data/tracked.json"
MEASURED = ("device", "torch.version", "train.seconds", "train.images_per_second")  # tags that only train can set


def record(params: dict) -> str:
    """Log the results in the workspace, made with `params`, as one MLflow run; returns their pipeline key.

    A run that records exactly these results is reused. Else the run that train left for them is completed;
    else, where training came from DVC's cache, a new one is made. The pipeline key is written last, so a
    run without it is not whole, and the next call replaces it. `params["registered_model"]`, if not empty, is a
    name of MLflow's registry, under which the model of the whole run is entered.

    Raises:
        UserError: the store cannot be used; DVC will run track again.
    """
    location, name = locate(), params[keys.DESTINATION]
    params = keys.recorded(params)
    history, figures, hashes = read_history(keys.HISTORY), _test_figures(), _lock_tags()
    with told_in_one_line(location, "; run `dvc repro` again when it can be used"), locked():
        client, experiment = open_store(location)
        close_killed_runs(client, experiment)
        key, training = keys.pipeline_key(params), keys.training_key(params)
        same_training = find(client, experiment, TRAINING_KEY, training)
        measured = _measured(same_training)
        unfinished = [run for run in same_training if PIPELINE_KEY not in run.data.tags]
        whole = find(client, experiment, PIPELINE_KEY, key)

        if whole:
            run_id, verb = whole[0].info.run_id, "are already"
            ours = description.of_run(params, whole[0].data.tags)
            edited = whole[0].data.tags.get(description.NOTE, ours) != ours
            _tag(client, run_id, params, measured, keep_description=edited)
        else:
            live = _choose_live(unfinished)
            verb = "complete" if live else "are now"
            tags = {"dvc.stage": "track", TRAINING_KEY: training, TRACKING: "true"}
            run_id = (live or create_run(client, experiment, params, tags)).info.run_id
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
        print(f"These results {verb} MLflow run {client.get_run(run_id).info.run_name} ({run_id}) in {location.shown}")
        if name:
            registry.enter(client, location, run_id, name)
    return key


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
    for place in keys.results():
        if place == keys.MODEL:  # logged in MLflow's own format
            continue
        for file in files_in(place):
            name = file.relative_to(file.parts[0])
            client.log_artifact(run_id, str(file), name.parent.as_posix() if name.parent != Path() else None)
            if file.suffix == ".png":
                client.log_image(run_id, Image.open(file), key=name.with_suffix("").as_posix(), step=0)


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


def _lock_tags() -> dict[str, str]:
    """DVC's hashes of the data and the model, from dvc.lock, which holds them once their stages have run.

    Raises:
        UserError: it is damaged.
    """
    path = Path("dvc.lock")
    wanted = {"data/raw": "dvc.data.raw", keys.MODEL: "dvc.data.model"}
    try:
        stages = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("stages", {}) if path.exists() else {}
        outs = [out for stage in ("download", "train") for out in stages.get(stage, {}).get("outs", [])]
        return {wanted[out["path"]]: out["md5"] for out in outs if out["path"] in wanted and "md5" in out}
    except (OSError, AttributeError, TypeError, LookupError, ValueError, RecursionError, yaml.YAMLError):
        raise UserError(f"{path}: damaged; `git checkout {path}` brings it back") from None


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
    write_whole({RECEIPT: (json.dumps({PIPELINE_KEY: key}) + "\n").encode()})


def recorded_run(client, experiment: str):
    """The run that records what the workspace holds, by the receipt that track left; None if there is none.

    A damaged receipt is none: DVC sees that it has changed, and the next `dvc repro` makes it anew.
    """
    try:
        key = json.loads(Path(RECEIPT).read_text())[PIPELINE_KEY]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    is_key = isinstance(key, str) and re.fullmatch("[0-9a-f]+", key)
    return next(iter(find(client, experiment, PIPELINE_KEY, key)), None) if is_key else None
