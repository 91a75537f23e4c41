"""Draw the pictures in plots/. Also write plots/explorer.html, and plots/latents.csv for a chart on DVC's page."""

from cvae.commands.runner import run_stage
from cvae.pipeline.parameters import read_parameters


def main() -> None:
    params = read_parameters()

    from cvae.artifacts import saved_model
    from cvae.compute.devices import open_device
    from cvae.data.binarisation import as_seen
    from cvae.data.dataset import load
    from cvae.data.names import kind_of_pixels
    from cvae.embedding import read_latents
    from cvae.explorer.page import write_explorer
    from cvae.figures import rendering
    from cvae.figures.hero import render_hero
    from cvae.figures.learning import render_learning
    from cvae.figures.style import mention_missing_letters
    from cvae.figures.thumbnails import render_thumbnails

    data = as_seen(load("data/raw"), params.binarize)
    model = saved_model.load_for(data.schema, "data/model", open_device(params.device, params.threads))
    mention_missing_letters((data.schema.title, *data.schema.classes))
    size = model.latent_dims, len(data.schema.classes)
    mu, labels = read_latents("data/latents.parquet", "train", "mu", *size)
    z, _ = read_latents("data/latents.parquet", "train", "z", *size)

    latents = model, labels, mu, z, params.grid_size, params.grid_range
    overview = rendering.overview_views(*latents)
    rendering.render_labels(rendering.label_views(*latents), overview, data.schema, "plots")
    rendering.render_reconstructions(model, data.test, "plots/reconstructions.png")
    styles, styles_z = rendering.decode_styles(model, params.seed)
    rendering.render_styles(model, styles, styles_z, "plots/styles.png")
    render_hero(model, overview, data.test, params.seed, "plots/hero.png")
    render_thumbnails(overview, styles, model, data.test, "plots/thumbnails")
    render_learning(model, "data/snapshots.npz", "plots")
    likelihood = f"{model.likelihood} likelihood of {kind_of_pixels(params.binarize, data.schema.shape[2])} pixels"
    rendering.render_training("plots/training.csv", data.schema, likelihood, "plots/training.png")

    mu, labels = read_latents("data/latents.parquet", "test", "mu", *size)
    z, _ = read_latents("data/latents.parquet", "test", "z", *size)
    rendering.write_scatter(labels, mu, z, data.schema.classes, "plots/latents.csv")
    sigma, _ = read_latents("data/latents.parquet", "test", "sigma", *size)
    if reason := write_explorer(model.to("cpu"), data.test, mu, sigma, "plots/explorer.html"):
        print(f"No explorer: {reason}")


if __name__ == "__main__":
    run_stage(main)
