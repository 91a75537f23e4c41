"""A trained model out of MLflow, as the folder that `CVAE.save` wrote.

Nothing that came with the model is run: of MLflow's format only the safetensors and their configuration are used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from cvae.errors import UserError
from cvae.tracking.store import import_mlflow, locate


def fetch_run(run_id: str, folder: str | Path) -> tuple[Path, str | None]:
    """Download the model of MLflow run `run_id` to `folder`, as `fetch_model` does.

    Raises:
        UserError: there is no such run or no store, the store cannot be used, or the run has no model.
    """
    with _opened() as (client, location):
        run = client.get_run(run_id)
        models = run.outputs.model_outputs if run.outputs else []
        if not models:
            raise UserError(
                f"run {run.info.run_name} ({run_id}) in {location.shown} has no model: it was not completed"
            )
    return fetch_model(f"models:/{models[-1].model_id}", folder)


def fetch_model(uri: str, folder: str | Path) -> tuple[Path, str | None]:
    """Download the model at `uri` (models:/… or runs:/…) to `folder`.

    Returns the folder within that `CVAE.load` reads, and the data set that the model was trained on, if its run
    says so.

    Raises:
        UserError: there is no such model or no store, the store cannot be used, or the model is another project's.
    """
    with _opened() as (client, location):
        import mlflow

        root = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder), tracking_uri=location.uri))
        try:
            described = yaml.safe_load((root / "MLmodel").read_text())
            weights = root / described["flavors"]["python_function"]["artifacts"]["model"]["path"]
        except FileNotFoundError:
            moved = "was the repository moved, or its mlartifacts deleted?"
            raise UserError(f"{uri} in {location.shown}: the model's files are not there; {moved}") from None
        except (KeyError, TypeError, ValueError, yaml.YAMLError):
            raise UserError(f"{uri} in {location.shown} is not a model that this project logged") from None
        run_id = described.get("run_id")
        return weights, client.get_run(run_id).data.params.get("dataset") if run_id else None


@contextmanager
def _opened() -> Iterator[tuple]:
    """MLflow's client of the store, which is not made where there is none, and the store's location."""
    location = locate()
    database = location.uri.removeprefix("sqlite:///")
    if database != location.uri and not Path(database).exists():
        raise UserError(f"{location.shown}: no MLflow store is there yet; `dvc repro` records a run and its model")

    mlflow = import_mlflow()
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(location.uri)
    try:
        yield mlflow.MlflowClient(location.uri), location
    except (
        MlflowException,
        ModuleNotFoundError,  # a database's driver
        OSError,  # requests' errors too
        sqlalchemy.exc.SQLAlchemyError,
    ) as error:
        advice = "; `make ui` shows what there is"
        unknown = getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"
        raise UserError(location.complaint(error).rstrip(".") + (advice if unknown else "")) from None
