"""`cvae explore`: open the explorer, a page that runs a model in the browser."""

import webbrowser
from pathlib import Path

import click

from cvae.pipeline.repository import require_root
from cvae.support.errors import UserError, one_line

PAGE = Path("plots/explorer.html")  # the pipeline's


@click.command()
@click.option("--run", metavar="RUN", help="Open that of the MLflow run with this name or id: write it to this folder.")
def explore(run: str | None) -> None:
    """Open a page that runs a model in the browser: the current result's, without --run."""
    require_root()
    page = PAGE
    if run is not None:
        from cvae.tracking.fetch import fetch_explorer

        page = fetch_explorer(run, ".")
    elif not page.is_file():
        raise UserError(f"{page}: missing; `dvc repro explore` makes it, or `dvc checkout {page}` brings it back")
    address = page.resolve().as_uri()
    print(one_line(f"{page}: {address}"), flush=True)
    if not webbrowser.open(address):
        print("No browser can be started from here; open this file in one.")
