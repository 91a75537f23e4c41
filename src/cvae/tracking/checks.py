"""Checks of a store before MLflow opens it.

MLflow would retry for minutes, end in a traceback, or change a database that belongs to another program.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from cvae.support.errors import UserError
from cvae.support.faults import file_error
from cvae.tracking.location import Location
from cvae.tracking.quiet_mlflow import import_mlflow


def require_usable(location: Location) -> None:
    """Check the address, and the database if it exists.

    Raises:
        UserError: the address is malformed, the database cannot be opened, or MLflow needs a variable for a folder.
    """
    if location.folder:
        if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
            raise UserError(
                f"MLflow at {location.shown}: a folder as the store needs MLFLOW_ALLOW_FILE_STORE=true; "
                "a database needs nothing: sqlite:///mlflow.db"
            )
        return
    if location.uri.lower().startswith("file:"):
        raise UserError(f"MLflow at {location.shown}: names no folder of this machine; file:mlruns and file:///… do")
    from sqlalchemy import exc, make_url

    try:
        url = urlsplit(location.uri).port if location.is_server else make_url(location.uri)
    except exc.ArgumentError:  # MLflow will report it
        return
    except ValueError:  # its text may quote a password
        raise UserError(
            f"MLflow at {location.shown}: not an address; in a password, write / # ? @ as %2F %23 %3F %40"
        ) from None
    if location.database is None:
        if not location.is_server and url.get_backend_name() == "sqlite":
            raise UserError(f"MLflow at {location.shown}: names no file; what is kept in memory ends with its stage")
    elif url.database != str(location.database):
        raise UserError(f"MLflow at {location.shown}: its path may have no ? and no % before two digits; move it")
    elif location.database.exists():
        _require_readable(location)


def _require_readable(location: Location) -> None:
    """Raise a `UserError` if the SQLite database cannot be read or used by the installed MLflow."""
    try:
        location.database.open("rb").close()
        with closing(sqlite3.connect(f"{location.database.as_uri()}?mode=rw", uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            versions = database.execute("SELECT * FROM alembic_version") if "alembic_version" in tables else []
            _require_schema(location, tables, [str(version) for (version, *_) in versions])
    except OSError as error:
        raise file_error(error, location.shown) or error from None
    except sqlite3.OperationalError as error:  # it is locked, for example
        raise UserError(f"MLflow at {location.shown}: {error}; try again when it can be used") from None
    except sqlite3.DatabaseError as error:
        raise UserError(f"MLflow at {location.shown}: {error}; move it away, or bring back a copy") from None


def _require_schema(location: Location, tables: set[str], versions: list[str]) -> None:
    """Raise a `UserError` if the installed MLflow cannot use a database with these tables. An empty one is fine.

    `versions`: the rows of the table alembic_version. MLflow keeps exactly one.
    """
    if not tables:
        return
    if not tables & {"experiments", "runs"}:
        some = ", ".join(sorted(tables)[:3])
        raise UserError(f"MLflow at {location.shown}: another program's database ({some}); name another file")
    again = "bring back a copy, or move it away and start a new record with `dvc repro -sf track`"
    if len(versions) != 1:
        raise UserError(
            f"MLflow at {location.shown}: damaged (alembic_version has {len(versions)} rows, not 1); {again}"
        )
    if is_newer_schema(versions[0]):
        raise UserError(f"MLflow at {location.shown}: {newer_schema_message(versions[0])}")
    import_mlflow()
    from mlflow.store.db.utils import Base  # lists all of MLflow's tables

    missing = sorted(Base.metadata.tables.keys() - tables)
    is_older = versions[0] != _migrations().get_current_head()
    if is_older and not missing:
        raise UserError(
            f"MLflow at {location.shown}: made by an older MLflow than {import_mlflow().__version__}, which is "
            f"installed; copy it, then run `mlflow db upgrade sqlite:///{location.shown}`"
        )
    if missing and not is_older:  # MLflow upgrades an older database that lacks tables
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(f"MLflow at {location.shown}: damaged (no table {', '.join(missing[:3])}{more}); {again}")


def is_newer_schema(version: str) -> bool:
    """Whether the installed MLflow does not know this version of the database schema."""
    return version not in {each.revision for each in _migrations().walk_revisions()}


def newer_schema_message(version: str) -> str:
    """Say that a newer MLflow made the database, and what to do."""
    return (
        f"made by a newer MLflow than {import_mlflow().__version__}, which is installed and does not know its schema "
        f"{version:.40}; install that newer one, or name another database"
    )


def _migrations():
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(import_mlflow().__file__).parent / "store" / "db_migrations"))
