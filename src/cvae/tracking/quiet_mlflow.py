"""Import MLflow with time-outs that fit a stage, and without its telemetry and progress messages."""

import logging
import os


def import_mlflow():
    """Return the module `mlflow`. Call this before any other import of mlflow, so that its settings apply."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it contacts the network at each start
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds; MLflow's defaults are 120 and 7 retries
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")  # a busy server may ask for an hour
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow

    for noisy in ("mlflow", "alembic"):  # after the import, which sets its own levels
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs a traceback, then raises as well
    return mlflow
