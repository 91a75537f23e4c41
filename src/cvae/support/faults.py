"""Explain system errors in one line: files that cannot be read or written, and memory that is too small."""

import errno
import os
import re

from cvae.support.errors import UserError

_SPACE, _ACCESS = "free some space", "check the permissions of it and its folder"
ADVICE = {  # what to do about errors of files and folders; network errors, for example, are not among them
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EROFS: "mount it for writing",
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.EMFILE: "raise `ulimit -n`",
    errno.EIO: "check its disk",
    errno.ESTALE: "check its disk",
    errno.ENAMETOOLONG: "shorten its name",
    errno.EEXIST: "move it away",
    errno.EISDIR: "move it away",
    errno.ENOTDIR: "move away what is in its place",
    errno.ENOENT: "bring it back (`dvc repro`, or git)",
}
_MEMORY = re.compile(r"out of memory|(not enough|can't allocate|cannot allocate) memory|bad_alloc|ALLOC_FAILED", re.I)
_SIZE = re.compile(r"(?:tried|trying|unable) to allocate ([\d.,]+ ?\w+)", re.I)


def explained(error: Exception) -> str | None:
    """Return the message for an error that the user can fix, or None for any other error."""
    if isinstance(error, UserError):
        return str(error)
    message = memory_shortage(error) or (file_error(error) if isinstance(error, OSError) else None)
    return str(message) if message else None


def file_error(error: OSError, place: str | os.PathLike = "") -> UserError | None:
    """Return an error that names the file, the reason and a remedy; None if `ADVICE` has none for `error`.

    The file is `place`, or the one in `error`. The reason is the system's text for `error.errno`, because a library may
    have put several lines into `error`.
    """
    if error.errno not in ADVICE:
        return None
    named = str(place or error.filename2 or error.filename or "")
    if os.path.isabs(named):
        named = named.removeprefix(os.getcwd() + os.sep)
    return UserError(f"{named and f'{named}: '}{os.strerror(error.errno)}; {ADVICE[error.errno]}, then run it again")


def memory_shortage(error: Exception) -> str | None:
    """Return a short message, with the size requested if known, if `error` means too little memory; otherwise None.

    Covers GPU memory, main memory requested by torch (which raises RuntimeError), and main memory in general.
    """
    text = str(error)
    is_short = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if not is_short and not (isinstance(error, RuntimeError) and _MEMORY.search(text)):
        return None
    owner = "the GPU's " if re.search(r"\b(CUDA|MPS|CU[A-Z]+_STATUS)", text) else ""
    size = _SIZE.search(text)
    return f"{owner}memory is too small" + (f" (for {_readable(size[1])} more)" if size else "")


def _readable(size: str) -> str:
    """Return `size` as it is, like `2.50 GiB`, or in MiB if it is in bytes."""
    number, unit = re.fullmatch(r"([\d.,]+) ?(\w+)", size).groups()
    return f"{max(1, int(number.replace(',', '')) >> 20):,} MiB" if unit == "bytes" else f"{number} {unit}"
