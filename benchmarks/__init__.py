"""How long things take, each a module: `python -m benchmarks.training`, from the root of the repository."""

import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT / "src"))

from cvae.compute.threads import SPINS  # noqa: E402  it is in src/

os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # as train does; before torch, which reads it once
