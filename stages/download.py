"""Download the four IDX files of the data set into data/raw.

With `--check`, only check that a source answers: exit status 0 if one does, 3 if none does.
"""

import os
import sys

from cvae.commands.runner import run_stage
from cvae.pipeline.parameters import read_parameters


def main() -> None:
    params = read_parameters()

    from cvae.data.download import download, reachable
    from cvae.pipeline.repository import main_repository

    mirror = os.environ.get("MNIST_MIRROR")
    if mirror and "://" not in mirror:  # a relative folder counts from the main repository, where it was typed
        mirror = str(main_repository() / mirror)
    if "--check" in sys.argv[1:]:
        sys.exit(0 if reachable(params.dataset, mirror) else 3)
    download(params.dataset, "data/raw", mirror)


if __name__ == "__main__":
    run_stage(main, "--check")
