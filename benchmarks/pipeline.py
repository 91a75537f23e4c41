"""Time the pipeline, stage by stage.

    python -m benchmarks.pipeline [--dataset mnist] [--epochs 100] [--repeats 1] [--json FILE]

Each repeat uses a fresh clone of this repository's last commit. Each stage is timed with `dvc repro --single-item`,
because that is the time a person waits for. It includes DVC's start, the hashing of inputs and outputs, a new Python
and its imports. DVC's share is about the time that `dvc repro` takes with nothing to do.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from tabulate import tabulate

from benchmarks import PROJECT
from benchmarks.clone import prepare, run
from benchmarks.machine import processor
from benchmarks.options import add_json
from cvae.compute.devices import describe, open_device
from cvae.compute.threads import cores
from cvae.pipeline.parameters import read_parameters

STAGES = ("download", "train", "evaluate", "embed", "render", "track")
PICTURES = "dvc exp run --set-param grid_size=30"
NOTHING = "dvc repro, nothing to do"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist", help="as in params.yaml (%(default)s)")
    parser.add_argument("--epochs", type=int, default=100, help="of the train stage (%(default)s)")
    parser.add_argument("--repeats", type=int, default=1, help="of the pipeline (%(default)s)")
    add_json(parser)
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error("--repeats must be 1 or more")

    repeats = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            settings = [f"dataset={options.dataset}", f"epochs={options.epochs}"]
            repository = prepare(Path(folder) / "cvae", settings)
            repeats.append(measure(repository))
            where = circumstances(repository)

    seconds = {name: [repeat[name] for repeat in repeats] for name in repeats[0]}
    print(f"{options.dataset}, {options.epochs} epochs; {where['device']}, torch {where['torch']};", end=" ")
    print(f"{where['processor']}, {where['cores']} cores; {where['date']}, commit {where['commit'][:12]}")
    print("Each stage runs by `dvc repro --single-item --force`. Times include DVC, a new Python and its imports.\n")
    rows = [(name, statistics.median(times), min(times), max(times)) for name, times in seconds.items()]
    columns = 2 if options.repeats == 1 else 4
    headers = ("", "seconds" if options.repeats == 1 else "median, s", "fastest", "slowest")
    print(tabulate([row[:columns] for row in rows], headers[:columns], floatfmt=".2f"))
    if options.json:
        record = {**where, "dataset": options.dataset, "epochs": options.epochs, "seconds": seconds}
        options.json.write_text(json.dumps(record, indent=2) + "\n")


def measure(repository: Path) -> dict[str, float]:
    """Return seconds for each stage, their sum, a repro with nothing to do, and an experiment with new pictures."""
    seconds = {name: timed(repository, "dvc", "repro", "--single-item", "--force", name) for name in STAGES}
    seconds["all stages"] = sum(seconds.values())
    seconds[NOTHING] = timed(repository, "dvc", "repro")
    seconds[PICTURES] = timed(repository, *PICTURES.split())
    return seconds


def timed(repository: Path, *command: str) -> float:
    started = time.perf_counter()
    run(repository, *command)
    return time.perf_counter() - started


def circumstances(repository: Path) -> dict[str, object]:
    """Describe what the times depend on: the code, and the machine as the stages see it."""
    params = read_parameters(repository / "params.yaml")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": run(PROJECT, "git", "rev-parse", "HEAD").strip(),
        "device": describe(open_device(params.device, params.threads)),
        "threads": params.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "cores": cores(),
    }


if __name__ == "__main__":
    main()
