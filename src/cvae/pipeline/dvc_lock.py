"""Read dvc.lock, DVC's record of how each result was made, and check the workspace against it."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cvae.pipeline.dvc_yaml import files_in, filled, paths, stages
from cvae.pipeline.parameters import load_yaml, read_parameters
from cvae.support.errors import UserError

LOCK = "dvc.lock"
REMEDY = "`dvc repro` makes the results again"
Value = int | float | str | list | None


@dataclass(frozen=True)
class StageRecord:
    """How a stage made its outputs. `deps`, `outs`: the MD5 sums of its files and folders, by path."""

    command: str | list[str]
    parameters: dict[str, Value]
    deps: dict[str, str]
    outs: dict[str, str]


def read_lock() -> dict[str, StageRecord]:
    """Return the stages in dvc.lock by name, or none if there is no such file yet.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return parse_lock(Path(LOCK).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise UserError(f"{LOCK}: damaged; `git checkout HEAD {LOCK}` brings it back") from None


def parse_lock(text: str) -> dict[str, StageRecord]:
    """Return the stages in the text of a dvc.lock by name; raise a `ValueError` if it is damaged."""
    try:
        return {name: _record(entry) for name, entry in (load_yaml(text) or {}).get("stages", {}).items()}
    except (AttributeError, TypeError, LookupError, ValueError):
        raise ValueError("not a dvc.lock") from None


def _record(entry: dict) -> StageRecord:
    deps, outs = (
        {each["path"]: each["md5"] for each in entry.get(kind, []) if "md5" in each} for kind in ("deps", "outs")
    )
    return StageRecord(entry.get("cmd", ""), dict(entry.get("params", {}).get("params.yaml", {})), deps, outs)


def parameters_of(lock: dict[str, StageRecord]) -> dict[str, Value]:
    """Return the parameters that the stages in `lock` ran with."""
    return {key: value for made in lock.values() for key, value in made.parameters.items()}


def parameters_behind(lock: dict[str, StageRecord], path: str) -> dict[str, Value] | None:
    """Return the parameters that `path` was made with, by its stage and all stages before it.

    Returns None if `lock` cannot tell: no stage made `path`, or one read a file that differs from what the stage
    before it wrote.
    """
    makers = {out: made for made in lock.values() for out in made.outs}
    to_check, seen, parameters = [path], set(), {}
    while to_check:
        if (path := to_check.pop()) in seen:
            continue
        seen.add(path)
        if (made := makers.get(path)) is None:
            return None
        parameters |= made.parameters
        for dep in made.deps.keys() & makers.keys():
            if made.deps[dep] != makers[dep].outs[dep]:
                return None
            to_check.append(dep)
    return parameters


def require_current(results: Sequence[str]) -> None:
    """Refuse files that do not belong together: `results`, params.yaml, and everything `results` were made from.

    `dvc repro -s` runs a stage on whatever files are there. The parameters may have been edited since, or the files may
    come from two runs, for instance after `git checkout` without `dvc checkout`. Not checked: files in `results` that
    no stage makes, inputs that dvc.yaml no longer lists, and stages with a `wdir`.

    Raises:
        UserError: one of `results` has changed since its stage wrote it, or a stage would run again on these files.
    """
    lock, described = read_lock(), stages()
    present = read_parameters().model_dump()
    described = {name: entry for name, entry in described.items() if "wdir" not in entry}
    recorded = [_RecordedStage(name, entry, lock[name]) for name, entry in described.items() if name in lock]
    makers = {path: stage for stage in recorded for path in stage.made.outs}
    all_outputs = {path for entry in described.values() for path in paths(entry, "outs", "metrics", "plots")}
    for path in results:
        if path in makers:
            if md5(path) != makers[path].made.outs[path]:
                raise UserError(f"{path}: changed since {makers[path].name} wrote it ({LOCK}); {REMEDY}")
        elif path in all_outputs:
            raise UserError(f"{path}: {LOCK} does not say how it was made; {REMEDY}")

    to_check = [makers[path] for path in results if path in makers]
    seen = set()
    while to_check:
        if (stage := to_check.pop(0)).name in seen:
            continue
        seen.add(stage.name)
        stage.require_same(present)
        for path, digest in stage.deps.items():
            if path in makers:
                to_check.append(makers[path])
                if digest != makers[path].made.outs[path]:
                    raise UserError(f"{path}: changed since {stage.name} read it ({LOCK}); {REMEDY}")


@dataclass(frozen=True)
class _RecordedStage:
    """A stage that has run. `entry`: its description in dvc.yaml. `made`: its record in dvc.lock."""

    name: str
    entry: dict
    made: StageRecord

    @property
    def deps(self) -> dict[str, str]:
        """Return the ones that dvc.yaml still lists; dvc.lock keeps removed ones until the stage runs again."""
        return {path: self.made.deps[path] for path in paths(self.entry, "deps") if path in self.made.deps}

    def require_same(self, params: dict) -> None:
        """Raise a `UserError` if the stage ran with values that differ from `params`, for keys dvc.yaml still lists."""
        for key in self._keys():
            if key in self.made.parameters and params.get(key) != (was := self.made.parameters[key]):
                now = f"{params.get(key)!r:.60}"
                raise UserError(f"params.yaml: {key} is {now}, but {self.name} ran with {was!r:.60} ({LOCK}); {REMEDY}")
        command = filled(str(self.entry.get("cmd")), params)
        if command is not None and command != str(self.made.command):
            raise UserError(f"{self.name} ran as `{self.made.command}` ({LOCK}), not as `{command}`; {REMEDY}")
        read = set(map(os.path.abspath, self.made.deps))  # DVC writes a folder in the repository as a relative path
        for listed, path in zip(self.entry.get("deps", []), paths(self.entry, "deps"), strict=True):
            if listed != path and os.path.abspath(path) not in read:
                raise UserError(f"params.yaml names {path}, which {self.name} has not read ({LOCK}); {REMEDY}")

    def _keys(self) -> list[str]:
        keys = []
        for each in self.entry.get("params", []):
            if isinstance(each, str):
                keys.append(each)
            elif "params.yaml" in each:  # with a list of keys, or with none for all keys
                keys += each["params.yaml"] or self.made.parameters
        return keys


def md5(path: str | Path) -> str:
    """Return the digest that dvc.lock would have: the MD5 sum of a file, or of a JSON list of a folder's files."""
    if not Path(path).is_dir():
        return md5_of(Path(path).read_bytes()) if Path(path).exists() else ""
    files = [
        {"md5": md5_of(file.read_bytes()), "relpath": file.relative_to(path).as_posix()} for file in files_in(path)
    ]
    return md5_of(json.dumps(sorted(files, key=lambda file: file["relpath"]), sort_keys=True).encode()) + ".dir"


def md5_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
