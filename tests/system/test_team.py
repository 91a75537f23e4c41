"""docs/share.md with real servers: two people share results and runs, and secrets stay where they belong."""

import getpass
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import team as servers
from helpers.processes import closed_port, environment, is_served
from helpers.repository import PROJECT, Repository, stages_run
from helpers.runs import assert_complete
from mlflow import MlflowClient

from cvae.pipeline.dvc_lock import md5

TRACK = [sys.executable, "-m", "stages.track"]
PRIVATE = ("config.local", "credentials", "ann.key", "s3.json")  # files that may hold secrets


def blocks(heading: str, language: str = "sh") -> list[str]:
    """Return the blocks of code below a heading of docs/share.md."""
    section = (PROJECT / "docs/share.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^```(.*)\n([^`]*)^```$", section, re.MULTILINE)
    assert {name for name, _ in found} <= {"sh", "ini", "python"}
    return [content for name, content in found if name == language]


DATA, SERVER = "Share data and models", "Set up the server"
FOLDER, SSH, S3, S3_KEYS = blocks(DATA)
ADD, *PUSH = FOLDER.splitlines()
REMOTES = {
    "a folder": ADD,
    "ssh": SSH,
    "S3": S3,
    "S3 without variables": "\n".join([*S3.splitlines()[:2], *S3_KEYS.splitlines()]),
}
(RECORD,), (CREDENTIALS,) = blocks("Share runs"), blocks("Share runs", "ini")


@dataclass
class Team:
    """Servers that run, and what people do with them.

    Attributes:
        folder: everything of the team, with all that its commands print in printed.log
        places: what stands in docs/share.md, and what stands for it here
        database: the variables with which clients of PostgreSQL log in
    """

    folder: Path
    places: dict[str, str]
    database: dict[str, str]

    def here(self, text: str) -> str:
        """Return text of the docs with the addresses and secrets of this test."""
        for place, replacement in self.places.items():
            text = text.replace(place, replacement)
        assert "example.org" not in text
        return text

    def run(self, where: Path, *command: str, status: int | None = 0, text: str = "", **variables: str) -> str:
        """Run a command as a person whose home folder is empty, and return what it printed."""
        known = {"HOME": str(self.folder / "home"), "PGPORT": self.database["PGPORT"], "PATH": servers.PATH} | variables
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "input": text}
        done = subprocess.run(command, cwd=where, env=environment(**known), start_new_session=True, **pipes)
        with open(self.folder / "printed.log", "a") as log:
            log.write(done.stdout)
        assert status is None or done.returncode == status, done.stdout
        return done.stdout

    def follow(self, where: Path, script: str, **variables: str) -> str:
        """Run commands of the docs."""
        return self.run(where, "bash", "-e", "-c", self.here(script), **variables)

    def share(self, repository: Repository, name: str) -> tuple[Repository, Repository]:
        """Return the repository of a person with results, and a clone of another person who has none yet."""
        folder = self.folder / name
        ann = repository.copy(folder / "ann")
        self.run(folder, "git", "clone", "--quiet", "--bare", "ann", "hub.git")
        self.run(folder, "git", "clone", "--quiet", "hub.git", "bob")
        ann.git("remote", "add", "origin", str(folder / "hub.git"))
        ann.git("fetch", "--quiet", "origin")
        ann.git("branch", "--quiet", "--set-upstream-to", f"origin/{ann.git('branch', '--show-current').strip()}")
        return ann, Repository(folder / "bob")

    def push_and_pull(self, ann: Repository, bob: Repository, remote: str) -> None:
        own = [line for line in remote.splitlines() if "--local" in line or line.startswith("export")]
        self.follow(ann.root, "\n".join([remote, *PUSH]))
        self.follow(bob.root, "\n".join(["git pull", *own, "dvc pull"]))

    @property
    def address(self) -> str:
        return self.places["https://mlflow.example.org"]

    @property
    def login(self) -> dict[str, str]:
        """The variables that RECORD, the block of the docs, sets."""
        values = dict(re.findall(r"(MLFLOW_TRACKING_\w+)=(\S+)", self.here(RECORD)))
        assert len(values) == 3
        return values

    def runs(self, monkeypatch, experiment: str = "cvae") -> list:
        """Return the runs on the server, as MLflow's client reads them."""
        for name, value in self.login.items():
            monkeypatch.setenv(name, value)
        client = MlflowClient(self.address)
        runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
        for run in runs:
            assert_complete(client, run)
        return runs


@pytest.fixture(scope="module")
def team(tmp_path_factory) -> Iterator[Team]:
    if servers.MISSING:
        outcome = pytest.fail if os.environ.get("NO_SKIPS") else pytest.skip
        outcome(f"tests/requirements.txt and Debian have what is missing here: {', '.join(servers.MISSING)}")
    folder, port = tmp_path_factory.mktemp("team"), closed_port()
    for name in ("home", "ssh", "s3", "artifacts", "machine"):
        (folder / name).mkdir()
    names = ("admin-password", "anns-password", "bobs-password", "anns-key", "anns-secret", "any-long-random-text")
    places = {name: secrets.token_hex() for name in names}
    with ExitStack() as stack:
        database = stack.enter_context(servers.postgresql())
        ssh = stack.enter_context(servers.ssh(folder / "ssh"))
        s3 = stack.enter_context(servers.s3(folder / "s3", places["anns-key"], places["anns-secret"], "cvae"))
        places |= {
            "database-password": database["PGPASSWORD"],
            "db.example.org": database["PGHOST"],
            "https://mlflow.example.org": f"http://127.0.0.1:{port}",
            "mlflow.example.org": f"127.0.0.1:{port}",
            "--port 5000": f"--port {port} --workers 2",
            "/srv/mlflow": str(folder / "artifacts"),
            "/mnt/team/cvae": str(folder / "store"),
            "ssh://store.example.org/srv": f"ssh://127.0.0.1:{ssh}{folder / 'ssh'}",
            "user ann": f"user {getpass.getuser()}",
            "~/.ssh/id_ed25519": str(folder / "ssh/ann.key"),
            "https://s3.example.org": f"http://127.0.0.1:{s3}",
        }
        team = Team(folder, places, database)
        stack.enter_context(mlflow_with_users(team))
        yield team


@contextmanager
def mlflow_with_users(team: Team) -> Iterator[None]:
    """Set up MLflow's server as the docs say, start it, and add Ann and Bob."""
    machine = team.folder / "machine"
    for name in ("requirements-team.txt", "constraints.txt"):
        shutil.copy(PROJECT / name, machine)
    (settings,) = blocks(SERVER, "ini")
    (machine / "auth.ini").write_text(settings)
    install, serve = blocks(SERVER)
    (add_user,) = blocks(SERVER, "python")
    variables = environment(PGPORT=team.database["PGPORT"], PATH=servers.PATH, MLFLOW_DISABLE_TELEMETRY="true")
    command = ["bash", "-e", "-c", team.here(install + serve)]
    log, settings = team.folder / "mlflow.log", {"cwd": machine, "env": variables}
    with servers.running(command, log, lambda: is_served(f"{team.address}/health"), **settings):
        admin = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": team.places["admin-password"]}
        for name in ("ann", "bob"):
            script = team.here(add_user).replace('"ann"', f'"{name}"')
            team.run(machine, sys.executable, "-c", script, text=team.places[f"{name}s-password"] + "\n", **admin)
        yield


@pytest.fixture(scope="module")
def shared(team, repository) -> tuple[Repository, Repository]:
    """Ann's repository, whose result is on the servers, and Bob's clone, which has pulled it."""
    ann, bob = team.share(repository, "shared")
    team.push_and_pull(ann, bob, SSH)
    team.follow(ann.root, RECORD)
    return ann, bob


@pytest.mark.parametrize("remote", [name for name in REMOTES if name != "ssh"])  # `shared` has that one
def test_a_result_is_pushed_and_pulled_with_the_documented_commands(team, repository, remote):
    ann, bob = team.share(repository, remote)
    team.push_and_pull(ann, bob, REMOTES[remote])
    for place in ("data/model/model.safetensors", "data/latents.parquet", "plots/explorer.html"):
        assert (bob.root / place).read_bytes() == (ann.root / place).read_bytes()


def test_a_pulled_result_has_its_run_on_the_server_already(team, shared, monkeypatch):
    _, bob = shared
    (run,) = team.runs(monkeypatch)
    home = team.folder / "home of bob"
    (home / ".mlflow").mkdir(parents=True)
    (home / ".mlflow/credentials").write_text(team.here(CREDENTIALS.replace("anns-", "bobs-").replace("ann", "bob")))
    for repro in ("repro", "repro -sf track"):
        printed = team.run(bob.root, "dvc", *repro.split(), MLFLOW_TRACKING_URI=team.address, HOME=str(home))
        assert stages_run(printed) == ["track"]
        assert f"These results are already MLflow run {run.info.run_name} ({run.info.run_id})" in printed
    assert [each.info.run_id for each in team.runs(monkeypatch)] == [run.info.run_id]


def test_a_result_that_two_people_record_at_once_has_one_run(team, shared, monkeypatch):
    variables = team.login | {"MLFLOW_EXPERIMENT_NAME": "at once"}
    with ThreadPoolExecutor(2) as pool:
        printed = list(pool.map(lambda clone: team.run(clone.root, *TRACK, **variables), shared))
    (run,) = team.runs(monkeypatch, "at once")
    assert all(f"({run.info.run_id})" in each for each in printed)


def test_eight_people_record_results_at_once(team, shared, monkeypatch):
    variables = team.login | {"MLFLOW_EXPERIMENT_NAME": "eight"}
    clones = [with_nll(shared[1].copy(team.folder / f"eight/{number}", "cache"), number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda clone: team.run(clone.root, *TRACK, **variables), clones))
    runs = team.runs(monkeypatch, "eight")
    assert sorted(run.data.metrics["final_test/nll"] for run in runs) == list(range(8))
    client = MlflowClient(team.address)
    versions = client.search_model_versions("name = 'eight'")
    assert {version.run_id for version in versions} == {run.info.run_id for run in runs}
    assert len(versions) == 8
    best = client.get_run(client.get_model_version_by_alias("eight", "best").run_id)
    assert best.data.metrics["final_test/nll"] == 0


def with_nll(clone: Repository, nll: int) -> Repository:
    """Make another result of the one in `clone`, as `dvc commit` would, and have track register its model."""
    file, lock = clone.root / "metrics/test.json", clone.root / "dvc.lock"
    before = md5(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"nll": nll}))
    lock.write_text(lock.read_text().replace(before, md5(file)))
    clone.set(registered_model="eight")
    return clone


def test_no_secret_leaves_its_place(team, shared):
    """Not in files, git's history, stores, databases or logs, nor in what failing commands print."""
    ann, _ = shared
    wrong = secrets.token_hex()
    fail(team, ann, wrong)
    for repository in (*shared, Repository(team.folder / "shared/hub.git")):
        everything = f"git cat-file --batch-all-objects --batch > ../{repository.root.name}.objects"
        repository.run("bash", "-c", everything)
    for name in ("mlflow", "mlflow_users"):
        (team.folder / f"{name}.sql").write_text(team.run(team.folder, "pg_dump", name, **team.database))
    key = (team.folder / "ssh/ann.key").read_text().splitlines()[2]
    hidden = [
        wrong,
        key,
        *(value for name, value in team.places.items() if re.search("password|-key|secret|text", name)),
    ]
    assert len(hidden) == 9
    files = [path for path in team.folder.rglob("*") if path.is_file() and path.name not in PRIVATE]
    assert [path for path in files if any(each.encode() in path.read_bytes() for each in hidden)] == []


def fail(team: Team, ann: Repository, wrong: str) -> None:
    """Run commands with a wrong password or key, and without a server; each ends with an error."""
    team.run(ann.root, "dvc", "remote", "add", "--local", "other", "s3://cvae/other")
    for name, value in {"endpointurl": "https://s3.example.org", "access_key_id": "anns-key"}.items():
        team.follow(ann.root, f"dvc remote modify --local other {name} {value}")
    team.run(ann.root, "dvc", "remote", "modify", "--local", "other", "secret_access_key", wrong)
    own, database = "MLFLOW_TRACKING_URI", f"postgresql://mlflow:{wrong}@127.0.0.1:{team.database['PGPORT']}/mlflow"
    failing = [
        (TRACK, {"MLFLOW_TRACKING_PASSWORD": wrong}, "track: MLflow at http://127.0.0.1"),
        (TRACK, {own: team.address.replace("://", f"://ann:{wrong}@")}, "track: MLflow at http://127.0.0.1"),
        (TRACK, {own: f"http://127.0.0.1:{closed_port()}"}, "Connection refused"),
        (TRACK, {own: database}, "track: MLflow at postgresql://127.0.0.1"),
        (["dvc", "push", "--verbose", "--remote", "other"], {}, "Forbidden"),
        (["createdb", "more"], team.database | {"PGPASSWORD": wrong}, "password authentication failed"),
    ]

    def run(case: tuple) -> None:
        command, variables, expected = case
        assert expected in team.run(
            ann.root, *command, status=1 if command == TRACK else None, **team.login | variables
        )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, failing))
