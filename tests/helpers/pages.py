"""The pipeline's pictures, and screenshots of its pages."""

from helpers.repository import PROJECT

SCREENSHOTS = PROJECT / "tests/screenshots"  # of the pages that tests open, to look at; not in git


PICTURES = sorted(
    [f"{name}.png" for name in ("latents", "manifolds", "reconstructions", "styles", "training")]
    + [f"{folder}/{label}.png" for folder in ("latents", "manifolds") for label in range(10)]
)
