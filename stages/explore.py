"""Write the explorer, a page that runs the model in a browser, to plots/explorer.html."""

from cvae.commands.runner import run_stage
from cvae.pipeline.parameters import read_parameters


def main() -> None:
    params = read_parameters()

    from cvae.artifacts import saved_model
    from cvae.data.binarisation import load
    from cvae.embedding import read_latents
    from cvae.explorer.page import write_explorer

    data = load("data/raw", params.binarize)
    model = saved_model.load_for(data.schema, "data/model")
    size = model.latent_dims, len(data.schema.classes)
    mu, _ = read_latents("data/latents.parquet", "test", "mu", *size)
    sigma, _ = read_latents("data/latents.parquet", "test", "sigma", *size)
    if reason := write_explorer(model, data.test, mu, sigma, "plots/explorer.html"):
        print(f"No explorer: {reason}")


if __name__ == "__main__":
    run_stage(main)
