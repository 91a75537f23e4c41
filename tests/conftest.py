"""A real repository of the project, small enough to run: `digits`, two epochs, one thread."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest
from filelock import FileLock

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before anything imports MLflow

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = ("dvc.lock", "metrics/*", "plots/*.csv", "plots/*.png")  # in git, and not to be depended on
STORE = ("mlflow.db*", "mlartifacts", "tracked.json")  # what a clone does not have
SCREENSHOTS = PROJECT / "tests/screenshots"  # of the pages that tests open, to look at; not in git
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PICTURES = sorted(
    [f"{name}.png" for name in ("latents", "manifolds", "reconstructions", "styles", "training")]
    + [f"{folder}/{digit}.png" for folder in ("latents", "manifolds") for digit in range(10)]
)
# Of test files; the second and the third need no repository, which takes a while and the first makes.
LONGEST = ("experiments", "figures", "properties", "kills", "tracking", "comparison", "checkpoint", "pipeline")
FOREIGN = ("DVC_", "GIT_", "MLFLOW_", "MNIST_MIRROR", "PYTHONPATH")


def environment(**variables: str) -> dict[str, str]:
    """The caller's environment less what DVC, git and our stages read from it, with this Python's programs first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return kept | {"PATH": path, **variables}


def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def is_served(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=1).status == 200
    except OSError:
        return False


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for what takes a few seconds, and many on a machine with other work."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def stages_run(output: str) -> list[str]:
    """The stages that DVC ran, by what it printed; not those whose results it had."""
    return re.findall(r"Running stage '(\w+)'", output)


def kill_group(process: subprocess.Popen) -> None:
    """Kill `process`, which leads a process group, and all of the group."""
    with suppress(ProcessLookupError):  # it has ended, and every child of it
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end(process: subprocess.Popen) -> None:
    """End a program of ours, which ends what it has started."""
    process.terminate()
    process.wait(60)


@contextmanager
def mlflow_server(folder: Path, port: int, *options: str) -> Iterator[subprocess.Popen]:
    """A real `mlflow server` on the database in `folder`, from when it answers: its process, which leads a group."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", *options]
    variables = environment(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    with open(folder / "server.log", "a") as log:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(lambda: process.poll() is not None or is_served(f"http://127.0.0.1:{port}/health"))
            assert process.poll() is None, (folder / "server.log").read_text()
            yield process
        finally:
            kill_group(process)


@dataclass(frozen=True)
class Repository:
    """The git and DVC repository at `root`, to run commands in and to read back."""

    root: Path

    def run(self, *command: str, status: int = 0, **variables: str) -> subprocess.CompletedProcess:
        done = subprocess.run(command, cwd=self.root, env=environment(**variables), capture_output=True, text=True)
        assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def dvc(self, *arguments: str) -> str:
        """Run DVC; returns what it and its stages wrote to stdout. Tests that run at once take turns."""
        with FileLock(self.root.with_name("dvc.lock")):
            return self.run(sys.executable, "-m", "dvc", *arguments).stdout

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).stdout

    def set(self, **parameters: object) -> None:
        """Edit params.yaml as a person does."""
        path = self.root / "params.yaml"
        text = path.read_text()
        for key, value in parameters.items():
            text, found = re.subn(rf"^{key}: *\S+", f"{key}: {value}", text, flags=re.MULTILINE)
            assert found == 1, key
        path.write_text(text)

    def restore(self) -> None:
        """Put the workspace back to what git and DVC hold."""
        self.git("checkout", "--", ".")
        self.dvc("checkout")

    def copy(self, root: Path, *without: str) -> "Repository":
        """Copy as a clone is: with git's and DVC's store, not MLflow's, whose artifacts stay at absolute paths."""
        shutil.copytree(self.root, root, ignore=shutil.ignore_patterns(*STORE, *without), symlinks=True)
        return Repository(root)

    def receipt(self) -> dict[str, str]:
        """What track left for DVC."""
        return json.loads((self.root / "data/tracked.json").read_text())

    @property
    def client(self):
        from mlflow import MlflowClient

        return MlflowClient(f"sqlite:///{self.root / 'mlflow.db'}")

    def runs(self) -> list:
        """Every MLflow run of the repository's own store that is not deleted, the oldest first."""
        experiment = self.client.get_experiment_by_name("cvae")
        if experiment is None:
            return []
        return self.client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


def write_checkpoints_after_every_epoch(repository: Repository) -> None:
    """Let a training of a second be gone on with too: checkpoints may take as long as they like."""
    source = repository.root / "src/cvae/pipeline/checkpoint.py"
    text, found = re.subn(r"^SHARE = .*$", "SHARE = 1e9", source.read_text(), flags=re.MULTILINE)
    assert found == 1
    source.write_text(text)


@contextmanager
def started(repository: Repository, *arguments: str, **variables: str):
    """DVC in a process group of its own, killed at the end if it still runs; it prints to .dvc/tmp/printed.log."""
    with open(repository.root / ".dvc" / "tmp" / "printed.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=repository.root,
            env=environment(**variables),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            kill_group(process)


def made_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name`, which `make` fills; of pytest-xdist's workers the first makes it, and the others wait."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, done = base / name, base / f"{name}.made"
    with FileLock(base / f"{name}.lock"):
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that pytest-xdist's workers end together."""
    rank = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session")
def repository(tmp_path_factory) -> Repository:
    """The project as it stands, edited files too, after one `dvc repro` and a commit; not to be changed."""
    return Repository(made_once(tmp_path_factory, "project", make_repository) / "cvae")


def make_repository(folder: Path) -> None:
    repository = Repository(folder / "cvae")
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        if (PROJECT / name).is_file() and not any(fnmatch(name, pattern) for pattern in RESULTS):
            target = repository.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, target)
    repository.set(dataset="digits", epochs=2, nll_samples=50, threads=1)
    repository.git("init", "--quiet")
    repository.git("config", "user.name", "Test")
    repository.git("config", "user.email", "test@example.org")
    repository.dvc("repro")
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "--message", "Run on digits")


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The training and the test split of scikit-learn's digits."""
    from cvae.data import idx

    folder = tmp_path_factory.mktemp("digits")
    idx.write_digits(folder)
    return idx.load(folder)


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
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        outcome = pytest.fail if os.environ.get("CI") else pytest.skip
        outcome(f"no browser: none of {', '.join(CHROMIUM)} is on PATH")

    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()
