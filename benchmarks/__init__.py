"""Benchmarks, one per module. Run them from the root of the repository: `python -m benchmarks.training`."""

import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT / "src"))

from cvae.compute.threads import share_cores  # noqa: E402  after src/ is on sys.path

_before = set(os.environ)
share_cores(threads=2)  # as train does; before torch, which reads the variables once
CHOSEN = set(os.environ) - _before  # the variables that a process started later may choose anew
