"""The model that a run carries: loaded where only its requirements are, and served over HTTP."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from helpers.processes import closed_port, end, environment, is_served, kill_group, wait_for
from helpers.repository import PROJECT
from packaging.requirements import Requirement

from cvae.artifacts import saved_model
from cvae.commands.program import invoke
from cvae.compute.seeding import generator
from cvae.data import idx
from cvae.model import CVAE
from cvae.support.errors import UserError

GREY = [[0.5] * 28] * 28


@pytest.fixture(scope="module")
def run(compared):
    """The run that records what the workspace of `compared` holds."""
    (run,) = [run for run in compared.runs() if run.data.tags["pipeline.key"] == compared.receipt()["pipeline.key"]]
    return run


@pytest.fixture(scope="module")
def model(compared) -> CVAE:
    return saved_model.load(compared.root / "data/model")


def decoded(model: CVAE, z, digits: list[int]) -> np.ndarray:
    return model.decode(torch.tensor(z), torch.tensor(digits)).numpy().reshape(-1, 28, 28)


# Loaded


LOAD = """
import json, sys
blocked, location, asked = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(blocked))
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(location)
answers = [model.predict(pd.DataFrame(table), params=params).to_dict("list") for table, params in asked]
import cvae
print(json.dumps([cvae.__file__, answers]))
"""


def not_required_by(requirements: list[str]) -> list[str]:
    """Every importable package here that no installation of `requirements` would bring."""
    brought, waiting = set(), [(Requirement(line), "") for line in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = requirement.name.lower().replace("_", "-")
        for extra in ("", *requirement.extras):
            if (name, extra) not in brought:
                brought.add((name, extra))
                waiting += [(Requirement(line), extra) for line in metadata.requires(name) or []]
    names = {name for name, _ in brought}
    return [
        package
        for package, distributions in metadata.packages_distributions().items()
        if not names & {distribution.lower().replace("_", "-") for distribution in distributions}
    ]


def test_the_logged_model_needs_its_requirements_and_its_own_code_alone(compared, run, model, tmp_path):
    logged = compared.client.get_logged_model(run.outputs.model_outputs[0].model_id)
    folder = Path(logged.artifact_location)
    blocked = not_required_by([*(folder / "requirements.txt").read_text().split(), "cvae"])  # which it carries
    assert {"torchvision", "dvc", "seaborn", "psutil", "pytest"} <= set(blocked)
    (tmp_path / "elsewhere/cvae").mkdir(parents=True)
    (tmp_path / "elsewhere/cvae/__init__.py").write_text("raise ImportError('another cvae')")

    asked = [
        ({"digit": [3, 3, 8], "z_0": [-1.0, 0.5, None], "z_1": [0.25, 2.0, 0.0]}, None),
        ({"digit": list(range(10))}, None),
        ({"digit": list(range(10))}, {"seed": 1}),
    ]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps([blocked, str(folder), asked])],
        cwd=tmp_path,
        env=environment(MLFLOW_DISABLE_TELEMETRY="true", PYTHONPATH=str(tmp_path / "elsewhere")),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    code, (given, drawn, other) = json.loads(done.stdout.splitlines()[-1])
    assert Path(code).is_relative_to(folder)

    first = torch.randn(3, 2, generator=generator(0, "samples")) * model.prior_std
    expected = [[-1.0, 0.25], [0.5, 2.0], [float(first[2, 0]), 0.0]]
    np.testing.assert_allclose(given["z"], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(given["image"], decoded(model, expected, [3, 3, 8]), rtol=0, atol=1e-6)
    assert np.shape(drawn["image"]) == (10, 28, 28)
    np.testing.assert_allclose(drawn["image"], decoded(model, drawn["z"], list(range(10))), rtol=0, atol=1e-6)
    assert (np.array(drawn["z"]) != np.array(other["z"])).all()


# Served


@pytest.fixture(scope="module")
def served(compared, tmp_path_factory) -> tuple[psutil.Process, str, str]:
    """`cvae serve` in a workspace: its process, its address and what it printed."""
    log = tmp_path_factory.mktemp("serve") / "log"
    address = f"http://127.0.0.1:{(port := closed_port())}"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cvae", "serve", "--port", str(port)],
            cwd=compared.root,
            env=environment(PYTHONPATH="src"),
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(lambda: process.poll() is not None or is_served(f"{address}/ping"), seconds=300)
        assert process.poll() is None, log.read_text()
        yield psutil.Process(process.pid), address, log.read_text()
    finally:
        end(process)


def commands_below(process: psutil.Process) -> str:
    """The command lines of all that it has started."""
    lines = []
    for each in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            lines += each.cmdline()
    return "\n".join(lines)


def answer(address: str, content: dict) -> list[dict]:
    """The rows that the server answers with."""
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    return json.load(urllib.request.urlopen(request, timeout=60))["predictions"]


def test_the_printed_request_returns_a_picture(served, model):
    _, address, printed = served
    (line,) = re.findall(r"^curl .*$", printed, re.MULTILINE)
    _, silent, url, header, kind, data, content = shlex.split(line)
    assert (silent, url, header, kind, data) == (
        "-s",
        f"{address}/invocations",
        "-H",
        "Content-Type: application/json",
        "-d",
    )
    (row,) = answer(address, json.loads(content))
    z = torch.randn(1, 2, generator=generator(0, "samples")) * model.prior_std
    np.testing.assert_allclose(row["z"], z[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose([row["image"]], decoded(model, z.tolist(), [3]), rtol=0, atol=1e-6)


def test_images_are_served_as_their_reconstructions(served, compared, model):
    _, address, _ = served
    _, test = idx.load(compared.root / "data/raw")
    x = test.images[:2].astype(np.float32) / 255
    digits = [int(label) for label in test.labels[:2]]
    mu = model.encode(torch.from_numpy(x), torch.tensor(digits))[0].tolist()

    records = [
        {"digit": digits[0], "image": x[0].reshape(28, 28).tolist()},
        {"digit": 7, "z_0": 1, "z_1": -2},
        {"digit": digits[1], "image": x[1].tolist()},
    ]
    split = {
        "columns": ["digit", "image", "z_0", "z_1"],
        "data": [[row["digit"], row.get("image"), row.get("z_0"), row.get("z_1")] for row in records],
    }
    for content in ({"dataframe_records": records}, {"dataframe_split": split}):
        rows = answer(address, content)
        z = [mu[0], [1.0, -2.0], mu[1]]
        np.testing.assert_allclose([row["z"] for row in rows], z, rtol=0, atol=1e-5)
        expected = decoded(model, z, [digits[0], 7, digits[1]])
        np.testing.assert_allclose([row["image"] for row in rows], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"digit": 10}, "column digit: 10 is not a whole number from 0 to 9"),
        ({"digit": 3.5}, "column digit: 3.5 is not"),
        ({"digit": None}, "column digit: null is not"),
        ({"digit": "3"}, "column digit: '3' is not"),
        ({"digit": True}, "column digit: True is not"),
        ({"digit": 3, "image": GREY[1:]}, "column image: 27 by 28 numbers, not 28 by 28 or 784"),
        ({"digit": 3, "image": [*GREY[1:], [0.5]]}, "column image: not 28 by 28 or 784 numbers"),
        ({"digit": 3, "image": [255] * 784}, "column image: a pixel is 255, not from 0 to 1"),
        ({"digit": 3, "image": [None] * 784}, "column image: a pixel is nan, not from 0 to 1"),
        ({"digit": 3, "z_1": float("inf")}, "column z_1: inf is not a number from -1,000,000 to 1,000,000"),
        ({"digit": 3, "z_1": 1, "image": GREY}, "column image: a row has an image or latents, not both"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused_with_its_row_and_column(served, row, told):
    _, address, _ = served
    with pytest.raises(urllib.error.HTTPError) as refused:
        answer(address, {"dataframe_records": [{"digit": 1}, row]})
    assert refused.value.code == 400
    content = json.load(refused.value)
    assert f"row 1 (the first is 0), {told}" in content["message"]
    assert "stack_trace" not in content


def answer_to_csv(address: str, content: bytes, kind: str = "text/csv") -> list[dict]:
    request = urllib.request.Request(f"{address}/invocations", content, {"Content-Type": kind})
    return json.load(urllib.request.urlopen(request, timeout=60))["predictions"]


@pytest.mark.parametrize("kind", ["text/csv", "text/csv; charset=utf-8", "Text/CSV"])
def test_a_table_in_csv_is_answered_as_in_json(served, kind):
    _, address, _ = served
    records = [{"digit": 3, "z_0": 0.1234567890123}, {"digit": 4, "z_1": -2}, {"digit": 5}]
    content = "digit,z_0,z_1\n3,0.1234567890123,\n4,,-2\n5,,\n".encode("utf-8-sig")
    assert answer_to_csv(address, content, kind) == answer(address, {"dataframe_records": records})
    quoted = b'"z_1", "digit"\r\n,3\r\n-2,4\r\n'
    assert [row["z"][1] for row in answer_to_csv(address, quoted, kind)][1] == -2
    assert len(answer_to_csv(address, b"digit\n" + b"7\n" * 5000, kind)) == 5000


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a table in CSV"),
        (b"\xff\xfe", "not a table in CSV"),
        (b'digit\n"3', "not a table in CSV"),
        (b"digit,z_0\n1,2\n3.5,2\n", "row 1 (the first is 0), column digit: 3.5 is not"),
        (b"digit\nthree\n", "column digit: 'three' is not"),
        (b'digit,image\n3,"[0.5, 0.5]"\n', "column image: not 28 by 28 or 784 numbers"),
        (b"z_0\n1\n", "missing inputs ['digit']"),
    ],
)
def test_bad_csv_is_refused_with_what_is_wrong(served, content, told):
    _, address, _ = served
    with pytest.raises(urllib.error.HTTPError) as refused:
        answer_to_csv(address, content)
    assert refused.value.code == 400
    assert told in json.load(refused.value)["message"]


@pytest.mark.parametrize(
    "content",
    [
        {"inputs": [{"digit": 3}, {"digit": 8}]},
        {"inputs": {"digit": [3, 8]}},
        {"instances": [{"digit": 3}, {"digit": 8}]},
        {"dataframe_split": {"columns": ["digit"], "data": [[3], [8]]}},
    ],
    ids=json.dumps,
)
def test_every_form_of_mlflows_json_is_the_same_table(served, content):
    _, address, _ = served
    assert answer(address, content) == answer(address, {"dataframe_records": [{"digit": 3}, {"digit": 8}]})


def test_a_table_without_digits_is_refused(served):
    _, address, _ = served
    with pytest.raises(urllib.error.HTTPError) as refused:
        answer(address, {"dataframe_records": [{"z_0": 1}]})
    assert refused.value.code == 400
    assert "missing inputs ['digit']" in json.load(refused.value)["message"]


def test_the_server_listens_on_this_machine_alone(served):
    process, address, _ = served
    connections = [
        connection
        for each in [process, *process.children(recursive=True)]
        for connection in each.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {f"http://{connection.laddr.ip}:{connection.laddr.port}" for connection in connections} == {address}


@pytest.fixture
def serve_with(compared, monkeypatch):
    """Call the command in the workspace, as far as the server itself; returns what this was started with."""
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
    ("arguments", "told"),
    [
        (("--run", "0" * 32), "no run of MLflow has the name or id '0000"),
        (("--run", ""), "no run of MLflow has the name or id ''; "),
        (("--model", ""), "--model : no such folder, nor"),
        (("--model", "models:/cvae@best"), "MLflow at mlflow.db: ."),
        (("--model", "nowhere"), "--model nowhere: no such folder, nor a models:/... or runs:/... of MLflow$"),
        (("--model", "http://127.0.0.1:1/model"), "--model http://127.0.0.1:1/model: no such folder"),
        (("--model", "s3://bucket/model"), "--model s3://bucket/model: no such folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_run_or_model_that_is_not_there_is_told_in_one_line(serve_with, arguments, told):
    with pytest.raises(UserError) as refused:
        serve_with(*arguments, "--port", str(closed_port()))
    assert re.match(told, str(refused.value))
    assert "\n" not in str(refused.value)


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """The root of a repository without results, as the working directory."""
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("arguments", [(), ("--run", "0" * 32), ("--model", "models:/cvae@best")], ids=" ".join)
def test_a_model_is_asked_for_without_making_a_store(serve_with, bare, arguments):
    with pytest.raises(UserError, match=r"^mlflow\.db: no MLflow store yet; `dvc repro` records a run"):
        serve_with(*arguments, "--port", str(closed_port()))
    assert sorted(path.name for path in bare.iterdir()) == ["data", "dvc.yaml"]


def test_a_model_whose_files_are_gone_is_told_with_the_way_to_have_them_again(
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
        with pytest.raises(UserError, match=r"the model's files are not there; `dvc repro -sf track` logs those"):
            serve_with(*arguments, "--port", str(closed_port()))

    shutil.copytree(compared.root / "mlartifacts", copy / "mlartifacts")
    for file in (copy / "mlartifacts").rglob("model.safetensors"):
        os.truncate(file, 10)
    with pytest.raises(UserError, match=r"damaged \(model.safetensors: .*\); `dvc repro -sf track` logs those"):
        serve_with("--port", str(closed_port()))


@pytest.mark.parametrize("program", ["ui", "serve"])
def test_a_server_begun_outside_the_repositorys_root_makes_nothing_there(program, tmp_path):
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
def test_ctrl_c_ends_a_server_quietly_while_mlflow_still_starts(compared, program, how, times):
    """As a terminal sends it, to the whole process group; an impatient person does so twice."""
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
        begun = "uvicorn" if program == "ui" else "mlflow"  # uvicorn starts its workers next
        wait_for(lambda: begun in commands_below(family[0]))
        family += family[0].children(recursive=True)
        for _ in range(times):
            os.killpg(process.pid, how)
            time.sleep(0.05)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in said
        assert [each for each in family[1:] if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        kill_group(process)


def test_a_port_that_is_taken_is_told_in_one_line(serve_with):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1: Address already in use"):
            serve_with("--port", str(port))
