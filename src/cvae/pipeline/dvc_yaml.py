"""What a result was made from, as a short hash; dvc.yaml says what a stage reads."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from cvae.support.errors import UserError, one_line


def stages() -> dict[str, dict]:
    """What dvc.yaml says of each stage; raises `UserError` if it cannot be read."""
    import yaml

    try:
        return yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    except (OSError, ValueError, TypeError, LookupError, yaml.YAMLError) as error:
        reason = one_line(getattr(error, "problem_mark", None) or error).strip()
        raise UserError(f"dvc.yaml: damaged ({reason}); `git checkout HEAD dvc.yaml` brings it back") from None


def stage(name: str) -> dict:
    return stages()[name]


def fingerprint(facts: object, places: Iterable[str]) -> str:
    """32 hexadecimal digits: equal for equal `facts`, of which JSON is made, and equal files at and below `places`."""
    files = sorted(file for place in places for file in files_in(place))
    digests = {file.as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return hashlib.sha256(json.dumps([facts, digests], sort_keys=True).encode()).hexdigest()[:32]


def files_in(place: str | Path) -> list[Path]:
    """The file `place`, or the files below the folder `place`, in a fixed order; hidden ones and bytecode left out."""
    place = Path(place)
    if place.is_file():
        return [place]
    files = [file for file in place.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    return sorted(file for file in files if not file.name.startswith("."))
