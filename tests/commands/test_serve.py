"""`cvae serve`: which model it serves, what it refuses, and how it and `cvae ui` end."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from helpers.processes import closed_port, environment, kill_group, wait_for
from helpers.repository import PROJECT

from cvae.commands import serve
from cvae.commands.program import invoke
from cvae.support.errors import UserError


@pytest.fixture(scope="module")
def run(compared):
    """The run that records what the workspace of `compared` holds."""
    (run,) = [run for run in compared.runs() if run.data.tags["pipeline.key"] == compared.receipt()["pipeline.key"]]
    return run


@pytest.fixture
def serve_with(compared, monkeypatch):
    """Call the command in `compared` without starting the server; return the arguments it would be started with."""
    started = []
    monkeypatch.setattr("cvae.commands.server.serve", lambda *arguments, port: started.append([*arguments, port]))
    monkeypatch.chdir(compared.root)
    for name, value in environment(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_TRACKING_URI="").items():
        monkeypatch.setenv(name, value)
    for name in ("DVC_ROOT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> list[str]:
        invoke("serve", ["serve", *arguments])
        return started.pop()

    return call


def test_the_printed_line_names_the_run_that_is_served(compared, run, serve_with, capsys):
    (model,) = run.outputs.model_outputs
    for arguments in ((), ("--run", run.info.run_name)):
        serve_with(*arguments, "--port", str(closed_port()))
        assert f"Serving the model of run {run.info.run_name} (models:/{model.model_id}) at " in capsys.readouterr().out


def test_another_run_or_model_can_be_named(compared, run, serve_with):
    port = closed_port()
    (wide,) = [other for other in compared.runs() if other.info.run_id != run.info.run_id]
    location = compared.client.get_logged_model(wide.outputs.model_outputs[0].model_id).artifact_location
    for arguments in (("--run", wide.info.run_id), ("--model", location)):
        started = serve_with(*arguments, "--port", str(port))
        named = {"--run": f"models:/{wide.outputs.model_outputs[0].model_id}", "--model": location}[arguments[0]]
        assert started[started.index("--model-uri") + 1] == named
        assert started[-1] == port


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--run", "0" * 32), "no MLflow run has the name or id '0000"),
        (("--run", ""), "no MLflow run has the name or id ''; "),
        (("--model", ""), "--model : no such folder; "),
        (("--model", "models:/cvae@best"), "MLflow at mlflow.db: ."),
        (("--model", "nowhere"), "--model nowhere: no such folder; use a folder, models:/... or runs:/...$"),
        (("--model", "http://127.0.0.1:1/model"), "--model http://127.0.0.1:1/model: no such folder"),
        (("--model", "s3://bucket/model"), "--model s3://bucket/model: no such folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_run_or_model_that_does_not_exist_is_reported_in_one_line(serve_with, arguments, expected):
    with pytest.raises(UserError) as refused:
        serve_with(*arguments, "--port", str(closed_port()))
    assert re.match(expected, str(refused.value))
    assert "\n" not in str(refused.value)


class Logged:
    """A logged model with this table as its input example."""

    def __init__(self, example: object):
        self.example = example

    def load_input_example(self, _):
        return self.example


@pytest.mark.parametrize("name", ["it's a $(cat) `dog` \"!\\", "naïve 犬", "\u202e\n"])
def test_the_printed_request_is_quoted_for_the_shell(name):
    content = serve._example(Logged(pd.DataFrame({"label": [name, "other"]})), "")
    assert content.isprintable()
    printed = subprocess.run(["sh", "-c", f"printf %s {content}"], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == {"dataframe_records": [{"label": name}]}


def test_a_model_of_older_code_is_asked_with_its_own_column():
    content = serve._example(Logged(pd.DataFrame({"digit": range(10)})), "")
    assert content == """'{"dataframe_records": [{"digit": 0}]}'"""


@pytest.mark.parametrize("example", [None, np.zeros((2, 3))], ids=["none", "an array"])
def test_no_request_is_printed_for_another_projects_model_that_takes_no_table(example):
    assert serve._example(Logged(example), "") == ""


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """The root of a repository without results, as the working directory."""
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("arguments", [(), ("--run", "0" * 32), ("--model", "models:/cvae@best")], ids=" ".join)
def test_asking_for_a_model_does_not_create_a_store(serve_with, bare, arguments):
    with pytest.raises(UserError, match=r"^mlflow\.db: no MLflow store yet; `dvc repro` records a run"):
        serve_with(*arguments, "--port", str(closed_port()))
    assert sorted(path.name for path in bare.iterdir()) == ["data", "dvc.yaml"]


def test_a_model_without_its_files_is_reported_with_the_command_that_restores_them(
    serve_with, compared, run, tmp_path, monkeypatch
):
    copy = shutil.copytree(compared.root, tmp_path / "cvae", ignore=shutil.ignore_patterns("mlartifacts", ".git"))
    monkeypatch.chdir(copy)
    experiment = f"UPDATE experiments SET artifact_location = '{copy}/mlartifacts' WHERE name = 'cvae'"
    models = f"UPDATE logged_models SET artifact_location = replace(artifact_location, '{compared.root}', '{copy}')"
    with sqlite3.connect(copy / "mlflow.db") as database:
        for statement in (experiment, models):
            database.execute(statement)
    for arguments in ((), ("--run", run.info.run_id)):
        with pytest.raises(UserError, match=r"the model's files are missing; `dvc repro -sf track` logs those"):
            serve_with(*arguments, "--port", str(closed_port()))

    shutil.copytree(compared.root / "mlartifacts", copy / "mlartifacts")
    for file in (copy / "mlartifacts").rglob("model.safetensors"):
        os.truncate(file, 10)
    with pytest.raises(UserError, match=r"damaged \(model.safetensors: .*\); `dvc repro -sf track` logs those"):
        serve_with("--port", str(closed_port()))


@pytest.mark.parametrize("program", ["ui", "serve"])
def test_a_server_started_outside_a_repository_writes_nothing(program, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "cvae", program, "--port", str(closed_port())],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(PROJECT / "src")),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == f"{program}: there is no dvc.yaml here; run this from the root of the repository\n"
    assert list(tmp_path.iterdir()) == []


def commands_below(process: psutil.Process) -> str:
    """Return the command lines of all processes that `process` has started."""
    lines = []
    for each in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            lines += each.cmdline()
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("program", "how", "times"),
    [
        ("ui", signal.SIGINT, 1),
        ("ui", signal.SIGINT, 2),
        ("ui", signal.SIGHUP, 1),
        ("serve", signal.SIGINT, 1),
        ("serve", signal.SIGTERM, 1),
    ],
)
def test_ctrl_c_ends_a_server_quietly_while_mlflow_is_starting(compared, program, how, times):
    """A terminal sends signals to the process group; an impatient person presses Ctrl-C twice."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cvae", program, "--port", str(closed_port())],
        cwd=compared.root,
        env=environment(PYTHONPATH="src"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        family = [psutil.Process(process.pid)]
        for line in process.stdout:
            if line.startswith("Ctrl-C ends"):
                break
        sign = "uvicorn" if program == "ui" else "mlflow"  # uvicorn starts its workers next
        wait_for(lambda: sign in commands_below(family[0]))
        family += family[0].children(recursive=True)
        for _ in range(times):
            os.killpg(process.pid, how)
            time.sleep(0.05)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in errors
        assert [each for each in family[1:] if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        kill_group(process)


def test_a_port_that_is_in_use_is_reported_in_one_line(serve_with):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1: Address already in use"):
            serve_with("--port", str(port))
