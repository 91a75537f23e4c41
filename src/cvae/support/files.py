"""Write results completely or not at all."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cvae.support.faults import file_error


def write_whole(contents: Mapping[str | Path, bytes | memoryview], synced: bool = False) -> None:
    """Write all files of `contents`, a mapping of paths to contents, or none of them. Missing folders are created.

    Files are written as NAME.part and renamed once all are complete. If the disk fills up or the process is killed,
    the old files stay. Files that DVC linked from its cache are replaced, not overwritten.
    `synced`: wait until the data is on the disk before renaming, so that a crash of the machine is harmless too.

    Raises:
        UserError: a file cannot be written.
    """
    parts = {Path(path): Path(f"{path}.part") for path in contents}
    try:
        for (path, part), content in zip(parts.items(), contents.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(content)
                if synced:
                    file.flush()
                    os.fsync(file.fileno())
        for path, part in parts.items():
            os.replace(part, path)
    except OSError as error:
        place = error.filename if error.filename not in (None, str(part)) else path
        raise file_error(error, place) or error from None
    finally:
        for part in parts.values():
            with suppress(OSError):
                part.unlink()


def ensure_writable(*paths: str | Path) -> None:
    """Fail before long work starts if the outputs `paths` cannot be written. Leave no files behind.

    Raises:
        UserError: a folder is not writable.
    """
    for path in map(Path, paths):
        try:
            folder = next(folder for folder in path.parents if os.path.lexists(folder))  # also finds a broken link
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"it fits")
        except OSError as error:
            raise file_error(error, path) or error from None
