"""Put the four IDX files of the data set into data/raw."""

import os
from pathlib import Path

from stages import WORKSPACE, run

from cvae.parameters import read_parameters


def main() -> None:
    params = read_parameters()

    from cvae.download import download

    mirror = os.environ.get("MNIST_MIRROR")
    if mirror and "://" not in mirror:  # a relative folder is the main repository's, where the person typed it
        mirror = str(Path(os.environ.get("DVC_ROOT", WORKSPACE), mirror))
    download(params.dataset, "data/raw", mirror)


if __name__ == "__main__":
    run(main)
