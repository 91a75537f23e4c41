"""The copies of the repository in which trials run.

`dvc exp run --temp` also runs an experiment in a copy, but it puts it together in the workspace: for a second or two,
your edits are stashed, and a kill then leaves them there. And if two start at once, one may run the other's experiment.
So each trial has a clone of its own, and `dvc exp run` works in that. A clone shares git's objects and DVC's cache with
the repository, so it takes a fraction of a second, and the experiment is brought back by one `git fetch`.

All trials of a study start from the same snapshot: the commit and the edits that were there when the study began.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from cvae.pipeline.git import git
from cvae.pipeline.repository import TRIALS
from cvae.support.errors import UserError

SNAPSHOTS = "refs/cvae/studies/"  # git's references to the snapshots of all studies


def take_snapshot(study: str) -> tuple[str, str]:
    """Return the current commit, and a commit with the edits on top of it. The workspace stays as it is.

    Files that git does not track are not in it, as with `dvc exp run --queue`.
    """
    try:
        head = git("rev-parse", "--verify", "HEAD").decode().strip()
    except UserError as error:
        raise UserError(f"{error}; experiments start from a commit, so make one first") from None
    # Without edits, `git stash create` may fail, as after the repository was copied. `git status` prevents that.
    is_edited = git("status", "--porcelain", "--untracked-files=no")
    snapshot = git("stash", "create").decode().strip() if is_edited else head
    git("update-ref", SNAPSHOTS + study, snapshot)  # else git's garbage collection may delete it
    return head, snapshot


def dvc_cache() -> dict[str, object]:
    """Return the configuration that lets another folder use this repository's DVC cache."""
    from dvc.repo import Repo

    with Repo() as repo:
        return {**repo.config.read("local").get("cache", {}), "dir": repo.cache.local_cache_dir}


def make_copy(folder: Path, study: str, head: str, snapshot: str, cache: dict[str, object]) -> Path:
    """Clone the repository into `folder`, as in the study's `snapshot`. Return the project's folder in the clone."""
    from configobj import ConfigObj

    shutil.rmtree(folder, ignore_errors=True)
    top, prefix = (git("rev-parse", f"--show-{each}").decode().rstrip("\n") for each in ("toplevel", "prefix"))
    git("clone", "--quiet", "--shared", "--no-checkout", top, str(folder))
    if snapshot != head:  # a shallow repository does not share its objects
        git("-C", str(folder), "fetch", "--quiet", "--no-tags", "--update-shallow", top, SNAPSHOTS + study)
    for key in ("user.name", "user.email", "core.autocrlf"):  # a clone does not get them
        if value := git("config", "--default", "", "--get", key).decode().rstrip("\n"):
            git("-C", str(folder), "config", key, value)
    git("-C", str(folder), "update-ref", "--no-deref", "HEAD", head)
    git("-C", str(folder), "read-tree", "-u", "--reset", snapshot)
    project = folder / prefix
    local = ConfigObj({"cache": cache})
    local.filename = str(project / ".dvc" / "config.local")
    local.write()
    return project


def copy_of(name: str) -> Path:
    """Return the folder for the copy of the trial `name`."""
    return Path.cwd().joinpath(*TRIALS, name)


def remove_copy(name: str) -> None:
    shutil.rmtree(copy_of(name), ignore_errors=True)


def remove_copies(study: str, kept: Iterable[str] = ()) -> None:
    """Remove the copies of the study's trials, except those of the trials `kept`."""
    kept = set(kept)
    for folder in Path.cwd().joinpath(*TRIALS).glob(f"{study}-*"):
        if folder.name not in kept and folder.name.removeprefix(f"{study}-").isdecimal():
            remove_copy(folder.name)


def bring_experiment(name: str) -> str | None:
    """Return the commit of the experiment `name`. If only its copy has it, bring it into this repository first."""
    if found := _experiment_in(".", name):
        return found[0]
    folder = copy_of(name)
    if (folder / ".git" / "HEAD").exists() and (found := _experiment_in(str(folder), name)):
        commit, ref = found
        git("fetch", "--quiet", "--no-tags", str(folder), f"{ref}:{ref}")
        return commit
    return None


def experiments_named_like(study: str) -> list[str]:
    """Return the names of the experiments that look like trials of `study`."""
    refs = git("for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{study}-*").decode().split()
    names = [os.path.basename(ref) for ref in refs]
    return [name for name in names if name.removeprefix(f"{study}-").isdecimal()]


def _experiment_in(folder: str, name: str) -> tuple[str, str] | None:
    """Return the commit and the ref of an experiment in the repository at `folder`."""
    form = "--format=%(objectname) %(refname)"
    found = git("-C", folder, "for-each-ref", form, f"refs/exps/*/*/{name}").decode().split()
    return (found[0], found[1]) if found else None
