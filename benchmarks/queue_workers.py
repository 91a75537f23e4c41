"""Time eight short experiments: one after another, and queued with two workers.

    python -m benchmarks.queue_workers [--dataset mnist] [--epochs 3] [--jobs 2]

Each way runs in its own clone of this repository's last commit, so that none finds another's results in DVC's cache.
benchmarks/README.md has results.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.clone import prepare, run, set_params

LATENT_DIMS = range(1, 9)
TIMEOUT = 3600  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist", help="as in params.yaml (%(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="of each experiment (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="number of workers (%(default)s)")
    options = parser.parse_args()

    settings = [f"dataset={options.dataset}", f"epochs={options.epochs}"]
    first = None
    for name, measure, threads, jobs in (
        ("one after another, 2 threads", one_after_another, 2, 1),
        (f"queued, {options.jobs} workers, 1 thread each", queued, 1, options.jobs),
        (f"queued, {options.jobs} workers, 2 threads each", queued, 2, options.jobs),
    ):
        with tempfile.TemporaryDirectory() as folder:
            repository = prepare(Path(folder) / "cvae", [*settings, f"threads={threads}"])
            started = time.perf_counter()
            measure(repository, jobs)
            seconds = time.perf_counter() - started
            stop_workers(repository)
        first = first or seconds
        print(f"{name:40} {seconds:6.0f} s   {seconds / first:.2f} of the first", flush=True)


def one_after_another(repository: Path, _: int) -> None:
    for dims in LATENT_DIMS:
        run(repository, "dvc", "exp", "run", "--name", f"dims-{dims}", *set_params([f"latent_dims={dims}"]))


def queued(repository: Path, jobs: int) -> None:
    sweep = f"latent_dims=range({LATENT_DIMS.start},{LATENT_DIMS.stop})"
    run(repository, "dvc", "exp", "run", "--queue", "--name", "dims", *set_params([sweep]))
    run(repository, "dvc", "queue", "start", "--jobs", str(jobs))
    wanted = {f"dims-{number}" for number, _ in enumerate(LATENT_DIMS, start=1)}
    end = time.monotonic() + TIMEOUT
    while not wanted <= finished(repository):
        if time.monotonic() > end:
            sys.exit(f"the queue was not done within {TIMEOUT} s:\n" + run(repository, "dvc", "queue", "status"))
        time.sleep(0.5)


def finished(repository: Path) -> set[str]:
    """Return the names of finished experiments, read from git because asking DVC would keep a core busy."""
    refs = run(repository, "git", "for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    return {ref.rpartition("/")[2] for ref in refs}


def stop_workers(repository: Path) -> None:
    """Stop the idle workers now: they would end by themselves, but might slow the next measurement."""
    run(repository, "dvc", "queue", "stop", "--kill")


if __name__ == "__main__":
    main()
