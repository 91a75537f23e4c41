"""What the benchmarks share: commands that end them in one line, and that leave a team's MLflow alone."""

import sys

import pytest

from benchmarks.clone import run


def test_a_command_that_fails_ends_a_benchmark_with_one_line(tmp_path):
    code = "import sys; print('what it did'); sys.exit('what was wrong')"
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, sys.executable, "-c", code)
    message = ended.value.code
    assert "what was wrong" in message
    assert "\n" not in message.replace(code, "")


def test_a_command_that_is_missing_ends_a_benchmark_with_one_line(tmp_path):
    with pytest.raises(SystemExit, match="no-such-command: No such file"):
        run(tmp_path, "no-such-command")


def test_a_benchmark_writes_to_no_other_mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    seen = run(
        tmp_path, sys.executable, "-c", "import os; print(sorted(name for name in os.environ if 'MLFLOW' in name))"
    )
    assert seen == "[]\n"
