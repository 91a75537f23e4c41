"""Find the MLflow store of a repository.

It is at MLFLOW_TRACKING_URI if that is set, else in mlflow.db in the main repository. Relative paths start from the
main repository even in an experiment's temporary copy, because DVC deletes that copy afterwards.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cvae.pipeline.repository import main_repository
from cvae.support.errors import shown

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # that MLflow supports
DATABRICKS = ("databricks", "databricks-uc", "uc")  # MLflow's schemes; each is also an address by itself


@dataclass(frozen=True)
class Location:
    """The address of a tracking store.

    Attributes:
        uri: the address that MLflow opens
        artifacts: the folder for a new experiment's artifacts; None if a server decides
        database: the database's file, if it is SQLite's
    """

    uri: str
    artifacts: Path | None
    database: Path | None = None

    @property
    def is_server(self) -> bool:
        return self.artifacts is None

    @property
    def shown(self) -> str:
        """The address for messages: without passwords, and relative to the repository where possible."""
        if self.database and self.database.is_relative_to(main_repository()):
            return str(self.database.relative_to(main_repository()))
        return shown(str(self.database or self.uri))


def locate() -> Location:
    """Return the location of the store that this process should use."""
    return resolve(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")


def resolve(uri: str) -> Location:
    """Return the location of the store at `uri`. `checks.require_usable` refuses addresses that MLflow cannot open."""
    from sqlalchemy import exc, make_url

    scheme = re.match(r"([\w-]{2,})[\w+]*:", uri)  # without a driver's name; a single letter is a Windows drive
    if uri in DATABRICKS or (scheme and scheme[1] not in (*DATABASES, "file")):
        return Location(uri, None)
    try:
        url = make_url(uri)
    except (exc.ArgumentError, ValueError):
        url = None
    if url is None or url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return Location(uri, main_repository() / "mlartifacts")
    # abspath keeps links: mlartifacts belongs beside the link, not beside its target
    database = Path(os.path.abspath(main_repository() / url.database))
    return Location(sqlite_address(uri, database), database.parent / "mlartifacts", database)


def sqlite_address(uri: str, database: Path) -> str:
    """Return `uri` with `database` as its path. The path is not quoted: MLflow does not unquote it."""
    query = uri.partition("?")[2]
    return f"{uri.partition(':')[0]}:///{database}{query and f'?{query}'}"
