"""Closed and full output streams: the work is still done."""

import os
import subprocess
import sys

import pytest
from helpers.processes import environment
from helpers.repository import Repository

TRAIN = ("stages.train",)
SAMPLE = ("cvae", "sample", "--label", "3", "--out", "drawn ü.png")


@pytest.fixture
def workspace(repository, tmp_path) -> Repository:
    workspace = repository.copy(tmp_path / "cvae", ".git", "cache", "tmp")
    for name in ("plots/training.csv", "metrics/train.json"):
        (workspace.root / name).unlink()
    return workspace


def run(workspace: Repository, *program: str, **options) -> subprocess.CompletedProcess:
    variables = environment(PYTHONPATH="src", MLFLOW_TRACKING_URI="sqlite:////proc/none.db") | options.pop("env", {})
    command = [sys.executable, "-m", *program]
    return subprocess.run(command, cwd=workspace.root, env=variables, text=True, timeout=300, **options)


@pytest.fixture
def unread():
    """A pipe whose reader has ended, like `head`."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize(("program", "made"), [(TRAIN, "plots/training.csv"), (SAMPLE, SAMPLE[-1])], ids=lambda _: "")
def test_work_is_done_although_the_reader_has_gone(workspace, unread, program, made):
    done = run(workspace, *program, stdout=unread, stderr=subprocess.PIPE)
    assert done.returncode == 0
    assert "Error" not in done.stderr
    assert (workspace.root / made).exists()
    (workspace.root / made).unlink()
    assert run(workspace, *program, stdout=unread, stderr=unread).returncode == 0
    assert (workspace.root / made).exists()


@pytest.mark.parametrize("program", [TRAIN, SAMPLE], ids=["a stage", "a command"])
def test_output_that_cannot_be_written_is_reported_in_one_line(workspace, program):
    with open("/dev/full", "w") as full:
        done = run(workspace, *program, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    name = "train" if program == TRAIN else "sample"
    *_, line = done.stderr.splitlines()
    assert line == f"{name}: stdout: No space left on device; free some space, then run it again"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("how", [">&- 2>&-", "1</dev/null"], ids=["closed", "closed, behind DVC"])
def test_work_is_done_although_streams_are_closed(workspace, how):
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m stages.train {how}', sys.executable],
        cwd=workspace.root,
        env=environment(MLFLOW_TRACKING_URI="sqlite:////proc/none.db"),
    )
    assert done.returncode == 0
    assert (workspace.root / "plots/training.csv").exists()


def test_letters_unknown_to_the_terminal_are_escaped(workspace):
    done = run(workspace, *SAMPLE, capture_output=True, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert done.stdout == "drawn \\xfc.png: 16 samples of 3, seed 0, drawn by data/model\n"
    refused = run(workspace, "cvae", "sample", "--out", "ü", capture_output=True, env={"PYTHONIOENCODING": "ascii"})
    assert refused.returncode == 1
    assert refused.stderr.startswith("sample: --out \\xfc: pictures are PNG files")
