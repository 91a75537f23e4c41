"""Train the model: data/model, plots/training.csv, metrics/train.json, and a live MLflow run."""

from stages import run

from cvae.parameters import read_parameters


def main() -> None:
    params = read_parameters()

    from cvae import datasets
    from cvae.devices import describe, open_device
    from cvae.history import show_progress, write_history
    from cvae.model import CVAE
    from cvae.seeding import generator
    from cvae.training import train

    device = open_device(params.device, params.threads)
    train_split, test_split = datasets.load("data/raw")
    print(f"Training on {describe(device)}: {params.epochs} epochs of {len(train_split):,} images")

    model = CVAE(params.latent_dims, params.hidden_dims, params.likelihood, params.prior_std)
    model.initialise(generator(params.seed, "weights")).to(device)
    rows = train(
        model,
        train_split,
        test_split,
        epochs=params.epochs,
        batch_size=params.batch_size,
        learning_rate=params.learning_rate,
        beta=params.beta,
        seed=params.seed,
    )
    history = list(show_progress(rows, params.epochs))
    model.save("data/model")
    write_history(history, "plots/training.csv", "metrics/train.json")


if __name__ == "__main__":
    run(main)
