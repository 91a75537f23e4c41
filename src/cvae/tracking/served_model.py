"""The trained model as an MLflow model: a table of labels in, a table of images out.

`description.of_model` lists the columns.

MLflow stores this file as the model's code and safetensors as its weights, so nothing is pickled. The parameter `seed`
sets the random latents: the same seed, row and number of rows give the same ones.

All input columns have type Any in MLflow's signature, and this module checks them. MLflow's other types do not fit:
`string` refuses a label that is a number, `double` refuses whole numbers as latents in a DataFrame, and `Array` refuses
a mix of rows with and without an image. None of them names the row in its error.
"""

import importlib.metadata
import shutil
import tempfile
from numbers import Real
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from torch import Tensor

from cvae.artifacts import saved_model
from cvae.compute.seeding import generator
from cvae.data.dataset import Schema, classes_in_words
from cvae.model import VAE, sample_prior
from cvae.tracking.labels import find_class

REQUIREMENTS = ("mlflow", "numpy", "pandas", "safetensors", "torch")
EXAMPLES = 10  # rows of the input example, at most
FARTHEST = 1e6  # largest latent: a thousand standard deviations of the widest prior; beyond it, products may overflow


class Generator(mlflow.pyfunc.PythonModel):
    """Decodes each row's latents: as given, sampled from the prior, or encoded from its image."""

    def load_context(self, context) -> None:
        self.model = saved_model.load(context.artifacts["model"])

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """Return columns `image` (lists of lists of floats in [0, 1], or of three floats) and `z` (a list of floats).

        Raises:
            MlflowException: a value is invalid; the message names its row and column. HTTP status 400.
        """
        model = self.model
        labels = torch.zeros(len(model_input), dtype=torch.int64)
        if model.label_count:
            labels = _labels(model_input["label"], model.schema.classes)
        seed = (params or {}).get("seed") or 0
        sampled = sample_prior(model, len(labels), generator(seed, "samples"))
        given = _latents(model_input, model.latent_dims)
        z = torch.where(given.isnan(), sampled, given)
        rows, images = _images(model_input, model.schema)
        for row in rows:
            if not given[row].isnan().all():
                raise _refusal(row, "image", "a row has an image or latents, not both")
        with torch.no_grad():
            if rows:
                z[rows] = model.encode(images, labels[rows])[0]
            decoded = model.decode(z, labels).reshape(-1, *model.schema.picture_shape)
        return pd.DataFrame({"image": decoded.tolist(), "z": z.tolist()}, index=model_input.index)


def _labels(column: pd.Series, classes: tuple[str, ...]) -> Tensor:
    """Return the column `label` as positions in `classes`, (n,) int64."""
    labels = []
    for row, label in enumerate(column):
        found = None if _is_missing(label) else find_class(label, classes)
        if found is None:
            raise _refusal(row, "label", f"{_shown(label)} is not a label; the model knows {classes_in_words(classes)}")
        labels.append(found)
    return torch.tensor(labels, dtype=torch.int64)


def _latents(table: pd.DataFrame, latent_dims: int) -> Tensor:
    """Return the columns `z_0`, `z_1`, … as latents (n, latent_dims) float32, NaN where not given."""
    z = np.full((len(table), latent_dims), np.nan, np.float32)
    for d in range(latent_dims):
        if (name := f"z_{d}") in table:
            column = _numbers(table[name])
            wrong = ~(np.abs(column) <= FARTHEST) & table[name].notna().to_numpy()
            if wrong.any():
                row = int(wrong.argmax())
                shown = _shown(table[name].iloc[row])
                raise _refusal(row, name, f"{shown} is not a number from {-FARTHEST:,.0f} to {FARTHEST:,.0f}")
            z[:, d] = column
    return torch.from_numpy(z)


def _images(table: pd.DataFrame, schema: Schema) -> tuple[list[int], Tensor]:
    """Return the rows that have an image, and their images (rows, image_dims) float32 in [0, 1]."""
    sides = schema.picture_shape
    expected = f"{' by '.join(map(str, sides))} or {schema.image_dims}"
    rows, images = [], []
    for row, value in enumerate(table.get("image", [])):
        if _is_missing(value):
            continue
        try:
            image = np.asarray(list(value), np.float32)
        except (TypeError, ValueError):
            raise _refusal(row, "image", f"not {expected} numbers") from None
        if image.shape not in (sides, (schema.image_dims,)):
            raise _refusal(row, "image", f"{' by '.join(map(str, image.shape))} numbers, not {expected}")
        wrong = ~((image >= 0) & (image <= 1))
        if wrong.any():
            raise _refusal(row, "image", f"a pixel is {image[wrong][0]:g}, not from 0 to 1")
        rows.append(row)
        images.append(image.reshape(-1))
    return rows, torch.from_numpy(np.array(images, np.float32).reshape(-1, schema.image_dims))


def _numbers(column: pd.Series) -> np.ndarray:
    """Return the column as float64, NaN where it has no number. Text and booleans are not numbers."""
    numbers = (isinstance(value, Real) and not isinstance(value, bool) for value in column)
    return np.array([float(value) if number else np.nan for value, number in zip(column, numbers, strict=True)])


def _is_missing(value: object) -> bool:
    return pd.api.types.is_scalar(value) and pd.isna(value)


def _shown(value: object) -> str:
    if _is_missing(value):
        return "null"
    return (repr(value) if isinstance(value, str) else str(value))[:80]


def _refusal(row: int, column: str, reason: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(f"row {row} (the first is 0), column {column}: {reason}")


def log(folder: str | Path, model=None) -> None:
    """Log the model in `folder` to MLflow's active run, with its signature, code and requirements.

    `model`: a model of the run with missing files, which are written again; None creates a new model.
    MLflow runs the input example on the logged model, and warns if that fails.
    """
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec
    from mlflow.types import Schema as Columns
    from mlflow.types.schema import AnyType, Array
    from mlflow.utils import requirements_utils

    from cvae.tracking import description

    trained = saved_model.load(folder)
    optional = [*(f"z_{d}" for d in range(trained.latent_dims)), "image"]
    # MLflow drops columns that it does not know, and with them all rows of a table that has no others.
    columns = [ColSpec(AnyType(), "label", required=bool(trained.label_count))]
    columns += [ColSpec(AnyType(), name, required=False) for name in optional]
    numbers = Array(DataType.double)
    image = numbers
    for _ in trained.schema.picture_shape[1:]:
        image = Array(image)
    # MLflow compares the requirements with what is installed, and would search all packages for a second to do so.
    requirements_utils._MODULES_TO_PACKAGES = {}
    with tempfile.TemporaryDirectory() as aside:
        code = shutil.copy(__file__, aside)  # MLflow stores its path, which must not reveal where the project is
        files = shutil.copytree(folder, Path(aside) / "model")  # MLflow refuses links, and DVC may link to its cache
        content = {
            "python_model": code,
            "artifacts": {"model": str(files)},
            "code_paths": [str(Path(__file__).resolve().parents[1])],
            "signature": ModelSignature(
                inputs=Columns(columns),
                outputs=Columns([ColSpec(image, "image"), ColSpec(numbers, "z")]),
                params=ParamSchema([ParamSpec("seed", DataType.long, 0)]),
            ),
            "input_example": example(trained),
            "pip_requirements": [f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS],
        }
        if model is None:
            tags = {description.NOTE: description.of_model(trained), "mlflow.source.name": "dvc.yaml"}
            mlflow.pyfunc.log_model(name="model", tags=tags, **content)
            return
        again, place, client = Path(aside) / "again", model.artifact_location, mlflow.MlflowClient()
        about = Model(place, model.source_run_id, model_uuid=model.model_id, model_id=model.model_id)
        mlflow.pyfunc.save_model(again, mlflow_model=about, **content)
        for compiled in again.rglob("__pycache__"):
            shutil.rmtree(compiled)
        client.log_model_artifacts(model.model_id, str(again))
        client.finalize_logged_model(model.model_id, "READY")


def example(model: VAE) -> pd.DataFrame:
    """Return a small table that `model` accepts; `cvae serve` prints its first row."""
    if model.label_count:
        return pd.DataFrame({"label": model.schema.classes[:EXAMPLES]})
    return pd.DataFrame({"z_0": [0.0, model.prior_std]})


if __name__ != "cvae.tracking.served_model":  # MLflow runs this file to create the model
    mlflow.models.set_model(Generator())
