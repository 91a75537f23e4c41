"""Where the MLflow store of a repository is.

MLFLOW_TRACKING_URI if it is set, else mlflow.db in the main repository. Relative paths start from the main repository
even in an experiment's temporary copy, because DVC deletes that copy afterwards.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cvae.pipeline.repository import main_repository
from cvae.support.errors import shown

DATABRICKS = ("databricks", "databricks-uc", "uc")  # MLflow's schemes; each may be the complete address


@dataclass(frozen=True)
class Location:
    """The address of a tracking store.

    Attributes:
        uri: the address that MLflow opens
        artifacts: the folder for a new experiment's artifacts; None if a server decides
        database: the database's file, if it is SQLite's
        folder: the store's folder, if the store is one (`mlruns`)
    """

    uri: str
    artifacts: Path | None
    database: Path | None = None
    folder: Path | None = None

    @property
    def is_server(self) -> bool:
        return self.artifacts is None

    @property
    def shown(self) -> str:
        """The address for messages: without passwords, and relative to the repository where possible."""
        place = self.database or self.folder
        if place and place.is_relative_to(main_repository()):
            return str(place.relative_to(main_repository()))
        return shown(str(place or self.uri))


def locate() -> Location:
    """Return the location of the store that this process should use."""
    return resolve(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")


def resolve(uri: str) -> Location:
    """Return the location of the store at `uri`. A relative path starts from the main repository."""
    from sqlalchemy import exc, make_url

    try:
        scheme, host, path, *_ = urlsplit(uri)
    except ValueError:  # a host such as `[::1`, which `checks.require_usable` refuses
        scheme, host, path = uri.partition(":")[0].lower(), "", ""
    if scheme in ("http", "https", *DATABRICKS) or uri in DATABRICKS:
        return Location(uri, None)
    names_folder = scheme == "file" and path != "" and host in ("", "localhost")  # in file://mlruns, mlruns is a host
    if len(scheme) < 2 or names_folder:  # a scheme of one letter is a Windows drive
        folder = Path(os.path.abspath(main_repository() / url2pathname(path if scheme == "file" else uri)))
        return Location(folder.as_uri(), main_repository() / "mlartifacts", folder=folder)
    try:
        url = make_url(uri)
    except (exc.ArgumentError, ValueError):  # MLflow will report it
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
