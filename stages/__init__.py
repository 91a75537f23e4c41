"""The stages of dvc.yaml, a module each: `python -m stages.train`, from the root of the repository.

Importing this package puts the src/ beside it first on sys.path. A DVC experiment may run in a temporary copy of the
repository, and must import the code of that copy, whatever is installed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

if sys.argv[0] == "-m":  # Python is about to run a stage; in other programs, Ctrl-C is not ours to answer
    from cvae.commands.runner import end_quietly_when_interrupted

    end_quietly_when_interrupted()
