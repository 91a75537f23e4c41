"""Keep an experiment from running without some of a person's own images."""

import os
from pathlib import Path

from cvae.data.class_folders import PASSED_OVER
from cvae.pipeline.dvc_yaml import files_in
from cvae.pipeline.git import git
from cvae.pipeline.parameters import Parameters
from cvae.pipeline.repository import main_repository
from cvae.support.errors import UserError


def require_copied(params: Parameters) -> None:
    """Refuse to run in an experiment's copy of the repository that lacks some of a person's own images.

    DVC copies only what git or DVC tracks. Images that are tracked now were added after the copy was made, and do not
    count. DVC may take a stage's outputs from its cache, so the stage that reads images is not the only one to check.

    Raises:
        UserError: in the main repository, neither git nor DVC tracks some of the images that the copy lacks.
    """
    main = main_repository()
    if params.dataset != "images" or os.path.isabs(params.images) or main == Path.cwd():
        return
    tracked = set(git("-C", str(main), "ls-files", "-z").decode(errors="surrogateescape").split("\0"))
    lost = []
    for path in files_in(main / params.images):
        inside = path.relative_to(main)
        if any(map(PASSED_OVER.fullmatch, path.relative_to(main / params.images).parts)):
            continue
        known = (str(each) for each in (inside, *inside.parents))
        if not inside.exists() and not any(name in tracked or f"{name}.dvc" in tracked for name in known):
            lost.append(inside)
    if lost:
        others = f" and {len(lost) - 1} more" if lost[1:] else ""
        raise UserError(
            f"{lost[0]}{others}: not tracked, so this experiment's copy of the repository lacks it; `git add` or "
            "`dvc add` the folder as data/own/README.md shows, then start it again"
        )
