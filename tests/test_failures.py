"""A test that fails says so at once, also in CI."""

import os
import shutil
import subprocess
import sys

from helpers.processes import environment
from helpers.repository import PROJECT

DIFFERENT = """
import os

def test_two_pictures_are_the_same():
    assert b"a" + os.urandom(100_000) == b"b" + os.urandom(100_000)
"""


def test_two_pictures_that_differ_are_reported_in_seconds(tmp_path):
    shutil.copy(PROJECT / "tests/conftest.py", tmp_path)
    (tmp_path / "test_different.py").write_text(DIFFERENT)
    path = os.pathsep.join(str(PROJECT / folder) for folder in ("src", "tests"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", tmp_path],
        cwd=tmp_path,
        env=environment(CI="true", PYTHONPATH=path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "1 failed" in done.stdout
    assert "At index 0 diff: " in done.stdout
