"""DVC's queue of experiments and its workers."""

import subprocess
import time
from contextlib import contextmanager

import psutil
import pytest

from helpers.kills import DVC
from helpers.processes import environment, wait_for
from helpers.repository import Repository


@contextmanager
def no_worker_outlives(repository: Repository):
    """Stop the queue at the end of the block, and kill workers that remain."""
    try:
        yield
        repository.dvc("queue", "stop")  # idle workers wait ten seconds for more work
        wait_for(lambda: not workers_of(repository))
    finally:
        for worker in workers_of(repository):
            for process in [*worker.children(recursive=True), worker]:
                process.kill()


def workers_of(repository: Repository) -> list[psutil.Process]:
    workers = []
    for file in (repository.root / ".dvc/tmp/exps/celery").glob("*.pid"):
        try:
            worker = psutil.Process(int(file.read_text()))
            if "queue-worker" in worker.cmdline():
                workers.append(worker)
        except psutil.Error:
            continue
    return workers


def wait_for_queue(repository: Repository, seconds: float = 300) -> None:
    """Wait until all experiments in the queue have succeeded. Fail with their logs if one fails or time runs out."""
    end = time.monotonic() + seconds
    while True:
        tasks = [line.split()[:2] + line.split()[-1:] for line in queue_lines(repository)]
        if all(status == "Success" for *_, status in tasks):
            return
        if time.monotonic() > end or any(status == "Failed" for *_, status in tasks):
            logs = [
                subprocess.run(
                    [*DVC, "queue", "logs", n], cwd=repository.root, env=environment(), text=True, capture_output=True
                )
                for _, n, _ in tasks
            ]
            pytest.fail(f"{tasks}\n" + "\n".join(log.stdout + log.stderr for log in logs))
        time.sleep(3)  # each query takes a second of CPU time


def queue_lines(repository: Repository) -> list[str]:
    lines = repository.dvc("queue", "status").splitlines()
    return [
        line for line in lines if line.split()[-1:] and line.split()[-1] in ("Queued", "Running", "Success", "Failed")
    ]
