"""Find the run that records the result in the workspace, or name the command that makes one.

data/tracked.json does not help: it names the result that was recorded last, even after DVC has restored another one. So
the result's key is computed from the files and from the parameters in dvc.lock.
"""

from pathlib import Path

from cvae.pipeline.dvc_lock import parameters_of, read_lock, require_current
from cvae.pipeline.dvc_yaml import stages
from cvae.pipeline.parameters import Parameters, check_parameters, read_parameters
from cvae.support.errors import UserError
from cvae.tracking import run_keys
from cvae.tracking.location import Location
from cvae.tracking.runs import PIPELINE_KEY, find


def current_run(client, experiment: str):
    """Return the newest run that records the result in the workspace.

    Raises:
        UserError: there is none, or results are missing. The message names the command that records them.
    """
    if missing := next((place for place in _results() if not Path(place).exists()), None):
        raise UserError(f"{missing} is missing; {how_to_record()} makes it and records the result")
    runs = find(client, experiment, PIPELINE_KEY, run_keys.pipeline_key(made_with()))
    if not runs:
        raise UserError(f"no run records the current result; {how_to_record()} makes one")
    return runs[0]


def made_with() -> dict:
    """Return the parameters that the results were made with, from dvc.lock, completed from params.yaml.

    Raises:
        UserError: one of these files is damaged or has a value that is not allowed.
    """
    lock = {name: made for name, made in read_lock().items() if name in stages()}
    track = lock.pop("track", None)
    # The other stages' parameters take precedence: if track failed after they ran, its own are older.
    values = (track.parameters if track else {}) | parameters_of(lock)
    values = {name: value for name, value in values.items() if name in Parameters.model_fields}
    if Parameters.model_fields.keys() - values.keys():
        values = read_parameters().model_dump() | values
    return check_parameters(values, "dvc.lock").model_dump()


def how_to_record() -> str:
    """Return the command that records the result in the workspace.

    `dvc repro` alone skips track if its receipt and inputs match dvc.lock, even if the run was deleted.
    """
    again = "dvc repro -sf track"
    try:
        require_current(_results())
    except UserError:
        again = f"dvc repro && {again}" if Path(run_keys.RECEIPT).exists() else "dvc repro"
    return f"`{again}`"


def require_store(location: Location) -> None:
    """Raise a `UserError` if there is no store yet. MLflow would create an empty one."""
    if location.database and not location.database.exists():
        raise UserError(f"{location.shown}: no MLflow store yet; {how_to_record()} records a run and its model")


def _results() -> list[str]:
    if "track" not in stages():
        raise UserError("dvc.yaml has no stage `track`; `git checkout HEAD dvc.yaml` brings it back")
    return run_keys.results()
