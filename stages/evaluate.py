"""Measure the model on the test images: metrics/test.json, tables per digit and per latent, plots/confusion.csv."""

from stages import run

from cvae.parameters import read_parameters
from cvae.sharing import share_cores


def main() -> None:
    params = read_parameters()
    share_cores(params.threads)

    from cvae import datasets
    from cvae.devices import open_device
    from cvae.evaluation import evaluate, write_evaluation
    from cvae.model import CVAE

    model = CVAE.load("data/model", open_device(params.device, params.threads))
    evaluation = evaluate(
        model,
        *datasets.load("data/raw"),
        binarize=params.binarize,
        beta=params.beta,
        seed=params.seed,
        nll_samples=params.nll_samples,
    )
    write_evaluation(evaluation, "metrics", "plots")
    figures = ", ".join(f"{name} {value:.6g}" for name, value in evaluation.figures.items())
    print(f"{evaluation.likelihood} likelihood of {evaluation.pixels} pixels: {figures}")


if __name__ == "__main__":
    run(main)
