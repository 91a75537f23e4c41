"""Keys by which a run is found again: hashes of what it records."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

MODEL = "data/model"
HISTORY = "plots/training.csv"


def training_key(params: dict) -> str:
    """Of the parameters that train reads, and of what training made in the workspace."""
    return _key({name: params[name] for name in training_parameters()}, [MODEL, HISTORY])


def pipeline_key(params: dict) -> str:
    """Of all parameters, and of every file in the workspace that track logs."""
    return _key(params, [MODEL, "metrics", "plots"])


def training_parameters() -> list[str]:
    """The parameters that dvc.yaml says train reads."""
    import yaml

    return yaml.safe_load(Path("dvc.yaml").read_text())["stages"]["train"]["params"]


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
