"""How results are written: whole under their names, or not at all."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cvae.support.faults import file_error


def write_whole(contents: Mapping[str | Path, bytes | memoryview], synced: bool = False) -> None:
    """Write each content to the file that it is mapped from, in folders that are made: all of them, or none.

    They are written beside their names, as NAME.part, and renamed when all are there. So a disk that fills up, or a
    kill, leaves under each name what was there before; and what DVC linked from its cache is replaced, not overwritten.
    `synced`: not renamed before the disk has them, so that the machine may crash at any moment too.

    Raises:
        UserError: a file cannot be written; the message says which, why, and what to do.
    """
    asides = {Path(path): Path(f"{path}.part") for path in contents}
    try:
        for (path, aside), content in zip(asides.items(), contents.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                file.write(content)
                if synced:
                    file.flush()
                    os.fsync(file.fileno())
        for path, aside in asides.items():
            os.replace(aside, path)
    except OSError as error:
        place = error.filename if error.filename not in (None, str(aside)) else path
        raise file_error(error, place) or error from None
    finally:
        for aside in asides.values():
            with suppress(OSError):
                aside.unlink()


def ensure_writable(*paths: str | Path) -> None:
    """Raise before long work what `write_whole` would raise after it, if a folder of `paths` takes no file already now.

    It tries with a file without a name, so that nothing is left there.

    Raises:
        UserError: as of `write_whole`.
    """
    for path in map(Path, paths):
        try:
            folder = next(folder for folder in path.parents if os.path.lexists(folder))  # a link to nothing too
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"it fits")
        except OSError as error:
            raise file_error(error, path) or error from None
