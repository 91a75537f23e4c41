"""What git knows of the project: its commit, and files as they were at another one.

The project may lie in a subdirectory of a git repository: `git status` and `REV:./path` count from the project.
"""

import os
import re
import subprocess
from collections.abc import Iterable

from cvae.support.errors import UserError


def git(*arguments: str, text: str = "") -> bytes:
    """What `git` prints, run in the working directory with `text` as its input.

    Raises:
        UserError: git is absent or refuses; the message says why, and what to do where git itself says that.
    """
    try:
        environment = os.environ | {"LC_ALL": "C"}  # its words are read below
        done = subprocess.run(["git", *arguments], input=text.encode(), env=environment, capture_output=True)
    except OSError as error:
        raise UserError(f"git cannot be run ({error.strerror})") from None
    if done.returncode:
        raise UserError(f"git: {_reason(done.stderr.decode(errors='replace'))}")
    return done.stdout


def _reason(complaint: str) -> str:
    if advised := re.search(r"git config --global --add safe\.directory .*", complaint):
        return f"the repository belongs to another user; `{advised[0]}` lets you use it"
    lines = [line.removeprefix("fatal: ") for line in complaint.splitlines() if line.strip()]
    return lines[0] if lines else "failed without a word"


def require_git() -> None:
    """Raise a `UserError` where git does not work here."""
    git("rev-parse", "--git-dir")


def head() -> tuple[str, bool] | None:
    """The commit that is checked out, and whether src, stages or dvc.yaml differ from it; None without a commit.

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
    """The content of each of `paths`, counted from here, at each of `revs`; without those that are not there.

    Raises:
        UserError: git refuses.
    """
    pairs = [(rev, path) for rev in revs for path in paths]
    printed = git("cat-file", "--batch", text="".join(f"{rev}:./{path}\n" for rev, path in pairs))
    found = {}
    for pair in pairs:
        line, _, printed = printed.partition(b"\n")
        if match := re.fullmatch(rb"[0-9a-f]+ (\w+) ([0-9]+)", line):  # else it is `REV:./path missing`
            content, printed = printed[: int(match[2])], printed[int(match[2]) + 1 :]
            if match[1] == b"blob":
                found[pair] = content
    return found
