"""Write the four IDX files of the data set and schema.json to data/raw: downloaded, or made from your own images.

With `--check`, write nothing. The exit status is 0 if the data set is there or can be downloaded, 3 if it cannot.
"""

import os
import sys

from cvae.commands.runner import run_stage
from cvae.pipeline.own_images import require_copied
from cvae.pipeline.parameters import read_parameters


def main() -> None:
    params = read_parameters()
    require_copied(params)
    is_check = "--check" in sys.argv[1:]
    if params.dataset == "images":
        from cvae.data.class_folders import find_images
        from cvae.data.images import import_images

        if is_check:
            find_images(params.images)
        else:
            print(import_images(params.images, "data/raw", params.image_size, params.channels, params.test_share))
        return

    from cvae.data.download import download, reachable
    from cvae.pipeline.repository import main_repository

    mirror = os.environ.get("MNIST_MIRROR")
    if mirror and "://" not in mirror:  # a relative path starts from the main repository, not from an experiment's copy
        mirror = str(main_repository() / mirror)
    if is_check:
        sys.exit(0 if reachable(params.dataset, mirror) else 3)
    download(params.dataset, "data/raw", mirror, cache=main_repository() / ".dvc/cache/files/md5")


if __name__ == "__main__":
    run_stage(main, "--check")
