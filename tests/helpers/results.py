"""Made-up results of experiments."""

import numpy as np
import pandas as pd

from cvae.commands.compare.results import COMPARED, as_table, negative_elbo
from cvae.pipeline.parameters import Parameters
from cvae.tracking.tasks import OWN_IMAGES

# Written out where tests name them, so that other defaults in params.yaml change no test.
NAMED = {"dataset": "mnist", "likelihood": "gaussian", "binarize": "none", "activation": "article", "seed": 0}
NAMED |= {
    "model": "cvae.model:CVAE",
    "labels": "given",
    "latent_dims": 2,
    "hidden_dims": 256,
    "beta": 1.0,
    "epochs": 100,
}
PARAMETERS = {key: value for key, value in Parameters().model_dump().items() if key in COMPARED} | NAMED
PARAMETERS |= {key: None for key in OWN_IMAGES if key in COMPARED}  # they do not matter for a built-in data set
MEASURED = {"nll": 22.5, "nll_samples": 500, "label_accuracy": 0.97, "sample_accuracy": 0.9}


def row(name: str, kl: float | None = 3.0, reconstruction: float | None = 20.0, **others) -> dict:
    """Return a row as `dvc.api.exp_show()` does: every number a float, and None for the name of a commit."""
    baseline = name in ("workspace", "main")
    figures = {"metrics/test.json:kl": kl, "metrics/test.json:reconstruction": reconstruction, "active_units": 2.0}
    figures |= {"metrics/train.json:kl": 99.0, "metrics/train.json:reconstruction": 99.0}
    values = Parameters().model_dump() | NAMED
    parameters = {key: float(value) if isinstance(value, int) else value for key, value in values.items()}
    names = {"Experiment": None if baseline else name, "rev": name if baseline else "0123abc", "State": None}
    return names | figures | parameters | others


def result(name: str, kl: float = 3.0, reconstruction: float = 20.0, **others) -> dict:
    """Return a result; `others`: parameters, and figures that older runs do not have."""
    figures = {"kl": kl, "reconstruction": reconstruction, "negative_elbo": negative_elbo(kl, reconstruction)}
    return {"experiment": name} | PARAMETERS | figures | {"active_units": 2} | others


def measured(**parameters) -> dict:
    """Return a result whose figures follow from its parameters, and grow a little with its seed."""
    dims, beta, seed = ((PARAMETERS | parameters)[key] for key in ("latent_dims", "beta", "seed"))
    kl = 12 * (1 - np.exp(-dims / 4)) * beta**-0.35 + 0.3 * seed
    distortion = 45 * np.exp(-kl / 6)
    figures = {"nll": kl + distortion - 1 - 0.1 * dims, "nll_samples": 500, "label_accuracy": 0.98 - 0.01 * dims}
    figures |= {"sample_accuracy": 0.95 - 0.01 * dims - 0.005 * seed}
    return result(f"{parameters}", kl, distortion, **figures | parameters)


def table(*results: dict) -> pd.DataFrame:
    """Return the results as the table that `read_results` makes."""
    return as_table(results)
