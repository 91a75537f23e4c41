"""Where a stage runs, and for whom: in the repository itself, or in a copy that DVC made of it for an experiment."""

from pathlib import Path
from typing import TYPE_CHECKING

from cvae.support.errors import UserError

if TYPE_CHECKING:
    import psutil

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


def experiments_at_once() -> int:
    """How many experiments run in temporary copies now, if this is one of them; 1 in the repository itself."""
    repository = main_repository()
    copies = repository.joinpath(*EXPERIMENTS)
    return len([*copies.glob("tmp*"), *copies.glob("standalone/tmp*")]) if Path.cwd() != repository else 1


def require_root() -> None:
    """Raise a `UserError` where this is not the root of the repository, from which all paths are."""
    if not Path("dvc.yaml").exists():
        raise UserError("there is no dvc.yaml here; run this from the root of the repository")


def dvc_process() -> "psutil.Process | None":
    """The DVC that runs this stage, which may have put a shell or a launcher between; None if a person runs it.

    DVC gives its stages a variable DVC_STAGE, so it is the nearest process above them that lacks it.
    """
    import psutil

    try:
        inherited = "DVC_STAGE" in psutil.Process().environ()
        above = psutil.Process().parents() if inherited else []
        return next((process for process in above if "DVC_STAGE" not in process.environ()), None)
    except psutil.Error:
        return None


def has_ended(process: "psutil.Process") -> bool:
    """Whether `process` is gone, or would be if its parent asked after it."""
    import psutil

    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
