"""Checkpoints: resume an interrupted training from its last one, with the same result as without the interruption.

A checkpoint belongs to one training. Its name is a hash of everything that decides the result: the parameters, code
and data that dvc.yaml lists for train, torch's version and the device. Any other training starts from the beginning.
Checkpoints are in the main repository, because DVC deletes a stage's outputs before it runs, and an experiment's
folder after it. They are safetensors files, so reading one never runs code.
"""

import hashlib
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from cvae.pipeline.dvc_yaml import fingerprint, stage
from cvae.pipeline.repository import main_repository
from cvae.support.errors import UserError
from cvae.support.files import write_whole

FOLDER = "checkpoints"  # in the main repository, and ignored by git
SHARE = 0.02  # largest share of the training time to spend on writing checkpoints
FIRST_COST = 0.1  # seconds: estimate for writing the first one, plus its size / RATE; later ones use measured times
RATE = 100e6  # bytes per second
ABANDONED = 30 * 24 * 3600  # seconds after which an unused checkpoint is deleted
DIGEST = 32  # bytes at the start of the file: the SHA-256 of the rest

Row = dict[str, float]


@dataclass
class Progress:
    """The progress of a training; empty at the start.

    `state`: from `Training.state()`. `rows`: the figures of each epoch so far. `seconds`: the time these epochs took.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0


def checkpoint_key(params: dict, device: str) -> str:
    """Return a hash of all that decides the result of training with `params` on `device` (from `devices.describe`)."""
    described = stage("train")
    facts = {
        "params": {name: params[name] for name in described["params"]},
        "torch": torch.__version__,
        "device": device,
        "processor": torch.backends.cpu.get_cpu_capability(),
    }
    return fingerprint(facts, described["deps"])


class Checkpoint:
    """The checkpoint of the training with this `key`. Use as a context manager; deleted on success."""

    def __init__(self, key: str):
        self.key = key
        self.path = main_repository() / FOLDER / f"{key}.safetensors"
        self._written_at = time.perf_counter()
        self._cost = FIRST_COST
        self._has_failed = False

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.remove()
        elif issubclass(kind, KeyboardInterrupt) and self.path.exists():
            print(f"Interrupted: the same training goes on from {self.shown}", flush=True)

    @property
    def shown(self) -> str:
        """Return its path relative to the repository's root."""
        return f"{FOLDER}/{self.path.name}"

    def load(self, fresh: dict[str, Tensor]) -> Progress:
        """Return saved progress, or an empty `Progress`. `fresh`, the initial state, supplies the expected shapes.

        A checkpoint that is damaged or belongs to another training is reported in one line and deleted.
        """
        self._cost += sum(tensor.nbytes for tensor in fresh.values()) / RATE
        self._tidy()
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            self._mention_others()
            return Progress()
        except OSError as error:
            self._warn(f"cannot be read ({error.strerror})", "training starts from the beginning")
            return Progress()
        try:
            return _decode(content, self.key, fresh)
        except ValueError as error:
            self._warn(str(error), "it is deleted, and training starts from the beginning")
            self.remove()
            return Progress()

    def is_due(self) -> bool:
        """Return whether enough time has passed since the last one that another stays within `SHARE`."""
        return not self._has_failed and time.perf_counter() - self._written_at >= self._cost / SHARE

    def write(self, progress: Progress) -> None:
        """Replace the checkpoint by `progress`. A crash leaves the old one or the new one; failure prints one line."""
        now = time.perf_counter()
        try:
            write_whole({self.path: _encode(self.key, progress)}, synced=True)
        except UserError as error:
            self._has_failed = True
            print(f"train: {error}; training goes on without checkpoints", file=sys.stderr, flush=True)
        self._written_at = time.perf_counter()
        self._cost = max(self._cost, self._written_at - now)

    def remove(self) -> None:
        """Delete the checkpoint, and its folder if that is empty."""
        try:
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()
        except OSError:  # the folder holds other trainings' checkpoints
            pass

    def _tidy(self) -> None:
        """Delete partial files that a killed process of this training left, and abandoned checkpoints."""
        folder, old = self.path.parent, time.time() - ABANDONED
        for file in folder.glob("*"):
            try:
                if file.name == f"{self.path.name}.part" or file.stat().st_mtime < old:
                    file.unlink()
            except OSError:  # another process deleted it first
                pass

    def _mention_others(self) -> None:
        """Say so if only other trainings have checkpoints; not in a queue, where they belong to other workers."""
        if Path.cwd() == main_repository() and any(self.path.parent.glob("*.safetensors")):
            print(f"{FOLDER}/ is of other parameters, code or data: training starts from the beginning", flush=True)

    def _warn(self, what: str, outcome: str) -> None:
        print(f"train: {self.shown}: {what}; {outcome}", file=sys.stderr, flush=True)


def _encode(key: str, progress: Progress) -> bytes:
    from safetensors.torch import save

    about = {"key": key, "rows": progress.rows, "seconds": progress.seconds}
    tensors = {f"state/{name}": tensor.cpu().contiguous() for name, tensor in progress.state.items()}
    tensors["about"] = torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)
    content = save(tensors)
    return hashlib.sha256(content).digest() + content


def _decode(content: bytes, key: str, fresh: dict[str, Tensor]) -> Progress:
    """Return the progress in `content`, or raise a `ValueError` that says why it is unusable."""
    from safetensors.torch import load

    digest, content = content[:DIGEST], content[DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("damaged")
    try:
        tensors = load(content)
        about = json.loads(tensors.pop("about").numpy().tobytes())
        found, rows, seconds = (about[name] for name in ("key", "rows", "seconds"))
    except Exception:  # the digest is right, so the file is complete but in another format
        raise ValueError("not a checkpoint") from None
    state = {name.removeprefix("state/"): tensor for name, tensor in tensors.items()}
    if found != key or _shapes(state) != _shapes(fresh):
        raise ValueError("of another training")
    return Progress(state, rows, seconds)


def _shapes(state: dict[str, Tensor]) -> dict:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}
