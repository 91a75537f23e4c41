"""Progress: bars that fit a terminal, messages on lines of their own, and plain lines elsewhere."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from helpers.processes import closed_port, environment
from helpers.repository import PROJECT

from cvae.evaluation.evaluate import MEANINGS, Evaluation, format_figures
from cvae.support import progress as module
from cvae.support.progress import duration, epoch_progress, progress

NOISY = """
import sys, threading, time
from cvae.support.progress import epoch_progress
def speak():
    print("from a thread")
    print("and its warning", file=sys.stderr)
with epoch_progress(3280, 3277) as show:
    for epoch in (3278, 3279, 3280):
        time.sleep(0.15)
        show({"epoch": epoch, "train_loss": 1234.57, "train_reconstruction": 1234.56, "train_kl": 0.0123})
        if epoch == 3278:
            (thread := threading.Thread(target=speak)).start()
            thread.join()
        if epoch == 3279:
            print("no end of line", end="")
print("after")
"""


def on_terminal(columns: int, command: list[str], **options) -> str:
    """Run `command` on a terminal that is `columns` wide, and return all that it writes there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, **options)
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 65536):
            written += chunk
    except OSError:  # Linux raises EIO when the last writer has ended
        pass
    os.close(ours)
    assert process.wait() == 0, written.decode()
    return written.decode()


def frames(written: str) -> list[str]:
    return [part for part in re.split(r"[\r\n]+", written) if re.search(r"\d\|", part)]


def screen(written: str) -> list[str]:
    """Return the lines that a terminal shows in the end."""
    lines = []
    for line in written.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_the_bar_fits_and_messages_are_on_lines_of_their_own(columns, unbuffered):
    variables = environment(PYTHONUNBUFFERED=unbuffered, PYTHONPATH=str(PROJECT / "src"))
    written = on_terminal(columns, [sys.executable, "-c", NOISY], env=variables)
    *_, last = frames(written)
    assert last.endswith("loss 1235, rec 1235, kl 0.0123")
    assert all(len(frame) <= columns for frame in frames(written))
    assert len(last.split("|")[1]) >= (3 if columns == 60 else 20)
    lines = screen(written)
    assert {"from a thread", "and its warning", "no end of line", "after"} <= set(lines)
    assert len(frames("\n".join(lines))) == 1


def test_a_warning_of_train_is_on_a_line_of_its_own(repository, tmp_path):
    """Neither MLflow's server nor the folder of checkpoints can be used."""
    clone = repository.copy(tmp_path / "cvae")
    clone.set(epochs=100)
    (clone.root / "checkpoints").write_text("a file where the folder should be")
    variables = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{closed_port()}", "PYTHONUNBUFFERED": "1"}
    variables |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "CHECKPOINT_SECONDS": "0"}
    command = [sys.executable, "-m", "stages.train"]
    written = on_terminal(80, command, cwd=clone.root, env=environment(**variables))
    assert [frame for frame in frames(written) if len(frame) > 80] == []
    warnings = [line for line in screen(written) if "training goes on" in line]
    assert len(warnings) == 2, written
    assert all(line.startswith("train: ") for line in warnings)
    assert "100/100|" in written


def test_without_a_terminal_an_estimate_follows_the_second_epoch_and_each_quarter(capsys, monkeypatch):
    """The first epoch, here of 30 s, is slower than the others, of 3 s, so it does not count."""
    now = 0.0
    monkeypatch.setattr(module.time, "perf_counter", lambda: now)
    estimates = {}
    with epoch_progress(61, 1) as show:
        for epoch in range(2, 62):
            now += 30 if epoch == 2 else 3
            show({"epoch": epoch, "train_loss": 3.0, "train_reconstruction": 2.0, "train_kl": 1.0})
            line, *estimates[epoch] = capsys.readouterr().out.splitlines()
            assert line == f"epoch {epoch}/61: loss 3.00, reconstruction 2.00, kl 1.00 nats per image"
    shown = {epoch: lines for epoch, lines in estimates.items() if lines}
    expected = {3: "about 3 minutes left", 16: "about 2 minutes left", 31: "about 90 s left", 46: "about 45 s left"}
    assert shown == {epoch: [line] for epoch, line in expected.items()}


@pytest.mark.parametrize(
    ("seconds", "lines"),
    [
        (0.1, ["nll: 5 %, about 38 s left", "nll: 25 %, about 30 s left", "nll: 50 %, about 20 s left"]),
        (0.02, []),
    ],
    ids=["long", "short"],
)
def test_without_a_terminal_long_work_prints_an_estimate_and_each_quarter(capsys, monkeypatch, seconds, lines):
    now = 0.0
    monkeypatch.setattr(module.time, "perf_counter", lambda: now)
    with progress("nll", 400) as advance:
        for _ in range(400):
            now += seconds
            advance(1)
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == lines
    assert len(printed) == (4 if lines else 0)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "0 s"), (99, "99 s"), (100, "2 minutes"), (5000, "83 minutes"), (9000, "2.5 hours")]
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_table_of_evaluate_fits_80_columns_and_explains_each_figure(split):
    figures = dict.fromkeys(MEANINGS, -1.234567e-05)
    table = format_figures(Evaluation(split, "bernoulli", "binary", figures, [], [], []))
    assert max(map(len, table.splitlines())) <= 80
    assert [line.split()[0] for line in table.splitlines()[1:]] == list(MEANINGS)
    assert table.isascii()


def test_evaluate_prints_its_device_and_explains_its_figures(repository, tmp_path):
    clone = repository.copy(tmp_path / "cvae")
    lines = clone.run(sys.executable, "-m", "stages.evaluate").stdout.splitlines()
    assert re.fullmatch(r"Evaluating on .+: [\d,]+ test images, \d+ samples of z per image", lines[0])
    shown = dict(line.split()[:2] for line in lines[2:])
    assert "label_accuracy" in shown
    assert set(shown) <= set(MEANINGS)
    assert all(len(line.split()) > 2 for line in lines[2:] if line.split()[0] != "sample_accuracy_high")
