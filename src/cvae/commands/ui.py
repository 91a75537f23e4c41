"""`cvae ui`: start the MLflow UI on this repository's store."""

import os

import click

from cvae.commands import server
from cvae.pipeline.repository import require_root
from cvae.support.errors import UserError
from cvae.tracking import charts, registry
from cvae.tracking.current_run import current_run
from cvae.tracking.location import locate
from cvae.tracking.runs import close_killed_runs
from cvae.tracking.store import locked, open_store
from cvae.tracking.store_errors import reported_in_one_line


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", default=5000, help="Listen on this port.")
def ui(port: int) -> None:
    """Start the MLflow UI on this repository's runs, and print links to the charts and the current result."""
    require_root()
    location = locate()
    address = location.shown if location.is_server else server.address(port)
    with reported_in_one_line(location), locked():
        client, experiment = open_store(location)
        close_killed_runs(client, experiment)
        if not location.is_server:
            registry.move_aliases(client)
        try:
            run_id = current_run(client, experiment).info.run_id
            current = f"{address}/#/experiments/{experiment}/runs/{run_id}"
        except UserError as error:
            current = str(error)
    print(f"Charts of all runs: {address}/{charts.page(experiment)}")
    print(f"The current result: {current}")
    print("At a first visit, MLflow opens an assistant over the right side of the page; its × closes it for good.")
    if location.is_server:
        return
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # jobs are unused here, and log a lot
    os.environ["MLFLOW_BACKEND_STORE_URI"] = location.uri  # other users of the machine could read an argument
    server.serve("-m", "mlflow", "ui", port=port)
