"""What programs print, where it cannot be printed: nothing that they work on depends on who reads along."""

import errno
import io
import os
import sys

# The reader has ended, as `head` does; the terminal is gone; it was closed, and DVC has a file to read in its place
UNREAD = (errno.EPIPE, errno.EIO, errno.EBADF)


class Stream(io.FileIO):
    """The file descriptor of a standard stream. What nobody reads any more is dropped; another error is raised once.

    That error names the stream, and what is printed afterwards is dropped too, so that its cause can still be told.
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
    """Let stdout and stderr be such streams, which write `\\xfc` for a letter that the terminal does not know.

    One that was closed at the start takes all and keeps nothing. What has taken their place already, a test's capture
    say, stays.
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
