"""A trained model out of MLflow, as the folder that `CVAE.save` wrote.

Nothing that came with the model is run: of MLflow's format only the safetensors and their configuration are used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from cvae.support.errors import UserError
from cvae.tracking import registry
from cvae.tracking.current_run import require_store
from cvae.tracking.named_run import named_run
from cvae.tracking.store import connect, locate, newest_model, require_usable, told_in_one_line


def fetch_run(run: str, folder: str | Path) -> tuple[Path, dict[str, str]]:
    """Download the model of the MLflow run with this name or id to `folder`, as `fetch_model` does.

    Raises:
        UserError: there is no such run or no store, the store cannot be used, or the run has no model.
    """
    with _opened() as (client, _):
        uri = newest_model(client, named_run(client, run)).model_uri
    return fetch_model(uri, folder)


def fetch_model(uri: str, folder: str | Path) -> tuple[Path, dict[str, str]]:
    """Download the model at `uri` (models:/… or runs:/…) to `folder`.

    Returns the folder within that `saved_model.load` reads, and the parameters of the model's run; none, if that
    run is gone.

    Raises:
        UserError: there is no such model or no store, the store cannot be used, or the model is another project's.
    """
    with _opened() as (client, location):
        import mlflow

        uri = registry.chosen(client, uri)
        root = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder), tracking_uri=location.uri))
        try:
            described = yaml.safe_load((root / "MLmodel").read_text())
            weights = root / described["flavors"]["python_function"]["artifacts"]["model"]["path"]
            weights.resolve().relative_to(root.resolve())  # else a ValueError: it leads out of what was downloaded
        except FileNotFoundError:
            raise UserError(f"{uri} in {location.shown}: the model's files are not there; {LOGGED_AGAIN}") from None
        except (KeyError, TypeError, ValueError, yaml.YAMLError):
            raise UserError(f"{uri} in {location.shown} is not a model that this project logged") from None
        run = registry.find_run(client, described.get("run_id"))
        return weights, run.data.params if run else {}


LOGGED_AGAIN = "`dvc repro -sf track` logs those of the present result again"


@contextmanager
def _opened() -> Iterator[tuple]:
    """MLflow's client of the store, which is not made where there is none, and the store's location."""
    location = locate()
    require_store(location)
    require_usable(location)
    with told_in_one_line(location, if_unknown="; `make ui` shows what there is"):
        yield connect(location), location
