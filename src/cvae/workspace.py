"""Where a stage runs: in the repository itself, or in a temporary copy that DVC made of it for an experiment."""

from pathlib import Path

EXPERIMENTS = (".dvc", "tmp", "exps")  # of the repository: DVC's folder of the copies


def main_repository() -> Path:
    """The repository that the working directory is, or is a temporary copy of.

    DVC names it in DVC_ROOT too, but hands on a value that the shell inherited from work in another repository.
    """
    workspace = Path.cwd()
    for folder in workspace.parents:
        if folder.parts[-len(EXPERIMENTS) :] == EXPERIMENTS:
            return folder.parents[len(EXPERIMENTS) - 1]
    return workspace
