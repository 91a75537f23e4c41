"""`python -m cvae.commands.serve`: a run's model behind HTTP, on this machine only, by MLflow's server.

What it takes and gives: `cvae.tracking.served_model`.
"""

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from cvae.commands import server
from cvae.commands.runner import Parser, run, whole
from cvae.commands.sample import is_of_mlflow, load_model
from cvae.pipeline.repository import require_root
from cvae.support.errors import UserError
from cvae.tracking import registry
from cvae.tracking.current_run import present_run, require_store
from cvae.tracking.fetch import LOGGED_AGAIN, fetch_model
from cvae.tracking.location import locate
from cvae.tracking.quiet_mlflow import import_mlflow
from cvae.tracking.runs import newest_model
from cvae.tracking.store import locked, open_store
from cvae.tracking.store_errors import reported_in_one_line

REQUEST = """\
curl -s {address}/invocations -H 'Content-Type: application/json' -d '{{"dataframe_records": [{{"digit": 3}}]}}'
"""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser("serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--run", metavar="ID", help="an MLflow run; else the one that records what is in the workspace")
    which.add_argument("--model", metavar="URI", help="a model as MLflow names it, such as models:/NAME@best")
    parser.add_argument("--port", type=whole(1, 65535), default=5001)
    return parser.parse_args(argv)


def main() -> None:
    options = parse_arguments()
    require_root()
    if options.model is not None:
        is_of_mlflow(options.model)
    address = server.address(options.port)
    location = locate()
    require_store(location)
    mlflow = import_mlflow()
    with reported_in_one_line(location), locked():
        client, experiment = open_store(location)
        if options.model is None:
            run = present_run(client, experiment) if options.run is None else client.get_run(options.run)
            model = newest_model(client, run).model_uri
            _check(model)
        else:
            model = registry.chosen(client, options.model)
            mlflow.models.get_model_info(model)  # raises where there is none
    print(f"Serving {model} at {address}/invocations")
    print("A picture's pixels, once the server says that it is running:")
    print(REQUEST.format(address=address), end="")
    os.environ["MLFLOW_TRACKING_URI"] = location.uri
    # -P: the folder of the file is no place to import from
    server.serve(
        "-P", str(Path(registry.__file__).with_name("mlflow_server.py")), "--model-uri", model, port=options.port
    )


def _check(model: str) -> None:
    """Raise a `UserError` where the server could not load a model that this project logged: files are lost, say."""
    with TemporaryDirectory() as folder:
        weights, _ = fetch_model(model, folder)
        try:
            load_model(weights, model)
        except UserError as error:
            raise UserError(f"{error}; {LOGGED_AGAIN}") from None


if __name__ == "__main__":
    run("serve", main)
