"""Disks that are full or read-only, for real: mounted in a mount namespace of its own, which ends with the command."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Repository, environment

RESULTS = ("data", "metrics", "plots", "dvc.lock")
NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
# Copy $SOURCE onto a disk of its own, of which FREE kB are left; run the command there, and once more with more space.
# Everything is read back from $BACK, since the disk is gone when this ends.
ON_A_DISK = """
set -e
report() { mkdir "$BACK/$1"; cp -a $RESULTS "$BACK/$1"; }
mount -t tmpfs -o size=64m disk "$PLACE"
cp -a "$SOURCE/." "$PLACE"
cd "$PLACE"
eval "$BEFORE"
report before
head -c $(($(df -k --output=avail . | tail -1) - FREE))k /dev/zero > filler
"$@" > "$BACK/full.out" 2> "$BACK/full.err" && echo 0 > "$BACK/full.status" || echo $? > "$BACK/full.status"
report full
rm filler
eval "$AFTER"
${AGAIN:-"$@"} > "$BACK/again.out" 2> "$BACK/again.err" && echo 0 > "$BACK/again.status" || echo $? > "$BACK/again.status"
report again
"""
# Run the command in $SOURCE while its folder $PLACE can only be read.
READ_ONLY = """
set -e
cd "$SOURCE"
mount --bind "$PLACE" "$PLACE"
mount -o remount,bind,ro "$PLACE"
exec "$@"
"""
ADVICE = {
    "No space left on device": "free some space, then run it again",
    "Read-only file system": "mount it for writing, then run it again",
}


@pytest.fixture(scope="session")
def namespace() -> list[str]:
    """The command that runs another where it may mount."""
    trial = [*NAMESPACE, "sh", "-c", "mount -t tmpfs disk /mnt"]
    if subprocess.run(trial, capture_output=True).returncode:
        outcome = pytest.fail if os.environ.get("CI") else pytest.skip
        outcome("this machine lets nobody mount a disk, not even in a namespace")
    return NAMESPACE


@pytest.fixture(scope="module")
def made(repository, empty_database, tmp_path_factory) -> Repository:
    """The repository without git's and DVC's store, with an empty store of MLflow; not to be changed."""
    made = repository.copy(tmp_path_factory.mktemp("made") / "cvae", ".git", "cache", "__pycache__")
    shutil.copy(empty_database, made.root / "mlflow.db")
    return made


@dataclass(frozen=True)
class Outcome:
    """What the same command did on a full disk, and again when there was space."""

    back: Path

    def status(self, when: str) -> int:
        return int((self.back / f"{when}.status").read_text())

    def lines(self, when: str) -> list[str]:
        return (self.back / f"{when}.err").read_text().splitlines()

    def results(self, when: str) -> dict[str, bytes]:
        root = self.back / when
        return {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.fixture
def on_a_disk(namespace, tmp_path):
    """Run a command in a copy of a repository, on a disk with `free` kB left; `before`, and `after` that, shell code."""

    def run(repository: Repository, free: int, *command: str, before="", after="", again="") -> Outcome:
        back, place = tmp_path / "back", tmp_path / "disk"
        back.mkdir()
        place.mkdir()
        variables = environment(
            SOURCE=str(repository.root),
            PLACE=str(place),
            BACK=str(back),
            RESULTS=" ".join(RESULTS),
            FREE=str(free),
            BEFORE=before,
            AFTER=after,
            AGAIN=again,
            PYTHONDONTWRITEBYTECODE="1",
        )
        subprocess.run([*namespace, "sh", "-c", ON_A_DISK, "sh", *command], env=variables, check=True)
        assert list(place.iterdir()) == [], "the disk is gone with its namespace"
        return Outcome(back)

    return run


# What is left of the disk, in kB, and the file that does not fit. A file that is written anew takes new space.
CASES = [
    pytest.param("download", 0, "data/raw/train-images-idx3-ubyte.gz"),
    pytest.param("download", 300, "data/raw/t10k-images-idx3-ubyte.gz", marks=pytest.mark.long),
    pytest.param("train", 0, "data/model/model.safetensors", marks=pytest.mark.long),
    pytest.param("evaluate", 8, "metrics/per_latent.csv"),
    pytest.param("evaluate", 0, "metrics/test.json", marks=pytest.mark.long),
    pytest.param("embed", 40, "data/latents.parquet"),
    pytest.param("embed", 0, "data/latents.parquet", marks=pytest.mark.long),
    pytest.param("render", 0, "plots/latents.png"),
    pytest.param("render", 60, "plots/latents/", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("stage", "free", "file"), CASES)
def test_a_stage_on_a_full_disk_leaves_everything_as_it_was_and_works_when_there_is_space(
    made, on_a_disk, stage, free, file
):
    done = on_a_disk(made, free, sys.executable, "-m", f"stages.{stage}")
    assert done.status("full") == 1
    told = done.lines("full")
    if stage == "train":  # whose live run could not be written either
        assert "training goes on" in told.pop(0)
    assert len(told) == 1
    assert told[0].startswith(f"{stage}: {file}")
    assert told[0].endswith(": No space left on device; free some space, then run it again")
    assert done.results("full") == done.results("before")
    assert done.status("again") == 0, done.lines("again")
    assert done.results("again") == done.results("before")
