"""Each reader gets 100,000 damaged files: `make test-long`, some twenty minutes.

A seeded generator damages valid files in a few places. A file must be read as an independent reader reads it, or be
refused in one line. `-s` prints the number of each outcome; FUZZ=1000000 makes more files.
"""

import gzip
import json
import os
import random
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from helpers.models import MNIST
from helpers.readers import DEFAULTS, SPELLINGS, outcome, unpacked

from cvae.artifacts import saved_model
from cvae.data.idx import read_idx
from cvae.model import CVAE
from cvae.pipeline.parameters import read_parameters

TIMES = int(os.environ.get("FUZZ", 100_000))
EXTREMES = [0, 1, 2, 27, 28, 255, 2**15, 2**16, 2**24, 2**30, 2**31 - 1, 2**31, 2**32 - 1]
PIECES = [
    b"",
    b"\0",
    b"\xff",
    b"\xff" * 8,
    b'"',
    b"{",
    b"[",
    b"}",
    b",",
    b":",
    b"-",
    b"1e999",
    b"null",
    b"true",
    b"9" * 4400,
]

pytestmark = pytest.mark.long


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, if the system has one."""
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


def damaged(content: bytes, chance: random.Random, first: int = 0) -> bytes:
    """Return `content` with one to three changes, most of them in the `first` bytes if that is given."""
    content = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 3])):
        end = first if first and chance.random() < 0.7 else len(content)
        at = chance.randint(0, max(end - 1, 0))
        kind = chance.randrange(8)
        if kind == 0 and content:
            content[min(at, len(content) - 1)] ^= 1 << chance.randrange(8)
        elif kind == 1 and content:
            content[min(at, len(content) - 1)] = chance.randrange(256)
        elif kind == 2:
            del content[at:]
        elif kind == 3:
            del content[at : at + chance.randint(1, 9)]
        elif kind == 4:
            content[at:at] = chance.choice(PIECES)
        elif kind == 5:
            content[at : at + 4] = struct.pack(chance.choice("<>") + "I", chance.choice(EXTREMES))
        elif kind == 6:
            start = chance.randint(0, len(content))
            content[at:at] = content[start : start + chance.randint(1, 40)]
        else:
            content += chance.choice(PIECES)
    return bytes(content)


def kind_of(refusal: str, folder: Path) -> str:
    """Return the message of a refusal without the values in it."""
    refusal = refusal.replace(str(folder), "").partition("; ")[0]
    refusal = re.sub(r": (.*) is (not a parameter|missing)|: \S* is (?!not ).*", r": … is \2", refusal)
    refusal = re.sub(r"byte .*|'.*'|\"[^\"]*\"|\[.*\]|starts [0-9a-f]*|failed .*|\d[\d,.]*", "…", refusal)
    return refusal[:110]


def fuzz(name: str, attempt: Callable[[random.Random], str], folder: Path) -> None:
    """Make `TIMES` attempts, which return "" or a refusal, and print the number of each kind."""
    counts: Counter[str] = Counter()
    for number in range(TIMES):
        try:
            counts[kind_of(attempt(random.Random(f"{name} {number}")), folder) or "read correctly"] += 1
        except BaseException:
            print(f"{name} {number}")  # the seed, to repeat it
            raise
    print(f"\n{name}: {TIMES:,}")
    for kind, count in counts.most_common():
        print(f"{count:8,}  {kind}")
    assert counts["read correctly"] > TIMES / 1000, "hardly any is read; the damage is too coarse"
    assert len(counts) > 5


def test_a_damaged_idx_file_is_read_correctly_or_refused(memory):
    path = memory / "any.gz"

    def attempt(chance: random.Random) -> str:
        shape = [chance.randint(1, 6) for _ in range(chance.randint(1, 3))]
        size = shape[0] * (shape[1] if len(shape) > 1 else 1) * (shape[2] if len(shape) > 2 else 1)
        content = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape) + chance.randbytes(size)
        if chance.random() < 0.5:
            content = damaged(content, chance, first=4 + 4 * len(shape))
        packed = gzip.compress(content, chance.choice([0, 1, 9]), mtime=0)
        if chance.random() < 0.1:
            cut = chance.randint(0, len(content))
            packed = gzip.compress(content[:cut], 1, mtime=0) + gzip.compress(content[cut:], 1, mtime=0)
        if chance.random() < 0.5:
            packed = damaged(packed, chance, first=20)
        path.write_bytes(packed)
        expected = unpacked(packed, len(shape))
        values, refusal = outcome(read_idx, path, len(shape))
        if refusal:
            assert expected is None
            return refusal
        assert expected is not None
        assert values.shape == expected.shape
        assert (values == expected).all()
        return ""

    fuzz("IDX files", attempt, memory)


def test_a_damaged_model_is_the_saved_one_or_refused(memory):
    saved = []
    for number, width in enumerate((1, 2, [4, 3])):
        model = CVAE(MNIST, latent_dims=number % 2 + 1, hidden_dims=width).initialise(
            torch.Generator().manual_seed(number)
        )
        saved_model.save(model, memory)
        saved.append(
            (saved_model.load(memory), *((memory / name).read_bytes() for name in ("config.json", "model.safetensors")))
        )

    def attempt(chance: random.Random) -> str:
        model, configuration, weights = chance.choice(saved)
        which = chance.randrange(4)
        if which == 0:
            weights = chance.choice(saved)[2]  # perhaps of another model
        if which in (1, 3):
            configuration = damaged(configuration, chance)
        if which in (2, 3):
            header = 8 + struct.unpack("<Q", weights[:8])[0]
            weights = damaged(weights, chance, first=header)
        (memory / "config.json").write_bytes(configuration)
        (memory / "model.safetensors").write_bytes(weights)
        loaded, refusal = outcome(saved_model.load, memory)
        if refusal:
            assert refusal.endswith("; `dvc repro -sf train` makes it again")
            return refusal
        assert loaded.configuration() == model.configuration()
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
        return ""

    fuzz("Models", attempt, memory)


def test_dvc_reads_the_same_parameters_or_they_are_refused(memory):
    from dvc.utils.serialize import parse_yaml

    path = memory / "params.yaml"
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in DEFAULTS.items()]

    def attempt(chance: random.Random) -> str:
        changed = list(lines)
        for _ in range(chance.choice([1, 1, 2])):
            at = chance.randrange(len(changed))
            key, _, value = changed[at].partition(": ")
            kind = chance.randrange(6)
            if kind < 3:
                changed[at] = f"{key}: {chance.choice(SPELLINGS)}\n"
            elif kind == 3:
                changed.insert(chance.randint(0, len(changed)), changed[at])
            elif kind == 4:
                changed[at] = f"{chance.choice(SPELLINGS)}: {value}"
            else:
                changed[at] = f"{key}: {chance.choice(['&a ', '*a ', '!!str ', '- ', '? ', ' '])}{value}"
        content = "".join(changed).encode(errors="replace")
        if chance.random() < 0.4:
            content = damaged(content, chance)
        path.write_bytes(content)
        parameters, refusal = outcome(read_parameters, path)
        if refusal:
            return refusal
        try:
            theirs = parse_yaml(content.decode(), "params.yaml")
        except Exception as error:  # DVC then reports it before any stage runs
            return f"refused by DVC alone: {type(error).__name__}"
        assert parameters.model_dump() == theirs
        return ""

    fuzz("Parameters", attempt, memory)
