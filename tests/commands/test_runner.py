"""What a stage leaves behind when it fails."""

import os
import subprocess
import sys

import pytest

from cvae.commands.runner import run_stage
from cvae.support.errors import UserError


def git(*arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("error", [UserError("no"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_git_sees_the_settings_that_a_failed_experiment_leaves(error, tmp_path, monkeypatch):
    """Even if DVC wrote them within the second in which git last looked at the file, without a change in its size."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stages/train.py"])
    file = tmp_path / "params.yaml"
    file.write_text("latent_dims: 2\n")
    earlier = file.stat().st_mtime_ns - 10**10
    os.utime(file, ns=(earlier, earlier))
    git("init", "-q")
    git("config", "core.trustctime", "false")
    git("add", "params.yaml")
    git("commit", "-qm", "defaults")
    with file.open("r+") as opened:  # the same inode, size and time
        opened.write("latent_dims: 4\n")
    os.utime(file, ns=(earlier, earlier))
    assert git("status", "--porcelain") == "", "git takes the file for unchanged"

    def fail() -> None:
        raise error

    with pytest.raises(SystemExit):
        run_stage(fail)
    assert git("status", "--porcelain") == " M params.yaml\n"
    git("checkout", "HEAD", ".")
    assert file.read_text() == "latent_dims: 2\n"
