"""Put the four IDX files of the data set into data/raw.

With `--check` it only asks whether they can be had: exit status 0 if so, 3 if no source answers.
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
    if mirror and "://" not in mirror:  # a relative folder is the main repository's, where the person typed it
        mirror = str(main_repository() / mirror)
    if "--check" in sys.argv[1:]:
        sys.exit(0 if reachable(params.dataset, mirror) else 3)
    download(params.dataset, "data/raw", mirror)


if __name__ == "__main__":
    run_stage(main, "--check")
