"""MLflow's pages in a real browser, with two runs in the store."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.pages import SCREENSHOTS
from helpers.processes import closed_port, end, environment, is_served, wait_for

pytestmark = pytest.mark.usefixtures("browser")
ROWS = [f"manifolds/{label}" for label in range(10)]


@pytest.fixture(scope="module")
def ui(compared, tmp_path_factory) -> str:
    """What `make ui` printed before it served a repository with two runs; it runs until the tests end."""
    log = tmp_path_factory.mktemp("ui") / "log"
    command = [sys.executable, "-m", "cvae", "ui", "--port", str(port := closed_port())]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=compared.root,
            env=environment(PYTHONPATH="src"),
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(lambda: process.poll() is not None or is_served(f"http://127.0.0.1:{port}/health"))
        assert process.poll() is None, log.read_text()
        yield log.read_text()
    finally:
        end(process)


def link(printed: str, name: str) -> str:
    (line,) = [line for line in printed.splitlines() if line.startswith(f"{name}: ")]
    return line.partition(": ")[2]


@pytest.fixture
def page(browser):
    """A browser page whose requests may neither fail nor leave this machine."""
    window = browser.new_page(viewport={"width": 1400, "height": 1000})
    window.set_default_timeout(60_000)
    troubles = []
    # The page itself aborts requests for charts that scroll out of sight.
    window.on("requestfailed", lambda request: troubles.append(request.url) if not is_aborted(request) else None)
    window.on("request", lambda request: troubles.append(request.url) if not is_local(request.url) else None)
    window.on("response", lambda answer: troubles.append(f"{answer.status} {answer.url}") if answer.status > 399 else 0)
    yield window
    window.close()
    # MLflow asks who is logged in, and nobody is
    assert [trouble for trouble in troubles if not trouble.endswith("/users/current")] == []


def is_aborted(request) -> bool:
    return request.failure == "net::ERR_ABORTED"


def is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def show(page, url: str, text: str) -> None:
    """Open `url`, wait for `text`, and close the panel of MLflow's assistant, which covers a third of the page."""
    page.goto(url)
    page.get_by_text(text, exact=True).first.wait_for()
    panel = page.locator('[data-component-id="mlflow.assistant.chat_panel.close"]')
    if panel.count():
        panel.first.click()


def photograph(page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def test_the_charts_page_overlays_the_curves_of_both_runs(ui, page, compared):
    show(page, link(ui, "Charts of all runs"), "train/loss vs test/loss")
    names = [run.info.run_name for run in compared.runs()]
    assert len(names) == 2
    assert all(page.get_by_role("link", name=name).first.is_visible() for name in names)

    card = page.get_by_test_id("experiment-view-compare-runs-card").filter(has_text="train/loss vs test/loss")
    drawn = set()

    def both_drawn() -> bool:  # training and test of two runs
        drawn.update(curve.get_attribute("d") for curve in card.locator(".scatterlayer path.js-line").all())
        return len(drawn) == 4 or page.wait_for_timeout(100)

    wait_for(both_drawn)
    assert all(re.fullmatch(r"M[^L]+(L[^L]+)+", line) for line in drawn), "from epoch to epoch"
    photograph(page, "mlflow-curves")


def test_the_charts_page_shows_manifolds_with_one_row_per_class_and_one_column_per_run(ui, page):
    show(page, link(ui, "Charts of all runs"), "Manifolds, one row per class")
    page.get_by_text("Manifolds, one row per class").scroll_into_view_if_needed()
    rows = {}

    def all_shown() -> bool:
        rows.clear()
        for image in page.locator('[role="row"] img').all():
            row = image.locator('xpath=ancestor::*[@role="row"]').inner_text().split("\n")[0]
            rows.setdefault(row, []).append(image.evaluate("image => image.naturalWidth"))
        return all(len(rows.get(name, [])) == 2 and all(rows[name]) for name in ROWS)

    wait_for(lambda: all_shown() or page.wait_for_timeout(200))
    photograph(page, "mlflow-manifolds")


def test_the_charts_page_shows_how_each_run_learned(ui, page):
    heading = "How a model learns: move the slider"
    show(page, link(ui, "Charts of all runs"), heading)
    page.get_by_text(heading).scroll_into_view_if_needed()
    card = page.get_by_test_id("experiment-view-compare-runs-card").filter(has_text="learning")
    shown = card.locator("img")
    wait_for(lambda: (shown.count() == 2 and all(map(width, shown.all()))) or page.wait_for_timeout(200))
    photograph(page, "mlflow-learning")


def test_the_compare_page_shows_an_overview_of_each_run(ui, page, compared):
    runs = compared.runs()
    ids = json.dumps([run.info.run_id for run in runs], separators=(",", ":"))
    server = link(ui, "Charts of all runs").partition("#")[0]
    show(page, f'{server}#/compare-runs?runs={ids}&experiments=["{runs[0].info.experiment_id}"]', "Artifacts")
    assert cells(page, "Run Name:") == [run.info.run_name for run in runs]
    assert cells(page, "latent_dims") == [run.data.params["latent_dims"] for run in runs] == ["2", "4"]

    page.get_by_test_id("artifact-tree-node").get_by_text("manifolds.png").click()
    overviews = page.locator("img:visible")
    wait_for(lambda: overviews.count() == 2 or page.wait_for_timeout(100))
    assert [width(image) for image in overviews.all()] == [1500, 1500]
    left, right = (image.bounding_box() for image in overviews.all())
    assert abs(left["y"] - right["y"]) < 20
    assert left["x"] + left["width"] <= right["x"]
    photograph(page, "mlflow-compare")


def cells(page, head: str) -> list[str]:
    """Return the cells of the table row that begins with `head`."""
    rows = [row.locator("th, td").all_inner_texts() for row in page.locator("tr").all()]
    (values,) = [row[1:] for row in rows if row and row[0].strip() == head]
    return [value.strip() for value in values]


def width(image) -> int:
    return image.evaluate("image => image.naturalWidth")


def test_the_page_of_a_run_describes_it_and_how_to_restore_it(ui, page, compared):
    show(page, link(ui, "The current result"), "Description")
    page.get_by_text("Show more").first.click()
    (run,) = [run for run in compared.runs() if run.data.tags["pipeline.key"] == compared.receipt()["pipeline.key"]]
    assert page.get_by_role("heading", name=run.info.run_name).is_visible()
    rows = [row.inner_text().split() for row in page.locator("table tr").all()]
    assert ["dataset", "digits", "mnist"] in rows
    assert ["beta", "1.0"] in rows
    assert page.get_by_text(run.data.tags["git.commit"][:12]).first.is_visible()
    photograph(page, "mlflow-run")
    assert Path(run.info.artifact_uri).is_relative_to(compared.root)


def test_the_description_of_a_run_leads_to_its_explorer_which_runs_in_the_preview(ui, page):
    show(page, link(ui, "The current result"), "Description")
    page.goto(page.get_by_role("link", name="Play with the model").evaluate("link => link.href"))
    canvas = page.frame_locator("iframe").locator("#plane")
    canvas.wait_for()
    frame = canvas.element_handle().owner_frame()
    frame.wait_for_function("typeof explorer === 'object'")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 8, box["y"] + 8)
    page.mouse.down()
    page.mouse.up()
    reach = frame.evaluate("explorer.plane.reach")
    assert frame.evaluate("[...explorer.state.z]") == pytest.approx([-reach, reach], rel=0.15)
    assert frame.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    photograph(page, "mlflow-explorer")
