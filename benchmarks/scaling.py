"""Time a training step, and its largest parts, as the batch, the model and the data grow.

    python -m benchmarks.scaling [--device auto] [--threads 2] [--seconds 2]

Each setting changes one thing of the default run. Columns: time per step and per image, arithmetic per second, and the
share of the step that each of three parts would take alone. These are launching its kernels (a step of a model with
almost no work), Adam (on as many weights) and its matrix products (at the rate of large ones). Images are random
numbers, which take as long as real ones.
"""

import argparse
import json
import statistics
import time

import numpy as np
import torch
from tabulate import tabulate

from benchmarks.machine import processor
from benchmarks.options import add_device, add_json, opened
from cvae.compute.devices import describe, products_in
from cvae.compute.seeding import generator
from cvae.data.dataset import Split, mnist_like
from cvae.model import CVAE
from cvae.training.adam import Adam
from cvae.training.loop import Training

DEFAULT = {"batch_size": 128, "hidden_dims": 256, "latent_dims": 2, "images": 60_000}
CHANGES = [
    *({"batch_size": size} for size in (16, 32, 64, 256, 512, 2048, 8192)),
    *({"hidden_dims": size} for size in (16, 64, 1024, 4096)),
    *({"latent_dims": size} for size in (1, 16, 128, 1024)),
    *({"images": size} for size in (1_500, 15_000, 240_000)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_device(parser)
    parser.add_argument("--seconds", type=float, default=2, help="least time to spend on each setting (%(default)s)")
    add_json(parser)
    options = parser.parse_args()
    device = opened(parser, options)

    floors = {
        "launches": step_time(device, options, {"batch_size": 1, "hidden_dims": 1, "latent_dims": 1, "images": 2_000}),
        "flops": product_rate(device, options.precision),
    }
    rows = []
    for change in [{}, *CHANGES]:
        settings = DEFAULT | change
        rows.append(row_of(settings, step_time(device, options, settings), adam_time(device, settings), floors))
        print(".", end="", flush=True)
    print(f"\n{describe(device)}, {processor()}, torch {torch.__version__}, {options.precision}, {time.strftime('%F')}")
    launches, flops = floors["launches"] * 1e6, floors["flops"] / 1e9
    print(f"launches take {launches:.0f} µs per step, large products run at {flops:,.0f} GFLOP/s\n")
    print(tabulate(rows, headers="keys", tablefmt="github", floatfmt=("", "", "", "", ".0f", ".2f", ".0f")))
    if options.json:
        about = {"device": describe(device), "processor": processor(), "torch": torch.__version__}
        options.json.write_text(json.dumps({"about": about, "floors": floors, "rows": rows}, indent=2) + "\n")


def step_time(device: torch.device, options: argparse.Namespace, settings: dict[str, int]) -> float:
    """Return the seconds of a training step: the median over epochs, after a first one to warm up."""
    numbers = np.random.RandomState(0)
    count = settings["images"]
    schema = mnist_like()
    images = numbers.randint(0, 256, (count, schema.image_dims), np.uint8)
    data = Split(images, numbers.randint(0, len(schema.classes), count).astype(np.uint8))
    sizes = {name: settings[name] for name in ("latent_dims", "hidden_dims")}
    model = CVAE(schema, **sizes).initialise(generator(0, "weights")).to(device)
    training = Training(
        model,
        data,
        Split(data.images[:1], data.labels[:1]),
        epochs=1_000_000,
        batch_size=settings["batch_size"],
        learning_rate=1e-4,
        beta=1.0,
        seed=0,
        precision=options.precision,
    )
    rows = iter(training)
    next(rows)
    epochs, started = [], time.perf_counter()
    while sum(epochs) < options.seconds or len(epochs) < 2:
        next(rows)
        ended = time.perf_counter()
        epochs.append(ended - started)
        started = ended
    return statistics.median(epochs) / -(-count // settings["batch_size"])


def product_rate(device: torch.device, precision: str, size: int = 2048) -> float:
    """Return the operations per second of multiplying two float32 matrices, `size` by `size`, in `precision`."""
    a, b = torch.rand(2, size, size, device=device)
    with products_in(precision, device):
        return 2 * size**3 / best_time(device, lambda: torch.mm(a, b))


def adam_time(device: torch.device, settings: dict[str, int]) -> float:
    """Return the seconds of one step of Adam on a model with these `settings`."""
    from cvae.training.fast.weights import WeightVector

    sizes = {name: settings[name] for name in ("latent_dims", "hidden_dims")}
    weights = WeightVector(CVAE(mnist_like(), **sizes).to(device))
    return best_time(device, Adam(weights.parts(), 1e-3).step)


def best_time(device: torch.device, function) -> float:
    """Return the seconds of the fastest of ten calls of `function`."""
    synchronise = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    times = []
    for _ in range(10):
        synchronise()
        started = time.perf_counter()
        function()
        synchronise()
        times.append(time.perf_counter() - started)
    return min(times)


def row_of(settings: dict[str, int], seconds: float, adam: float, floors: dict[str, float]) -> dict[str, object]:
    """Return a row of the table: the step's time, and the share that each part would take alone."""
    hidden, latent = settings["hidden_dims"], settings["latent_dims"]
    pixels = mnist_like().image_dims
    layers = [pixels * hidden, hidden * 2 * latent, latent * hidden, hidden * pixels]
    operations = 2 * settings["batch_size"] * (3 * sum(layers) - layers[0])  # no gradient reaches the images
    shares = {
        "launches": floors["launches"] / seconds,
        "Adam": adam / seconds,
        "products": operations / floors["flops"] / seconds,
    }
    return {
        **settings,
        "µs/step": seconds * 1e6,
        "µs/image": seconds * 1e6 / settings["batch_size"],
        "GFLOP/s": operations / seconds / 1e9,
        **{name: f"{share:.0%}" for name, share in shares.items()},
        "most": max(shares, key=shares.get),
    }


if __name__ == "__main__":
    main()
