"""Find out where a stage runs (in the repository, or in a temporary copy for an experiment) and which DVC runs it."""

from pathlib import Path
from typing import TYPE_CHECKING

from cvae.support.errors import UserError

if TYPE_CHECKING:
    import psutil

EXPERIMENTS = (".dvc", "tmp", "exps")  # the folder in the repository where DVC puts the copies
TRIALS = (*EXPERIMENTS, "tune")  # where `cvae tune` puts its own


def main_repository() -> Path:
    """Return the repository that the working directory is, or is a temporary copy of.

    The variable DVC_ROOT is not reliable: it may come from a stage of another repository that opened this shell.
    """
    workspace = Path.cwd()
    for folder in workspace.parents:
        if folder.parts[-len(EXPERIMENTS) :] == EXPERIMENTS:
            return folder.parents[len(EXPERIMENTS) - 1]
    return workspace


def experiments_at_once() -> int:
    """Return how many experiments are running in temporary copies, or 1 if this is the repository itself."""
    repository = main_repository()
    copies = repository.joinpath(*EXPERIMENTS)
    found = [*copies.glob("tmp*"), *copies.glob("standalone/tmp*"), *repository.joinpath(*TRIALS).glob("*")]
    return len(found) if Path.cwd() != repository else 1


def require_root() -> None:
    """Raise a `UserError` unless the working directory is the repository's root, which all paths start from."""
    if not Path("dvc.yaml").exists():
        raise UserError("there is no dvc.yaml here; run this from the root of the repository")


def dvc_process() -> "psutil.Process | None":
    """Return the DVC process that runs this stage, or None if DVC does not run it.

    A shell or a launcher may be in between. DVC sets the variable DVC_STAGE for its stages, so DVC is the nearest
    ancestor without it.
    """
    import psutil

    try:
        inherited = "DVC_STAGE" in psutil.Process().environ()
        above = psutil.Process().parents() if inherited else []
        return next((process for process in above if "DVC_STAGE" not in process.environ()), None)
    except psutil.Error:
        return None


def has_ended(process: "psutil.Process") -> bool:
    """Return whether `process` has ended, including one that its parent has not collected yet (a zombie)."""
    import psutil

    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
