"""The pipeline's pictures, and screenshots of its pages."""

from helpers.repository import PROJECT

SCREENSHOTS = PROJECT / "tests/screenshots"  # of the pages that tests open, to look at; not in git


PICTURES = sorted(
    [f"{name}.png" for name in ("hero", "latents", "learning", "manifolds", "reconstructions", "styles", "training")]
    + [f"{folder}/{label}.png" for folder in ("latents", "manifolds") for label in range(10)]
    + ["learning/0001.png", "learning/0002.png"]
)
THUMBNAILS = sorted(
    [f"{name}.png" for name in ("latents", "manifolds", "reconstructions", "styles")]
    + [f"{folder}/{label}.png" for folder in ("latents", "manifolds") for label in range(10)]
    + ["learning/0001.png", "learning/0002.png"]
)
