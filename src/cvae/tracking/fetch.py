"""Download a trained model from MLflow, as the folder that `saved_model.save` wrote.

No code that came with the model is executed: only the safetensors and their configuration are used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from cvae.support.errors import UserError
from cvae.tracking import registry
from cvae.tracking.checks import require_usable
from cvae.tracking.current_run import require_store
from cvae.tracking.location import locate
from cvae.tracking.named_run import named_run
from cvae.tracking.runs import EXPLORER, newest_model
from cvae.tracking.store import connect
from cvae.tracking.store_errors import reported_in_one_line

LOGGED_AGAIN = "`dvc repro -sf track` logs those of the current result again"


def fetch_run(run: str, folder: str | Path) -> tuple[Path, dict[str, str]]:
    """Download the model of the MLflow run with this name or id to `folder`, like `fetch_model`.

    Raises:
        UserError: there is no such run or no store, the store cannot be used, or the run has no model.
    """
    with _opened() as (client, _):
        uri = newest_model(client, named_run(client, run)).model_uri
    return fetch_model(uri, folder)


def fetch_explorer(run: str, folder: str | Path) -> Path:
    """Download the explorer of the MLflow run with this name or id to `folder`.

    Raises:
        UserError: there is no such run or no store, the store cannot be used, or the run has no explorer.
    """
    with _opened() as (client, location):
        found = named_run(client, run)
        if EXPLORER not in {file.path for file in client.list_artifacts(found.info.run_id)}:
            raise UserError(f"run {found.info.run_name} in {location.shown} has no {EXPLORER}; {LOGGED_AGAIN}")
        return Path(client.download_artifacts(found.info.run_id, EXPLORER, str(folder)))


def fetch_model(uri: str, folder: str | Path) -> tuple[Path, dict[str, str]]:
    """Download the model at `uri` (models:/… or runs:/…) to `folder`.

    Return the folder that `saved_model.load` reads, inside `folder`, and the parameters of the model's run (empty if
    the run is gone).

    Raises:
        UserError: there is no such model or no store, the store cannot be used, or the model is another project's.
    """
    with _opened() as (client, location):
        import mlflow

        uri = registry.resolve(client, uri)
        root = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder), tracking_uri=location.uri))
        try:
            described = yaml.safe_load((root / "MLmodel").read_text())
            weights = root / described["flavors"]["python_function"]["artifacts"]["model"]["path"]
            weights.resolve().relative_to(root.resolve())  # raises ValueError if the path leads outside the download
        except FileNotFoundError:
            raise UserError(f"{uri} in {location.shown}: the model's files are missing; {LOGGED_AGAIN}") from None
        except (KeyError, TypeError, ValueError, yaml.YAMLError):
            raise UserError(f"{uri} in {location.shown} is not a model that this project logged") from None
        run = registry.find_run(client, described.get("run_id"))
        return weights, run.data.params if run else {}


@contextmanager
def _opened() -> Iterator[tuple]:
    """Open an existing store: yield an MLflow client and the store's location."""
    location = locate()
    require_store(location)
    require_usable(location)
    with reported_in_one_line(location, if_unknown="; `make ui` shows all runs and models"):
        yield connect(location), location
