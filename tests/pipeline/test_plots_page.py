"""The pages of `dvc plots show` and `dvc plots diff`, in a browser without network."""

import re
import runpy
import shutil
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.pages import SCREENSHOTS
from helpers.repository import PROJECT, Repository

from cvae.artifacts.tables import csv_bytes

LABELS = 10  # of digits
CURVES = {"Loss": 2, "Reconstruction": 2, "KL": 2, "plots_training_csv": 1}  # the number of curves in each chart
SCATTER = "plots_latents_csv"
DOTS = {"Accuracy": 3 * LABELS, "metrics_per_class_csv": LABELS, "metrics_per_latent_csv": 2}  # in each chart
CONFUSION = "plots_confusion_csv"
SINGLES = [f"{label}.png" for label in range(LABELS)]
PICTURES = {
    "plots": [
        f"{name}.png" for name in ("hero", "latents", "learning", "manifolds", "reconstructions", "styles", "training")
    ],
    "plots/latents": SINGLES,
    "plots/learning": ["0001.png", "0002.png"],
    "plots/manifolds": SINGLES,
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
        """Return the data of each point of the scatters (rev, label, axis_1, axis_2), and its place (x, y) in a panel.

        The data is in the text that Vega writes for screen readers.
        """
        rows = []
        for mark in self.drawn("symbol", SCATTER):
            data = dict(part.split(": ") for part in mark["aria-label"].replace("−", "-").split("; "))
            x, y = re.fullmatch(r"translate\((.+),(.+)\)", mark["transform"]).groups()
            rows.append(data | {"x": x, "y": y})
        columns = ["label", "axis_1", "axis_2", "x", "y"]
        return pd.DataFrame(rows).astype(dict.fromkeys(columns, float))

    def panels(self) -> list[str]:
        """Return the headings of the panels with latents."""
        return self.page.locator(f"#{SCATTER} svg g.role-scope g.role-title-text text").all_text_contents()

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


NAMES = {
    "7": ("a very long class name that never ends", "golden retriever", "Ägyptische Mau", "_hidden", "$5", "b", "B"),
    "47": tuple(str(label) for label in range(47)),
    "200": tuple(f"{label:03} of many" for label in range(200)),
}


def write_results(root: Path, classes: tuple[str, ...], labels: str = "given", latents: int = 2) -> None:
    """Write what a run on these classes leaves for the page, with pictures of one pixel."""
    from PIL import Image

    from cvae.figures.rendering import write_scatter

    count = len(classes)
    numbers = np.random.default_rng(count)
    for folder in ("metrics", "plots"):
        shutil.rmtree(root / folder, ignore_errors=True)
    names = ["all/all"] if labels == "none" else range(count)
    for place in [f"{folder}/{name}" for folder in ("latents", "manifolds") for name in names]:
        path = root / f"plots/{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1, 1)).save(path)
    (root / "metrics").mkdir()
    actual = np.arange(count).repeat(3)
    predicted = np.minimum(actual + (np.arange(3 * count) % 3 == 0), count - 1)
    order = numbers.permutation(3 * count)
    z = numbers.normal(size=(3 * count, latents))
    write_scatter(actual[order].astype(np.uint8), z, z, classes, root / "plots/latents.csv")
    shares = {} if labels == "none" else dict.fromkeys(("label_accuracy", "label_accuracy_iw", "sample_accuracy"), 0.9)
    pairs = [{"actual": classes[actual[i]], "predicted": classes[predicted[i]]} for i in order]
    tables = {
        "metrics/per_class.csv": ([{"label": name, "nll": number} | shares for number, name in enumerate(classes)], ()),
        "metrics/per_latent.csv": ([{"latent": latent, "prior_distance": 0.1} for latent in range(latents)], ()),
        "plots/confusion.csv": ([] if labels == "none" else pairs, ("actual", "predicted")),
    }
    for path, (rows, columns) in tables.items():
        (root / path).write_bytes(csv_bytes(rows, columns))


@pytest.fixture
def plots(tmp_path) -> Repository:
    """A repository with the pipeline's charts and no results."""
    root = tmp_path / "cvae"
    shutil.copytree(PROJECT / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "config.local"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy2(PROJECT / name, root)
    plots = Repository(root)
    plots.git("init", "--quiet")
    plots.git("config", "user.name", "Test")
    plots.git("config", "user.email", "test@example.org")
    return plots


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
    write_scatter(np.arange(200) % LABELS, z, z, tuple("0123456789"), edited.root / "plots/latents.csv")
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
        lines = opened.drawn("line", chart)
        assert len(lines) == curves * revisions, chart
        assert all(line["pixels"] > 100 for line in lines), chart
        assert len({line["stroke"] for line in lines}) == revisions, f"{chart}: one colour for each revision"
        dashes = [line["stroke-dasharray"] for line in lines]
        assert sorted(dashes) == ["1,0"] * revisions + ["6,3"] * revisions * (curves - 1), "training solid, test dashed"


@pytest.mark.parametrize(("name", "revisions"), [("show", 1), ("diff", 2)])
def test_figures_per_label_and_per_latent_are_dots(name, revisions, request):
    opened = request.getfixturevalue(name)
    for chart, dots in DOTS.items():
        more = 2 if name == "diff" and "latent" in chart else 0  # `wide` has two more latents
        assert len(opened.drawn("symbol", chart)) == dots * revisions + more, chart


def test_confusion_has_a_cell_for_each_pair_of_labels_that_occurs(show, repository):
    pairs = pd.read_csv(repository.root / "plots/confusion.csv").drop_duplicates()
    cells = [mark for mark in show.drawn("rect", CONFUSION) if mark.get("opacity") != "0"]
    assert len(cells) == len(pairs) > LABELS
    assert min(mark["pixels"] for mark in cells) > 10


def test_the_scatters_have_one_point_for_each_row(show, repository):
    table = pd.read_csv(repository.root / "plots/latents.csv")
    columns = ["label", "axis_1", "axis_2"]
    shown = show.points()[columns].sort_values(columns)
    np.testing.assert_allclose(shown, table[columns].sort_values(columns))


def test_each_class_of_each_revision_has_a_panel_of_latents(scatters, repository):
    panels = scatters.panels()
    assert sorted(panels) == [f"{rev}: {label}" for rev in ("HEAD", "wide", "workspace") for label in range(LABELS)]
    assert [panel[-1] for panel in panels] == [str(label) for label in range(LABELS)] * 3
    images = len(pd.read_csv(repository.root / "plots/latents.csv"))
    assert scatters.points()["rev"].value_counts().to_dict() == {"HEAD": images, "wide": images}
    assert len(scatters.drawn("area", SCATTER)) == LABELS, "one latent has a density"


def test_all_panels_of_latents_have_one_scale_in_both_directions(scatters):
    points = scatters.points()
    for _, own in points.groupby(["rev", "label"]):
        across, up = np.polyfit(own["axis_1"], own["x"], 1)[0], -np.polyfit(own["axis_2"], own["y"], 1)[0]
        assert (across, up) == pytest.approx((up, across), rel=1e-2)
        assert across == pytest.approx(np.polyfit(points["axis_1"], points["x"], 1)[0], rel=1e-2)
    assert points[["x", "y"]].stack().between(0, 88).all(), "a point outside its panel"


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


def test_an_axis_does_not_magnify_nearly_equal_values(browser, plots, tmp_path):
    write_results(plots.root, NAMES["7"])
    (plots.root / "metrics/per_latent.csv").write_text("latent,prior_distance\n0,0.1000\n1,0.1001\n")
    plots.dvc("plots", "show", "--out", str(tmp_path / "page"), "metrics/per_latent.csv")
    opened = open_page(browser, tmp_path / "page", "plots-equal.png")
    places = [mark["transform"] for mark in opened.drawn("symbol", "metrics_per_latent_csv")]
    first, second = (float(re.fullmatch(r"translate\(.+,(.+)\)", place)[1]) for place in places)
    assert abs(first - second) < 5  # pixels of 300


def axis_labels(opened: Opened, chart: str, axis: str) -> list[str]:
    """Return the visible labels of the X or Y axis of a chart, and check that they do not overlap."""
    labels = opened.page.locator(f"#{chart} svg g.role-axis-label text").evaluate_all(
        """(texts) => texts.filter((text) => +text.getAttribute("opacity") !== 0).map((text) => ({
          text: text.textContent,
          axis: text.closest("g.role-axis").getAttribute("aria-label"),
          ...text.getBoundingClientRect().toJSON(),
        }))"""
    )
    own = [label for label in labels if (label["axis"] or "").startswith(axis) and label["text"]]
    for one, other in pairwise(own):
        across = min(one["right"], other["right"]) - max(one["left"], other["left"])
        down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
        assert across < 1 or down < 1, (one["text"], other["text"])
    return [label["text"] for label in own]


@pytest.mark.parametrize("count", ["7", "47", "200"])
@pytest.mark.parametrize("latents", [1, 2])
def test_charts_of_any_classes_are_legible_and_in_order(browser, plots, count, latents, tmp_path):
    classes = NAMES[count]
    write_results(plots.root, classes, latents=latents)
    plots.dvc("plots", "show", "--out", str(tmp_path / "page"))
    opened = open_page(browser, tmp_path / "page", f"plots-{count}-{latents}.png")
    assert opened.troubles == []

    ordered = classes if classes[0] == "0" else sorted(classes)
    chosen = ordered[:: -(-len(classes) // 30)]
    assert [name[:8] for name in opened.panels()] == [name[:8] for name in chosen]
    if latents == 1:
        assert len(opened.drawn("area", SCATTER)) == len(chosen)
    else:
        symbols = opened.drawn("symbol", SCATTER)
        assert len(symbols) == 3 * len(chosen)
        assert len({mark["fill"] for mark in symbols}) == min(len(chosen), 20)

    for chart in ("Accuracy", "metrics_per_class_csv"):
        assert len(opened.drawn("symbol", chart)) == len(classes) * (3 if chart == "Accuracy" else 1)
        shown = axis_labels(opened, chart, "X-axis")
        assert len(shown) >= min(len(classes), 20)
        places = [[name[:8] for name in classes].index(name[:8]) for name in shown]
        assert places == sorted(places)
    assert len(axis_labels(opened, CONFUSION, "X-axis")) >= min(len(classes), 20)
    rows = axis_labels(opened, CONFUSION, "Y-axis")
    assert rows[0][:8] == ordered[0][:8]
    assert len(rows) >= min(len(classes), 20)


def test_a_model_without_labels_leaves_out_the_charts_of_labels(browser, plots, tmp_path):
    write_results(plots.root, NAMES["7"], labels="none")
    plots.dvc("plots", "show", "--out", str(tmp_path / "page"))
    opened = open_page(browser, tmp_path / "page", "plots-none.png")
    assert opened.troubles == []
    charts = opened.page.locator(".card:not(.picture)").evaluate_all("(cards) => cards.map((card) => card.id)")
    assert sorted(charts) == sorted(["metrics_per_class_csv", "metrics_per_latent_csv", SCATTER])
    assert list(opened.pictures("plots/latents/all")) == ["all.png"]


def test_results_of_different_classes_are_shown_side_by_side(browser, plots, tmp_path):
    write_results(plots.root, NAMES["7"])
    plots.git("add", "--all", "--force")
    plots.git("commit", "--quiet", "--message", "Seven classes")
    plots.git("tag", "seven")
    write_results(plots.root, NAMES["47"], latents=1)
    plots.git("add", "--all", "--force")
    plots.git("commit", "--quiet", "--message", "47 classes")
    write_results(plots.root, NAMES["7"], labels="none")
    plots.dvc("plots", "diff", "seven", "HEAD", "workspace", "--out", str(tmp_path / "page"))
    opened = open_page(browser, tmp_path / "page", "plots-diff-classes.png")
    assert opened.troubles == []
    assert len(opened.drawn("symbol", SCATTER)) == 3 * (7 + 7)
    assert len(opened.drawn("area", SCATTER)) == 24, "every second one of 47 classes"
    assert len(opened.drawn("symbol", "Accuracy")) == 3 * (7 + 47)
    assert len(opened.drawn("symbol", "metrics_per_class_csv")) == 7 + 47 + 7
    assert list(opened.pictures("plots/latents/all")) == ["all.png"]
    assert len(opened.pictures("plots/latents")["0.png"]) == 2
    titles = opened.page.locator(f"#{CONFUSION} g.role-column-title text, #{CONFUSION} g.role-row-title text")
    assert len(axis_labels(opened, CONFUSION, "Y-axis")) > 7 + 20, titles.all_text_contents()
