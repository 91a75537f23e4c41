"""The pages of `dvc plots show` and `dvc plots diff`, in a browser without network."""

import re
import runpy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.pages import SCREENSHOTS
from helpers.repository import PROJECT

from cvae.data.idx import LABELS

CURVES = {"Loss": 2, "Reconstruction": 2, "KL": 2, "plots_training_csv": 1}  # the number of curves in each chart
SCATTER = "plots_latents_csv"
DOTS = {"Accuracy": 3 * LABELS, "metrics_per_digit_csv": LABELS, "metrics_per_latent_csv": 2}  # in each chart
CONFUSION = "plots_confusion_csv"
DIGITS = [f"{digit}.png" for digit in range(LABELS)]
PICTURES = {
    "plots": [f"{name}.png" for name in ("latents", "manifolds", "reconstructions", "styles", "training")],
    "plots/latents": DIGITS,
    "plots/manifolds": DIGITS,
}


@dataclass
class Opened:
    """A page, and what went wrong while it opened: network requests, errors in the console."""

    page: object
    troubles: list[str] = field(default_factory=list)

    def drawn(self, marks: str, chart: str) -> list[dict[str, str]]:
        """Return the SVG attributes, text and width of the marks of a kind (line, symbol, text) in a chart."""
        return self.page.locator(f"#{chart} svg g.mark-{marks}.role-mark > *").evaluate_all(
            """(marks) => marks.map((mark) => ({
              ...Object.fromEntries([...mark.attributes].map(({name, value}) => [name, value])),
              text: mark.textContent,
              pixels: mark.getBoundingClientRect().width,
            }))"""
        )

    def points(self) -> pd.DataFrame:
        """Return the data of each point in the scatter (rev, label, axis_1, axis_2), its place (x, y) and opacity.

        The data is in the text that Vega writes for screen readers.
        """
        rows = []
        for mark in self.drawn("symbol", SCATTER):
            data = dict(part.split(": ") for part in mark["aria-label"].replace("−", "-").split("; "))
            x, y = re.fullmatch(r"translate\((.+),(.+)\)", mark["transform"]).groups()
            rows.append(data | {"x": x, "y": y, "opacity": mark["opacity"]})
        columns = ["label", "axis_1", "axis_2", "x", "y", "opacity"]
        return pd.DataFrame(rows).astype(dict.fromkeys(columns, float))

    def pictures(self, heading: str) -> dict[str, list[dict]]:
        """Return the pictures of a section by name, and how each revision's picture is shown."""
        return dict(
            self.page.evaluate(
                """(heading) => {
                  const shown = (image) => ({
                    revision: image.previousElementSibling.textContent,
                    isNamed: image.previousElementSibling.checkVisibility(),
                    source: image.getAttribute("src"),
                    pixels: image.naturalWidth,
                    ...image.getBoundingClientRect().toJSON(),
                  });
                  return [...document.querySelectorAll("section")]
                    .filter((section) => section.querySelector("h2").textContent === heading)
                    .flatMap((section) => [...section.querySelectorAll(".card")])
                    .map((card) => [card.querySelector("p").textContent, [...card.querySelectorAll("img")].map(shown)]);
                }""",
                heading,
            )
        )


def open_page(browser, folder: Path, screenshot: str) -> Opened:
    opened = Opened(browser.new_page(viewport={"width": 1280, "height": 900}))
    page, note = opened.page, opened.troubles.append

    def refuse(route) -> None:
        note(f"asked for {route.request.url}")
        route.abort()

    page.route(re.compile("^(?!file:)"), refuse)
    page.on("requestfailed", lambda request: note(f"failed: {request.url}"))
    page.on("console", lambda message: note(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: note(str(error)))
    page.goto((folder / "index.html").as_uri())
    page.wait_for_function(
        "() => [...document.querySelectorAll('.card:not(.picture)')].every((card) => card.querySelector('svg.marks'))"
    )
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / screenshot, full_page=True)
    return opened


@pytest.fixture(scope="module")
def show(browser, repository, tmp_path_factory) -> Opened:
    folder = tmp_path_factory.mktemp("show")
    repository.dvc("plots", "show", "--out", str(folder))
    return open_page(browser, folder, "plots-show.png")


@pytest.fixture(scope="module")
def diff(browser, compared, tmp_path_factory) -> Opened:
    folder = tmp_path_factory.mktemp("diff")
    compared.dvc("plots", "diff", "HEAD", "wide", "--out", str(folder))
    return open_page(browser, folder, "plots-diff.png")


@pytest.fixture(scope="module")
def scatters(browser, compared, tmp_path_factory) -> Opened:
    """The scatters of HEAD, of `wide`, and of one-dimensional latents in the workspace."""
    from cvae.figures.rendering import write_scatter

    folder = tmp_path_factory.mktemp("scatters")
    edited = compared.copy(folder / "cvae")
    z = np.random.default_rng(0).normal(size=(200, 1))
    write_scatter(np.arange(200) % LABELS, z, z, edited.root / "plots/latents.csv")
    edited.dvc("plots", "diff", "HEAD", "wide", "workspace", "--targets", "plots/latents.csv", "--out", str(folder))
    return open_page(browser, folder, "plots-diff-latents.png")


def test_the_committed_page_is_up_to_date():
    made = runpy.run_path(str(PROJECT / ".dvc/plots/page.py"))["page"]()
    committed = (PROJECT / ".dvc/plots/page.html").read_text(encoding="utf-8")
    assert committed == made, "run `make page`"
    assert len(committed.encode()) < 2**20


@pytest.mark.parametrize("name", ["show", "diff", "scatters"])
def test_a_page_needs_no_network_and_reports_no_error(name, request):
    assert request.getfixturevalue(name).troubles == []


@pytest.mark.parametrize(("name", "revisions"), [("show", 1), ("diff", 2)])
def test_all_curves_are_drawn(name, revisions, request):
    opened = request.getfixturevalue(name)
    charts = opened.page.locator(".card:not(.picture)").evaluate_all("(cards) => cards.map((card) => card.id)")
    assert sorted(charts) == sorted([*CURVES, *DOTS, SCATTER, CONFUSION])
    for chart, curves in CURVES.items():
        lines = opened.drawn("line", chart)  # DVC draws a curve twice: smoothed, and faintly as it is
        assert len(lines) == 2 * curves * revisions, chart
        assert all(line["pixels"] > 100 for line in lines), chart
        assert len({line["stroke"] for line in lines}) == revisions, f"{chart}: one colour for each revision"


@pytest.mark.parametrize(("name", "revisions"), [("show", 1), ("diff", 2)])
def test_figures_per_label_and_per_latent_are_dots(name, revisions, request):
    opened = request.getfixturevalue(name)
    for chart, dots in DOTS.items():
        more = 2 if name == "diff" and "latent" in chart else 0  # `wide` has two more latents
        assert len(opened.drawn("symbol", chart)) == dots * revisions + more, chart


def test_confusion_has_a_cell_for_each_pair_of_labels(show):
    assert len([mark for mark in show.drawn("rect", CONFUSION) if mark["pixels"] > 10]) >= LABELS**2


def test_the_scatter_has_one_point_for_each_row(show, repository):
    table = pd.read_csv(repository.root / "plots/latents.csv")
    columns = ["label", "axis_1", "axis_2"]
    np.testing.assert_allclose(show.points()[columns], table[columns])


def test_the_scatter_has_one_panel_with_its_own_axes_for_each_revision(scatters, repository):
    images = len(pd.read_csv(repository.root / "plots/latents.csv"))
    assert scatters.points()["rev"].value_counts().to_dict() == {"HEAD": images, "wide": images, "workspace": 200}
    texts = [re.sub(r"\d+%", "…", mark["text"]) for mark in scatters.drawn("text", SCATTER)]
    principal = [f"principal axis {i} of z (… of variance)" for i in (1, 2)]
    assert texts == ["z_0", "label", "z_0", "z_1", *principal]  # DVC puts the workspace first


def test_all_panels_of_the_scatter_have_one_scale(scatters):
    """A unit has the same length on both axes of each panel. One latent has a strip of 30 pixels for each label."""
    points = scatters.points().groupby("rev")
    across = {rev: np.polyfit(own["axis_1"], own["x"], 1)[0] for rev, own in points}
    up = {rev: -np.polyfit(own["axis_2"], own["y"], 1)[0] for rev, own in points}
    assert across == pytest.approx(dict.fromkeys(across, across["HEAD"]), rel=1e-3)
    assert up == pytest.approx({"HEAD": across["HEAD"], "wide": across["HEAD"], "workspace": 30}, rel=1e-3)
    assert points[["x", "y"]].agg(["min", "max"]).stack().stack().between(0, 300).all(), "a point outside its panel"


def test_a_click_on_a_label_in_the_legend_highlights_it(show):
    show.page.locator(f"#{SCATTER} g.role-legend-label text", has_text="3").click()
    opacity = show.points().groupby("label")["opacity"].max()
    assert opacity[3] == 0.5
    assert opacity.drop(3).max() < 0.1


def test_show_has_all_pictures(show):
    for heading, names in PICTURES.items():
        pictures = show.pictures(heading)
        assert list(pictures) == names
        for name, (picture,) in pictures.items():
            assert picture["pixels"] >= 700, name
            assert picture["width"] >= 190, name
            assert picture["right"] < 1280, name


def test_diff_pairs_the_pictures_of_both_revisions(diff):
    for heading, names in PICTURES.items():
        pictures = diff.pictures(heading)
        assert list(pictures) == names
        for name, (left, right) in pictures.items():
            stem = f"{heading}/{name}".replace("/", "_")
            assert (left["revision"], left["source"]) == ("HEAD", f"static/HEAD_{stem}")
            assert (right["revision"], right["source"]) == ("wide", f"static/wide_{stem}")
            assert left["isNamed"]
            assert right["isNamed"]
            assert min(left["pixels"], right["pixels"]) >= 700, name
            assert left["top"] == right["top"], name
            assert 0 < left["left"] < left["right"] <= right["left"] < right["right"] < 1280, name
