"""The one MLflow store of a repository, wherever a stage runs: found, opened, and locked while it is changed."""

import errno
import logging
import os
import re
import sqlite3
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import FileLock

from cvae.pipeline import git
from cvae.pipeline.repository import main_repository
from cvae.support.errors import UserError, shown
from cvae.support.faults import file_error
from cvae.tracking import charts, description
from cvae.tracking.writers import Writer, bury, is_abandoned, untag, writers_of

EXPERIMENT = "cvae"
COLOUR = "mlflow.runColor"  # MLflow's tag
# matplotlib's tab10, whose import would take longer than a run's record
COLOURS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"]
LOCK_TIMEOUT = 300  # seconds; recording one pipeline takes less than ten

CHECKPOINT = "checkpoint.key"  # of what is trained, whether it ends or not
INPUTS = "training.inputs"  # the same, but for the device: another's result may come from DVC's cache
TRAINING_KEY = "training.key"  # of what training made; set when it is done
PIPELINE_KEY = "pipeline.key"  # of everything that track logs; set when all of it is there
TRACKING = "pipeline.tracking"  # the pipeline key of what track writes to a run; set when it starts


@dataclass(frozen=True)
class Location:
    """`uri`: of MLflow's tracking store. `artifacts`: folder of a new experiment's, None where a server decides.

    `database`: the file, if it is SQLite's. `folder`: if the store is one (`mlruns`).
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
        """`uri` as a message may hold it: without its secrets, a file of the repository from its root."""
        place = self.database or self.folder
        if place and place.is_relative_to(main_repository()):
            return str(place.relative_to(main_repository()))
        return shown(str(place or self.uri))

    def complaint(self, error: Exception) -> str:
        """What went wrong here, in one line of at most 300 characters, without what `shown` keeps back."""
        if isinstance(error, UserError):
            return str(error)
        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            place = error.filename2 or error.filename or self.artifacts  # pictures are written without naming a file
            text = f"{place}: {error.strerror}" if place else error.strerror
            if place and (self.is_server or error.errno in UNWRITABLE):
                text += "; it is a folder of this machine"
                if self.is_server:
                    text += (
                        ", which the server leaves to its clients to write (one with --artifacts-destination does not)"
                    )
        if self.is_server and "/mlflow-artifacts/" in text and re.search(r"\b(500|507)\b", text):
            text = "the server cannot use its own folder of artifacts; its log says why"
        if (found := _OTHER_SCHEMA.match(text)) and _is_newer(found[1]):
            text = _of_a_newer_mlflow(found[1])
        text = _AROUND_SQL.sub("", text)
        text = text.replace(f"{main_repository()}{os.sep}", "")
        if "(Caused by " in text:  # how requests and urllib3 end a long line, of which only this is news
            text = text.rpartition("(Caused by ")[2].removesuffix(")")
        return f"MLflow at {self.shown}: {textwrap.shorten(shown(text), 300, placeholder=' …')}"


DATABRICKS = ("databricks", "databricks-uc", "uc")  # MLflow's schemes, which may stand alone
UNWRITABLE = {getattr(errno, name) for name in ("EACCES", "EPERM", "EROFS", "ENOENT", "ENOTDIR", "ELOOP", "EEXIST")}
_OTHER_SCHEMA = re.compile(r"Detected out-of-date database schema \(found version (\w+)")  # of MLflow
_AROUND_SQL = re.compile(r"^(\(raised as .*?\) )?\([\w.]+Error\) | \[SQL: .*| \(Background on .*")  # of SQLAlchemy


def locate() -> Location:
    """The store at MLFLOW_TRACKING_URI if set, else mlflow.db of the main repository."""
    return _resolve(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")


def _resolve(uri: str) -> Location:
    """The store at `uri`, its relative path taken from the main repository: DVC deletes an experiment's own folder."""
    from sqlalchemy import exc, make_url

    try:
        scheme, host, path, *_ = urlsplit(uri)
    except ValueError:  # a host such as `[::1`, which `require_usable` refuses
        scheme, host, path = uri.partition(":")[0].lower(), "", ""
    if scheme in ("http", "https", *DATABRICKS) or uri in DATABRICKS:
        return Location(uri, None)
    if len(scheme) < 2 or _names_folder(scheme, host, path):  # `C:` is none
        folder = Path(os.path.abspath(main_repository() / url2pathname(path if scheme == "file" else uri)))
        return Location(folder.as_uri(), main_repository() / "mlartifacts", folder=folder)
    try:
        url = make_url(uri)
    except (exc.ArgumentError, ValueError):  # MLflow will complain of it
        url = None
    if url is None or url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return Location(uri, main_repository() / "mlartifacts")
    database = Path(os.path.abspath(main_repository() / url.database))  # links stay: mlartifacts is beside this one
    return Location(_address(uri, database), database.parent / "mlartifacts", database)


def _names_folder(scheme: str, host: str, path: str) -> bool:
    """Whether it is an address of a folder on this machine: `file://mlruns` names a host, and no folder."""
    return scheme == "file" and path != "" and host in ("", "localhost")


def _address(uri: str, database: Path) -> str:
    """That of `database`, else as `uri`; its path as it is, since MLflow makes a folder of a quoted one's name."""
    query = uri.partition("?")[2]
    return f"{uri.partition(':')[0]}:///{database}{query and f'?{query}'}"


def lock_folder() -> Path:
    """The folder of lock files for all who use this store: beside a database that other repositories may use too."""
    database, own = locate().database, main_repository() / ".dvc" / "tmp"
    if database and not database.is_relative_to(main_repository()):
        beside = database.resolve().with_name(f".{database.name}.locks")
        with suppress(OSError):
            beside.mkdir(parents=True, exist_ok=True)
            if os.access(beside, os.W_OK):
                return beside
    own.mkdir(parents=True, exist_ok=True)
    return own


@contextmanager
def locked() -> Iterator[None]:
    """Keep every other stage that shares the lock folder, in whatever copy it runs, from changing the store."""
    with FileLock(lock_folder() / "mlflow.lock", timeout=LOCK_TIMEOUT, mode=0o666):
        yield


def writer() -> Writer:
    """This process as a writer of runs; use as a context manager."""
    return Writer(lock_folder() / "writers")


@contextmanager
def told_in_one_line(location: Location, advice: str = "", if_unknown: str = "") -> Iterator[None]:
    """Turn what can go wrong with the store into a `UserError` of one line.

    `advice` ends it; `if_unknown`, where the store answers that it does not have what it was asked for.
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
        OSError,  # requests' errors too
        sqlalchemy.exc.SQLAlchemyError,
        ValueError,  # a variable of MLflow's that holds no such value
    ) as error:
        unknown = getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"
        ending = if_unknown if unknown and if_unknown else advice
        raise UserError(location.complaint(error).rstrip(".") + ending) from error


def require_usable(location: Location) -> None:
    """Refuse what MLflow would try for minutes, or tell with a traceback.

    Raises:
        UserError: the address is none, the database cannot be opened, or MLflow wants to be asked for a folder.
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
    except exc.ArgumentError:  # MLflow will complain of it
        return
    except ValueError:  # which may quote a password
        raise UserError(
            f"MLflow at {location.shown}: not an address; in a password, write / # ? @ as %2F %23 %3F %40"
        ) from None
    if location.database is None:
        if not location.is_server and url.get_backend_name() == "sqlite":
            raise UserError(f"MLflow at {location.shown}: names no file; what is kept in memory ends with its stage")
    elif url.database != str(location.database):
        raise UserError(f"MLflow at {location.shown}: its path may have no ? and no % before two digits; move it")
    elif location.database.exists():
        try:
            location.database.open("rb").close()
            with closing(sqlite3.connect(f"{location.database.as_uri()}?mode=rw", uri=True)) as database:
                tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                versions = database.execute("SELECT * FROM alembic_version") if "alembic_version" in tables else []
                _require_mlflows(location, tables, [str(version) for (version, *_) in versions])
        except OSError as error:
            raise file_error(error, location.shown) or error from None
        except sqlite3.OperationalError as error:  # it is locked, say
            raise UserError(f"MLflow at {location.shown}: {error}; try again when it can be used") from None
        except sqlite3.DatabaseError as error:
            raise UserError(f"MLflow at {location.shown}: {error}; move it away, or bring back a copy") from None


def _require_mlflows(location: Location, tables: set[str], versions: list[str]) -> None:
    """Refuse a SQLite database that this MLflow would spoil, or fail on with a traceback; an empty one is none.

    `versions`: the rows of its table alembic_version, which MLflow keeps with one row.
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
    if _is_newer(versions[0]):
        raise UserError(f"MLflow at {location.shown}: {_of_a_newer_mlflow(versions[0])}")
    import_mlflow()
    from mlflow.store.db.utils import Base  # with all of MLflow's tables

    missing = sorted(Base.metadata.tables.keys() - tables)
    is_older = versions[0] != _migrations().get_current_head()
    if is_older and not missing:
        raise UserError(
            f"MLflow at {location.shown}: made by an older MLflow than {import_mlflow().__version__}, which is "
            f"installed; copy it, then run `mlflow db upgrade sqlite:///{location.shown}`"
        )
    if missing and not is_older:  # MLflow itself brings older ones up to date
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(f"MLflow at {location.shown}: damaged (no table {', '.join(missing[:3])}{more}); {again}")


def _migrations():
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(import_mlflow().__file__).parent / "store" / "db_migrations"))


def _is_newer(version: str) -> bool:
    """Whether the installed MLflow does not know this version of a database's schema."""
    return version not in {each.revision for each in _migrations().walk_revisions()}


def _of_a_newer_mlflow(version: str) -> str:
    return (
        f"made by a newer MLflow than {import_mlflow().__version__}, which is installed and does not know its schema "
        f"{version:.40}; install that newer one, or name another database"
    )


def import_mlflow():
    """MLflow, with time-outs that fit a stage and silent about its own doings; call it before any import of mlflow."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it asks the network at each start
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds; MLflow's own are 120 and 7 retries
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")  # a busy server's, of an hour perhaps
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow

    for noisy in ("mlflow", "alembic"):  # after the import, which sets levels of its own
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # an error's traceback, before it is raised
    return mlflow


def connect(location: Location):
    """MLflow's client of the store and its registry, which become MLflow's own defaults."""
    mlflow = import_mlflow()
    mlflow.set_tracking_uri(location.uri)
    if registry := os.environ.get("MLFLOW_REGISTRY_URI"):
        os.environ["MLFLOW_REGISTRY_URI"] = _resolve(registry).uri
    return mlflow.MlflowClient(location.uri)


def open_store(location: Location):
    """MLflow's client and the experiment's id; made under the lock, which the caller holds.

    Raises:
        UserError: the store is of a repository that has moved, its experiment was deleted, or it is no store.
    """
    mlflow = import_mlflow()
    require_usable(location)
    if location.database and not location.database.exists():
        _make_database(location)
    client = connect(location)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        tags = {description.NOTE: description.OF_EXPERIMENT, charts.TAG: charts.layout()}
        folder = None if location.artifacts is None else str(location.artifacts)
        try:
            return client, client.create_experiment(name, artifact_location=folder, tags=tags)
        except mlflow.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)  # another clone's, which shares no lock, was first
    if not experiment.experiment_id:  # an answer without content, which MLflow's client takes for one without names
        raise UserError(f"MLflow at {location.shown}: what answers there is not MLflow")
    if experiment.lifecycle_stage != "active":
        raise UserError(
            f"the MLflow experiment {name!r} was deleted; "
            f"`mlflow experiments restore -x {experiment.experiment_id}` brings it back"
        )
    kept = experiment.artifact_location.removeprefix("file://")
    if not urlsplit(kept).scheme and not Path(kept).is_absolute():
        raise UserError(
            f"the MLflow experiment {name!r} keeps its files in {kept}, wherever a stage happens to run; "
            "MLFLOW_EXPERIMENT_NAME names another experiment"
        )
    if location.artifacts and "://" not in kept and not _is_below(Path(kept), location.artifacts):
        raise UserError(
            f"{location.shown} keeps its files in {kept}, but the repository is now in {main_repository()}: "
            f"move it back, or delete mlflow.db and start a new record with `dvc repro -sf track`"
        )
    if experiment.tags.get(charts.TAG) != charts.layout():
        client.set_experiment_tag(experiment.experiment_id, charts.TAG, charts.layout())
    return client, experiment.experiment_id


def _is_below(path: Path, folder: Path) -> bool:
    """Whether `path` is `folder` or in it, by name or where links lead: it may be a link to another disk."""
    return path.is_relative_to(folder) or path.resolve().is_relative_to(folder.resolve())


def _make_database(location: Location) -> None:
    """Make a first SQLite database beside its place and rename it: one killed in its migrations, MLflow cannot use."""
    from mlflow.db import upgrade

    place = location.database.resolve()
    aside = Path(f"{place}.new")
    aside.parent.mkdir(parents=True, exist_ok=True)
    for end in ("", "-journal", "-wal", "-shm"):  # what an attempt that was killed left
        Path(f"{aside}{end}").unlink(missing_ok=True)
    aside.touch()  # where that is refused, MLflow would try again and again
    # `mlflow db upgrade`: its engine is not among those that MLflow keeps by URI
    try:
        upgrade.callback(_address(location.uri, aside))
        aside.rename(place)
    finally:
        aside.unlink(missing_ok=True)


def newest_model(client, run):
    """The model that `run` logged, as MLflow describes it; of several the newest, which MLflow lists in any order.

    Raises:
        UserError: it logged none.
    """
    models = [client.get_logged_model(each.model_id) for each in (run.outputs.model_outputs if run.outputs else [])]
    if not models:
        raise UserError(
            f"run {run.info.run_name} ({run.info.run_id}) has no model; track logs it once the pipeline is through"
        )
    return max(models, key=lambda model: model.creation_timestamp)


def create_run(
    client,
    experiment: str,
    params: dict,
    tags: dict[str, str],
    start_time: int | None = None,
    writer: Writer | None = None,
):
    """A new run of `writer`, with its name, description, origin, and a colour that the latest ones do not have.

    Called under the lock. `start_time`: in milliseconds; now, if None. MLflow's own colours repeat by chance.
    """
    latest = client.search_runs([experiment], order_by=["attributes.start_time DESC"], max_results=len(COLOURS) - 1)
    taken = {run.data.tags.get(COLOUR) for run in latest}
    colour = next(colour for colour in COLOURS if colour not in taken)
    tags = source_tags() | {COLOUR: colour} | tags
    tags[description.NOTE] = description.of_run(params, tags)
    tags |= writer.tags if writer else {}
    run = client.create_run(experiment, start_time=start_time, tags=tags, run_name=run_name(params))
    return writer.started(run) if writer else run


def reopen_run(client, experiment: str, params: dict, tags: dict[str, str], writer: Writer) -> str | None:
    """Resume the interrupted run of the same training, and return its id; None if there is none for `writer` to take.

    Called under the lock, after `close_killed_runs`. `tags`: as for `create_run`, with the training's `CHECKPOINT`.
    """
    from mlflow.entities import RunTag

    for run in interrupted_runs(client, experiment):
        run_id = run.info.run_id
        if run.data.tags[CHECKPOINT] != tags.get(CHECKPOINT) or not (run := writer.take(client, run_id)):
            continue
        if TRAINING_KEY in run.data.tags:  # another process was first, and has completed it
            writer.leave(client, run_id)
            continue
        tags = source_tags() | tags
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        untag(client, run_id, {"error"} & run.data.tags.keys())  # how it was interrupted
        client.update_run(run_id, status="RUNNING", name=run_name(params))
        return run_id
    return None


def find(client, experiment: str, tag: str, value: str) -> list:
    """The experiment's runs, deleted ones aside, whose `tag` is `value`."""
    return list(client.search_runs([experiment], f"tags.`{tag}` = '{value}'", max_results=1000))


def interrupted_runs(client, experiment: str) -> list:
    """The runs of trainings that ended before their results were there."""
    ended = [
        run
        for status in ("KILLED", "FAILED")
        for run in client.search_runs([experiment], f"attributes.status = '{status}'", max_results=1000)
    ]
    return [run for run in ended if CHECKPOINT in run.data.tags and TRAINING_KEY not in run.data.tags]


def close_killed_runs(client, experiment: str) -> None:
    """Mark runs as KILLED that are RUNNING though their writers are gone, and delete those that are of no more use."""
    folder = lock_folder() / "writers"
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'", max_results=1000):
        if is_abandoned(folder, run):
            client.set_terminated(run.info.run_id, "KILLED")
            bury(client, folder, run.info.run_id, writers_of(run))
    delete_superseded(client, experiment)


def delete_superseded(client, experiment: str) -> None:
    """Delete the interrupted runs of trainings whose results another run has: one result, one run."""
    for run in interrupted_runs(client, experiment):
        same = find(client, experiment, INPUTS, run.data.tags.get(INPUTS, ""))
        if any(TRAINING_KEY in each.data.tags for each in same):
            with writer() as own:
                own.delete(client, run.info.run_id)


def source_tags() -> dict[str, str]:
    """Which code ran: the commit, whether src, stages or dvc.yaml differ from it, and DVC's name of the experiment.

    Where git refuses to tell, one line says why, and the run has no commit.
    """
    tags = {"mlflow.source.name": "dvc.yaml", "mlflow.source.type": "LOCAL"}
    try:
        if found := git.head():
            commit, is_dirty = found
            tags |= {"mlflow.source.git.commit": commit, "git.commit": commit, "git.dirty": str(is_dirty).lower()}
    except UserError as error:
        print(f"{error}; the run is recorded without its commit", file=sys.stderr, flush=True)
    if name := experiment_name():
        tags["dvc.experiment"] = name
    return tags


def experiment_name() -> str | None:
    """DVC's name of the experiment that this is a stage of, if it is one; not that of another repository's."""
    named = os.environ.get("DVC_ROOT")  # both are inherited, where a stage of another repository runs this one
    if named and Path(named).resolve() != main_repository().resolve():
        return None
    return os.environ.get("DVC_EXP_NAME") or None


def run_name(params: dict) -> str:
    """DVC's name of the experiment, else one made of the data set and of what differs from the article's settings."""
    from cvae.pipeline.parameters import Parameters

    default = Parameters().model_dump()
    changed = [f"{key}={params[key]}" for key in params if key != "dataset" and params[key] != default[key]]
    return experiment_name() or " ".join([params["dataset"], *changed])
