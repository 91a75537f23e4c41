"""What a complete MLflow run holds."""

from mlflow import MlflowClient

from cvae.tracking.live import metric_name
from cvae.tracking.runs import PIPELINE_KEY
from cvae.training.snapshots import snapshot_epochs
from helpers.pages import PICTURES, THUMBNAILS

COLUMNS = [f"{split}_{part}" for split in ("train", "test") for part in ("loss", "reconstruction", "kl")]
CURVES = [metric_name(column) for column in [*COLUMNS, "article_loss"]]
FIGURES = ("loss", "reconstruction", "kl", "active_units")  # of metrics/test.json


def final(figure: str) -> str:
    """Return MLflow's name of a figure in metrics/test.json."""
    return f"final_test/{figure}"


def files_of(client: MlflowClient, run, folder: str | None = None) -> set[str]:
    """Return the paths of the run's artifacts, according to MLflow, so that a server's are found too."""
    found = set()
    for entry in client.list_artifacts(run.info.run_id, folder):
        found |= files_of(client, run, entry.path) if entry.is_dir else {entry.path}
    return found


def assert_complete(client: MlflowClient, run, epochs: int = 2, split: str = "test") -> None:
    """Assert that `run` has all parameters, curves of `split`, figures, pictures, data and the model."""
    assert run.info.status == "FINISHED"
    assert PIPELINE_KEY in run.data.tags
    assert {"dataset", "latent_dims", "epochs", "device", "threads", "grid_size"} <= run.data.params.keys()
    for name in (curve.replace("test/", f"{split}/") for curve in CURVES):
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, name)]
        assert sorted(steps) == list(range(1, epochs + 1)), name
    assert {final(figure) for figure in FIGURES} <= run.data.metrics.keys()
    files = files_of(client, run)
    learning = {f"learning/{epoch:04}.png" for epoch in snapshot_epochs(epochs)}
    lasting = {name for name in PICTURES if not name.startswith("learning/")}
    metrics = {"test.json", "train.json", "training.csv", "validation.json"}
    assert files >= lasting | learning | metrics | {"explorer.html", "params.yaml"}
    images = {name.removeprefix("images/").partition("+")[0] for name in files if name.startswith("images/")}
    assert images == {name.removesuffix(".png").replace("/", "~") for name in THUMBNAILS if name in lasting} | {
        "learning"
    }
    assert len(run.inputs.dataset_inputs) == 1
    assert len(run.outputs.model_outputs) == 1


def steps(client: MlflowClient, run) -> int:
    """Return the number of epochs that `run` has logged."""
    return len(client.get_metric_history(run.info.run_id, CURVES[0]))
