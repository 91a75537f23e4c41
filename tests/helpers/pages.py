"""The pipeline's pictures, and its pages in a browser."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from helpers.repository import PROJECT

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

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


def chromium() -> str | None:
    """Return the path of the Chromium or Chrome that is installed, or None."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


@contextmanager
def opened_browser() -> Iterator:
    """Start the installed Chromium through Playwright, and yield it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_OPTIONS)
        try:
            yield browser
        finally:
            browser.close()
