"""Check a store before MLflow opens it.

Otherwise MLflow might retry for minutes, end in a traceback, write elsewhere, or change another program's database.
"""

import sqlite3
from contextlib import closing
from urllib.parse import urlsplit

from cvae.support.errors import UserError
from cvae.support.faults import file_error
from cvae.tracking.location import DATABASES, Location

ADDRESSES = (
    "use a server (https://…) or a database (sqlite:///mlflow.db); "
    "write / # ? @ in a password as %2F %23 %3F %40, and a path must not contain ? or %20"
)


def require_usable(location: Location) -> None:
    """Check the address, and the database if it exists.

    Raises:
        UserError: MLflow cannot use the address, or the SQLite database cannot be read or belongs to another program.
        sqlalchemy.exc.SQLAlchemyError: another database does not let us in.
        ModuleNotFoundError: its driver is not installed.
    """
    if not _is_address(location):
        raise UserError(f"MLflow at {location.shown}: MLflow cannot use this address; {ADDRESSES}")
    if location.database and location.database.exists():
        _require_readable(location)
    elif not location.is_server and not location.database:
        _require_connection(location)


def _require_connection(location: Location) -> None:
    """Connect to the database once. MLflow would try ten times, for a minute and a half."""
    from sqlalchemy import NullPool, create_engine

    create_engine(location.uri, poolclass=NullPool).connect().close()


def _is_address(location: Location) -> bool:
    """Whether the address is well-formed and means the same to MLflow as here."""
    from sqlalchemy import exc, make_url

    try:
        _ = urlsplit(location.uri).port  # raises a ValueError if the host or the port is malformed
        url = None if location.is_server else make_url(location.uri)
    except (exc.ArgumentError, ValueError):
        return False
    if url and url.get_backend_name() == "sqlite":
        return url.database == str(location.database)  # not if its path has a ? or a %20
    return url is None or url.get_backend_name() in DATABASES


def _require_readable(location: Location) -> None:
    """Raise a `UserError` if the SQLite database cannot be read, or if another program made its tables."""
    try:
        location.database.open("rb").close()
        with closing(sqlite3.connect(f"{location.database.as_uri()}?mode=rw", uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except OSError as error:
        raise file_error(error, location.shown) or error from None
    except sqlite3.OperationalError as error:  # it is locked, for example
        raise UserError(f"MLflow at {location.shown}: {error}; try again when it can be used") from None
    except sqlite3.DatabaseError as error:
        raise UserError(f"MLflow at {location.shown}: {error}; move it away, or restore a copy") from None
    if tables and not tables & {"experiments", "runs"}:
        some = ", ".join(sorted(tables)[:3])
        raise UserError(
            f"MLflow at {location.shown}: the database of another program (tables {some}); choose another file"
        )
