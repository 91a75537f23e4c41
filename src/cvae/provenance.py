"""What the results in the workspace were made of, by dvc.lock, in which DVC notes it as each stage ends."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from cvae.errors import UserError
from cvae.fingerprint import files_in, stages
from cvae.parameters import load_yaml

LOCK = "dvc.lock"
Value = int | float | str | list | None


@dataclass(frozen=True)
class Made:
    """How a stage made its outputs. `deps`, `outs`: the MD5 sums of its files and folders, by their paths."""

    command: str | list[str]
    parameters: dict[str, Value]
    deps: dict[str, str]
    outs: dict[str, str]


def read_lock() -> dict[str, Made]:
    """The stages of dvc.lock by name; none, if there is no such file yet.

    Raises:
        UserError: it is damaged.
    """
    try:
        return parse_lock(Path(LOCK).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise UserError(f"{LOCK}: damaged; `git checkout {LOCK}` brings it back") from None


def parse_lock(text: str) -> dict[str, Made]:
    """The stages of a dvc.lock of this text by name; raises a ValueError if it is damaged."""
    try:
        return {name: _made(entry) for name, entry in (load_yaml(text) or {}).get("stages", {}).items()}
    except (AttributeError, TypeError, LookupError, RecursionError, yaml.YAMLError):
        raise ValueError("no dvc.lock") from None


def _made(entry: dict) -> Made:
    deps, outs = (
        {each["path"]: each["md5"] for each in entry.get(kind, []) if "md5" in each} for kind in ("deps", "outs")
    )
    return Made(entry.get("cmd", ""), dict(entry.get("params", {}).get("params.yaml", {})), deps, outs)


def measured_with(lock: dict[str, Made]) -> dict[str, Value]:
    """The parameters that the stages of `lock` read."""
    return {key: value for made in lock.values() for key, value in made.parameters.items()}


def require_current(results: Sequence[str]) -> None:
    """Refuse files that do not belong together: `results`, params.yaml, and all that `results` were made of.

    `dvc repro -s` runs a stage on whatever is there. That can be the results of parameters that were edited since, or
    of two runs, if git brought back its files and nobody asked DVC for the others.

    Raises:
        UserError: one of `results` is not as its stage left it, or a stage would run again with what is here now.
    """
    described = stages()
    lock = {name: made for name, made in read_lock().items() if name.partition("@")[0] in described}  # DVC keeps others
    present = load_yaml(Path("params.yaml").read_text(encoding="utf-8"))
    makers = {out: name for name, made in lock.items() for out in made.outs}
    for place in results:
        name = makers.get(place)
        if name is None:
            raise UserError(f"{LOCK} does not say what made {place}; `dvc repro` makes it")
        if md5(place) != lock[name].outs[place]:
            raise UserError(f"{place}: not as {name} left it ({LOCK}); `dvc repro` puts that right")

    above = list(dict.fromkeys(makers[place] for place in results))
    for name in above:  # grows by what made their dependencies
        made = lock[name]
        for key, value in made.parameters.items():
            if present.get(key) != value:
                was, now = f"{value!r:.60}", f"{present.get(key)!r:.60}"
                raise UserError(
                    f"params.yaml: {key} is {now}, but {name} ran with {was} ({LOCK}); `dvc repro` runs it again"
                )
        command = described[name.partition("@")[0]].get("cmd")
        if isinstance(command, str) and not _is_of(made.command, command, present):
            raise UserError(f"{name} ran as `{made.command}` ({LOCK}), but is another now; `dvc repro` runs it again")
        for place, digest in made.deps.items():
            if place in makers:
                if digest != lock[makers[place]].outs[place]:
                    raise UserError(f"{place}: another than the one {name} read ({LOCK}); `dvc repro` runs it again")
                if makers[place] not in above:
                    above.append(makers[place])


def _is_of(command: object, template: str, params: dict) -> bool:
    """Whether DVC makes `command` of `template` with these texts among `params`, and any values of its other names."""
    parts = re.split(r"\$\{([^}]*)\}", template)  # every second one is a name
    for index, name in enumerate(parts):
        text = params.get(name) if index % 2 else name
        parts[index] = re.escape(text) if isinstance(text, str) else ".*"
    return isinstance(command, str) and re.fullmatch("".join(parts), command, re.DOTALL) is not None


def md5(place: str | Path) -> str:
    """As dvc.lock has it: of a file its MD5 sum, of a folder that of a list of its files' in JSON, and `.dir`."""
    if not Path(place).is_dir():
        return _md5(Path(place).read_bytes()) if Path(place).exists() else ""
    files = [
        {"md5": _md5(file.read_bytes()), "relpath": file.relative_to(place).as_posix()} for file in files_in(place)
    ]
    return _md5(json.dumps(sorted(files, key=lambda file: file["relpath"]), sort_keys=True).encode()) + ".dir"


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
