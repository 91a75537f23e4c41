"""Stdout and stderr that survive a closed pipe: work never stops because nobody is reading."""

import errno
import io
import os
import sys

# The reader has ended, as `head` does; the terminal is gone; the stream was closed and DVC opened a file in its place.
UNREAD = (errno.EPIPE, errno.EIO, errno.EBADF)


class Stream(io.FileIO):
    """A standard stream that drops its output once nobody reads it.

    Any other error is raised once and names the stream. Later output is dropped, so that the error can be reported.
    """

    def __init__(self, descriptor: int, label: str):
        super().__init__(descriptor, "wb", closefd=False)
        self._label = label
        self._is_lost = False

    def write(self, content) -> int:
        if not self._is_lost:
            try:
                return super().write(content)
            except OSError as error:
                self._is_lost = True
                if error.errno not in UNREAD:
                    raise OSError(error.errno, error.strerror, self._label) from None
        return memoryview(content).nbytes


def open_streams() -> None:
    """Make stdout and stderr such streams. They write `\\xfc` for a letter that the terminal cannot show.

    A stream that was closed at the start is replaced by one that drops everything. A stream that something else has
    replaced, for example a test that captures output, stays.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  for as long as the program runs
        elif stream is getattr(sys, f"__{name}__"):
            buffered = io.BufferedWriter(Stream(stream.fileno(), name))
            by_line = stream.line_buffering or stream.write_through  # the latter with PYTHONUNBUFFERED
            options = {"encoding": stream.encoding, "line_buffering": by_line}
            setattr(sys, name, io.TextIOWrapper(buffered, errors="backslashreplace", **options))
