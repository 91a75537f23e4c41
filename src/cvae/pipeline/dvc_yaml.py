"""Read dvc.yaml, and hash what a stage reads into a short fingerprint."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from cvae.support.errors import UserError, one_line


def stages() -> dict[str, dict]:
    """Return each stage's description in dvc.yaml; raise a `UserError` if it cannot be read."""
    import yaml

    try:
        return yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    except (OSError, ValueError, TypeError, LookupError, yaml.YAMLError) as error:
        reason = one_line(getattr(error, "problem_mark", None) or error).strip()
        raise UserError(f"dvc.yaml: damaged ({reason}); `git checkout HEAD dvc.yaml` brings it back") from None


def stage(name: str) -> dict:
    return stages()[name]


def fingerprint(facts: object, places: Iterable[str]) -> str:
    """Return 32 hexadecimal digits, equal for equal `facts` (which must fit JSON) and equal files in `places`."""
    files = sorted(file for place in places for file in files_in(place))
    digests = {file.as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return hashlib.sha256(json.dumps([facts, digests], sort_keys=True).encode()).hexdigest()[:32]


def files_in(place: str | Path) -> list[Path]:
    """Return the file `place`, or all files in the folder `place` in a fixed order except hidden files and bytecode."""
    place = Path(place)
    if place.is_file():
        return [place]
    files = [file for file in place.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    return sorted(file for file in files if not file.name.startswith("."))
