"""The CVAE as an MLflow model: a table of digits in, a table of images out.

MLflow keeps this file itself as the model's code and safetensors as its weights, so nothing is pickled.

In, a row an image:

    digit            the label, a whole number from 0 to 9; the one column that must be there
    z_0, z_1, ...    latents; where one is null or its column is missing, it is drawn from the prior
    image            28 by 28 or 784 pixels in [0, 1], to be encoded; null in rows that are not

Out, a row for each, in the same order:

    image            28 by 28 pixels in [0, 1], lists in a list: the decoder's mean image
    z                the latents that it was decoded from, a list: as given or drawn, or the mean of q(z|x,y)

The parameter `seed` picks the draws: the same seed, number of rows and row give the same latents.

In MLflow's signature all columns in are of type Any, and the checks are here. Its `long` cuts a digit of 3.5 to 3
when it reads JSON, its `double` refuses whole latents in a DataFrame, and its `Array` refuses a record without an
image beside one with; and none would name the row.
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
from cvae.data.idx import LABELS, PIXELS, SIDE

REQUIREMENTS = ("mlflow", "numpy", "pandas", "safetensors", "torch")
FARTHEST = 1e6  # of a latent from 0, a thousand of the widest prior's standard deviations; then products overflow


class Generator(mlflow.pyfunc.PythonModel):
    """Decodes each row's latents, as given, drawn from the prior, or encoded from its image."""

    def load_context(self, context) -> None:
        self.model = saved_model.load(context.artifacts["model"])

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """Columns `image`, lists of 28 lists of 28 floats in [0, 1], and `z`, lists of `latent_dims` floats.

        Raises:
            MlflowException: something in the table cannot be used; names its row and column. HTTP status 400.
        """
        digits = _digits(model_input["digit"])
        seed = (params or {}).get("seed") or 0
        noise = torch.randn(len(digits), self.model.latent_dims, generator=generator(seed, "samples"))
        given = _latents(model_input, self.model.latent_dims)
        z = torch.where(given.isnan(), noise * self.model.prior_std, given)
        rows, images = _images(model_input)
        for row in rows:
            if not given[row].isnan().all():
                raise _refusal(row, "image", "a row has an image or latents, not both")
        with torch.no_grad():
            if rows:
                z[rows] = self.model.encode(images, digits[rows])[0]
            decoded = self.model.decode(z, digits).reshape(-1, SIDE, SIDE)
        return pd.DataFrame({"image": decoded.tolist(), "z": z.tolist()}, index=model_input.index)


def _digits(column: pd.Series) -> Tensor:
    """The labels (n,) int64 in the column `digit`."""
    digits = _numbers(column)
    wrong = ~np.isin(digits, range(LABELS))
    if wrong.any():
        row = int(wrong.argmax())
        raise _refusal(row, "digit", f"{_shown(column, row)} is not a whole number from 0 to {LABELS - 1}")
    return torch.from_numpy(digits.astype(np.int64))


def _latents(table: pd.DataFrame, latent_dims: int) -> Tensor:
    """The latents (n, latent_dims) float32 in the columns `z_0` …, NaN where none is given."""
    z = np.full((len(table), latent_dims), np.nan, np.float32)
    for d in range(latent_dims):
        if (name := f"z_{d}") in table:
            column = _numbers(table[name])
            wrong = ~(np.abs(column) <= FARTHEST) & table[name].notna().to_numpy()
            if wrong.any():
                row = int(wrong.argmax())
                told = f"{_shown(table[name], row)} is not a number from {-FARTHEST:,.0f} to {FARTHEST:,.0f}"
                raise _refusal(row, name, told)
            z[:, d] = column
    return torch.from_numpy(z)


def _images(table: pd.DataFrame) -> tuple[list[int], Tensor]:
    """Which rows have an image in the column `image`, and these as (rows, 784) float32 in [0, 1]."""
    rows, images = [], []
    for row, value in enumerate(table.get("image", [])):
        if pd.api.types.is_scalar(value) and pd.isna(value):
            continue
        try:
            image = np.asarray(list(value), np.float32)
        except (TypeError, ValueError):
            raise _refusal(row, "image", f"not {SIDE} by {SIDE} or {PIXELS} numbers") from None
        if image.shape not in ((SIDE, SIDE), (PIXELS,)):
            shape = " by ".join(map(str, image.shape))
            raise _refusal(row, "image", f"{shape} numbers, not {SIDE} by {SIDE} or {PIXELS}")
        wrong = ~((image >= 0) & (image <= 1))
        if wrong.any():
            raise _refusal(row, "image", f"a pixel is {image[wrong][0]:g}, not from 0 to 1")
        rows.append(row)
        images.append(image.reshape(PIXELS))
    return rows, torch.from_numpy(np.array(images, np.float32).reshape(-1, PIXELS))


def _numbers(column: pd.Series) -> np.ndarray:
    """The column as float64, NaN where it has no number; text and truth values are none."""
    numbers = (isinstance(value, Real) and not isinstance(value, bool) for value in column)
    return np.array([float(value) if number else np.nan for value, number in zip(column, numbers, strict=True)])


def _shown(column: pd.Series, row: int) -> str:
    value = column.iloc[row]
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "null"
    return (repr(value) if isinstance(value, str) else str(value))[:80]


def _refusal(row: int, column: str, told: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(f"row {row} (the first is 0), column {column}: {told}")


def log(folder: str | Path, model=None) -> None:
    """Log the model in `folder` to MLflow's active run, with its signature and all that loading it takes.

    `model`: one of MLflow's that the run has, whose files are incomplete or lost, and are written again.
    MLflow tries the input example, each digit once, on what it wrote, and warns if that cannot be drawn.
    """
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType, Array

    from cvae.tracking import description

    optional = [*(f"z_{d}" for d in range(saved_model.load(folder).latent_dims)), "image"]
    columns = [ColSpec(AnyType(), "digit"), *(ColSpec(AnyType(), name, required=False) for name in optional)]
    numbers = Array(DataType.double)
    with tempfile.TemporaryDirectory() as aside:
        code = shutil.copy(__file__, aside)  # MLflow keeps the whole path, which is not to tell of this machine
        files = shutil.copytree(folder, Path(aside) / "model")  # MLflow takes no links, as DVC may have to its cache
        content = {
            "python_model": code,
            "artifacts": {"model": str(files)},
            "code_paths": [str(Path(__file__).resolve().parents[1])],
            "signature": ModelSignature(
                inputs=Schema(columns),
                outputs=Schema([ColSpec(Array(numbers), "image"), ColSpec(numbers, "z")]),
                params=ParamSchema([ParamSpec("seed", DataType.long, 0)]),
            ),
            "input_example": pd.DataFrame({"digit": range(LABELS)}),
            "pip_requirements": [f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS],
        }
        if model is None:
            tags = {description.NOTE: description.OF_MODEL, "mlflow.source.name": "dvc.yaml"}
            mlflow.pyfunc.log_model(name="model", tags=tags, **content)
            return
        again, place, client = Path(aside) / "again", model.artifact_location, mlflow.MlflowClient()
        about = Model(place, model.source_run_id, model_uuid=model.model_id, model_id=model.model_id)
        mlflow.pyfunc.save_model(again, mlflow_model=about, **content)
        for compiled in again.rglob("__pycache__"):
            shutil.rmtree(compiled)
        client.log_model_artifacts(model.model_id, str(again))
        client.finalize_logged_model(model.model_id, "READY")


if __name__ != "cvae.tracking.served_model":  # run by MLflow, as the file that makes the model
    mlflow.models.set_model(Generator())
