"""Fixtures that tests of all rooms share."""

import os
import signal
from pathlib import Path

import pytest
from helpers.pages import CHROMIUM, chromium, opened_browser
from helpers.repository import Repository, made_once, make_repository

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before anything imports MLflow
# Where CI is set, pytest shows all differences of two values that should be equal, which takes hours for pictures.
if os.environ.pop("CI", None):
    os.environ["NO_SKIPS"] = "true"

# The longest test files. The second and third need no repository, so they can run while the first makes it.
LONGEST = (
    "your_own",
    "experiments",
    "class_counts",
    "figures",
    "properties",
    "kills",
    "unfinished_runs",
    "store_errors",
    "compare_command",
    "interrupted_experiments",
    "tune_interrupted",
    "tune_search",
    "tune_pipeline",
    "checkpoint",
    "stages",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that pytest-xdist's workers end together."""
    rank = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session")
def repository(tmp_path_factory) -> Repository:
    """The project as it stands, edited files too, after one `dvc repro` and a commit; not to be changed."""
    return Repository(made_once(tmp_path_factory, "project", make_repository) / "cvae")


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The training and the test split of scikit-learn's digits."""
    from cvae.data.dataset import load
    from cvae.data.digits import write_digits

    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder)
    data = load(folder)
    return data.train, data.test


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """A database with MLflow's tables and nothing in them: making one takes seconds, copying it does not."""

    def make(folder: Path) -> None:
        from mlflow import MlflowClient

        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()

    return made_once(tmp_path_factory, "database", make) / "mlflow.db"


@pytest.fixture(scope="session")
def compared(repository, empty_database, tmp_path_factory) -> Repository:
    """A clone with two runs: its own, from DVC's cache, and experiment `wide`, of four latents; not to be changed."""

    def make(folder: Path) -> None:
        compared = repository.copy(folder / "cvae")
        (compared.root / "mlflow.db").write_bytes(empty_database.read_bytes())
        compared.dvc("repro")
        receipt = (compared.root / "data/tracked.json").read_bytes()
        output = compared.dvc("exp", "run", "--name", "wide", "--set-param", "latent_dims=4")
        (folder / "experiment.log").write_text(output)
        compared.restore()
        (compared.root / "data/tracked.json").write_bytes(receipt)

    return Repository(made_once(tmp_path_factory, "compared", make) / "cvae")


@pytest.fixture(scope="session", autouse=True)
def _signals_reach_children():
    """Behind a shell's `&` pytest ignores SIGINT, and behind nohup SIGHUP; what it starts would inherit that."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else lambda *_: None)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def browser():
    """The Chromium that is installed, through Playwright; where there is none, its tests are skipped, but not in CI."""
    if not chromium():
        outcome = pytest.fail if os.environ.get("NO_SKIPS") else pytest.skip
        outcome(f"no browser: none of {', '.join(CHROMIUM)} is on PATH")
    with opened_browser() as browser:
        yield browser
