"""Experiments in a copy of the repository never use fewer of your own images than there are."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.processes import environment
from helpers.repository import PROJECT, Repository
from PIL import Image

from cvae.pipeline.own_images import require_copied
from cvae.pipeline.parameters import Parameters
from cvae.support.errors import UserError

OWN = Parameters(dataset="images")
README = (PROJECT / "data/own/README.md").read_text()


def add(repository: Repository, *classes: str) -> None:
    """Put four images of each class into data/own."""
    for name in classes:
        folder = repository.root / "data/own" / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(4):
            pixels = np.random.default_rng([seed, *name.encode()]).integers(0, 256, (12, 12), np.uint8)
            Image.fromarray(pixels).save(folder / f"{seed}.png")


@pytest.fixture
def small(tmp_path) -> Repository:
    """A git and DVC repository of the project, without results, with `dataset: images` and images in two classes."""
    repository = Repository(tmp_path / "cvae")
    for name in ("src", "stages", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "data", "dvc.yaml"):
        if (PROJECT / name).is_dir():
            without = shutil.ignore_patterns("__pycache__", "raw", "model", "*.parquet", "tracked.json")
            shutil.copytree(PROJECT / name, repository.root / name, ignore=without)
        else:
            (repository.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, repository.root / name)
    shutil.rmtree(repository.root / "data/own")
    (repository.root / "data/own").mkdir()
    (repository.root / "data/own/README.md").write_text(README)
    shutil.copy(PROJECT / "params.yaml", repository.root / "params.yaml")
    repository.set(dataset="images", images="data/own", test_share=0.3)
    repository.git("init", "--quiet")
    repository.git("config", "user.name", "Test")
    repository.git("config", "user.email", "test@example.org")
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "--message", "The project")
    add(repository, "cats", "big dogs")
    return repository


def in_a_copy(repository: Repository, share: float) -> str:
    """Run the download stage as an experiment in a copy, and return what it printed."""
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "-S", f"test_share={share}", "download"]
    done = subprocess.run(command, cwd=repository.root, env=environment(), capture_output=True, text=True)
    return done.stdout + done.stderr


def classes_in(printed: str) -> dict[str, int]:
    """Return the number of images of each class, from the table that was printed."""
    rows = re.findall(r"^(\S.*?) {2,}(\d+) +(\d+)  12 × 12 +0$", printed, re.MULTILINE)
    return {name: int(train) + int(test) for name, train, test in rows if name != "all classes"}


def commands(start: str) -> str:
    """Return the command in the README of the folder that begins with `start`."""
    (line,) = (line for line in README.replace("\\\n", "").splitlines() if line.startswith(start))
    return line


def type_in(repository: Repository, line: str) -> None:
    repository.run("bash", "-c", line)


def test_images_that_git_tracks_are_in_the_copy_and_others_are_refused(small):
    line = re.escape("download: data/own/big dogs/0.png and 7 more: not tracked, so this experiment's copy")
    assert re.search(f"^{line}.*`git add`", in_a_copy(small, 0.2), re.MULTILINE)
    type_in(small, commands("git add data/own"))
    assert classes_in(in_a_copy(small, 0.4)) == {"big dogs": 4, "cats": 4}
    add(small, "cows")
    assert "download: data/own/cows/0.png and 3 more: not tracked" in in_a_copy(small, 0.6)


def test_images_that_dvc_tracks_are_in_the_copy_also_those_added_later(small):
    type_in(small, commands("git rm"))
    assert small.git("status", "--porcelain") == ""
    assert classes_in(in_a_copy(small, 0.4)) == {"big dogs": 4, "cats": 4}
    add(small, "cows")
    assert classes_in(in_a_copy(small, 0.6)) == {"big dogs": 4, "cats": 4, "cows": 4}


@pytest.fixture
def copy(small, monkeypatch) -> Path:
    """An experiment's folder, the working directory, with what git had when the experiment was queued."""
    small.git("add", "--all")
    copy = small.root / ".dvc/tmp/exps/tmp1"
    copy.parent.mkdir(parents=True)
    small.git("worktree", "add", "--quiet", str(copy), "HEAD")
    shutil.copytree(small.root / "data/own", copy / "data/own", dirs_exist_ok=True)
    monkeypatch.chdir(copy)
    return copy


def test_images_that_were_tracked_after_an_experiment_was_queued_do_not_stop_it(small, copy):
    require_copied(OWN)
    add(small, "cows")
    with pytest.raises(UserError, match=r"^data/own/cows/0\.png and 3 more: not tracked, [^\n]*$"):
        require_copied(OWN)
    require_copied(Parameters(dataset="mnist"))
    require_copied(Parameters(dataset="images", images=str(small.root / "data/own")))
    small.git("add", "data/own/cows")
    require_copied(OWN)

    add(small, "hens")
    (small.root / "data/own/.gitignore").write_text("hens\n")
    (small.root / "data/own/hens.dvc").write_text("outs: []\n")
    with pytest.raises(UserError, match=r"^data/own/hens/0\.png and 3 more: "):
        require_copied(OWN)
    small.git("add", "data/own/hens.dvc")
    (small.root / "data/own/cows/Thumbs.db").touch()  # no image, so not missed
    require_copied(OWN)


def test_the_repository_itself_needs_no_tracked_images(small, monkeypatch):
    monkeypatch.chdir(small.root)
    require_copied(OWN)


@pytest.mark.parametrize("stage", ["download", "train", "track"])
def test_each_stage_that_dvc_may_run_alone_refuses(stage, small, copy):
    """DVC takes a stage's outputs from its cache if a copy without some images had them before."""
    add(small, "cows")
    shutil.copy(small.root / "params.yaml", copy / "params.yaml")
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"], cwd=copy, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{stage}: data/own/cows/0.png and 3 more: not tracked, ")
