"""Read dvc.yaml, and hash what a stage reads into a short fingerprint."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from cvae.pipeline.parameters import load_yaml
from cvae.support.errors import UserError


def stages() -> dict[str, dict]:
    """Return each stage's description in dvc.yaml; raise a `UserError` if it is missing or damaged."""
    try:
        described = load_yaml(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
        if not isinstance(described, dict) or not all(isinstance(each, dict) for each in described.values()):
            raise ValueError("its stages are not mappings")
        return described
    except FileNotFoundError:
        raise UserError("dvc.yaml: missing; `git checkout HEAD dvc.yaml` brings it back") from None
    except (ValueError, TypeError, LookupError) as error:
        raise UserError(f"dvc.yaml: damaged ({error}); `git checkout HEAD dvc.yaml` brings it back") from None


def stage(name: str) -> dict:
    """Return a stage's description; raise a `UserError` if dvc.yaml lacks it."""
    described = stages()
    if name not in described:
        raise UserError(f"dvc.yaml: has no stage `{name}`; `git checkout HEAD dvc.yaml` brings it back")
    return described[name]


def fingerprint(facts: object, paths: Iterable[str]) -> str:
    """Return 32 hexadecimal digits, equal for equal `facts` (which must fit JSON) and equal files in `paths`."""
    files = sorted(file for path in paths for file in files_in(path))
    digests = {file.as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return hashlib.sha256(json.dumps([facts, digests], sort_keys=True).encode()).hexdigest()[:32]


def files_in(path: str | Path) -> list[Path]:
    """Return the file `path`, or all files in the folder `path` in a fixed order except hidden files and bytecode."""
    path = Path(path)
    if path.is_file():
        return [path]
    files = [file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    return sorted(file for file in files if not file.name.startswith("."))
