"""What DVC and git know of experiments: which there are, and whose figures are of their parameters."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cvae.commands.compare.results import IMMATERIAL, MEASURED, Result, read_results
from cvae.pipeline.dvc_lock import LOCK, md5_of, parameters_behind, parse_lock
from cvae.pipeline.git import files_at, require_git
from cvae.pipeline.parameters import load_yaml
from cvae.support.errors import UserError, one_line


def is_current(files: Mapping[str, bytes]) -> bool:
    """Whether metrics/test.json among `files` was measured with the params.yaml among them, by their dvc.lock."""
    try:
        params, lock = load_yaml(files["params.yaml"].decode()), parse_lock(files[LOCK].decode())
        measured, digest = parameters_behind(lock, MEASURED), md5_of(files[MEASURED])
        if measured is None or all(made.outs.get(MEASURED) != digest for made in lock.values()):
            return False
        return all(params.get(key) == measured[key] for key in measured if key not in IMMATERIAL)
    except (ValueError, AttributeError):  # one of the three is damaged or not there
        return False


def find_results(names: Sequence[str], revs: Sequence[str], num: int) -> tuple[list[Result], list[str]]:
    """`read_results` of what DVC knows of `num` commits back from each of `revs`, or from HEAD.

    Raises:
        UserError: git or DVC refuses this repository, it has no such revision, or no run of some name.
    """
    from dvc.api import exp_show
    from dvc.exceptions import DvcException
    from pygit2 import GitError

    require_git()
    try:
        rows = exp_show(revs=list(revs) or None, num=num)
    except (DvcException, GitError, UnicodeError) as error:  # the last from git, of a --rev that is not text
        raise UserError(f"DVC cannot list the experiments: {one_line(error)}") from None
    return read_results(rows, names, current_revisions(row["rev"] for row in rows))


def current_revisions(revs: Iterable[str]) -> set[str]:
    """Those of `revs`, commits or the workspace, whose figures are of their parameters.

    DVC reads both as they stand in a commit, where one may have been edited without the other.
    """
    files = (MEASURED, "params.yaml", LOCK)
    revs = set(revs)
    contents = files_at(revs - {"workspace"}, files)
    contents |= {("workspace", file): Path(file).read_bytes() for file in files if Path(file).is_file()}
    return {rev for rev in revs if is_current({file: contents.get((rev, file), b"") for file in files})}
