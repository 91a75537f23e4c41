"""A real git and DVC repository of the project, small enough to run: `digits`, two epochs, one thread."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from filelock import FileLock

from helpers.processes import environment, kill_group, wait_for

PROJECT = Path(__file__).resolve().parents[2]


RESULTS = ("dvc.lock", "metrics/*", "plots/*.csv", "plots/*.png")  # in git, and not to be depended on


STORE = ("mlflow.db*", "mlartifacts", "tracked.json")  # what a clone does not have


def stages_run(output: str) -> list[str]:
    """The stages that DVC ran, by what it printed; not those whose results it had."""
    return re.findall(r"Running stage '(\w+)'", output)


@dataclass(frozen=True)
class Repository:
    """The git and DVC repository at `root`, to run commands in and to read back."""

    root: Path

    def run(self, *command: str, status: int = 0, **variables: str) -> subprocess.CompletedProcess:
        done = subprocess.run(command, cwd=self.root, env=environment(**variables), capture_output=True, text=True)
        assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def dvc(self, *arguments: str) -> str:
        """Run DVC; returns what it and its stages wrote to stdout. Tests that run at once take turns."""
        with FileLock(self.root.with_name("dvc.lock")):
            return self.run(sys.executable, "-m", "dvc", *arguments).stdout

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).stdout

    def set(self, **parameters: object) -> None:
        """Edit params.yaml as a person does."""
        path = self.root / "params.yaml"
        text = path.read_text()
        for key, value in parameters.items():
            text, found = re.subn(rf"^{key}: *\S+", f"{key}: {value}", text, flags=re.MULTILINE)
            assert found == 1, key
        path.write_text(text)

    def restore(self) -> None:
        """Put the workspace back to what git and DVC hold."""
        self.git("checkout", "--", ".")
        self.dvc("checkout")

    def copy(self, root: Path, *without: str) -> "Repository":
        """Copy as a clone is: with git's and DVC's store, not MLflow's, whose artifacts stay at absolute paths."""
        shutil.copytree(self.root, root, ignore=shutil.ignore_patterns(*STORE, *without), symlinks=True)
        return Repository(root)

    def receipt(self) -> dict[str, str]:
        """What track left for DVC."""
        return json.loads((self.root / "data/tracked.json").read_text())

    @property
    def client(self):
        from mlflow import MlflowClient

        return MlflowClient(f"sqlite:///{self.root / 'mlflow.db'}")

    def runs(self) -> list:
        """Every MLflow run of the repository's own store that is not deleted, the oldest first."""
        experiment = self.client.get_experiment_by_name("cvae")
        if experiment is None:
            return []
        return self.client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


def write_checkpoints_after_every_epoch(repository: Repository) -> None:
    """Let a training of a second be gone on with too: checkpoints may take as long as they like."""
    source = repository.root / "src/cvae/pipeline/checkpoint.py"
    text, found = re.subn(r"^SHARE = .*$", "SHARE = 1e9", source.read_text(), flags=re.MULTILINE)
    assert found == 1
    source.write_text(text)


@contextmanager
def started(repository: Repository, *arguments: str, **variables: str):
    """DVC in a process group of its own, killed at the end if it still runs; it prints to .dvc/tmp/printed.log."""
    with open(repository.root / ".dvc" / "tmp" / "printed.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=repository.root,
            env=environment(**variables),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            kill_group(process)


def made_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name`, which `make` fills; of pytest-xdist's workers the first makes it, and the others wait."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, done = base / name, base / f"{name}.made"
    with FileLock(base / f"{name}.lock"):
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def make_repository(folder: Path) -> None:
    repository = Repository(folder / "cvae")
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        if (PROJECT / name).is_file() and not any(fnmatch(name, pattern) for pattern in RESULTS):
            target = repository.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, target)
    repository.set(dataset="digits", epochs=2, nll_samples=50, threads=1)
    repository.git("init", "--quiet")
    repository.git("config", "user.name", "Test")
    repository.git("config", "user.email", "test@example.org")
    repository.dvc("repro")
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "--message", "Run on digits")


def interrupt(clone: Repository, number: int, launcher: tuple[str, ...] = (sys.executable,)) -> int:
    """Start train, and send it signal `number` once it has written a checkpoint; returns how many epochs that has."""
    log = clone.root / ".dvc/tmp/train.log"
    with open(log, "w") as file:
        process = subprocess.Popen(
            [*launcher, "-m", "stages.train"],
            cwd=clone.root,
            env=environment(),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        wait_for(lambda: log.read_text().count("\nepoch ") >= 5)
        os.killpg(process.pid, number)
        assert process.wait(60) != 0
    finally:
        kill_group(process)
    from safetensors.torch import load

    from cvae.pipeline import checkpoint

    (kept,) = (clone.root / "checkpoints").glob("*.safetensors")
    tensors = load(kept.read_bytes()[checkpoint.DIGEST :])
    return int(tensors["state/epoch"])
