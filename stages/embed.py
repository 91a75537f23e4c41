"""Embed every training and test image, and write the latents to data/latents.parquet."""

from cvae.commands.runner import run_stage
from cvae.pipeline.parameters import read_parameters


def main() -> None:
    params = read_parameters()

    from cvae.artifacts import saved_model
    from cvae.compute.devices import open_device
    from cvae.data.binarisation import as_seen
    from cvae.data.dataset import load
    from cvae.data.validation import hold_out
    from cvae.embedding import embed_dataset, write_latents

    data = as_seen(hold_out(load("data/raw"), params.validation_images, params.seed), params.binarize)
    model = saved_model.load_for(data.schema, "data/model", open_device(params.device, params.threads))
    write_latents(embed_dataset(model, data.splits, params.seed), "data/latents.parquet")


if __name__ == "__main__":
    run_stage(main)
