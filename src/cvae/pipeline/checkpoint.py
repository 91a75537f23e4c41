"""Checkpoints: an interrupted training goes on from its last one, and ends as if it had never been interrupted.

A checkpoint belongs to one training: its name is a hash of all that decides the result, which are the parameters, the
code and the data that dvc.yaml says train reads, torch and the device. Any other training starts from the beginning.
They lie in the main repository, because DVC deletes a stage's outputs before it runs, and the whole folder of an
experiment after it. They are safetensors, so that reading one runs nothing.
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
SHARE = 0.02  # of the time of a training that writing checkpoints may take
FIRST_COST = 0.1  # seconds that the first one is taken to need, and more by its size; later ones go by what it needed
RATE = 100e6  # bytes a second
ABANDONED = 30 * 24 * 3600  # seconds after which a checkpoint that nobody went on from is deleted
DIGEST = 32  # bytes of SHA-256 at the start of the file, of all that follows

Row = dict[str, float]


@dataclass
class Progress:
    """How far a training is. `state`: `Training.state()`, or nothing at the start. `rows`: of its epochs so far.

    `seconds`: that they took.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0


def checkpoint_key(params: dict, device: str) -> str:
    """Of everything that decides what training with `params` makes on `device`, as `devices.describe` has it."""
    described = stage("train")
    facts = {
        "params": {name: params[name] for name in described["params"]},
        "torch": torch.__version__,
        "device": device,
        "processor": torch.backends.cpu.get_cpu_capability(),
    }
    return fingerprint(facts, described["deps"])


class Checkpoint:
    """The checkpoint of the training with this `key`; `with` one the training goes on, and its success removes it."""

    def __init__(self, key: str):
        self.key = key
        self.path = main_repository() / FOLDER / f"{key}.safetensors"
        self._written_at = time.perf_counter()
        self._cost = FIRST_COST
        self._is_refused = False

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.remove()
        elif issubclass(kind, KeyboardInterrupt) and self.path.exists():
            print(f"Interrupted: the same training goes on from {self.shown}", flush=True)

    @property
    def shown(self) -> str:
        """Its path from the root of the repository."""
        return f"{FOLDER}/{self.path.name}"

    def load(self, fresh: dict[str, Tensor]) -> Progress:
        """How far the training was, or none of it; `fresh` is its state at the start, whose shapes are the right ones.

        A checkpoint that is damaged, or of another training, is told in a line and deleted.
        """
        self._cost += sum(tensor.nbytes for tensor in fresh.values()) / RATE
        self._tidy()
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            self._tell_of_others()
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
        """Whether so much time has passed since the last one that another takes no more than its share."""
        return not self._is_refused and time.perf_counter() - self._written_at >= self._cost / SHARE

    def write(self, progress: Progress) -> None:
        """Replace it by one of `progress`; a crash leaves the one or the other. Where that fails, one line says so."""
        now = time.perf_counter()
        try:
            write_whole({self.path: _encode(self.key, progress)}, synced=True)
        except UserError as error:
            self._is_refused = True
            print(f"train: {error}; training goes on without checkpoints", file=sys.stderr, flush=True)
        self._written_at = time.perf_counter()
        self._cost = max(self._cost, self._written_at - now)

    def remove(self) -> None:
        """Delete it, and the folder if it held nothing else."""
        try:
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()
        except OSError:  # other trainings' checkpoints are there
            pass

    def _tidy(self) -> None:
        """Delete what a killed process of this training left half-written, and what nobody came back for."""
        folder, old = self.path.parent, time.time() - ABANDONED
        for file in folder.glob("*"):
            try:
                if file.name == f"{self.path.name}.part" or file.stat().st_mtime < old:
                    file.unlink()
            except OSError:  # another process was first
                pass

    def _tell_of_others(self) -> None:
        """Say so if an interrupted training cannot be gone on with; not in a queue, whose workers have theirs there."""
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
    """Raises a `ValueError` that says why `content` is of no use."""
    from safetensors.torch import load

    digest, content = content[:DIGEST], content[DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("damaged")
    try:
        tensors = load(content)
        about = json.loads(tensors.pop("about").numpy().tobytes())
        found, rows, seconds = (about[name] for name in ("key", "rows", "seconds"))
    except Exception:  # the digest is right, so it is whole, but of some other make
        raise ValueError("not a checkpoint") from None
    state = {name.removeprefix("state/"): tensor for name, tensor in tensors.items()}
    if found != key or _shapes(state) != _shapes(fresh):
        raise ValueError("of another training")
    return Progress(state, rows, seconds)


def _shapes(state: dict[str, Tensor]) -> dict:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}
