"""The stages of dvc.yaml. Run one from the root of the repository: `python -m stages.train`.

Importing this package puts the src/ beside it first on sys.path. A DVC experiment may run in a temporary copy of the
repository, and must import the code of that copy, not the installed one.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

if sys.argv[0] == "-m":  # a stage is about to run; other importers handle Ctrl-C themselves
    from cvae.commands.runner import end_quietly_when_interrupted

    end_quietly_when_interrupted()
