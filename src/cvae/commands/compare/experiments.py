"""Find experiments in DVC and git, and check that their figures were measured with their parameters."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from cvae.commands.compare.results import IMMATERIAL, read_results
from cvae.pipeline.dvc_lock import LOCK, md5_of, parameters_behind, parse_lock
from cvae.pipeline.git import files_at, require_git
from cvae.pipeline.parameters import load_yaml
from cvae.support.errors import UserError, one_line

MEASURED = ("metrics/test.json", "metrics/validation.json")


def is_current(files: Mapping[str, bytes]) -> bool:
    """Whether the figures in `files` were measured with their params.yaml, according to their dvc.lock."""
    try:
        params, lock = load_yaml(files["params.yaml"].decode()), parse_lock(files[LOCK].decode())
        outs = {path: digest for made in lock.values() for path, digest in made.outs.items()}
        measured = parameters_behind(lock, MEASURED[0])
        # An older result has no validation.json.
        if measured is None or any(md5_of(files[path]) != outs[path] for path in MEASURED if path in outs):
            return False
        return all(params.get(key) == measured[key] for key in measured if key not in IMMATERIAL)
    except (LookupError, ValueError, AttributeError):  # a file is damaged or missing
        return False


def find_results(names: Sequence[str], revs: Sequence[str], num: int) -> tuple[pd.DataFrame, list[str]]:
    """Read the results of the experiments of `num` commits, counted back from each of `revs` or from HEAD.

    Returns what `read_results` returns.

    Raises:
        UserError: git or DVC cannot read this repository, or a revision or a name does not exist.
    """
    from dvc.api import exp_show
    from dvc.exceptions import DvcException
    from pygit2 import GitError

    require_git()
    try:
        rows = exp_show(revs=list(revs) or None, num=num)
    except (DvcException, GitError, UnicodeError) as error:  # UnicodeError: a --rev that is not text
        raise UserError(f"DVC cannot list the experiments: {one_line(error)}") from None
    return read_results(rows, names, current_revisions(row["rev"] for row in rows))


def current_revisions(revs: Iterable[str]) -> set[str]:
    """Return those of `revs`, commits or the workspace, whose figures were measured with their parameters.

    DVC reports what a commit contains, and somebody may have edited the figures or the parameters before committing.
    """
    files = (*MEASURED, "params.yaml", LOCK)
    revs = set(revs)
    contents = files_at(revs - {"workspace"}, files)
    contents |= {("workspace", file): Path(file).read_bytes() for file in files if Path(file).is_file()}
    return {rev for rev in revs if is_current({file: contents.get((rev, file), b"") for file in files})}
