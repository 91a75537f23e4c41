"""Open and lock the MLflow store that all copies of a repository share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from cvae.pipeline.repository import main_repository
from cvae.support.errors import UserError
from cvae.tracking import charts, description
from cvae.tracking.checks import require_usable
from cvae.tracking.location import Location, locate, resolve, sqlite_address
from cvae.tracking.quiet_mlflow import import_mlflow

EXPERIMENT = "cvae"
LOCK_TIMEOUT = 300  # seconds; recording one pipeline takes less than ten


@contextmanager
def locked() -> Iterator[None]:
    """Lock the store against other stages, including those of other copies of the repository."""
    with FileLock(lock_folder() / "mlflow.lock", timeout=LOCK_TIMEOUT, mode=0o666):
        yield


def lock_folder() -> Path:
    """Return the folder for lock files, and create it.

    It is beside the database if that is outside the repository, because other repositories may use the database too.
    """
    database, own = locate().database, main_repository() / ".dvc" / "tmp"
    if database and not database.is_relative_to(main_repository()):
        beside = database.resolve().with_name(f".{database.name}.locks")
        with suppress(OSError):
            beside.mkdir(parents=True, exist_ok=True)
            if os.access(beside, os.W_OK):
                return beside
    own.mkdir(parents=True, exist_ok=True)
    return own


def connect(location: Location):
    """Return an MLflow client. The store and its registry also become MLflow's defaults."""
    mlflow = import_mlflow()
    mlflow.set_tracking_uri(location.uri)
    if registry := os.environ.get("MLFLOW_REGISTRY_URI"):
        require_usable(resolve(registry))
        os.environ["MLFLOW_REGISTRY_URI"] = resolve(registry).uri
    return mlflow.MlflowClient(location.uri)


def open_store(location: Location, split: str | None = None):
    """Return an MLflow client and the experiment's id. Create the store and the experiment if they are missing.

    The caller must hold the lock. `split`: the held-out split of the run to be written, for the charts page.

    Raises:
        UserError: the store is unusable, its experiment was deleted, or its files belong to a repository that has
            moved since.
    """
    mlflow = import_mlflow()
    require_usable(location)
    if location.database and not location.database.exists():
        _create_database(location)
    client = connect(location)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        tags = {
            description.NOTE: description.OF_EXPERIMENT,
            charts.TAG: charts.layout(charts.present_pictures(), {split or "test"}),
        }
        folder = None if location.artifacts is None else str(location.artifacts)
        try:
            return client, client.create_experiment(name, artifact_location=folder, tags=tags)
        except mlflow.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)  # another clone, with its own lock, was faster
    _require_own_experiment(location, experiment, name)
    stored = experiment.tags.get(charts.TAG, "")
    # All runs share the layout, so keep the rows of those with other classes, and the curves of other splits.
    pictures = {*charts.pictures_in(stored), *charts.present_pictures()}
    splits = charts.splits_in(stored) | ({split} if split else set())
    if (layout := charts.layout(pictures, splits or {"test"})) != stored:
        client.set_experiment_tag(experiment.experiment_id, charts.TAG, layout)
    return client, experiment.experiment_id


def _require_own_experiment(location: Location, experiment, name: str) -> None:
    """Raise a `UserError` if runs of this repository cannot be kept in `experiment`."""
    if not experiment.experiment_id:  # MLflow's client takes an empty answer for an experiment with empty fields
        raise UserError(f"MLflow at {location.shown}: the server there is not MLflow")
    if experiment.lifecycle_stage != "active":
        raise UserError(
            f"the MLflow experiment {name!r} was deleted; "
            f"`mlflow experiments restore -x {experiment.experiment_id}` brings it back"
        )
    kept = experiment.artifact_location.removeprefix("file://")
    is_local = location.artifacts and "://" not in kept
    if is_local and not Path(kept).resolve().is_relative_to(location.artifacts.resolve()):  # both may contain links
        raise UserError(
            f"{location.shown} keeps its files in {kept}, but the repository is now in {main_repository()}: "
            f"move it back, or delete mlflow.db and start a new record with `dvc repro -sf track`"
        )


def _create_database(location: Location) -> None:
    """Create the SQLite database under another name and rename it: MLflow cannot use a half-migrated database."""
    from mlflow.db import upgrade

    place = location.database.resolve()
    aside = Path(f"{place}.new")
    aside.parent.mkdir(parents=True, exist_ok=True)
    for end in ("", "-journal", "-wal", "-shm"):  # left by an attempt that was killed
        Path(f"{aside}{end}").unlink(missing_ok=True)
    aside.touch()  # fails at once if the folder is read-only, where MLflow would keep retrying
    try:
        # `mlflow db upgrade` opens its own engine; any other call would cache one for this temporary address
        upgrade.callback(sqlite_address(location.uri, aside))
        aside.rename(place)
    finally:
        aside.unlink(missing_ok=True)
