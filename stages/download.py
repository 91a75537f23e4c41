"""Download the four IDX files of the data set into data/raw.

With `--check`, download nothing. The exit status is 0 if the data set can be downloaded, 3 if not.
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
    if mirror and "://" not in mirror:  # a relative path starts from the main repository, not from an experiment's copy
        mirror = str(main_repository() / mirror)
    if "--check" in sys.argv[1:]:
        sys.exit(0 if reachable(params.dataset, mirror) else 3)
    download(params.dataset, "data/raw", mirror)


if __name__ == "__main__":
    run_stage(main, "--check")
