"""A repository whose pipeline takes a moment, to search with `cvae tune`.

Its one stage stands for all: it notes that it ran, fails or logs its curve as stages/train.py does, and writes the
figures of validation images that do not exist.
"""

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psutil
import yaml

from cvae.pipeline.parameters import Parameters
from helpers.repository import PROJECT, Repository, leading

STAGE = '''
"""Write figures that depend on latent_dims; fail if learning_rate is above 1. grid_range: seconds for each epoch."""

import json
import time
from pathlib import Path

from cvae.commands.runner import run_stage
from cvae.pipeline.parameters import read_parameters
from cvae.pipeline.repository import main_repository
from cvae.support.errors import UserError
from cvae.tracking.live import LiveRun
from cvae.tracking.runs import CHECKPOINT, study_tags


LIVE = 99  # the grid_size with which it logs to MLflow


def main() -> None:
    params = read_parameters()
    with (main_repository() / ".dvc/tmp/started.txt").open("a") as file:
        file.write(study_tags().get("study.trial", "none") + "\\n")
    if params.learning_rate > 1:
        raise UserError("training diverged in epoch 1; lower learning_rate")
    row = {"validation_reconstruction": params.latent_dims, "validation_kl": 0.5, "article_loss": 1.0}
    if params.grid_size == LIVE:
        checkpoint = main_repository() / "checkpoints/of-this.safetensors"
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.touch()
        with LiveRun(params.model_dump(), {CHECKPOINT: checkpoint.stem}) as live:
            for epoch in range(1, params.epochs + 1):
                live.log({"epoch": epoch, **row})
                time.sleep(params.grid_range)
    else:
        time.sleep(params.epochs * params.grid_range)
    Path("metrics").mkdir(exist_ok=True)
    figures = {"nll": params.latent_dims + params.learning_rate, "label_accuracy": 1 / params.latent_dims}
    Path("metrics/validation.json").write_text(json.dumps(figures))
    Path("metrics/test.json").write_text(json.dumps({"nll": -params.latent_dims}))


if __name__ == "__main__":
    run_stage(main)
'''
KEYS = ["latent_dims", "learning_rate", "hidden_dims", "epochs", "grid_range", "grid_size"]
PIPELINE = {
    "stages": {
        "train": {
            "cmd": "python -m stages.train",
            "params": KEYS,
            "deps": ["stages/train.py"],
            "metrics": [{f"metrics/{split}.json": {"cache": False}} for split in ("validation", "test")],
        }
    }
}
PARAMETERS = Parameters().model_dump() | {"epochs": 1, "grid_range": 0.001, "threads": 1, "validation_images": 100}


def make_quick_repository(folder: Path) -> None:
    """Make the repository in folder/cvae, with one commit."""
    repository = Repository(folder / "cvae")
    for name in (
        ".dvc/config",
        ".dvc/.gitignore",
        ".dvc/plots",
        ".dvcignore",
        ".gitignore",
        "src",
        "stages/__init__.py",
    ):
        source, target = PROJECT / name, repository.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, target)
    (repository.root / "stages/train.py").write_text(STAGE)
    (repository.root / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    (repository.root / "params.yaml").write_text(yaml.safe_dump(PARAMETERS, sort_keys=False))
    (repository.root / ".dvc/tmp").mkdir()
    repository.git("init", "--quiet")
    repository.git("config", "user.name", "Test")
    repository.git("config", "user.email", "test@example.org")
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "--message", "A quick pipeline")


def tune(repository: Repository, *arguments: str, status: int = 0, **variables: str) -> subprocess.CompletedProcess:
    """Run `cvae tune`."""
    return repository.run(*command(*arguments), status=status, PYTHONPATH="src", **variables)


@contextmanager
def tuning(repository: Repository, *arguments: str):
    """Start `cvae tune` as `leading` does, with output in .dvc/tmp/tune.log. At the end, kill its trials too."""
    try:
        with leading(repository, command(*arguments), "tune.log", PYTHONPATH="src") as process:
            yield process
    finally:
        for each in processes_below(repository.root):
            each.kill()


def processes_below(folder: Path) -> list[psutil.Process]:
    """Return the processes that work in `folder` or below it, except those that have ended."""
    found = [process for process in psutil.process_iter(["cwd", "status"]) if process.info["cwd"]]
    alive = [process for process in found if process.info["status"] != psutil.STATUS_ZOMBIE]
    return [process for process in alive if Path(process.info["cwd"]).is_relative_to(folder.resolve())]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cvae", "tune", *arguments]


def started(repository: Repository) -> list[int]:
    """Return the numbers of the trials that the stage ran for, in order."""
    file = repository.root / ".dvc/tmp/started.txt"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def experiments(repository: Repository) -> list[str]:
    """Return the names of all experiments."""
    refs = repository.git("for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps").split()
    return sorted(name for name in refs if "EXEC" not in name)


def figures(repository: Repository, experiment: str) -> dict[str, float]:
    (ref,) = repository.git("for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{experiment}").split()
    return json.loads(repository.git("show", f"{ref}:metrics/validation.json"))


def outcomes(repository: Repository, study: str) -> dict[int, tuple[str, float | None, dict]]:
    """Return the state, value and parameters of each trial in the study's file."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = optuna.load_study(study_name=study, storage=f"sqlite:///{repository.root}/studies/{study}.db")
    return {trial.number: (trial.state.name, trial.value, trial.params) for trial in found.trials}
