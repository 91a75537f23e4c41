"""Read dvc.yaml, and hash what a stage reads into a short fingerprint."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from cvae.pipeline.parameters import load_yaml, read_parameters
from cvae.support.errors import UserError

NAMED = re.compile(r"\$\{(.*?)\}")  # a parameter in a command or path


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


def paths(entry: dict, *groups: str) -> list[str]:
    """Return the paths in these groups of a stage's description, such as "deps"; each may come with options.

    A path may name a parameter: `${images}`.

    Raises:
        UserError: a path names one that is neither text nor a whole number, or params.yaml is not as it should be.
    """
    listed = [each for group in groups for each in entry.get(group, [])]
    found = [each if isinstance(each, str) else next(iter(each)) for each in listed]
    if not any(map(NAMED.search, found)):
        return found
    params = read_parameters().model_dump()
    results = [filled(template, params) for template in found]
    if None in results:
        raise UserError(f"dvc.yaml: {found[results.index(None)]} cannot be filled in from params.yaml")
    return results


def filled(template: str, params: Mapping[str, object]) -> str | None:
    """Return `template` with the values of the parameters that it names.

    Returns None if one is neither text nor a whole number: DVC has its own ways to write others.
    """
    if not all(type(params.get(name)) in (str, int) for name in NAMED.findall(template)):
        return None
    return NAMED.sub(lambda match: str(params[match[1]]), template)


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
