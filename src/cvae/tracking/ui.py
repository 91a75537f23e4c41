"""`python -m cvae.tracking.ui`: the MLflow UI on this repository's store, with the link of its charts."""

import argparse
import os
import sys

from cvae.errors import UserError
from cvae.tracking.store import locate, locked, open_store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=5000)
    port = parser.parse_args().port

    location = locate()
    with locked():
        _, experiment = open_store(location)
    page = f"#/experiments/{experiment}/runs?compareRunsMode=CHART"
    if location.is_server:
        print(f"The runs are on the server that MLFLOW_TRACKING_URI names: {location.shown}/{page}")
        return
    print(f"Charts of all runs: http://127.0.0.1:{port}/{page}\nCtrl-C ends the server.", flush=True)
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # nothing here uses jobs; they are chatty
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", location.uri]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(port)])


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"ui: {error}")
