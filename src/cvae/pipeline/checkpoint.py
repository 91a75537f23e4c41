"""Checkpoints: an interrupted training resumes from its last one, and its result is the same as without interruption.

Training writes one a minute. Set CHECKPOINT_SECONDS to change that, for instance on a machine that may be taken away
at short notice: `CHECKPOINT_SECONDS=5 dvc repro`.

A checkpoint belongs to one training. Its name is a hash of everything that decides the result: the parameters, code
and data that dvc.yaml lists for train, torch's version and the device. Any other training starts from the beginning.
Checkpoints are in the main repository, because DVC deletes a stage's outputs before it runs, and an experiment's
folder after it. They are safetensors files, so reading one never runs code.
"""

import hashlib
import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from cvae.pipeline.dvc_yaml import fingerprint, paths, stage
from cvae.pipeline.repository import main_repository
from cvae.support.errors import UserError
from cvae.support.files import write_whole

FOLDER = "checkpoints"  # in the main repository, and ignored by git
INTERVAL = 60  # seconds between checkpoints, unless CHECKPOINT_SECONDS is set
ABANDONED = 30 * 24 * 3600  # seconds after which an unused checkpoint is deleted
DIGEST = 32  # bytes at the start of the file: the SHA-256 of the rest

Row = dict[str, float]


@dataclass
class Progress:
    """The progress of a training; empty at the start.

    `state`: from `Training.state()`. `rows`: the figures of each epoch so far. `seconds`: the time these epochs took.
    `snapshots`: the images of `Snapshots`, or None.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    snapshots: Tensor | None = None


def checkpoint_key(params: dict, device: str) -> str:
    """Return a hash of all that decides the result of training with `params` on `device` (from `devices.describe`)."""
    described = stage("train")
    facts = {
        "params": {name: params[name] for name in described["params"]},
        "torch": torch.__version__,
        "device": device,
        "processor": torch.backends.cpu.get_cpu_capability(),
    }
    return fingerprint(facts, paths(described, "deps"))


class Checkpoint:
    """The checkpoint of the training with this `key`. Use as a context manager; deleted on success.

    Raises:
        UserError: CHECKPOINT_SECONDS is not a number.
    """

    def __init__(self, key: str):
        self.key = key
        self.path = main_repository() / FOLDER / f"{key}.safetensors"
        self._interval = _interval()
        self._written_at = time.monotonic()
        self._has_failed = False

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.remove()
        elif issubclass(kind, KeyboardInterrupt) and self.path.exists():
            print(f"Interrupted; the same training will resume from {self.shown}", flush=True)

    @property
    def shown(self) -> str:
        """Return its path relative to the repository's root."""
        return f"{FOLDER}/{self.path.name}"

    def load(self) -> Progress:
        """Return saved progress, or an empty `Progress`. A damaged checkpoint is reported in one line and deleted."""
        self._delete_abandoned()
        if not self.path.exists():
            self._mention_others()
            return Progress()
        try:
            return decode(self.path.read_bytes())
        except ValueError as error:
            outcome = "deleted it, starting from the beginning"
            print(f"train: {self.shown}: {error}; {outcome}", file=sys.stderr, flush=True)
            self.remove()
            return Progress()

    def is_due(self) -> bool:
        """Return whether to write one now: the interval has passed since the start or the last one."""
        return not self._has_failed and time.monotonic() - self._written_at >= self._interval

    def write(self, progress: Progress) -> None:
        """Replace the checkpoint by `progress`. A crash leaves the old one or the new one; failure prints one line."""
        try:
            write_whole({self.path: encode(progress)}, synced=True)
        except UserError as error:
            self._has_failed = True
            print(f"train: {error}; training goes on without checkpoints", file=sys.stderr, flush=True)
        self._written_at = time.monotonic()

    def remove(self) -> None:
        """Delete the checkpoint, with what a killed process left of the next one, and the folder if it is empty."""
        with suppress(OSError):  # the folder is missing, or holds other trainings' checkpoints
            for file in (self.path, Path(f"{self.path}.part")):
                file.unlink(missing_ok=True)
            self.path.parent.rmdir()

    def _delete_abandoned(self) -> None:
        """Delete checkpoints that no training has resumed for a month."""
        for file in self.path.parent.glob("*"):
            with suppress(OSError):  # another process deleted it first
                if file.stat().st_mtime < time.time() - ABANDONED:
                    file.unlink()

    def _mention_others(self) -> None:
        """Say so if only other trainings have checkpoints; not in a queue, where they belong to other workers."""
        if Path.cwd() == main_repository() and any(self.path.parent.glob("*.safetensors")):
            print(f"{FOLDER}/ has none of these parameters, code and data; starting from the beginning", flush=True)


def _interval() -> float:
    chosen = os.environ.get("CHECKPOINT_SECONDS") or INTERVAL
    try:
        seconds = float(chosen)
        if not seconds >= 0:
            raise ValueError
        return seconds
    except ValueError:
        raise UserError(f"CHECKPOINT_SECONDS={chosen} is not a number; correct or unset it") from None


def encode(progress: Progress) -> bytes:
    """Return the content of a checkpoint file."""
    from safetensors.torch import save

    about = {"rows": progress.rows, "seconds": progress.seconds}
    tensors = {f"state/{name}": tensor.cpu().contiguous() for name, tensor in progress.state.items()}
    if progress.snapshots is not None:
        tensors["snapshots"] = progress.snapshots
    tensors["about"] = torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)
    content = save(tensors)
    return hashlib.sha256(content).digest() + content


def decode(content: bytes) -> Progress:
    """Return the progress in the content of a checkpoint file; raise a `ValueError` if it is damaged."""
    from safetensors.torch import load

    digest, content = content[:DIGEST], content[DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("damaged")
    tensors = load(content)
    about, snapshots = json.loads(tensors.pop("about").numpy().tobytes()), tensors.pop("snapshots", None)
    state = {name.removeprefix("state/"): tensor for name, tensor in tensors.items()}
    return Progress(state, about["rows"], about["seconds"], snapshots)
