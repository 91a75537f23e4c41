"""Measure the model on the test images, and on the validation images if there are any.

Writes metrics/test.json, metrics/validation.json, metrics/per_class.csv, metrics/per_latent.csv and
plots/confusion.csv.
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
    from cvae.data.validation import hold_out
    from cvae.evaluation.evaluate import evaluate, format_figures, write_evaluation

    device = open_device(params.device, params.threads)
    data = hold_out(load("data/raw"), params.validation_images, params.seed)
    model = saved_model.load_for(data.schema, "data/model", device)
    evaluations = {}
    for name in ("validation", "test") if data.validation else ("test",):
        count = f"{len(data.splits[name]):,} {name} images"
        print(f"Evaluating on {describe(device)}: {count}, {params.nll_samples:,} samples of z per image", flush=True)
        evaluations[name] = evaluate(
            model,
            data.train,
            data.splits[name],
            name,
            binarize=params.binarize,
            beta=params.beta,
            seed=params.seed,
            nll_samples=params.nll_samples,
        )
        print(format_figures(evaluations[name]), flush=True)
    write_evaluation(evaluations["test"], "metrics", "plots", evaluations.get("validation"))


if __name__ == "__main__":
    run_stage(main)
