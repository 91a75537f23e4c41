"""The model and the images that pictures are drawn from, wherever they are."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cvae.support.errors import UserError, one_line

if TYPE_CHECKING:
    from cvae.data.idx import Split
    from cvae.model import CVAE

MODEL, DATA = "data/model", "data/raw"  # the pipeline's


@dataclass(frozen=True)
class Source:
    """Where the model is: an MLflow `run`, a DVC experiment `exp`, or else `model`, a folder or MLflow's URI."""

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
    """The parameters of a model's training that its pictures depend on, as in params.yaml; None where unknown."""

    dataset: str | None = None
    binarize: str | None = None


def open_model(source: Source) -> "tuple[CVAE, Origin]":
    """Load the model of `source` on the CPU, and find its origin, as far as that is known.

    Raises:
        UserError: it is missing, damaged or out of reach.
    """
    if source.exp is not None:
        return open_experiment(source)
    if source.run is not None or (source.model != MODEL and is_of_mlflow(source.model)):
        with TemporaryDirectory() as folder:
            weights, params = fetch(source, folder)
            model = load_model(weights, source.name)
            return model, Origin(params.get("dataset"), params.get("binarize"))
    folder = Path(source.model)
    if folder.resolve() != Path(MODEL).resolve():
        return load_model(folder, str(folder)), Origin()
    return load_model(folder), locked_origin()


def open_experiment(source: Source) -> "tuple[CVAE, Origin]":
    """Load the model of a DVC experiment, branch or commit out of DVC's cache.

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
        params = parameters_behind(lock, MODEL) or {}
        model = load_model(Path(folder, "model"), source.name)
    return model, Origin(params.get("dataset"), params.get("binarize"))


def is_of_mlflow(model: str) -> bool:
    """Whether `--model` names one of MLflow's, not a folder; raises `UserError` if it is neither."""
    if model.startswith(("models:", "runs:")):
        return True
    if not model or not Path(model).is_dir():
        raise UserError(f"--model {model}: no such folder, nor a models:/... or runs:/... of MLflow")
    return False


def locked_origin() -> Origin:
    """Read the origin of the pipeline's model from dvc.lock; unknown, if the model is not the one in dvc.lock."""
    from cvae.pipeline.dvc_lock import read_lock

    try:
        lock = read_lock()
        download, train = lock["download"], lock["train"]
    except (UserError, LookupError):
        return Origin()
    if not is_as_left(MODEL, train.outs):
        return Origin()
    dataset = download.parameters.get("dataset") if train.deps.get(DATA) == download.outs.get(DATA) else None
    binarize = train.parameters.get("binarize")
    return Origin(*(value if isinstance(value, str) else None for value in (dataset, binarize)))


def is_as_left(place: str, outs: dict[str, str]) -> bool:
    """Whether the file or folder `place` has the MD5 sum that dvc.lock gives among `outs`; true if it gives none."""
    from cvae.pipeline.dvc_lock import md5

    return place not in outs or outs[place] == md5(place)


def fetch(source: Source, folder: str) -> tuple[Path, dict[str, str]]:
    """Download the model from MLflow into `folder`; return the folder there that holds it, and its run's parameters."""
    try:
        from cvae.tracking.fetch import fetch_model, fetch_run

        if source.run is not None:
            return fetch_run(source.run, folder)
        return fetch_model(source.model, folder)
    except ModuleNotFoundError as error:
        raise UserError(
            f"models of MLflow need the package {error.name}; `pip install -r requirements.txt` installs it"
        ) from None


def load_model(folder: Path, name: str | None = None) -> "CVAE":
    """Load the model in `folder`. `name`: of its source, for errors; None for the pipeline's, which can be remade."""
    from cvae.artifacts import saved_model
    from cvae.compute.devices import open_device

    try:
        return saved_model.load(folder, open_device("cpu", threads=1))
    except UserError as error:
        if name is None:
            raise
        raise UserError(without_advice(error).replace(str(folder), name, 1)) from None


def without_advice(error: UserError) -> str:
    """Drop how the pipeline would make the thing again, which does not help with things that it did not make."""
    return str(error).partition("; `dvc repro")[0]


def open_data(folder: str | None, origin: Origin) -> "tuple[Split, Split]":
    """Load training and test images as a model of this origin takes them, from `folder` or, if None, the pipeline's.

    Raises:
        UserError: images are missing, or are of another data set than the model, as far as dvc.lock tells.
    """
    from cvae.data.binarisation import load

    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"--data {folder}: no such folder")
    if folder is None and origin.dataset:
        require_data_of(origin.dataset)
    try:
        return load(DATA if folder is None else folder, origin.binarize or "none")
    except UserError as error:
        raise error if folder is None else UserError(without_advice(error)) from None


def require_data_of(dataset: str) -> None:
    """Raise a `UserError` where the pipeline's images are not those of `dataset`, as far as dvc.lock tells."""
    from cvae.pipeline.dvc_lock import read_lock

    try:
        download = read_lock()["download"]
    except (UserError, LookupError):
        return
    present = download.parameters.get("dataset")
    if isinstance(present, str) and present != dataset:
        raise UserError(f"{DATA} is of {present} by dvc.lock, the model of {dataset}; --data names its images")
    if Path(DATA).exists() and not is_as_left(DATA, download.outs):
        raise UserError(f"{DATA} is not the {dataset} of dvc.lock; `dvc checkout {DATA}` brings it back")
