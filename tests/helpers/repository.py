"""A real git and DVC repository of the project that runs quickly: `digits`, two epochs, one thread.

It has the project's code as it stands, but neither your params.yaml nor your images, so that tests pass whatever these
are.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock

from cvae.pipeline.parameters import Parameters
from helpers.processes import environment, kill_group, wait_for

PROJECT = Path(__file__).resolve().parents[2]
# What git knows of the project, without its results: folders, some files, and all files at the top except two kinds.
CODE = (".dvc", "src", "stages", "tests", "benchmarks", "docs/slurm", "data/.gitignore", "plots/.gitignore")
CODE += (":(glob)*", ":(exclude)dvc.lock", ":(exclude)*.dvc")
QUICK = {"dataset": "digits", "epochs": 2, "nll_samples": 50, "threads": 1}
STORE = ("mlflow.db*", "mlartifacts", "tracked.json")  # not in a clone


def stages_run(output: str) -> list[str]:
    """Return the stages that DVC ran, according to its output. Stages that it took from its cache do not count."""
    return re.findall(r"Running stage '(\w+)'", output)


@dataclass(frozen=True)
class Repository:
    """The git and DVC repository at `root`: run commands in it, and read what they left."""

    root: Path

    def run(self, *command: str, status: int = 0, **variables: str) -> subprocess.CompletedProcess:
        done = subprocess.run(command, cwd=self.root, env=environment(**variables), capture_output=True, text=True)
        assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def dvc(self, *arguments: str) -> str:
        """Run DVC and return its stdout, with that of its stages. Tests that run in parallel take turns."""
        with FileLock(self.root.with_name("dvc.lock")):
            return self.run(sys.executable, "-m", "dvc", *arguments).stdout

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).stdout

    def set(self, **parameters: object) -> None:
        """Edit params.yaml as a person would."""
        path = self.root / "params.yaml"
        text = path.read_text()
        for key, value in parameters.items():
            text, found = re.subn(rf"^{key}: *\S+", f"{key}: {value}", text, flags=re.MULTILINE)
            assert found == 1, key
        path.write_text(text)

    def restore(self) -> None:
        """Reset the workspace to the last commit, with its results."""
        self.git("checkout", "--", ".")
        self.dvc("checkout")

    def copy(self, root: Path, *without: str) -> "Repository":
        """Copy all but `without` and MLflow's store, which holds absolute paths."""
        shutil.copytree(self.root, root, ignore=shutil.ignore_patterns(*STORE, *without), symlinks=True)
        return Repository(root)

    def receipt(self) -> dict[str, str]:
        """Return the receipt that track left."""
        return json.loads((self.root / "data/tracked.json").read_text())

    @property
    def client(self):
        from mlflow import MlflowClient

        return MlflowClient(f"sqlite:///{self.root / 'mlflow.db'}")

    def runs(self) -> list:
        """Return the MLflow runs in the repository's own store that are not deleted, oldest first."""
        experiment = self.client.get_experiment_by_name("cvae")
        if experiment is None:
            return []
        return self.client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


@contextmanager
def started(repository: Repository, *arguments: str, **variables: str):
    """Start DVC as `leading` does, with output in .dvc/tmp/printed.log."""
    with leading(repository, [sys.executable, "-m", "dvc", *arguments], "printed.log", **variables) as process:
        yield process


@contextmanager
def leading(repository: Repository, command: list[str], log_name: str, **variables: str):
    """Start `command` in its own process group, with output in .dvc/tmp. Kill the group at the end if it still runs."""
    with open(repository.root / ".dvc" / "tmp" / log_name, "w") as log:
        process = subprocess.Popen(
            command,
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
    """Return the folder `name`, filled by `make`. Of pytest-xdist's workers, one fills it, the others wait."""
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
    known = ["git", "ls-files", "-zco", "--exclude-standard", "--", *CODE]
    names = subprocess.run(known, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(lambda name: (PROJECT / name).is_file(), names):
        target = repository.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, target)
    parameters = Parameters().model_dump() | QUICK
    (repository.root / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))
    ignored = repository.root / "data/.gitignore"
    ignored.write_text(ignored.read_text().replace("/own\n", ""))  # `dvc add data/own` leaves it
    (repository.root / "data/own").mkdir()
    (repository.root / "data/own/README.md").write_text("No images yet.\n")
    repository.git("init", "--quiet")
    repository.git("config", "user.name", "Test")
    repository.git("config", "user.email", "test@example.org")
    repository.dvc("repro")
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "--message", "Run on digits")


def interrupt(clone: Repository, number: int, launcher: tuple[str, ...] = (sys.executable,)) -> int:
    """Train with a checkpoint after every epoch, send signal `number`, and return the epochs in the last checkpoint."""
    log = clone.root / ".dvc/tmp/train.log"
    with open(log, "w") as file:
        process = subprocess.Popen(
            [*launcher, "-m", "stages.train"],
            cwd=clone.root,
            env=environment(CHECKPOINT_SECONDS="0"),
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
    from cvae.pipeline import checkpoint

    (file,) = (clone.root / "checkpoints").glob("*.safetensors")
    return len(checkpoint.decode(file.read_bytes()).rows)
