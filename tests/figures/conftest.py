"""The figures of a test, before they are written."""

import pytest

from cvae.figures import hero, rendering


@pytest.fixture
def figures(monkeypatch) -> dict:
    """The figures that rendering has drawn, by the name of their file. They are not written."""
    figures = {}

    def save(figure, path):
        folder = f"{path.parent.name}/" if path.parent.name in ("latents", "manifolds", "all") else ""
        figures[folder + path.name] = figure
        if figure:
            figure.draw_without_rendering()  # lays it out, as saving does
            figure.set_layout_engine("none")  # once

    monkeypatch.setattr(rendering, "save", save)
    monkeypatch.setattr(hero, "save", save)
    monkeypatch.setattr(rendering, "render_thumbnail", lambda *view: None)
    return figures
