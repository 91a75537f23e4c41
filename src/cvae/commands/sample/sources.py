"""Open the model and the images that pictures are drawn from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cvae.support.errors import UserError, one_line
from cvae.tracking.tasks import data_name

if TYPE_CHECKING:
    from cvae.data.dataset import Dataset, Schema
    from cvae.model import VAE
    from cvae.pipeline.dvc_lock import StageRecord

MODEL, DATA = "data/model", "data/raw"  # the pipeline's


@dataclass(frozen=True)
class Source:
    """Where to find a model: an MLflow `run`, a DVC experiment `exp`, or else `model`, a folder or MLflow URI."""

    model: str = MODEL
    run: str | None = None
    exp: str | None = None

    @property
    def name(self) -> str:
        if self.run is not None:
            return f"MLflow run {self.run}"
        return self.model if self.exp is None else f"experiment {self.exp}"


@dataclass(frozen=True)
class Origin:
    """The data, as `data_name` names them, and the kind of pixels that a model was trained on; None if unknown."""

    dataset: str | None = None
    binarize: str | None = None

    @classmethod
    def of(cls, parameters: "Mapping | None") -> "Origin":
        parameters = parameters or {}
        return cls(data_name(parameters) if "dataset" in parameters else None, parameters.get("binarize"))


def open_model(source: Source) -> "tuple[VAE, Origin]":
    """Load the model of `source` on the CPU, and read its origin from dvc.lock or its run.

    Raises:
        UserError: the model is missing, damaged or out of reach.
    """
    model, origin = _open(source)
    model.schema = completed(model.schema, origin)
    return model, origin


def completed(schema: "Schema", origin: Origin) -> "Schema":
    """Return `schema` with the title and class names of a built-in data set if it comes from an older model."""
    from cvae.data.names import LABEL_NAMES, TITLES

    if schema.title or origin.dataset not in TITLES:
        return schema
    return replace(schema, title=TITLES[origin.dataset], classes=LABEL_NAMES[origin.dataset])


def _open(source: Source) -> "tuple[VAE, Origin]":
    if source.exp is not None:
        return open_experiment(source)
    if source.run is not None or (source.model != MODEL and is_mlflow_uri(source.model)):
        from cvae.tracking.fetch import fetch_model, fetch_run

        with TemporaryDirectory() as folder:
            if source.run is not None:
                weights, parameters = fetch_run(source.run, folder)
            else:
                weights, parameters = fetch_model(source.model, folder)
            return load_model(weights, source.name), Origin.of(parameters)
    folder = Path(source.model)
    if folder.resolve() != Path(MODEL).resolve():
        return load_model(folder, str(folder)), Origin()
    return load_model(folder), locked_origin()


def open_experiment(source: Source) -> "tuple[VAE, Origin]":
    """Load the model of a DVC experiment, branch or commit from DVC's cache.

    Raises:
        UserError: there is no such experiment, or its model is neither in the cache nor in a remote.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from pygit2 import GitError
    from scmrepo.exceptions import SCMError

    from cvae.pipeline.dvc_lock import parameters_behind, parse_lock
    from cvae.pipeline.git import require_git

    require_git()
    with TemporaryDirectory() as folder:
        try:
            files = DVCFileSystem(".", rev=source.exp)
            lock = parse_lock(files.read_text("dvc.lock"))
            files.get(MODEL, folder + "/model", recursive=True)
        except (DvcException, SCMError, GitError, OSError, ValueError) as error:
            reason = one_line(str(error)).rstrip(".")
            raise UserError(f"--exp {source.exp}: {reason:.200}; `dvc exp show` lists experiments") from None
        return load_model(Path(folder, "model"), source.name), Origin.of(parameters_behind(lock, MODEL))


def is_mlflow_uri(model: str) -> bool:
    """Whether `--model` is an MLflow URI rather than a folder; raise a `UserError` if it is neither."""
    if model.startswith(("models:", "runs:")):
        return True
    if not model or not Path(model).is_dir():
        raise UserError(f"--model {model}: no such folder; use a folder, models:/... or runs:/...")
    return False


def locked_origin() -> Origin:
    """Read the origin of the pipeline's model from dvc.lock; unknown if the model is not the one in dvc.lock."""
    from cvae.pipeline.dvc_lock import parameters_behind

    lock = lock_if_readable()
    return Origin.of(parameters_behind(lock, MODEL)) if is_as_locked(MODEL, lock) else Origin()


def lock_if_readable() -> "dict[str, StageRecord]":
    """Return the stages in dvc.lock, or an empty dict if it is damaged: drawing works without it."""
    from cvae.pipeline.dvc_lock import read_lock

    try:
        return read_lock()
    except UserError:
        return {}


def is_as_locked(path: str, lock: "dict[str, StageRecord]") -> bool:
    """Whether the file or folder `path` has the MD5 sum recorded in `lock`."""
    from cvae.pipeline.dvc_lock import md5

    return md5(path) in (made.outs.get(path) for made in lock.values())


def load_model(folder: Path, name: str | None = None) -> "VAE":
    """Load the model in `folder`. Errors call it `name`; None means the pipeline's own model."""
    from cvae.artifacts import saved_model
    from cvae.compute.devices import open_device

    try:
        return saved_model.load(folder, open_device("cpu", threads=1))
    except UserError as error:
        if name is None:
            raise
        raise UserError(without_advice(error).replace(str(folder), name, 1)) from None


def without_advice(error: UserError) -> str:
    """Return the message without the advice to run the pipeline, which did not make these files."""
    return str(error).partition("; `dvc repro")[0]


def open_data(folder: str | None, origin: Origin, schema: "Schema") -> "Dataset":
    """Load images for a model of this origin and schema, from `folder`, or from data/raw if None.

    Raises:
        UserError: images are missing, not like those that the model was trained on, or of another data set.
    """
    from cvae.data.binarisation import as_seen
    from cvae.data.dataset import load, require_same

    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"--data {folder}: no such folder")
    if folder is None and origin.dataset:
        require_data_of(origin.dataset)
    place = DATA if folder is None else folder
    try:
        data = as_seen(load(place), origin.binarize or "none")
    except UserError as error:
        raise error if folder is None else UserError(without_advice(error)) from None
    has_no_names = not (schema.title and data.schema.title)  # files and models may come without, only with numbers
    numbers_fit = max(data.train.labels.max(), data.test.labels.max()) < len(schema.classes)
    known = replace(data.schema, classes=schema.classes) if has_no_names and numbers_fit else data.schema
    require_same(schema, known, place)
    return data


def require_data_of(dataset: str) -> None:
    """Raise a `UserError` if dvc.lock shows that data/raw is not `dataset`."""
    from cvae.pipeline.dvc_lock import parameters_behind

    lock = lock_if_readable()
    parameters = parameters_behind(lock, DATA)
    if parameters is None:
        return
    if (found := data_name(parameters)) != dataset:
        raise UserError(f"{DATA} is {found}, says dvc.lock, but the model was trained on {dataset}; use --data")
    if Path(DATA).exists() and not is_as_locked(DATA, lock):
        raise UserError(f"{DATA} has changed since dvc.lock recorded {dataset}; `dvc checkout {DATA}` restores it")
