"""How benchmarks run commands: a failure ends them in one line, and they log only to their clone's MLflow store."""

import sys

import pytest

from benchmarks.clone import run


def test_a_failing_command_ends_a_benchmark_with_one_line(tmp_path):
    code = "import sys; print('what it did'); sys.exit('what was wrong')"
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, sys.executable, "-c", code)
    message = ended.value.code
    assert "what was wrong" in message
    assert "\n" not in message.replace(code, "")


def test_a_missing_command_ends_a_benchmark_with_one_line(tmp_path):
    with pytest.raises(SystemExit, match="no-such-command: No such file"):
        run(tmp_path, "no-such-command")


def test_a_benchmark_ignores_the_mlflow_server_of_its_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    code = "import os; print(sorted(name for name in os.environ if 'MLFLOW' in name))"
    assert run(tmp_path, sys.executable, "-c", code) == "[]\n"
