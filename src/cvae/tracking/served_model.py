"""The trained decoder as an MLflow model: a table of digits in, images out.

MLflow keeps this file itself as the model's code and safetensors as its weights, so nothing is pickled.
"""

import importlib.metadata
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import torch

from cvae.datasets import LABELS, SIDE
from cvae.model import CVAE
from cvae.seeding import generator

REQUIREMENTS = ("mlflow", "numpy", "pandas", "safetensors", "torch")


class Generator(mlflow.pyfunc.PythonModel):
    """Draws one image a row of a table with a column `digit` and, if wanted, `z_0` … of each latent."""

    def load_context(self, context) -> None:
        self.model = CVAE.load(context.artifacts["model"])

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> np.ndarray:
        """Images (n, 28, 28) float32 in [0, 1]; a latent that is not given is drawn from the prior by `seed`.

        Raises:
            ValueError: a digit is not one of 0 to 9.
        """
        digits = torch.tensor(model_input["digit"].to_numpy(np.int64))
        if len(digits) and not (int(digits.min()) >= 0 and int(digits.max()) < LABELS):
            raise ValueError(f"digit must be from 0 to {LABELS - 1}")
        seed = (params or {}).get("seed", 0)
        noise = torch.randn(len(digits), self.model.latent_dims, generator=generator(seed, "samples"))
        z = (noise * self.model.prior_std).numpy()
        for d in range(self.model.latent_dims):
            if (name := f"z_{d}") in model_input:
                given = model_input[name].to_numpy(np.float32)
                z[:, d] = np.where(np.isnan(given), z[:, d], given)
        with torch.no_grad():
            return self.model.decode(torch.from_numpy(z), digits).numpy().reshape(-1, SIDE, SIDE)


def log(folder: str | Path) -> None:
    """Log the model in `folder` to MLflow's active run, with its signature and all that loading it takes.

    MLflow tries the input example, each digit once, on what it wrote, and warns if that cannot be drawn.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    latents = [ColSpec(DataType.double, f"z_{d}", required=False) for d in range(CVAE.load(folder).latent_dims)]
    mlflow.pyfunc.log_model(
        name="model",
        python_model=__file__,
        artifacts={"model": str(folder)},
        code_paths=[str(Path(__file__).resolve().parents[1])],
        signature=ModelSignature(
            inputs=Schema([ColSpec(DataType.long, "digit"), *latents]),
            outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, SIDE, SIDE))]),
            params=ParamSchema([ParamSpec("seed", DataType.long, 0)]),
        ),
        input_example=pd.DataFrame({"digit": range(LABELS)}),
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS],
    )


if __name__ != "cvae.tracking.served_model":  # run by MLflow, as the file that makes the model
    mlflow.models.set_model(Generator())
