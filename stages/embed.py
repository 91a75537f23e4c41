"""Embed every training and test image, and write the latents to data/latents.parquet."""

from cvae.commands.runner import run_stage
from cvae.pipeline.parameters import read_parameters


def main() -> None:
    params = read_parameters()

    from cvae.artifacts import saved_model
    from cvae.compute.devices import open_device
    from cvae.data.binarisation import load
    from cvae.data.dataset import require_same
    from cvae.embedding import embed_dataset, write_latents

    model = saved_model.load("data/model", open_device(params.device, params.threads))
    data = load("data/raw", params.binarize)
    require_same(model.schema, data.schema, "data/raw", saved_model.REMEDY)
    write_latents(embed_dataset(model, {"train": data.train, "test": data.test}, params.seed), "data/latents.parquet")


if __name__ == "__main__":
    run_stage(main)
