"""Hypothesis generates any input: it is read as it is meant, or refused in one line.

The examples are the same in each run, so that a failure is due to the code and not to chance. test_fuzz.py is the
long form.
"""

import contextlib
import gzip
import inspect
import io
import json
import math
import os
import struct
import tracemalloc
from importlib import import_module

import numpy as np
import pytest
import torch
from helpers.models import MNIST
from helpers.processes import closed_port
from helpers.readers import DEFAULTS, SPELLINGS, outcome, unpacked
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from cvae.artifacts import saved_model
from cvae.commands.program import COMMANDS, invoke
from cvae.data import download, idx
from cvae.data.dataset import TEST_LABELS
from cvae.model import CVAE
from cvae.pipeline.parameters import check_parameters, read_parameters
from cvae.support.errors import UserError


@pytest.fixture(autouse=True)
def _denormal_numbers():
    """Hypothesis needs them, and `open_device` may have turned them off in an earlier test."""
    torch.set_flush_denormal(False)


def examples(count: int) -> settings:
    # A busy machine may take any time for an example; the files in a function-scoped folder are overwritten each time.
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=count, derandomize=True, deadline=None, database=None, suppress_health_check=checks)


# params.yaml

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**3), 10**5),
    st.integers(-(10**80), 10**80),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([value for value in DEFAULTS.values() if isinstance(value, str)]),
    st.dates(),
    st.binary(max_size=5),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@examples(250)
@given(key=st.sampled_from(list(DEFAULTS)), value=VALUES)
def test_any_value_of_a_parameter_is_accepted_unchanged_or_reported_with_its_key(key, value):
    parameters, refusal = outcome(check_parameters, DEFAULTS | {key: value})
    if refusal:
        assert refusal.startswith(f"params.yaml: {key} is ")
        return
    taken = getattr(parameters, key)
    assert taken == value
    assert type(taken) is type(value) or (type(taken) is float and type(value) is int)


WRITTEN = st.one_of(
    st.sampled_from(SPELLINGS),
    st.text("0123456789+-.eE_:#&*!|>'\"%@`,[]{}?~<= \n\tabxcpu\\\x85\u2028\ufeff", max_size=12),
    st.text(max_size=8),
    st.builds(str, st.integers()),
    st.builds(repr, st.floats()),
)


@examples(250)
@given(
    key=st.sampled_from(list(DEFAULTS)), written=WRITTEN, before=st.sampled_from(["", "", "%YAML 1.1\n---\n", "\ufeff"])
)
@example(key="latent_dims", written="010", before="%YAML 1.1\n---\n")
@example(key="epochs", written="4\nseed: 5", before="")
@example(key="seed", written="4 # \x85epochs: 5", before="")
def test_dvc_reads_the_same_values_from_params_yaml(tmp_path, key, written, before):
    from dvc.utils.serialize import parse_yaml

    assume(not any(0xD800 <= ord(sign) < 0xE000 for sign in written))  # UTF-8 cannot encode it
    lines = {name: json.dumps(value) for name, value in DEFAULTS.items()} | {key: written}
    text = before + "".join(f"{name}: {value}\n" for name, value in lines.items())
    path = tmp_path / "params.yaml"
    path.write_bytes(text.encode())
    parameters, refusal = outcome(read_parameters, path)
    if refusal:
        assert key in refusal or ": not YAML" in refusal or " is not a parameter" in refusal
        return
    try:
        theirs = parse_yaml(text, "params.yaml")
    except Exception:  # DVC then reports it before any stage runs
        return
    ours = parameters.model_dump()
    assert ours == theirs
    assert all(type(theirs[name]) is type(value) or type(value) is float for name, value in ours.items())


@examples(150)
@given(text=st.text(max_size=60) | st.binary(max_size=60) | st.lists(WRITTEN, max_size=6).map("\n".join))
def test_any_file_that_is_not_a_params_yaml_is_reported(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
    assert outcome(read_parameters, path)[1].startswith(f"{path}")


# The commands

WORDS = [
    *("--grid", "--styles", "--interpolate", "--label", "--count", "--seed", "--size", "--range", "--model", "--run"),
    *(
        "--data",
        "--out",
        "--label=3",
        "--count=-1",
        "--range=nan",
        "--",
        "-",
        "",
        "3",
        "8",
        "-1",
        "0x3",
        "1_0",
        "٣",
        "²",
    ),
    *("1e-300", "1e400", "nan", "inf", "-inf", "9" * 5000, "a.png", "a\0.png", "\ud800.png", "runs:/", "models:/x@y"),
    *(
        "grid",
        "styles",
        "interpolate",
        "prior",
        "--exp",
        "--port",
        "0",
        "65536",
        "5000",
        "--rev",
        "HEAD",
        "--num",
        "-n",
        "-n-1",
        "--num=9e9",
        "--hel",
        "%s",
        "@file",
        "\x1b[0m",
    ),
]


@pytest.mark.parametrize("name", ["sample", "compare", "ui", "serve"])
@examples(200)
@given(arguments=st.lists(st.sampled_from(WORDS) | st.text(max_size=8), max_size=6))
def test_any_arguments_are_accepted_or_reported_in_one_line(name, arguments):
    assume("-h" not in "".join(argument[:2] for argument in arguments))
    errors, taken, status = io.StringIO(), {}, None
    imported = import_module(COMMANDS[name][0])
    with contextlib.redirect_stderr(errors), pytest.MonkeyPatch.context() as patch:
        if name == "sample":

            def make(draw, given, **source):  # in place of drawing
                taken.update(inspect.signature(draw).bind(None, None, *given).arguments)

            patch.setattr(imported, "make", make)
        else:
            patch.setattr(getattr(imported, name), "callback", lambda **options: taken.update(options))
        try:
            invoke(name, [name, *arguments])
        except SystemExit as ended:
            status = ended.code
    line = errors.getvalue()
    if status is not None:
        assert status == 2
        assert line.startswith(f"{name}: ")
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        return
    assert line == ""
    assert taken
    ranges = {"count": (1, 1000), "seed": (0, 2**32 - 1), "size": (2, 100), "half": (1e-3, 100), "port": (1, 65535)}
    for option, (low, high) in ranges.items():
        assert taken.get(option) is None or low <= taken[option] <= high
    assert taken.get("label") is None or isinstance(taken["label"], str)


# IDX files

NUMBERS = st.sampled_from([0, 1, 2, 3, 28, 255, 2**16, 2**28, 2**30 // 784, 2**31, 2**32 - 1])
HEADERS = st.one_of(
    st.builds(lambda magic, shape: magic + struct.pack(f">{len(shape)}I", *shape), st.binary(max_size=6), st.just(())),
    st.lists(NUMBERS, max_size=4).map(lambda shape: struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)),
)


@st.composite
def idx_files(draw) -> bytes:
    """Valid files of one to three dimensions, damaged ones, and any others."""
    if draw(st.booleans()):
        shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
        header = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
        content = header + draw(st.binary(min_size=math.prod(shape), max_size=math.prod(shape)))
    else:
        content = draw(HEADERS) + draw(st.binary(max_size=40))
    cut = draw(st.integers(0, len(content)))
    packed = draw(
        st.sampled_from(
            [
                content,
                gzip.compress(content, mtime=0),
                gzip.compress(content, mtime=0),
                gzip.compress(content[:cut], mtime=0) + gzip.compress(content[cut:], mtime=0),
                gzip.compress(content, mtime=0) + b"\0\0",
                gzip.compress(content, mtime=0) + b"more",
                gzip.compress(content, mtime=0)[: -1 - cut % 9],
            ]
        )
    )
    if packed and draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(packed) - 1))
        packed = packed[:place] + bytes([packed[place] ^ draw(st.integers(1, 255))]) + packed[place + 1 :]
    return packed


@examples(400)
@given(packed=idx_files(), dimensions=st.integers(1, 3))
def test_any_bytes_are_read_as_a_correct_array_or_refused(tmp_path, packed, dimensions):
    path = tmp_path / "any.gz"
    path.write_bytes(packed)
    expected = unpacked(packed, dimensions)
    values, refusal = outcome(idx.read_idx, path, dimensions)
    if refusal:
        assert expected is None
        assert refusal.startswith(f"{path}: ")
        assert refusal.endswith("; `dvc repro -sf download` brings it back")
        return
    assert expected is not None
    assert values.dtype == np.uint8
    assert values.shape == expected.shape
    assert (values == expected).all()


@pytest.mark.parametrize("shape", [(2**30,), (2**20, 2**10), (1_369_568, 28, 28)], ids=str)
def test_a_short_file_that_claims_a_gigabyte_gets_no_memory(tmp_path, shape):
    header = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
    (tmp_path / "short.gz").write_bytes(gzip.compress(header + bytes(70)))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"its header announces 1,07.* bytes, which it cannot hold"):
        idx.read_idx(tmp_path / "short.gz", len(shape))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_a_file_at_gzips_highest_compression_is_read(tmp_path):
    idx.write_idx(tmp_path / "blank.gz", np.zeros((20_000, 28, 28), np.uint8))
    assert idx.read_idx(tmp_path / "blank.gz", 3).size > 1000 * (tmp_path / "blank.gz").stat().st_size


# Models


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[CVAE, bytes, bytes]:
    """A model of one latent and one hidden unit, its config.json and its weights."""
    folder = tmp_path_factory.mktemp("model")
    saved_model.save(CVAE(MNIST, latent_dims=1, hidden_dims=1).initialise(torch.Generator().manual_seed(0)), folder)
    names = ("config.json", "model.safetensors")
    return saved_model.load(folder), *((folder / name).read_bytes() for name in names)


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Return `content` with bytes changed, removed or inserted, mostly near its start, where the header is."""
    places = st.integers(0, len(content)) | st.integers(0, min(len(content), 600))
    put = st.binary(max_size=8) | st.sampled_from([b"", b"null", b"9" * 5000, b"[" * 5000, b'"', b",", b"\xff" * 8])
    taken = st.integers(0, 8) | st.just(len(content))
    return st.builds(lambda at, more, count: content[:at] + more + content[at + count :], places, put, taken)


def configurations(content: bytes) -> st.SearchStrategy[bytes]:
    """Return config.json with other values, other keys, or a key twice."""
    keys = st.sampled_from(list(json.loads(content))) | st.text(max_size=5)
    values = VALUES.map(lambda value: json.dumps(value, default=str))
    return st.builds(
        lambda key, value: content.rstrip()[:-1] + f", {json.dumps(key)}: {value}}}".encode(), keys, values
    )


@examples(250)
@given(data=st.data())
def test_a_damaged_model_is_the_saved_one_or_reported(tmp_path, saved, data):
    model, configuration, weights = saved
    if data.draw(st.booleans()):
        configuration = data.draw(damaged(configuration) | configurations(configuration) | st.binary(max_size=20))
    if data.draw(st.booleans()):
        weights = data.draw(damaged(weights) | st.binary(max_size=20))
    (tmp_path / "config.json").write_bytes(configuration)
    (tmp_path / "model.safetensors").write_bytes(weights)
    loaded, refusal = outcome(saved_model.load, tmp_path)
    if refusal:
        assert refusal.startswith((f"{tmp_path}: damaged (", f"{tmp_path}/config.json: model is "))
        assert refusal.endswith("; `dvc repro -sf train` makes it again")
        return
    assert loaded.configuration() == model.configuration()
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


# MNIST_MIRROR

HERE = f"127.0.0.1:{closed_port()}"  # refuses at once
PLACES = st.one_of(
    st.text(max_size=40).filter(lambda text: "://" not in text),
    st.sampled_from(
        ["", " ", "\0", "a\0b", "\n", "/dev/null", "/proc/self", "~", "..", "x" * 10_000, "/" * 300, "\ud800"]
    ),
    st.text(max_size=20).map(lambda text: f"file://{text}"),
    st.sampled_from(
        ["file://%00", "file://localhost/x", "file:///%ff%zz", "FILE:///nowhere", "ftp://x/", "://", "a://b"]
    ),
    st.builds(
        lambda scheme, user, place, rest: f"{scheme}://{user}{place}{rest}",
        st.sampled_from(["http", "https", "HTTP", "hTTps"]),
        st.sampled_from(["", "user:secret@", "user@", ":@", "a b:c%zz@", "é:\0@", "u:p@q@"]),
        st.sampled_from(
            [HERE, "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:x", "[::1]:1", "[", "[::1", "[g]", ":80", ""]
        ),
        st.sampled_from(
            ["", "/", "/%zz", "/%00", "/a b", "?q=1", "#f", "/\r\nX: y", "/é", "/\ud800", "/" + "x" * 5000]
        ),
    ),
)


@examples(150)
@given(place=PLACES)
def test_a_mirror_that_serves_nothing_is_reported_and_leaves_no_file(tmp_path, monkeypatch, place):
    folder = tmp_path / "raw"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with pytest.raises(download.SourceError) as caught:
        download.fetch(place, folder / TEST_LABELS, "0" * 32)
    assert str(caught.value).isprintable()
    assert [path.name for path in tmp_path.rglob("*")] == ["raw"]
    assert download.sources("mnist", place)[0][0] == place or not place
