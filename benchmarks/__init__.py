"""How long things take, each a module: `python -m benchmarks.training`, from the root of the repository."""

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT / "src"))
