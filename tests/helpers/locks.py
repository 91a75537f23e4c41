"""Files that `cvae sample` reads."""

from pathlib import Path

import yaml

from cvae.pipeline.dvc_lock import md5


def write_lock(root: Path, dataset: str, **trained: str) -> None:
    """Write the dvc.lock of a pipeline that downloaded `dataset` and trained data/model with these parameters."""
    images = [{"path": "data/raw", "md5": md5(root / "data/raw")}]
    model = [{"path": "data/model", "md5": md5(root / "data/model")}]
    stages = {
        "download": {"params": {"params.yaml": {"dataset": dataset}}, "outs": images},
        "train": {"params": {"params.yaml": trained}, "deps": images, "outs": model},
    }
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
