"""Measure in a clone of this repository's last commit: DVC's cache is empty there, and nothing changes here."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks import PROJECT


def prepare(repository: Path, settings: list[str]) -> Path:
    """Clone to `repository`, download the data, commit the `settings` (`parameter=value`), and return the path."""
    run(PROJECT, "git", "clone", "--quiet", str(PROJECT), str(repository))
    run(repository, "git", "config", "user.name", "Benchmark")
    run(repository, "git", "config", "user.email", "benchmark@example.org")
    run(repository, "dvc", "exp", "run", *set_params(settings), "download")
    run(repository, "git", "commit", "--quiet", "--allow-empty", "--all", "--message", "Settings to measure")
    return repository


def set_params(settings: list[str]) -> list[str]:
    return [word for setting in settings for word in ("--set-param", setting)]


def run(folder: Path, *command: str) -> str:
    """Run `command` in `folder` and return its output; `dvc` runs as a module of this Python.

    A command that fails ends the benchmark with one line. MLflow runs go to the clone's own store.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_"))}
    words = (sys.executable, "-m", *command) if command[0] == "dvc" else command
    try:
        done = subprocess.run(words, cwd=folder, env=environment | {"PATH": path}, capture_output=True, text=True)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")
    if done.returncode:
        printed = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        sys.exit(f"`{' '.join(command)}` failed: {' / '.join(printed[-3:])}")
    return done.stdout
