"""Ask git for the project's commit, and for files at other commits.

The project may be in a subdirectory of a git repository, so paths are relative to the project: `REV:./path`.
"""

import os
import re
import subprocess
from collections.abc import Iterable

from cvae.support.errors import UserError


def git(*arguments: str, text: str = "") -> bytes:
    """Run `git` in the working directory with `text` as its input, and return its output.

    Raises:
        UserError: git is missing or fails.
    """
    try:
        environment = os.environ | {"LC_ALL": "C"}  # so that messages are in English, which `_reason` and `head` read
        done = subprocess.run(["git", *arguments], input=text.encode(), env=environment, capture_output=True)
    except OSError as error:
        raise UserError(f"git cannot be run ({error.strerror}); install it, or put it on PATH") from None
    if done.returncode:
        raise UserError(f"git: {_reason(done.stderr.decode(errors='replace'))}")
    return done.stdout


def _reason(stderr: str) -> str:
    if advice := re.search(r"git config --global --add safe\.directory .*", stderr):
        return f"the repository belongs to another user; `{advice[0]}` lets you use it"
    lines = [line.removeprefix("fatal: ") for line in stderr.splitlines() if line.strip()]
    return lines[0] if lines else "failed without a message"


def require_git() -> None:
    """Raise a `UserError` if git does not work here."""
    git("rev-parse", "--git-dir")


def head() -> tuple[str, bool] | None:
    """Return the current commit and whether src, stages or dvc.yaml differ from it; None without a commit.

    Raises:
        UserError: there is a repository, but git refuses to read it.
    """
    try:
        commit = git("rev-parse", "HEAD").decode().strip()
    except UserError as error:
        if re.search(r"not a git repository|unknown revision", str(error)):
            return None
        raise
    return commit, bool(git("status", "--porcelain", "--", "src", "stages", "dvc.yaml"))


def files_at(revs: Iterable[str], paths: Iterable[str]) -> dict[tuple[str, str], bytes]:
    """Return the content of each of `paths`, relative to the working directory, at each of `revs`.

    The keys are pairs (rev, path). Files that do not exist at a revision are left out.

    Raises:
        UserError: git fails.
    """
    pairs = [(rev, path) for rev in revs for path in paths]
    printed = git("cat-file", "--batch", text="".join(f"{rev}:./{path}\n" for rev, path in pairs))
    found = {}
    for pair in pairs:
        line, _, printed = printed.partition(b"\n")
        if match := re.fullmatch(rb"[0-9a-f]+ (\w+) ([0-9]+)", line):  # otherwise `REV:./path missing`
            content, printed = printed[: int(match[2])], printed[int(match[2]) + 1 :]
            if match[1] == b"blob":
                found[pair] = content
    return found
