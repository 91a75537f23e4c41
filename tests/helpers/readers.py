"""Try the readers of files with any input, and compare what they return or raise."""

import gzip
import math
import struct
import zlib
from collections.abc import Callable

import numpy as np

from cvae.pipeline.parameters import Parameters
from cvae.support.errors import UserError

DEFAULTS = Parameters().model_dump()


def outcome(read: Callable, *arguments: object) -> tuple[object, str]:
    """Return what was read and "", or None and the one-line message of the refusal."""
    try:
        return read(*arguments), ""
    except UserError as error:
        refusal = str(error)
    assert refusal.isprintable(), "more than one line, or a control character"
    assert 0 < len(refusal) < 1000
    return None, refusal


SPELLINGS = [  # values as a person may write them in YAML, and some that are not YAML
    *("!!str 2", "!own 4", "!!python/name:os", "! 4", "'4'", '"cpu"', '"\\x63pu"', '"cpu\\0"', '"\\ud800"'),
    *("0b1", "0o10", "0x10", "1_000", "010", "+7", "-0", "1e3", "1e-05", ".5", "5.", "1.e2", "1:30"),
    *(".inf", "-.INF", ".nan", "1e400", "1" + "0" * 400),
    *("~", "null", "yes", "True", "on", "2001-01-01", "<<", "=", "@", "`", "*a", "{4}", "{a:1,a:2}", "[4]", "[4,4,]"),
    *("&a 4", "&a [*a]", "{a: 1, a: 2}", "[1, 2", "- 4", "4: 5", "? 4", "cpu  # why", "cpu #"),
    *('"cp\\\n  u"', "|\n  cpu", ">-\n  cpu", "4\nseed: 5", "4\n'seed': 5", "4\n<<: {seed: 5}"),
    *("4\n--- \nseed: 5", "4\n...\nx", "4\n%TAG", "4\rseed: 5", "4\t", "\t4"),
    *("4\u2028seed: 5", "4 # \x85seed: 5", "4\ufeff", "\ufeff4", "４", "1\u00a0", "\ud7ff", "\U0001f600"),
]


def unpacked(packed: bytes, dimensions: int) -> np.ndarray | None:
    """Return what an IDX file holds by the definition of its format, or None if it is not one."""
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error, struct.error):
        return None
    if content[:4] != bytes((0, 0, 8, dimensions)) or len(content) < 4 + 4 * dimensions:
        return None
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    values = content[4 + 4 * dimensions :]
    return np.frombuffer(values, np.uint8).reshape(shape) if len(values) == math.prod(shape) > 0 else None
