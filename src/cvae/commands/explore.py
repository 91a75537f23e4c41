"""`cvae explore`: open the explorer, a page that runs a model in the browser."""

import webbrowser
from pathlib import Path

import click

from cvae.pipeline.repository import require_root
from cvae.support.errors import UserError, one_line

PAGE = Path("plots/explorer.html")  # the pipeline's


@click.command()
@click.option("--run", metavar="RUN", help="Download the page of this MLflow run, by name or id, and open it.")
def explore(run: str | None) -> None:
    """Open a page that runs the current model in the browser, or that of another run."""
    require_root()
    page = PAGE
    if run is not None:
        from cvae.tracking.fetch import fetch_explorer

        page = fetch_explorer(run, ".")
    elif not page.is_file():
        raise UserError(f"{page}: missing; `dvc repro render` brings it back")
    address = page.resolve().as_uri()
    print(one_line(f"{page}: {address}"), flush=True)
    if not webbrowser.open(address):
        print("No browser can be started from here; open this file in one.")
