"""Report errors of the store in one line, without passwords."""

import os
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

from cvae.pipeline.repository import main_repository
from cvae.support.errors import UserError, shown
from cvae.tracking.location import Location
from cvae.tracking.quiet_mlflow import import_mlflow

# MLflow calls every other schema out-of-date; Alembic has its own message for a newer one
_OTHER_SCHEMA = re.compile("Detected out-of-date database schema|Can't locate revision")
# What SQLAlchemy adds to a message
_AROUND_SQL = re.compile(r"^(\(raised as .*?\) )?\([\w.]+Error\) | \[SQL: .*| \(Background on .*")


@contextmanager
def reported_in_one_line(location: Location, advice: str = "", if_unknown: str = "") -> Iterator[None]:
    """Turn errors of the store into a `UserError` of one line.

    `advice` ends the line. `if_unknown` ends it instead if the store does not have what was requested.
    """
    import_mlflow()
    import sqlalchemy
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (
        CommandError,
        MlflowException,
        ModuleNotFoundError,  # a database's driver
        OSError,  # includes errors of requests
        sqlalchemy.exc.SQLAlchemyError,
        ValueError,  # a bad value in one of MLflow's variables
    ) as error:
        unknown = getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"
        ending = if_unknown if unknown and if_unknown else advice
        raise UserError(explain(location, error).rstrip(".") + ending) from error


def explain(location: Location, error: Exception) -> str:
    """Return one line, at most about 300 characters long, that says what went wrong at `location`."""
    if isinstance(error, UserError):
        return str(error)
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        place = error.filename2 or error.filename or location.artifacts  # an error in a picture names no file
        text = f"{place}: {error.strerror}" if place else error.strerror
        if place and location.is_server:
            text += "; clients must write there themselves, unless the server runs with --artifacts-destination"
    if _OTHER_SCHEMA.search(text):
        text = (
            f"made by a version of MLflow other than {import_mlflow().__version__}; if it was newer, install that "
            "version; if it was older, copy the database, then run `mlflow db upgrade` on it"
        )
    text = _AROUND_SQL.sub("", text)
    text = text.replace(f"{main_repository()}{os.sep}", "")
    if "(Caused by " in text:  # requests and urllib3 put the cause at the end of a long line
        text = text.rpartition("(Caused by ")[2].removesuffix(")")
    return f"MLflow at {location.shown}: {textwrap.shorten(shown(text), 300, placeholder=' …')}"
