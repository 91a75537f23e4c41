"""The present result, which is what the workspace holds: the run that records it, or the command that makes one.

The receipt that track leaves says what was recorded last, and nothing brings it back with older files. So a result is
known by its key, which is computed from the files and from the parameters that dvc.lock says they were made with.
"""

from pathlib import Path

from cvae.pipeline.dvc_lock import measured_with, read_lock, require_current
from cvae.pipeline.dvc_yaml import stages
from cvae.pipeline.parameters import Parameters, check_parameters, read_parameters
from cvae.support.errors import UserError
from cvae.tracking import run_keys
from cvae.tracking.store import PIPELINE_KEY, Location, find


def present_run(client, experiment: str):
    """The newest run that records what the workspace holds.

    Raises:
        UserError: there is none, or results are missing; says which command records them.
    """
    if missing := next((place for place in _results() if not Path(place).exists()), None):
        raise UserError(f"{missing} is missing; {how_to_record()} makes it and records the result")
    runs = find(client, experiment, PIPELINE_KEY, run_keys.pipeline_key(made_with()))
    if not runs:
        raise UserError(f"no run records what the workspace holds; {how_to_record()} makes one")
    return runs[0]


def made_with() -> dict:
    """The parameters that the present results were made with, by dvc.lock; what it lacks, by params.yaml.

    Raises:
        UserError: one of the two files is damaged or has a value that is not allowed.
    """
    lock = {name: made for name, made in read_lock().items() if name in stages()}
    track = lock.pop("track", None)
    # Each stage's own parameters count: track's are older where it failed after the others had run.
    values = (track.parameters if track else {}) | measured_with(lock)
    values = {name: value for name, value in values.items() if name in Parameters.model_fields}
    if Parameters.model_fields.keys() - values.keys():
        values = read_parameters().model_dump() | values
    return check_parameters(values, "dvc.lock").model_dump()


def how_to_record() -> str:
    """The command that records what the workspace holds.

    `dvc repro` takes track for done where its receipt and its inputs are those in dvc.lock, whatever became of the run.
    """
    again = "dvc repro -sf track"
    try:
        require_current(_results())
    except UserError:
        again = f"dvc repro && {again}" if Path(run_keys.RECEIPT).exists() else "dvc repro"
    return f"`{again}`"


def require_store(location: Location) -> None:
    """Raise a `UserError` where there is no store yet, before MLflow would make one."""
    place = location.database or location.folder
    if place and not place.exists():
        raise UserError(f"{location.shown}: no MLflow store yet; {how_to_record()} records a run and its model")


def _results() -> list[str]:
    if "track" not in stages():
        raise UserError("dvc.yaml has no stage `track`; `git checkout HEAD dvc.yaml` brings it back")
    return run_keys.results()
