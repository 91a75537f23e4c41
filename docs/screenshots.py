"""Photograph the project's pages for docs/: `make screenshots ARGS="dims-2 dims-3"`, the names of two experiments.

It shows what is there: the result in the workspace, all runs in the MLflow store, and the experiments on DVC's page.
The pictures are about as wide as GitHub shows them.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from helpers.pages import opened_browser
from helpers.processes import closed_port, end, is_served, wait_for

DOCS = Path(__file__).parent
SIZE = {"width": 900, "height": 850}
MLFLOW_SIZE = {"width": 900, "height": 1100}
SIDEBAR = 198  # pixels of MLflow's menu, which are left out
CLOSED = ("assistant.chat_panel.close", "experiment_page.shared_view.dismiss", "experiment_page.table_resizer.collapse")


def photograph_explorer(page) -> None:
    page.goto(Path("plots/explorer.html").resolve().as_uri())
    page.wait_for_timeout(1000)  # for its first drawings
    page.screenshot(path=DOCS / "explorer.png")


def photograph_mlflow(page) -> None:
    port = closed_port()
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen([sys.executable, "-m", "cvae", "ui", "--port", str(port)], stdout=log)
        try:
            wait_for(lambda: server.poll() is not None or is_served(f"http://127.0.0.1:{port}/health"))
            log.seek(0)
            charts = next(line for line in log if line.startswith("Charts of all runs: ")).split(": ", 1)[1]
            page.set_viewport_size(MLFLOW_SIZE | {"width": MLFLOW_SIZE["width"] + SIDEBAR})
            page.goto(charts.strip())
            page.locator(".scatterlayer path.js-line").first.wait_for(state="attached")
            for name in CLOSED:
                button = page.locator(f'[data-component-id="mlflow.{name}"]').first
                if button.count():
                    button.click()
            page.wait_for_timeout(8000)  # for the other charts and pictures
            page.screenshot(path=DOCS / "mlflow.png", clip=MLFLOW_SIZE | {"x": SIDEBAR, "y": 0})
        finally:
            end(server)


def photograph_dvc(page, experiments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dvc", "plots", "diff", "-q", "-o", folder, *experiments]
        subprocess.run(command, check=True)
        page.goto(Path(folder, "index.html").as_uri())
        charts = page.locator("svg g.mark-line")
        charts.first.wait_for(state="attached")
        charts.first.scroll_into_view_if_needed()
        page.screenshot(path=DOCS / "plots.png")


def main() -> None:
    experiments = sys.argv[1:]
    if len(experiments) != 2:
        sys.exit('name two experiments, such as make screenshots ARGS="dims-2 dims-3"')
    with opened_browser() as browser:
        for photograph in (photograph_explorer, photograph_mlflow, lambda page: photograph_dvc(page, experiments)):
            page = browser.new_page(viewport=SIZE)
            page.set_default_timeout(60_000)
            photograph(page)
            page.close()


if __name__ == "__main__":
    main()
