"""The model that a run logs: loaded with only its requirements installed, and served over HTTP."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from helpers.models import MNIST
from helpers.processes import closed_port, end, environment, is_served, wait_for
from helpers.repository import PROJECT
from packaging.requirements import Requirement

from cvae.artifacts import saved_model
from cvae.compute.seeding import generator
from cvae.data import dataset
from cvae.model import CVAE

SIDE, PIXELS, LABELS = MNIST.shape[0], MNIST.image_dims, len(MNIST.classes)
GREY = [[0.5] * SIDE] * SIDE
A, B = 0, LABELS - 1  # two labels
KNOWN = "the model knows 10 classes (0, 1, 2, 3, 4, …)"


@pytest.fixture(scope="module")
def run(compared):
    """The run that records what the workspace of `compared` holds."""
    (run,) = [run for run in compared.runs() if run.data.tags["pipeline.key"] == compared.receipt()["pipeline.key"]]
    return run


@pytest.fixture(scope="module")
def model(compared) -> CVAE:
    return saved_model.load(compared.root / "data/model")


def decoded(model: CVAE, z, digits: list[int]) -> np.ndarray:
    return model.decode(torch.tensor(z), torch.tensor(digits)).numpy().reshape(-1, SIDE, SIDE)


def prior_sample(model: CVAE, count: int) -> torch.Tensor:
    """Return the latents that the served model samples with its default seed."""
    return torch.randn(count, model.latent_dims, generator=generator(0, "samples")) * model.prior_std


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
    """Return every installed package that installing only `requirements` would not bring."""
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


def test_the_logged_model_needs_its_requirements_and_its_own_code_only(compared, run, model, tmp_path):
    logged = compared.client.get_logged_model(run.outputs.model_outputs[0].model_id)
    folder = Path(logged.artifact_location)
    blocked = not_required_by([*(folder / "requirements.txt").read_text().split(), "cvae"])  # it carries cvae
    assert {"torchvision", "dvc", "seaborn", "psutil", "pytest"} <= set(blocked)
    (tmp_path / "elsewhere/cvae").mkdir(parents=True)
    (tmp_path / "elsewhere/cvae/__init__.py").write_text("raise ImportError('another cvae')")

    asked = [
        ({"label": [A, A, B], "z_0": [-1.0, 0.5, None], "z_1": [0.25, 2.0, 0.0]}, None),
        ({"label": list(range(LABELS))}, None),
        ({"label": list(range(LABELS))}, {"seed": 1}),
    ]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps([blocked, str(folder), asked])],
        cwd=tmp_path,
        env=environment(MLFLOW_DISABLE_TELEMETRY="true", PYTHONPATH=str(tmp_path / "elsewhere")),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    code, (given, sampled, other) = json.loads(done.stdout.splitlines()[-1])
    assert Path(code).is_relative_to(folder)

    expected = prior_sample(model, 3)
    expected[:2, 0] = torch.tensor([-1.0, 0.5])
    expected[:, 1] = torch.tensor([0.25, 2.0, 0.0])
    np.testing.assert_allclose(given["z"], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(given["image"], decoded(model, expected.tolist(), [A, A, B]), rtol=0, atol=1e-6)
    assert np.shape(sampled["image"]) == (LABELS, SIDE, SIDE)
    np.testing.assert_allclose(sampled["image"], decoded(model, sampled["z"], list(range(LABELS))), rtol=0, atol=1e-6)
    assert (np.array(sampled["z"]) != np.array(other["z"])).all()


# A model of your own, of other images


TINY = """
import torch
from cvae.model import VAE

class Tiny(VAE):
    def __init__(self, schema, labels="given", latent_dims=2):
        super().__init__(schema, labels, latent_dims)
        self.up = torch.nn.Linear(latent_dims + self.label_count, schema.image_dims)

    def encode(self, x, y):
        return x[:, : self.latent_dims], torch.zeros(len(x), self.latent_dims)

    def logits(self, z, y):
        label = torch.nn.functional.one_hot(y, self.label_count).to(z) if self.label_count else z[:, :0]
        return self.up(torch.cat((z, label), dim=1))

    def configuration(self):
        return {"labels": self.labels, "latent_dims": self.latent_dims}
"""
LOG = """
import sys
import mlflow
from cvae import models
from cvae.artifacts import saved_model
from cvae.data.dataset import Schema
from cvae.tracking import served_model

mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment(experiment_id=mlflow.create_experiment("own", artifact_location="kept"))
pets = Schema((4, 6, 3), ("cat", "guinea pig", "it's"), "pets")
for labels in ("given", "none"):
    saved_model.save(models.build("cvae.models.tiny:Tiny", pets, {"labels": labels}), labels)
    with mlflow.start_run() as run:
        served_model.log(labels)
    (model,) = mlflow.MlflowClient().get_run(run.info.run_id).outputs.model_outputs
    print(mlflow.MlflowClient().get_logged_model(model.model_id).artifact_location)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory, empty_database) -> dict[str, Path]:
    """Logged models with and without labels, of a class in cvae.models that this project does not have."""
    root = tmp_path_factory.mktemp("own")
    shutil.copytree(PROJECT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "src/cvae/models/tiny.py").write_text(TINY)
    shutil.copy(empty_database, root / "mlflow.db")
    done = subprocess.run(
        [sys.executable, "-c", LOG],
        cwd=root,
        env=environment(MLFLOW_DISABLE_TELEMETRY="true", PYTHONPATH=str(root / "src")),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, "MLflow ran the input example, and it failed"
    places = (root / line for line in done.stdout.splitlines()[-2:])
    return dict(zip(("given", "none"), places, strict=True))


def ask(folder: Path, *tables: dict) -> list[dict]:
    """Load the model in another process, and return its answers to `tables`."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps([[], str(folder), [(table, None) for table in tables]])],
        cwd=folder,
        env=environment(MLFLOW_DISABLE_TELEMETRY="true"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    code, answers = json.loads(done.stdout.splitlines()[-1])
    assert Path(code).is_relative_to(folder), "it must carry its own code"
    return answers


def test_a_model_of_your_own_in_colour_is_served_by_the_names_of_its_classes(own):
    colour = np.linspace(0, 1, 4 * 6 * 3)
    by_name, by_position, flat, nested = ask(
        own["given"],
        {"label": ["it's", "cat"], "z_0": [0, 1], "z_1": [0.5, 1]},
        {"label": [2, "0"], "z_0": [0, 1], "z_1": [0.5, 1]},
        {"label": ["cat"], "image": [colour.tolist()]},
        {"label": ["cat"], "image": [colour.reshape(4, 6, 3).tolist()]},
    )
    assert np.shape(by_name["image"]) == (2, 4, 6, 3)
    assert by_name == by_position
    assert flat == nested
    np.testing.assert_allclose(flat["z"], [colour[:2]], atol=1e-6)


def test_a_model_without_labels_needs_none_and_ignores_them(own):
    plain, labelled, bare = ask(
        own["none"],
        {"z_0": [0.5, -0.5], "z_1": [0, 0]},
        {"z_0": [0.5, -0.5], "z_1": [0, 0], "label": ["no such class", None]},
        {"label": ["cat", "cat"]},
    )
    assert plain == labelled
    assert np.shape(bare["image"]) == (2, 4, 6, 3)
    assert bare["image"][0] != bare["image"][1]


@pytest.mark.parametrize("labels", ["given", "none"])
def test_the_input_example_has_the_columns_that_the_model_takes(own, labels):
    example = json.loads((own[labels] / "input_example.json").read_text())
    expected = (["label"], [["cat"], ["guinea pig"], ["it's"]]) if labels == "given" else (["z_0"], [[0.0], [0.5**0.5]])
    assert (example["columns"], example["data"]) == expected


# A running server


@pytest.fixture(scope="module")
def served(compared, tmp_path_factory) -> tuple[psutil.Process, str, str]:
    """A running `cvae serve`: its process, its address and what it printed."""
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


def answer(address: str, content: dict) -> list[dict]:
    """Return the rows that the server answers with."""
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    return json.load(urllib.request.urlopen(request, timeout=60))["predictions"]


def test_the_printed_request_returns_a_picture(served, model):
    _, address, printed = served
    (line,) = re.findall(r"^curl .*$", printed, re.MULTILINE)
    _, silent, url, header, kind, data, content = shlex.split(line)
    assert (silent, url, data) == ("-s", f"{address}/invocations", "-d")
    assert (header, kind) == ("-H", "Content-Type: application/json")
    (row,) = answer(address, json.loads(content))
    z = prior_sample(model, 1)
    np.testing.assert_allclose(row["z"], z[0], rtol=0, atol=1e-6)
    (asked,) = json.loads(content)["dataframe_records"]
    np.testing.assert_allclose([row["image"]], decoded(model, z.tolist(), [int(asked["label"])]), rtol=0, atol=1e-6)


def test_images_are_served_as_their_reconstructions(served, compared, model):
    _, address, _ = served
    test = dataset.load(compared.root / "data/raw").test
    x = test.images[:2].astype(np.float32) / 255  # shape (2, PIXELS)
    digits = [int(label) for label in test.labels[:2]]
    mu = model.encode(torch.from_numpy(x), torch.tensor(digits))[0].tolist()

    records = [
        {"label": digits[0], "image": x[0].reshape(SIDE, SIDE).tolist()},
        {"label": A, "z_0": 1, "z_1": -2},
        {"label": digits[1], "image": x[1].tolist()},
    ]
    split = {
        "columns": ["label", "image", "z_0", "z_1"],
        "data": [[row["label"], row.get("image"), row.get("z_0"), row.get("z_1")] for row in records],
    }
    between = prior_sample(model, 3)[1]
    between[:2] = torch.tensor([1.0, -2.0])
    z = [mu[0], between.tolist(), mu[1]]
    for content in ({"dataframe_records": records}, {"dataframe_split": split}):
        rows = answer(address, content)
        np.testing.assert_allclose([row["z"] for row in rows], z, rtol=0, atol=1e-5)
        expected = decoded(model, z, [digits[0], A, digits[1]])
        np.testing.assert_allclose([row["image"] for row in rows], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"label": LABELS}, f"column label: {LABELS} is not a label; {KNOWN}"),
        ({"label": 3.5}, "column label: 3.5 is not"),
        ({"label": None}, "column label: null is not"),
        ({"label": "three"}, "column label: 'three' is not"),
        ({"label": True}, "column label: True is not"),
        ({"label": [3]}, "column label: [3] is not"),
        (
            {"label": A, "image": GREY[1:]},
            f"column image: {SIDE - 1} by {SIDE} numbers, not {SIDE} by {SIDE} or {PIXELS}",
        ),
        ({"label": A, "image": [*GREY[1:], [0.5]]}, f"column image: not {SIDE} by {SIDE} or {PIXELS} numbers"),
        ({"label": A, "image": [255] * PIXELS}, "column image: a pixel is 255, not from 0 to 1"),
        ({"label": A, "image": [None] * PIXELS}, "column image: a pixel is nan, not from 0 to 1"),
        ({"label": A, "z_1": float("inf")}, "column z_1: inf is not a number from -1,000,000 to 1,000,000"),
        ({"label": A, "z_1": 1, "image": GREY}, "column image: a row has an image or latents, not both"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused_with_its_row_and_column(served, row, expected):
    _, address, _ = served
    with pytest.raises(urllib.error.HTTPError) as refused:
        answer(address, {"dataframe_records": [{"label": B}, row]})
    assert refused.value.code == 400
    content = json.load(refused.value)
    assert f"row 1 (the first is 0), {expected}" in content["message"]
    assert "stack_trace" not in content


def answer_to_csv(address: str, content: bytes, kind: str = "text/csv") -> list[dict]:
    request = urllib.request.Request(f"{address}/invocations", content, {"Content-Type": kind})
    return json.load(urllib.request.urlopen(request, timeout=60))["predictions"]


@pytest.mark.parametrize("kind", ["text/csv", "text/csv; charset=utf-8", "Text/CSV"])
def test_a_table_in_csv_is_answered_as_in_json(served, kind):
    _, address, _ = served
    records = [{"label": A, "z_0": 0.1234567890123}, {"label": B, "z_1": -2}, {"label": A}]
    content = f"label,z_0,z_1\n{A},0.1234567890123,\n{B},,-2\n{A},,\n".encode("utf-8-sig")
    assert answer_to_csv(address, content, kind) == answer(address, {"dataframe_records": records})
    quoted = f'"z_1", "label"\r\n,{A}\r\n-2,{B}\r\n'.encode()
    assert [row["z"][1] for row in answer_to_csv(address, quoted, kind)][1] == -2
    assert len(answer_to_csv(address, b"label\n" + b"%d\n" % A * 5000, kind)) == 5000


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not a table in CSV"),
        (b"\xff\xfe", "not a table in CSV"),
        (b'label\n"3', "not a table in CSV"),
        (b"label,z_0\n1,2\n3.5,2\n", "row 1 (the first is 0), column label: '3.5' is not"),
        (b"label\nthree\n", "column label: 'three' is not"),
        (b'label,image\n1,"[0.5, 0.5]"\n', f"column image: not {SIDE} by {SIDE} or {PIXELS} numbers"),
        (b"z_0\n1\n", "missing inputs ['label']"),
    ],
)
def test_bad_csv_is_refused_with_what_is_wrong(served, content, expected):
    _, address, _ = served
    with pytest.raises(urllib.error.HTTPError) as refused:
        answer_to_csv(address, content)
    assert refused.value.code == 400
    assert expected in json.load(refused.value)["message"]


@pytest.mark.parametrize(
    "content",
    [
        {"inputs": [{"label": A}, {"label": B}]},
        {"inputs": {"label": [A, B]}},
        {"instances": [{"label": A}, {"label": B}]},
        {"dataframe_split": {"columns": ["label"], "data": [[A], [B]]}},
    ],
    ids=json.dumps,
)
def test_every_form_of_mlflows_json_is_the_same_table(served, content):
    _, address, _ = served
    assert answer(address, content) == answer(address, {"dataframe_records": [{"label": A}, {"label": B}]})


def test_a_table_without_labels_is_refused(served):
    _, address, _ = served
    with pytest.raises(urllib.error.HTTPError) as refused:
        answer(address, {"dataframe_records": [{"z_0": 1}]})
    assert refused.value.code == 400
    assert "missing inputs ['label']" in json.load(refused.value)["message"]


def test_the_server_listens_on_this_machine_only(served):
    process, address, _ = served
    connections = [
        connection
        for each in [process, *process.children(recursive=True)]
        for connection in each.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {f"http://{connection.laddr.ip}:{connection.laddr.port}" for connection in connections} == {address}
