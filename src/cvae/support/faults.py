"""Explain system errors in one line: files that cannot be read or written, and too little memory."""

import errno
import os
import re

from cvae.support.errors import UserError

_SPACE, _ACCESS = "free some space", "give yourself access to it and its folder"
ADVICE = {  # what to do, for errors about a file or folder; others, such as network errors, are not listed
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
    """Return one line about an error that the user can fix, or None for any other, which needs its traceback."""
    if isinstance(error, UserError):
        return str(error)
    message = memory_shortage(error) or (file_error(error) if isinstance(error, OSError) else None)
    return str(message) if message else None


def file_error(error: OSError, place: str | os.PathLike = "") -> UserError | None:
    """Return an error that names the file or folder, gives the reason and says what to do; None if `error` is another.

    The file is `place`, or the one that `error` names. The reason is the system's text for `error.errno`, because the
    text in `error` may be a library's own, several lines long.
    """
    if error.errno not in ADVICE:
        return None
    named = str(place or error.filename2 or error.filename or "")
    if os.path.isabs(named):
        named = named.removeprefix(os.getcwd() + os.sep)
    return UserError(f"{named and f'{named}: '}{os.strerror(error.errno)}; {ADVICE[error.errno]}, then run it again")


def memory_shortage(error: Exception) -> str | None:
    """Return a few words if `error` means too little memory, with the size requested if known; otherwise None.

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
