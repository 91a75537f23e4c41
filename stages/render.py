"""Draw the pictures in plots/, and write plots/latents.csv for a chart on DVC's page."""

from cvae.commands.runner import run_stage
from cvae.pipeline.parameters import read_parameters


def main() -> None:
    params = read_parameters()

    from cvae.artifacts import saved_model
    from cvae.compute.devices import open_device
    from cvae.data.binarisation import load
    from cvae.data.names import kind_of_pixels
    from cvae.embedding import read_latents
    from cvae.figures import rendering

    model = saved_model.load("data/model", open_device(params.device, params.threads))
    _, test = load("data/raw", params.binarize)
    mu, labels = read_latents("data/latents.parquet", "train", "mu", model.latent_dims)
    z, _ = read_latents("data/latents.parquet", "train", "z", model.latent_dims)

    views = rendering.label_views(model, params.dataset, labels, mu, z, params.grid_size, params.grid_range)
    rendering.render_labels(views, params.dataset, "plots")
    rendering.render_reconstructions(model, test, params.dataset, "plots/reconstructions.png")
    rendering.render_styles(model, params.dataset, params.seed, "plots/styles.png")
    likelihood = f"{model.likelihood} likelihood of {kind_of_pixels(params.binarize)} pixels"
    rendering.render_training("plots/training.csv", params.dataset, likelihood, "plots/training.png")

    mu, labels = read_latents("data/latents.parquet", "test", "mu", model.latent_dims)
    z, _ = read_latents("data/latents.parquet", "test", "z", model.latent_dims)
    rendering.write_scatter(labels, mu, z, "plots/latents.csv")


if __name__ == "__main__":
    run_stage(main)
