"""The stages of dvc.yaml, a module each: `python -m stages.train`, from the root of the repository.

Importing this package puts the src/ beside it first on sys.path. A DVC experiment may run in a temporary
copy of the repository, and must import the code of that copy, whatever is installed.
"""

import sys
from collections.abc import Callable
from pathlib import Path

WORKSPACE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(WORKSPACE / "src"))


def run(stage: Callable[[], None]) -> None:
    """Run `stage`; an error that a person can put right ends it with one line and exit status 1."""
    from cvae.errors import UserError

    try:
        stage()
    except UserError as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
