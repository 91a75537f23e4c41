"""Read IDX files, the format of MNIST, gzipped or not, and write gzipped ones."""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from cvae.support.errors import UserError
from cvae.support.files import write_whole

MOST_DEFLATED = 1032  # gzip's highest compression ratio: 258 bytes from two bits
REMEDY = "`dvc repro -sf download` brings it back"


def read_idx(path: str | Path, dimensions: int, remedy: str = REMEDY) -> np.ndarray:
    """Read an IDX file of unsigned bytes with `dimensions` dimensions, gzipped if its name ends in .gz.

    The format: two zero bytes, 0x08 for unsigned bytes, the number of dimensions, the size of each dimension as a
    big-endian uint32, then the values (LeCun, Cortes and Burges, "The MNIST database"). To bound memory, this
    decompresses only as much as the header announces, and refuses a header that announces more than the file can hold.
    `remedy` ends the message about a file at fault.

    Raises:
        UserError: the file is missing, is not gzip or such an IDX file, or differs in length from its header.
    """
    path = Path(path)
    is_packed = path.suffix == ".gz"
    try:
        with gzip.open(path) if is_packed else path.open("rb") as file:
            magic = file.read(4)
            if magic != bytes((0, 0, 8, dimensions)):
                raise ValueError(f"not an IDX file of bytes with {dimensions} dimensions (starts {magic.hex()})")
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            if 0 in shape:
                raise ValueError("its header announces no values")
            size = math.prod(shape)
            most = path.stat().st_size * (MOST_DEFLATED if is_packed else 1)
            if size > min(2**32, most):  # read() below allocates this much at once
                raise ValueError(f"its header announces {size:,} bytes, which it cannot hold")
            values = file.read(size)
            if len(values) < size or file.read(1):
                more_or_less = "fewer" if len(values) < size else "more"
                raise ValueError(f"holds {more_or_less} than the {size:,} bytes that its header announces")
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {remedy.replace(' -sf ', ' ')}") from None  # no need to force it
    except (EOFError, zlib.error, gzip.BadGzipFile, struct.error) as error:
        raise UserError(f"{path}: damaged ({error}); {remedy}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}; {remedy}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return np.frombuffer(values, np.uint8).reshape(shape)


def idx_bytes(values: np.ndarray) -> bytes:
    """Return `values` (uint8, any shape) as a gzipped IDX file; the same values give the same bytes."""
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
        file.write(header + np.ascontiguousarray(values, np.uint8).tobytes())
    return buffer.getvalue()


def write_idx(path: str | Path, values: np.ndarray) -> None:
    """Write `values` (uint8, any shape) to a gzipped IDX file."""
    write_whole({path: idx_bytes(values)})
