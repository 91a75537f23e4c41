"""Which process writes to a run, and whether it still lives.

A writer holds a lock on a file of its own, and names that file in a tag of the run. The system releases the lock when
the writer dies, whatever kills it: a signal, its container, a crash of the machine. So a lock that is free proves that
the writer is gone, to the kernel that kept it and to the same machine after a reboot. Host names and process ids prove
nothing: two containers may share them. Where the file is not here, since the writer works in another clone, or is of
another machine, whose locks a network's file system may not pass on, the run is left alone.
"""

import hashlib
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "writer."  # of a tag for each process that writes to a run: its file's name; the value is what `_mark` returns
BOOT, MACHINE = Path("/proc/sys/kernel/random/boot_id"), Path("/etc/machine-id")
GONE = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")  # MLflow's answers about what was deleted meanwhile


class Writer:
    """This process, as a writer of one run at a time; use as a context manager.

    `folder`: of the lock files. Where it takes none, nobody will be able to tell that this writer has died.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._file = folder / uuid.uuid4().hex
        self._lock = _lock(self._file)
        self._runs: set[str] = set()
        self._tags: dict[str, str] = {}

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_) -> None:
        with suppress(OSError):
            self._lock.release()
            if not self._runs:  # else the file is the proof that their writer has gone
                self._file.unlink(missing_ok=True)

    @property
    def tags(self) -> dict[str, str]:
        """The tag for a run that this process is about to write to; the lock is held from now on."""
        if not self._tags:
            mark = ""
            with suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                self._lock.acquire()
                mark = " ".join(_mark(self._file))
            self._tags = {f"{PREFIX}{self._file.name}": mark}
        return self._tags

    def started(self, run):
        """Note a run that was created with `tags`; returns it."""
        self._runs.add(run.info.run_id)
        return run

    def take(self, client, run_id: str):
        """Become the only writer of a run that has ended; returns it, or None if another may still write to it.

        A tag is set before the others are read: of two processes that try at once, one at least sees the other, and
        withdraws. They need not share a lock, only the store.
        """
        from mlflow.exceptions import MlflowException

        try:
            self._runs.add(run_id)
            for name, value in self.tags.items():
                client.set_tag(run_id, name, value)
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in GONE:
                raise
            self._runs.discard(run_id)
            return None
        others = {name: mark for name, mark in writers_of(run).items() if name not in self.tags}
        if run.info.status == "RUNNING" or not all(_is_gone(self._folder, *each) for each in others.items()):
            self.leave(client, run_id)
            return None
        bury(client, self._folder, run_id, others)
        return run

    def leave(self, client, run_id: str) -> None:
        """Say that this process writes to the run no more."""
        untag(client, run_id, self.tags)
        self._runs.discard(run_id)

    def delete(self, client, run_id: str) -> None:
        """Delete a run, unless another process may still write to it."""
        if self.take(client, run_id):
            client.delete_run(run_id)
            self._runs.discard(run_id)


def writers_of(run) -> dict[str, str]:
    """The tags of the processes that write to `run`, or died over it."""
    return {name: value for name, value in run.data.tags.items() if name.startswith(PREFIX)}


def untag(client, run_id: str, names) -> None:
    """Remove these tags, as far as they are there."""
    from mlflow.exceptions import MlflowException

    for name in names:
        try:
            client.delete_tag(run_id, name)
        except MlflowException as error:
            if error.error_code not in GONE:
                raise


def bury(client, folder: Path, run_id: str, names) -> None:
    """Remove the tags of writers that have gone, and the files that proved it."""
    untag(client, run_id, names)
    for name in names:
        (folder / name.removeprefix(PREFIX)).unlink(missing_ok=True)


def is_abandoned(folder: Path, run) -> bool:
    """Whether every process that wrote to `run` has provably gone; not if it names none."""
    writers = writers_of(run)
    return bool(writers) and all(_is_gone(folder, *each) for each in writers.items())


def _is_gone(folder: Path, tag: str, mark: str) -> bool:
    name = tag.removeprefix(PREFIX)
    if not re.fullmatch("[0-9a-f]{32}", name):  # a store may say anything
        return False
    try:
        inode, *places = _mark(folder / name)
        if [inode] != mark.split()[:1] or not set(places) & set(mark.split()[1:]):
            return False
        with _lock(folder / name):
            return True
    except (OSError, Timeout):
        return False


def _mark(file: Path) -> list[str]:
    """What tells `file` from a copy of it, and this kernel and this machine, as far as they are known, from others."""
    marks = [f"inode:{file.stat().st_ino}"]
    with suppress(OSError):
        marks.append(f"boot:{BOOT.read_text().strip()}")
    try:
        machine = MACHINE.read_text().strip()
    except OSError:  # outside Linux
        machine = "" if BOOT.exists() else str(uuid.getnode())
    if machine:  # its own manual asks to keep it secret
        marks.append(f"machine:{hashlib.sha256(machine.encode()).hexdigest()[:16]}")
    return marks


def _lock(file: str | os.PathLike) -> FileLock:
    """A lock that the system keeps, or an OSError where it keeps none: a file's existence would outlive its maker."""
    return FileLock(file, blocking=False, fallback_to_soft=False)
