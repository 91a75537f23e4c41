"""Pages of the explorer, opened in Chromium."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.explorer import frame


@pytest.fixture
def open_page(browser) -> Callable:
    """Open a page in a new window. At the end, no window may have reported an error or asked for another address."""
    opened, troubles = [], []

    def open_page(address: str | Path, width: int = 1280, height: int = 900, ready: bool = True, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        opened.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(address.as_uri() if isinstance(address, Path) else address)
        page.on("request", lambda request: troubles.append(f"asked for {request.url}"))
        if ready:
            page.wait_for_function("typeof explorer === 'object'")
            frame(page)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert troubles == []
