"""A result with validation images and early stopping: real stages, DVC and MLflow."""

import csv
import json
import re
import sys
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import vl_convert
from helpers.repository import Repository, stages_run
from helpers.runs import files_of

from cvae.data import dataset
from cvae.data.dataset import Split
from cvae.data.validation import hold_out

IMAGES, TRAINING, TEST = 300, 1200, 297  # of digits
PARAMETERS = {"validation_images": IMAGES, "patience": 2, "epochs": 40, "learning_rate": 0.03, "seed": 0}
STAGES = ["train", "evaluate", "embed", "render", "track"]


@pytest.fixture(scope="module")
def validated(repository, empty_database, tmp_path_factory) -> Repository:
    clone = repository.copy(tmp_path_factory.mktemp("validated") / "cvae")
    (clone.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    settings = [f"--set-param={key}={value}" for key, value in PARAMETERS.items()]
    assert stages_run(clone.dvc("exp", "run", "--name", "held-out", *settings)) == STAGES
    return clone


def rows(clone: Repository) -> list[dict[str, str]]:
    with open(clone.root / "plots/training.csv", newline="") as file:
        return list(csv.DictReader(file))


def metrics(clone: Repository, name: str) -> dict:
    return json.loads((clone.root / f"metrics/{name}.json").read_text())


def test_curves_are_of_training_and_validation_images_only(validated):
    assert {column.split("_")[0] for column in rows(validated)[0]} == {"epoch", "train", "validation", "article"}


def test_the_model_is_that_of_the_best_epoch_and_training_stopped_after_it(validated):
    history, summary = rows(validated), metrics(validated, "train")
    losses = [float(row["validation_loss"]) for row in history]
    best = 1 + losses.index(min(losses))
    assert len(history) == best + PARAMETERS["patience"] < PARAMETERS["epochs"]
    assert summary["best_epoch"] == best
    assert summary["loss"] == float(history[best - 1]["train_loss"])
    assert metrics(validated, "validation")["loss"] == pytest.approx(min(losses), rel=1e-6)


def test_test_figures_are_beside_those_of_the_validation_images(validated):
    validation, test = (metrics(validated, name) for name in ("validation", "test"))
    assert validation.keys() == test.keys()
    assert validation["nll"] != test["nll"]


def test_held_out_images_are_embedded_as_a_split_of_their_own(validated):
    table = pq.read_table(validated.root / "data/latents.parquet", columns=["split", "index", "label"])
    assert Counter(table["split"].to_pylist()) == {"train": TRAINING, "validation": IMAGES, "test": TEST}
    held_out = hold_out(dataset.load(validated.root / "data/raw"), IMAGES, PARAMETERS["seed"])
    found = table.filter(table["split"].cast("string").to_numpy() == "validation")
    assert found["label"].to_pylist() == held_out.validation.labels.tolist()
    images = dataset.load(validated.root / "data/raw").train.images[found["index"].to_numpy()]
    assert np.array_equal(images, held_out.validation.images), "the index leads to the image"


def test_a_forced_repro_makes_the_same_bytes(validated):
    lock = (validated.root / "dvc.lock").read_bytes()
    assert stages_run(validated.dvc("repro", "--force")) == ["download", *STAGES]
    assert (validated.root / "dvc.lock").read_bytes() == lock


def test_the_run_names_the_split_of_each_figure(validated):
    (run,) = validated.runs()
    recorded = run.data.metrics
    assert recorded["final_validation/nll"] == metrics(validated, "validation")["nll"]
    assert recorded["final_test/nll"] == metrics(validated, "test")["nll"]
    assert recorded["train/best_epoch"] == metrics(validated, "train")["best_epoch"]
    steps = [step.step for step in validated.client.get_metric_history(run.info.run_id, "validation/loss")]
    assert steps == list(range(1, len(rows(validated)) + 1))
    assert not [name for name in recorded if name.startswith("test/")]
    assert {"validation.json", "test.json"} <= files_of(validated.client, run)


def test_test_images_choose_nothing(validated, tmp_path):
    """With other test images, the model and the validation figures are the same to the byte."""
    clone = validated.copy(tmp_path / "cvae")
    data = dataset.load(clone.root / "data/raw")
    for file in (clone.root / "data/raw").iterdir():
        content = file.read_bytes()
        file.unlink()  # it may be a link into DVC's cache
        file.write_bytes(content)
    dataset.save(
        dataset.Dataset(data.train, Split(255 - data.test.images, data.test.labels), data.schema),
        clone.root / "data/raw",
    )
    for stage in ("train", "evaluate"):
        clone.run(sys.executable, "-m", f"stages.{stage}")
    for name in ("data/model/model.safetensors", "plots/training.csv", "metrics/train.json", "metrics/validation.json"):
        assert (clone.root / name).read_bytes() == (validated.root / name).read_bytes(), name
    assert metrics(clone, "test")["nll"] != metrics(validated, "test")["nll"]


@pytest.mark.parametrize(("revisions", "dashes"), [(1, ["1,0", "6,3"]), (2, ["1,0", "1,0", "2,2", "6,3"])])
def test_dvcs_page_draws_the_curves_of_each_split(validated, tmp_path, revisions, dashes):
    """Beside each other, a result with validation images and one without."""
    command = ("show",) if revisions == 1 else ("diff", "HEAD")
    validated.dvc("plots", *command, "--out", str(tmp_path))
    page = (tmp_path / "index.html").read_text()
    charts = [json.JSONDecoder().raw_decode(page, match.end())[0] for match in re.finditer(r"var spec = ", page)]
    drawn = {chart["title"]["text"]: vl_convert.vegalite_to_svg(chart) for chart in charts if "title" in chart}
    for title in ("Loss", "Reconstruction", "KL"):
        lines = re.findall(r'aria-roledescription="line mark"[^>]*stroke-dasharray="([\d,]+)"', drawn[title])
        assert sorted(lines) == dashes, title
