"""Measure the model on the test images.

Writes metrics/test.json, metrics/per_class.csv, metrics/per_latent.csv and plots/confusion.csv.
"""

from cvae.commands.runner import run_stage
from cvae.compute.threads import share_cores
from cvae.pipeline.parameters import read_parameters
from cvae.pipeline.repository import experiments_at_once


def main() -> None:
    params = read_parameters()
    share_cores(params.threads, experiments_at_once())

    from cvae.artifacts import saved_model
    from cvae.compute.devices import describe, open_device
    from cvae.data.dataset import load
    from cvae.evaluation.evaluate import evaluate, format_figures, write_evaluation

    device = open_device(params.device, params.threads)
    data = load("data/raw")
    model = saved_model.load_for(data.schema, "data/model", device)
    print(
        f"Evaluating on {describe(device)}: {len(data.test):,} images, {params.nll_samples:,} samples of z per image",
        flush=True,
    )
    evaluation = evaluate(
        model,
        data.train,
        data.test,
        binarize=params.binarize,
        beta=params.beta,
        seed=params.seed,
        nll_samples=params.nll_samples,
    )
    write_evaluation(evaluation, "metrics", "plots")
    print(format_figures(evaluation))


if __name__ == "__main__":
    run_stage(main)
