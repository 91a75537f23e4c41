"""What the system refuses, told as an error of ours: files that cannot be read or written, and too little memory."""

import errno
import os
import re

from cvae.support.errors import UserError

_SPACE, _ACCESS = "free some space", "give yourself access to it and its folder"
ADVICE = {  # what to do about a file or folder; errors of other kinds, of a network say, are no matter of files
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: _SPACE,
    errno.EROFS: "mount it for writing",
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.EBUSY: "end what uses it",
    errno.EMFILE: "raise `ulimit -n`",
    errno.EIO: "look after its disk",
    errno.ESTALE: "look after its disk",
    errno.ENAMETOOLONG: "shorten its path",
    errno.ELOOP: "put that right",
    errno.EEXIST: "move it away",
    errno.EISDIR: "move it away",
    errno.ENOTDIR: "move what is in its place away",
    errno.ENOENT: "bring it back (`dvc repro`, or git)",
}
_MEMORY = re.compile(r"out of memory|(not enough|can't allocate|cannot allocate) memory|bad_alloc|ALLOC_FAILED", re.I)
_SIZE = re.compile(r"(?:tried|trying|unable) to allocate ([\d.,]+ ?\w+)", re.I)


def explained(error: Exception) -> str | None:
    """One line of what a person can put right; None of any other error, whose traceback is wanted."""
    if isinstance(error, UserError):
        return str(error)
    told = memory_shortage(error) or (file_error(error) if isinstance(error, OSError) else None)
    return str(told) if told else None


def file_error(error: OSError, place: str | os.PathLike = "") -> UserError | None:
    """One line of a file or folder, `place` or else what `error` names, and the system's reason; None of other errors.

    The reason is the system's own words for the number of `error`: libraries put texts of several lines in its place.
    """
    if error.errno not in ADVICE:
        return None
    named = str(place or error.filename2 or error.filename or "")
    if os.path.isabs(named):
        named = named.removeprefix(os.getcwd() + os.sep)
    return UserError(f"{named and f'{named}: '}{os.strerror(error.errno)}; {ADVICE[error.errno]}, then run it again")


def memory_shortage(error: Exception) -> str | None:
    """In a few words that memory was short, and by which request if `error` has it; None if it says something else.

    Of a GPU, of the host by torch, whose errors are RuntimeErrors, or of the host by anything else.
    """
    text = str(error)
    is_short = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if not is_short and not (isinstance(error, RuntimeError) and _MEMORY.search(text)):
        return None
    owner = "the GPU's " if re.search(r"\b(CUDA|MPS|CU[A-Z]+_STATUS)", text) else ""
    size = _SIZE.search(text)
    return f"{owner}memory is too small" + (f" (for {_readable(size[1])} more)" if size else "")


def _readable(size: str) -> str:
    """A size as libraries give it, `2.50 GiB`, or in bytes."""
    number, unit = re.fullmatch(r"([\d.,]+) ?(\w+)", size).groups()
    return f"{max(1, int(number.replace(',', '')) >> 20):,} MiB" if unit == "bytes" else f"{number} {unit}"
