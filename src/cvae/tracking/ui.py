"""`python -m cvae.tracking.ui`: the MLflow UI on this repository's store, with the links worth following."""

import argparse
import json
import os
import sys
from pathlib import Path

from cvae.errors import UserError
from cvae.tracking import charts
from cvae.tracking.record import RECEIPT
from cvae.tracking.store import PIPELINE_KEY, close_killed_runs, find, locate, locked, open_store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=5000)
    port = parser.parse_args().port

    location = locate()
    with locked():
        client, experiment = open_store(location)
        close_killed_runs(client, experiment)
    server = location.shown if location.is_server else f"http://127.0.0.1:{port}"
    print(f"Charts of all runs: {server}/{charts.page(experiment)}")
    if run := _present_run(client, experiment):
        print(f"The present result: {server}/#/experiments/{experiment}/runs/{run.info.run_id}")
    if location.is_server:
        return
    print("Ctrl-C ends the server.", flush=True)
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # nothing here uses jobs; they are chatty
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", location.uri]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(port)])


def _present_run(client, experiment: str):
    """The run that records what the workspace holds, by the receipt that track left; None if there is none."""
    receipt = Path(RECEIPT)
    if not receipt.exists():
        return None
    return next(iter(find(client, experiment, PIPELINE_KEY, json.loads(receipt.read_text())[PIPELINE_KEY])), None)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"ui: {error}")
