"""Keys by which a run is found again: hashes of what it records."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

MODEL = "data/model"
HISTORY = "plots/training.csv"
TEST_FIGURES = "metrics/test.json"
DESTINATION = "registered_model"  # the one parameter that changes no result


def recorded(params: dict) -> dict:
    """The parameters that a run records: all but where the model goes, which may be decided later."""
    return {name: value for name, value in params.items() if name != DESTINATION}


def training_key(params: dict) -> str:
    """Of the parameters that train reads, and of what training made in the workspace."""
    return _key({name: params[name] for name in training_parameters()}, [MODEL, HISTORY])


def pipeline_key(params: dict) -> str:
    """Of the parameters that a run records, and of every result in the workspace that track records."""
    return _key(recorded(params), results())


def training_parameters() -> list[str]:
    """The parameters that dvc.yaml says train reads."""
    return _stage("train")["params"]


def results() -> list[str]:
    """The files and folders, made by other stages, that dvc.yaml says track reads; all of them are recorded."""
    return [dep for dep in _stage("track")["deps"] if not dep.startswith(("src/", "stages/"))]


def _stage(name: str) -> dict:
    import yaml

    return yaml.safe_load(Path("dvc.yaml").read_text())["stages"][name]


def _key(params: dict, places: Iterable[str]) -> str:
    files = sorted(file for place in places for file in files_in(place))
    digests = {file.as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return hashlib.sha256(json.dumps([params, digests], sort_keys=True).encode()).hexdigest()[:32]


def files_in(place: str | Path) -> list[Path]:
    """The file `place`, or the files below the folder `place`, in a fixed order; hidden ones left out."""
    place = Path(place)
    if place.is_file():
        return [place]
    return sorted(file for file in place.rglob("*") if file.is_file() and not file.name.startswith("."))
