"""A clone of this repository's last commit to measure in, so that nothing is found in DVC's cache, or changed here."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks import PROJECT


def prepare(repository: Path, settings: list[str]) -> Path:
    """A clone at `repository`, with `settings`, each `parameter=value`, committed and its data downloaded."""
    run(PROJECT, "git", "clone", "--quiet", str(PROJECT), str(repository))
    run(repository, "git", "config", "user.name", "Benchmark")
    run(repository, "git", "config", "user.email", "benchmark@example.org")
    run(repository, "dvc", "exp", "run", *set_params(settings), "download")
    run(repository, "git", "commit", "--quiet", "--allow-empty", "--all", "--message", "What is measured")
    return repository


def set_params(settings: list[str]) -> list[str]:
    return [word for setting in settings for word in ("--set-param", setting)]


def run(folder: Path, *command: str) -> str:
    """Run `command` in `folder`, DVC as a module of this Python; returns its output.

    A command that fails ends the benchmark with one line. Runs go to the clone's own MLflow store.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_"))}
    words = (sys.executable, "-m", *command) if command[0] == "dvc" else command
    try:
        done = subprocess.run(words, cwd=folder, env=environment | {"PATH": path}, capture_output=True, text=True)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")
    if done.returncode:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        sys.exit(f"`{' '.join(command)}` failed: {' / '.join(said[-3:])}")
    return done.stdout
