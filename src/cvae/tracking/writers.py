"""Find out whether the process that writes to a run is still alive.

A writer holds a lock on its own file and names that file in a tag of the run. The system releases the lock when the
writer dies, for whatever reason: a signal, the end of its container, a crash of the machine. So a free lock proves that
the writer is dead, if the lock was taken under this kernel or on this machine. Host names and process ids prove
nothing: two containers may share them. A run is left alone if its writer's file is not here (it works in another clone)
or belongs to another machine (a network file system may not pass on its locks).
"""

import hashlib
import uuid
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "writer."  # of the tag for each writer: its file's name follows, and the value is what `_identity` returns
BOOT, MACHINE = Path("/proc/sys/kernel/random/boot_id"), Path("/etc/machine-id")
DELETED = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")  # MLflow's errors if another process deleted the run


class Writer:
    """This process as a writer of runs. Use as a context manager.

    `folder` holds the lock files. If it is not writable, other processes cannot find out whether this writer is dead.
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
            if not self._runs:  # otherwise the file must stay, as proof that the writer of those runs is dead
                self._file.unlink(missing_ok=True)

    @property
    def tags(self) -> dict[str, str]:
        """The tag for a run that this process is about to write to. Reading it takes the lock."""
        if not self._tags:
            identity = ""
            with suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                self._lock.acquire()
                identity = " ".join(_identity(self._file))
            self._tags = {f"{PREFIX}{self._file.name}": identity}
        return self._tags

    def add(self, run_id: str) -> None:
        """Register a run that was created with `tags`."""
        self._runs.add(run_id)

    def claim(self, client, run_id: str, unless: str = ""):
        """Become the only writer of a run that has ended. Return the run, or None if another may still write to it.

        Also return None if the run has the tag `unless`, because another process was faster.

        Sets its own tag before it reads the others. If two processes try at once, at least one sees the other and
        withdraws. They only need to share the store, not a lock.
        """
        from mlflow.exceptions import MlflowException

        try:
            self._runs.add(run_id)
            for name, value in self.tags.items():
                client.set_tag(run_id, name, value)
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in DELETED:
                raise
            self._runs.discard(run_id)
            return None
        others = {name: identity for name, identity in writers_of(run).items() if name not in self.tags}
        is_free = run.info.status != "RUNNING" and unless not in run.data.tags
        if not is_free or not all(_is_dead(self._folder, *each) for each in others.items()):
            self.release(client, run_id)
            return None
        remove_writers(client, self._folder, run_id, others)
        return run

    def release(self, client, run_id: str) -> None:
        """Stop writing to the run, and remove this writer's tag from it."""
        remove_tags(client, run_id, self.tags)
        self._runs.discard(run_id)

    def delete(self, client, run_id: str, unless: str) -> None:
        """Delete a run that can be claimed."""
        if self.claim(client, run_id, unless):
            client.delete_run(run_id)
            self._runs.discard(run_id)


def writers_of(run) -> dict[str, str]:
    """Return the tags of the processes that write to `run` or died while they did."""
    return {name: value for name, value in run.data.tags.items() if name.startswith(PREFIX)}


def remove_tags(client, run_id: str, names) -> None:
    """Remove these tags from the run. Tags that are already gone are no error."""
    from mlflow.exceptions import MlflowException

    for name in names:
        try:
            client.delete_tag(run_id, name)
        except MlflowException as error:
            if error.error_code not in DELETED:
                raise


def remove_writers(client, folder: Path, run_id: str, names) -> None:
    """Remove the tags of dead writers and their lock files."""
    remove_tags(client, run_id, names)
    for name in names:
        (folder / name.removeprefix(PREFIX)).unlink(missing_ok=True)


def is_abandoned(folder: Path, run) -> bool:
    """Whether every writer of `run` is provably dead. A run that names no writer is not abandoned."""
    writers = writers_of(run)
    return bool(writers) and all(_is_dead(folder, *each) for each in writers.items())


def _is_dead(folder: Path, tag: str, identity: str) -> bool:
    file = folder / tag.removeprefix(PREFIX)
    try:
        inode, *places = _identity(file)
        if [inode] != identity.split()[:1] or not set(places) & set(identity.split()[1:]):
            return False
        with _lock(file):
            return True
    except (OSError, Timeout):
        return False


def _identity(file: Path) -> list[str]:
    """Return what distinguishes `file` from a copy, followed by what identifies this kernel and this machine."""
    parts = [f"inode:{file.stat().st_ino}"]
    with suppress(OSError):
        parts.append(f"boot:{BOOT.read_text().strip()}")
    try:
        machine = MACHINE.read_text().strip()
    except OSError:  # not Linux
        machine = "" if BOOT.exists() else str(uuid.getnode())
    if machine:  # hashed, because machine-id(5) says to keep it secret
        parts.append(f"machine:{hashlib.sha256(machine.encode()).hexdigest()[:16]}")
    return parts


def _lock(file: Path) -> FileLock:
    """Return a lock that the system holds. If the file system has no locks, taking it raises an OSError.

    filelock would otherwise fall back to a file's existence, which outlives the process.
    """
    return FileLock(file, blocking=False, fallback_to_soft=False)
