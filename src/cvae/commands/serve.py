"""`cvae serve`: serve a model over HTTP with MLflow's server, on this machine only.

`cvae.tracking.served_model` describes requests and answers.
"""

import json
import os
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from cvae.commands import server
from cvae.commands.sample.sources import is_mlflow_uri, load_model
from cvae.pipeline.repository import require_root
from cvae.support.errors import UserError
from cvae.tracking import registry
from cvae.tracking.current_run import current_run, require_store
from cvae.tracking.fetch import LOGGED_AGAIN, fetch_model
from cvae.tracking.location import locate
from cvae.tracking.named_run import named_run
from cvae.tracking.quiet_mlflow import import_mlflow
from cvae.tracking.runs import newest_model
from cvae.tracking.store import locked, open_store
from cvae.tracking.store_errors import reported_in_one_line

if TYPE_CHECKING:
    from mlflow.models import Model

REQUEST = "curl -s {address}/invocations -H 'Content-Type: application/json' -d {content}"


@click.command()
@click.option("--run", metavar="RUN", help="Serve the model of the MLflow run with this name or id.")
@click.option("--model", metavar="URI", help="Serve the model at this MLflow URI, such as models:/NAME@best.")
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", default=5001, help="Listen on this port.")
def serve(run: str | None, model: str | None, port: int) -> None:
    """Serve a model over HTTP, reachable from this machine only.

    Without --run or --model, serve the model of the current result.
    """
    if run is not None and model is not None:
        raise click.UsageError("--run and --model each name a model; use only one of them")
    require_root()
    if model is not None:
        is_mlflow_uri(model)
    address = server.address(port)
    location = locate()
    require_store(location)
    mlflow = import_mlflow()
    with reported_in_one_line(location), locked():
        client, experiment = open_store(location)
        if model is None:
            chosen = current_run(client, experiment) if run is None else named_run(client, run)
            model = newest_model(client, chosen).model_uri
            served = f"the model of run {chosen.info.run_name} ({model})"
            _check(model)
        else:
            model = registry.resolve(client, model)
            served = model
        content = _example(mlflow.models.Model.load(model), model)  # raises an error if there is no such model
    print(f"Serving {served} at {address}/invocations")
    if content:
        print("Once the server is running, this command returns the pixels of one image:")
        print(REQUEST.format(address=address, content=content))
    os.environ["MLFLOW_TRACKING_URI"] = location.uri
    # -P: do not import from the script's own folder
    script = Path(registry.__file__).with_name("mlflow_server.py")
    server.serve("-P", str(script), "--model-uri", model, port=port)


def _example(logged: "Model", uri: str) -> str:
    """Return a request's content, quoted for a shell: the first row of the input example that the model carries.

    So it fits models of any labels, older ones with a column `digit`, and those of other projects if they take tables.
    """
    table = logged.load_input_example(uri)
    if not hasattr(table, "to_dict"):
        return ""
    content = {"dataframe_records": table.head(1).to_dict("records")}
    text = json.dumps(content, ensure_ascii=False, default=str)
    return shlex.quote(text if text.isprintable() else json.dumps(content, default=str))


def _check(model: str) -> None:
    """Raise a `UserError` if the model cannot be loaded, for instance because files are missing."""
    with TemporaryDirectory() as folder:
        weights, _ = fetch_model(model, folder)
        try:
            load_model(weights, model)
        except UserError as error:
            raise UserError(f"{error}; {LOGGED_AGAIN}") from None
