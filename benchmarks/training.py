"""Time training: the article's way and this project's, in turn.

    python -m benchmarks.training [--epochs 3] [--repeats 3] [--dataset mnist] [--device auto] [--threads 2] [--whole]
                                  [--busy 1] [--peer jax]

It needs only torch and torchvision, and scikit-learn for digits. It compares four ways:

- the article's, written from its description: torchvision's MNIST through a DataLoader, image by image; labels as
  one-hot vectors; autograd; torch's default Adam; `.item()` at each step
- this project's, `cvae.training.loop.Training`, with metrics of the 10,000 test images after every epoch
- the same with metrics of one test image only, because the article's loop has none
- the same as that, with gradients by autograd, as for a model of your own

`--peer jax` adds a fifth, `benchmarks.jax_peer`. `--busy 1` runs a program that keeps one core busy beside each.

All start from the same weights, shuffles and noise, so their losses can be compared. Each repeat of each way runs in
its own process. The first epoch warms up, on CUDA the second too; it counts for the loss but not for the time.
`--whole` also runs the project's 100 epochs once. benchmarks/README.md has results.
"""

import argparse
import gzip
import importlib.util
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import CHOSEN, PROJECT
from benchmarks.inputs import inputs_of
from benchmarks.machine import processor
from benchmarks.options import add_device, add_json, opened
from cvae.compute.devices import describe, open_device
from cvae.compute.seeding import generator
from cvae.data import dataset
from cvae.data.digits import write_digits
from cvae.model import CVAE
from cvae.training.fast import steps
from cvae.training.loop import Training

ARTICLE, OURS, PEER = "article's way", "this project", "JAX"
UNTESTED, AUTOGRAD = "  without test figures", "  and by autograd"
WHOLE = 100  # epochs of the article and of the default run


@dataclass
class Measurement:
    """The times and the last loss of one process.

    `epochs`: seconds per epoch; the first includes everything before it.
    """

    way: str
    epochs: list[float]
    article_loss: float
    device: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3, help="of each repeat (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of each way (%(default)s)")
    parser.add_argument("--dataset", choices=["mnist", "digits"], default="mnist", help="to train on (%(default)s)")
    parser.add_argument("--data", type=Path, default=PROJECT / "data/raw", help="folder of the .gz files (data/raw)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, shuffles and noise (%(default)s)")
    parser.add_argument("--busy", type=int, default=0, help="number of busy programs beside each way (%(default)s)")
    parser.add_argument("--peer", choices=["jax"], help="also time another library, which must be installed")
    parser.add_argument("--whole", action="store_true", help=f"also run the project's {WHOLE} epochs once")
    add_device(parser)
    add_json(parser)
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error("--repeats must be 1 or more")
    if options.busy < 0:
        parser.error("--busy must be 0 or more")
    if options.peer and not importlib.util.find_spec(options.peer):
        parser.error(f"--peer {options.peer} needs the package: pip install {options.peer}")
    device = opened(parser, options)
    options.device = str(device)
    options.warm_up = 2 if device.type == "cuda" else 1  # epochs; a CUDA graph is recorded in the second
    if options.epochs <= options.warm_up:
        parser.error(f"--epochs must be {options.warm_up + 1} or more")

    with tempfile.TemporaryDirectory() as folder:
        options.data = prepare(options, Path(folder))
        count = len(dataset.load(options.data).train)
        measurements = []
        for _ in range(options.repeats):
            for way in (ARTICLE, OURS, UNTESTED, AUTOGRAD, *([PEER] if options.peer else [])):
                measurements.append(measure(way, options, options.epochs))
                print(".", end="", file=sys.stderr, flush=True)
        whole = measure(OURS, options, WHOLE) if options.whole else None
    print(file=sys.stderr)
    report(measurements, whole, count, options)


def prepare(options: argparse.Namespace, folder: Path) -> Path:
    """Unpack the data set in `folder` for torchvision, and return the folder of its four .gz files."""
    if options.dataset == "digits":
        options.data = folder / "digits"
        write_digits(options.data)
    unpacked = folder / "MNIST" / "raw"
    unpacked.mkdir(parents=True)
    for name in dataset.FILES:
        source = options.data / name
        if not source.is_file():
            sys.exit(f"{source} is missing: `dvc repro download` fetches it; --data names another folder")
        (unpacked / source.stem).write_bytes(gzip.decompress(source.read_bytes()))
    options.unpacked = folder
    return options.data


def measure(way: str, options: argparse.Namespace, epochs: int) -> Measurement:
    """Run `way` in its own process, because torch keeps settings and threads for the life of a process."""
    for variable in CHOSEN:
        os.environ.pop(variable, None)
    context = multiprocessing.get_context("spawn")
    with busy_programs(options.busy), context.Pool(1) as pool:
        return pool.apply({ARTICLE: article, PEER: peer}.get(way, ours), (way, options, epochs))


@contextmanager
def busy_programs(count: int) -> Iterator[None]:
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def article(way: str, options: argparse.Namespace, epochs: int) -> Measurement:
    from torch.utils.data import DataLoader
    from torchvision.datasets import MNIST
    from torchvision.transforms import ToTensor

    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    images = MNIST(str(options.unpacked), train=True, transform=ToTensor())
    shuffles, noises = generator(options.seed, "shuffles"), generator(options.seed, "noise")
    loader = DataLoader(images, batch_size=128, sampler=Shuffled(len(images), shuffles))
    model = ArticleCVAE(CVAE(dataset.mnist_like()).initialise(generator(options.seed, "weights"))).to(device)
    optimiser = torch.optim.Adam(model.parameters())
    times = [time.perf_counter()]
    for _ in range(epochs):
        total = 0.0
        for x, y in loader:
            x, y = x.to(device).view(-1, 784), F.one_hot(y.to(device), 10).float()
            x_hat, mu, sigma = model(x, y, torch.randn(len(x), 2, generator=noises).to(device))
            loss = ((x - x_hat) ** 2).sum() + (sigma**2 + mu**2 - torch.log(sigma) - 0.5).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
        times.append(time.perf_counter())
    return Measurement(way, seconds(times), total, describe(device))


class ArticleCVAE(nn.Module):
    """The article's model with the weights of `twin`: the one-hot label is appended to the image, and to z."""

    def __init__(self, twin: CVAE):
        super().__init__()
        self.encoder = linear(torch.cat((twin.encoder.weight, twin.encoder.label_weight.T), 1), twin.encoder.bias)
        self.mu, self.log_sigma = map(linear, twin.posterior.weight.chunk(2), twin.posterior.bias.chunk(2))
        self.decoder = linear(torch.cat((twin.decoder.weight, twin.decoder.label_weight.T), 1), twin.decoder.bias)
        self.pixels = linear(twin.pixel_logits.weight, twin.pixel_logits.bias)

    def forward(self, x: Tensor, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = torch.relu(self.encoder(torch.cat((x, y), dim=1)))
        mu, sigma = self.mu(h), torch.exp(self.log_sigma(h))
        z = mu + sigma * noise
        return torch.sigmoid(self.pixels(torch.sigmoid(self.decoder(torch.cat((z, y), dim=1))))), mu, sigma


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.detach().contiguous(), bias.detach().clone()
    return layer


class Shuffled:
    """Shuffle as DataLoader's `shuffle=True` does, in the same order as the project's training.

    torch's RandomSampler would differ after the first epoch, because it samples two permutations in each.
    """

    def __init__(self, count: int, generator: torch.Generator):
        self._count, self._generator = count, generator

    def __iter__(self):
        yield from torch.randperm(self._count, generator=self._generator).tolist()

    def __len__(self) -> int:
        return self._count


def peer(way: str, options: argparse.Namespace, epochs: int) -> Measurement:
    from benchmarks import jax_peer

    model = CVAE(dataset.mnist_like()).initialise(generator(options.seed, "weights"))
    inputs = inputs_of(dataset.load(options.data).train, model, 128, options.seed)
    times, total = jax_peer.train(inputs, epochs)
    return Measurement(way, seconds(times), total, "CPU, all cores")


def ours(way: str, options: argparse.Namespace, epochs: int) -> Measurement:
    device = open_device(options.device, options.threads, options.precision)
    data = dataset.load(options.data)
    train_split, test_split = data.train, data.test
    if way == AUTOGRAD:
        steps.other_loss = lambda *_: "are switched off"
    if way in (UNTESTED, AUTOGRAD):
        test_split = dataset.Split(test_split.images[:1], test_split.labels[:1])
    times = [time.perf_counter()]
    model = CVAE(dataset.mnist_like()).initialise(generator(options.seed, "weights")).to(device)
    settings = {"batch_size": 128, "learning_rate": 1e-3, "beta": 1.0, "precision": options.precision}
    rows = []
    for row in Training(model, train_split, test_split, epochs=epochs, seed=options.seed, **settings):
        rows.append(row)
        times.append(time.perf_counter())
    return Measurement(way, seconds(times), rows[-1]["article_loss"], describe(device))


def seconds(times: list[float]) -> list[float]:
    return [end - start for start, end in itertools.pairwise(times)]


def report(measurements: list[Measurement], whole: Measurement | None, count: int, options: argparse.Namespace) -> None:
    """Print a table, and write the JSON file if requested."""
    rows = {
        way: row_of([m for m in measurements if m.way == way], count, options.warm_up)
        for way in dict.fromkeys(measurement.way for measurement in measurements)
    }
    for row in rows.values():
        row["ratio"] = rows[ARTICLE]["median"] / row["median"]
    apart = rows[OURS]["article_loss"] / rows[ARTICLE]["article_loss"] - 1
    about = {
        "device": measurements[0].device,
        "processor": processor(),
        "torch": torch.__version__,
        "threads": options.threads,
        "busy": options.busy,
        "precision": options.precision,
        "dataset": options.dataset,
        "images": count,
        "epochs": options.epochs,
        "repeats": options.repeats,
        "seed": options.seed,
        "date": time.strftime("%Y-%m-%d"),
    }
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    heading = f"{'s/epoch, median (range)':>26} {'ratio':>6} {'images/s':>9} {WHOLE:>3} epochs {'article_loss':>13}"
    print(f"{'':22} {heading}")
    for way, row in rows.items():
        spread = f"{row['median']:.4g} ({row['fastest']:.4g} to {row['slowest']:.4g})"
        speed = f"{row['ratio']:>6.2f} {row['images_per_second']:>9,.0f} {row['median'] * WHOLE:>8,.1f} s"
        print(f"{way:22} {spread:>26} {speed} {row['article_loss']:>13,.0f}")
    print(f"losses after {options.epochs} epochs are {abs(apart):.3%} apart")
    if whole:
        print(f"{WHOLE} epochs measured: {sum(whole.epochs):.1f} s, article_loss {whole.article_loss:,.0f}")
    if options.json:
        result = {"about": about, "ways": rows, "loss_difference": apart}
        result["measurements"] = [asdict(m) for m in [*measurements, *([whole] if whole else [])]]
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def row_of(measurements: list[Measurement], count: int, warm_up: int) -> dict[str, float]:
    """Summarise one way: its seconds per epoch, without those for warming up, and its loss."""
    epochs = [time for measurement in measurements for time in measurement.epochs[warm_up:]]
    median = statistics.median(epochs)
    return {
        "median": median,
        "fastest": min(epochs),
        "slowest": max(epochs),
        "images_per_second": count / median,
        "article_loss": measurements[0].article_loss,
    }


if __name__ == "__main__":
    main()
