"""Measure the model on the test images: metrics/test.json."""

import json
from pathlib import Path

from stages import run

from cvae.parameters import read_parameters


def main() -> None:
    params = read_parameters()

    from cvae import datasets
    from cvae.devices import open_device
    from cvae.evaluation import evaluate
    from cvae.history import rounded
    from cvae.model import CVAE

    device = open_device(params.device, params.threads)
    model = CVAE.load("data/model", device)
    _, test = datasets.load("data/raw")
    figures = rounded(evaluate(model, test, beta=params.beta, seed=params.seed))
    Path("metrics/test.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(", ".join(f"{name} {value:.6g}" for name, value in figures.items()))


if __name__ == "__main__":
    run(main)
