"""Benchmarks, one per module. Run them from the root of the repository: `python -m benchmarks.training`."""

import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT / "src"))

from cvae.compute.threads import SPINS  # noqa: E402  after src/ is on sys.path

os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # as train does; before torch, which reads it once
