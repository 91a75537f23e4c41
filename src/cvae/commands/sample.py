"""`python -m cvae.commands.sample`: pictures of what a trained model draws.

It runs on one CPU thread, whatever trained the model, so that the same arguments give the same bytes.
"""

import argparse
import gc
import math
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cvae.commands.runner import Parser, run, whole
from cvae.data.idx import LABEL_NAMES, LABELS, SIDE, TITLES
from cvae.support.errors import UserError, one_line

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from cvae.artifacts import saved_model
    from cvae.data.idx import Split
    from cvae.figures.figures import LabelView
    from cvae.model import CVAE

MODEL, DATA = "data/model", "data/raw"  # the pipeline's
OPTIONS = {  # of each kind of picture, and their defaults; all else that is given is refused
    "samples": {"digit": None, "count": 16, "seed": 0},
    "grid": {"digit": None, "size": 20, "range": 2.0, "data": None},
    "styles": {"count": 10, "seed": 0},
    "interpolate": {"count": 10, "data": None},
}
SHOWN = {"samples": "samples", "grid": "--grid", "styles": "--styles", "interpolate": "--interpolate"}
OUT = {"samples": "samples.png", "grid": "grid.png", "styles": "styles.png", "interpolate": "interpolation.png"}
EXAMPLES = """\
examples:
  python -m cvae.commands.sample                                       16 samples of each digit, to samples.png
  python -m cvae.commands.sample --digit 7 --seed 1 --out sevens.png   16 sevens; another seed, others
  python -m cvae.commands.sample --grid --digit 7                      what the decoder draws across the latents
  python -m cvae.commands.sample --styles --count 5                    five z, each through all ten digits
  python -m cvae.commands.sample --interpolate 3 8                     from one test image to another
  python -m cvae.commands.sample --run 0123456789abcdef0123456789abcdef --digit 7
  python -m cvae.commands.sample --model models:/cvae@best --digit 7

The model is that of the last `dvc repro` unless --model or --run names another. MLflow's models come from
this repository's store, or from the one that MLFLOW_TRACKING_URI names.
"""


@dataclass(frozen=True)
class Origin:
    """The parameters of a model's training that its pictures depend on, as in params.yaml; None where unknown."""

    dataset: str | None = None
    binarize: str | None = None


def half_width(text: str) -> float:
    """For argparse: the `grid_range` of params.yaml, and as wide as it may be there."""
    try:
        if 0.001 <= float(text) <= 100:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r:.40} is not a number from 0.001 to 100")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments, with a `kind` and that kind's defaults; any mistake ends the program with one line."""
    parser = Parser(
        "sample",
        prog="python -m cvae.commands.sample",
        description="Draw pictures with a trained model: samples from the prior, or one of the kinds below.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_argument_group("kind of picture, if not samples").add_mutually_exclusive_group()
    kinds.add_argument("--grid", action="store_true", help="images decoded on a grid across the latents of a digit")
    kinds.add_argument("--styles", action="store_true", help="one z from the prior a row, through all ten digits")
    kinds.add_argument(
        "--interpolate",
        nargs=2,
        metavar=("A", "B"),
        type=whole(0),
        help="a straight line between the posterior means of two test images, numbered from 0",
    )
    what = parser.add_argument_group("what to draw")
    what.add_argument("--digit", type=whole(0, LABELS - 1), metavar="N", help="of samples and --grid: 0 to 9 (all ten)")
    what.add_argument(
        "--count",
        type=whole(1, 1000),
        metavar="N",
        help="samples of a digit (16), rows of --styles (10), or steps of --interpolate (10); "
        "fewer samples or rows need not be the first of more",
    )
    what.add_argument("--seed", type=whole(0, 2**32 - 1), metavar="N", help="of samples and --styles (0)")
    what.add_argument("--size", type=whole(2, 100), metavar="N", help="images along each side of --grid (20)")
    what.add_argument("--range", type=half_width, metavar="X", help="--grid spans z from -X to X (2.0)")
    source = parser.add_argument_group("from what")
    model = source.add_mutually_exclusive_group()
    model.add_argument(
        "--model", default=MODEL, metavar="MODEL", help=f"a folder ({MODEL}), or MLflow's models:/... or runs:/..."
    )
    model.add_argument("--run", metavar="ID", help="the model of this MLflow run")
    source.add_argument(
        "--data",
        metavar="FOLDER",
        help=f"the images of --interpolate, and of --grid of more than two latents ({DATA})",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="where the picture goes (named after its kind)")
    arguments = parser.parse_args(argv)

    arguments.kind = kind = next((kind for kind in OPTIONS if getattr(arguments, kind, None)), "samples")
    for option in dict.fromkeys(option for options in OPTIONS.values() for option in options):
        given = getattr(arguments, option) is not None
        if given and option not in OPTIONS[kind]:
            places = [SHOWN[other] for other in OPTIONS if option in OPTIONS[other]]
            parser.error(f"--{option} is no option of {SHOWN[kind]}; those with it: {', '.join(places)}")
        if not given and option in OPTIONS[kind]:
            setattr(arguments, option, OPTIONS[kind][option])
    fewest, most = 2 if kind == "interpolate" else 1, 1000 if arguments.digit is not None else 50
    if "count" in OPTIONS[kind] and not fewest <= arguments.count <= most:
        place = "samples of all ten digits" if kind == "samples" else SHOWN[kind]
        parser.error(f"--count {arguments.count}: {place} can have from {fewest} to {most}")
    arguments.out = Path(OUT[kind]) if arguments.out is None else arguments.out
    return arguments


def check_out(path: Path) -> None:
    """Refuse a picture that cannot be written, before any work goes into it.

    Raises:
        UserError: `path` is a folder or no PNG, or it cannot be written.
    """
    try:
        if path.is_dir():
            raise UserError(f"--out {path}: is a folder; name a file in it")
        if path.suffix.lower() != ".png":
            raise UserError(f"--out {path}: pictures are PNG files; its name must end in .png")
        existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror})") from None
    if existing != path and not existing.is_dir():
        raise UserError(f"--out {path}: {existing} is not a folder")
    if not os.access(existing, os.W_OK):
        raise UserError(f"--out {path}: cannot be written (no permission for {existing})")


def open_model(arguments: argparse.Namespace) -> "tuple[CVAE, Origin]":
    """The model that is asked for, on the CPU, and its origin, as far as that is known.

    Raises:
        UserError: it is missing, damaged or out of reach.
    """
    if arguments.run is not None or (arguments.model != MODEL and is_of_mlflow(arguments.model)):
        with TemporaryDirectory() as folder:
            weights, params = fetch(arguments, folder)
            model = load_model(weights, name_source(arguments))
            return model, Origin(params.get("dataset"), params.get("binarize"))
    folder = Path(arguments.model)
    if folder.resolve() != Path(MODEL).resolve():
        return load_model(folder, str(folder)), Origin()
    return load_model(folder), locked_origin()


def is_of_mlflow(model: str) -> bool:
    """Whether `--model` names one of MLflow's, not a folder; raises `UserError` if it is neither."""
    if model.startswith(("models:", "runs:")):
        return True
    if not model or not Path(model).is_dir():
        raise UserError(f"--model {model}: no such folder, nor a models:/... or runs:/... of MLflow")
    return False


def locked_origin() -> Origin:
    """The origin of the pipeline's model by dvc.lock, which git may have changed without the model; then unknown."""
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


def name_source(arguments: argparse.Namespace) -> str:
    return f"MLflow run {arguments.run}" if arguments.run is not None else arguments.model


def fetch(arguments: argparse.Namespace, folder: str) -> tuple[Path, dict[str, str]]:
    """Bring the model from MLflow into `folder`; returns the folder there that holds it, and its run's parameters."""
    try:
        from cvae.tracking.fetch import fetch_model, fetch_run

        if arguments.run is not None:
            return fetch_run(arguments.run, folder)
        return fetch_model(arguments.model, folder)
    except ModuleNotFoundError as error:
        raise UserError(
            f"models of MLflow need the package {error.name}; `pip install -r requirements.txt` installs it"
        ) from None


def load_model(folder: Path, name: str | None = None) -> "CVAE":
    """The model in `folder`. `name`: of its source, for errors; None for the pipeline's, which they say how to make."""
    from cvae.artifacts import saved_model
    from cvae.compute.devices import open_device

    try:
        return saved_model.load(folder, open_device("cpu", threads=1))
    except UserError as error:
        if name is None:
            raise
        raise UserError(without_advice(error).replace(str(folder), name, 1)) from None


def without_advice(error: UserError) -> str:
    """What went wrong, less how the pipeline makes the thing anew, which helps with no other's."""
    return str(error).partition("; `dvc repro")[0]


def open_data(folder: str | None, origin: Origin) -> "tuple[Split, Split]":
    """The training and the test images as a model of this origin takes them: from `folder`, or the pipeline's if None.

    Raises:
        UserError: images are missing, or those of another data set than the model's, as far as dvc.lock tells.
    """
    from cvae.data import idx
    from cvae.data.binarisation import binarised

    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"--data {folder}: no such folder")
    if folder is None and origin.dataset:
        require_data_of(origin.dataset)
    try:
        train, test = idx.load(DATA if folder is None else folder)
    except UserError as error:
        raise error if folder is None else UserError(without_advice(error)) from None
    if origin.binarize in (None, "none"):
        return train, test
    return binarised(train, "train"), binarised(test, "test")


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


def label_names(dataset: str | None) -> tuple[str, ...]:
    return LABEL_NAMES.get(dataset, tuple(map(str, range(LABELS))))


def entitle(dataset: str | None, caption: str, label: int | None = None) -> str:
    """A picture's title: of one label, if there is a `label`."""
    subject = [TITLES.get(dataset, "Label" if label is not None else "")]
    if label is not None:
        subject.append(label_names(dataset)[label])
    return f"{' '.join(subject)}: {caption}" if subject != [""] else caption.capitalize()


def draw_samples(model: "CVAE", origin: Origin, arguments: argparse.Namespace) -> "tuple[Figure, str]":
    """Images of z from the prior: of one label as a square, or a row of each of the ten.

    MLflow's served model draws the same images for the same seed and the same table of digits, row by row.
    """
    from cvae.figures import figures
    from cvae.figures.latent_plane import decode

    count, digit, names = arguments.count, arguments.digit, label_names(origin.dataset)
    labels = [label for label in (range(LABELS) if digit is None else [digit]) for _ in range(count)]
    images = decode(model, draw_prior(model, len(labels), arguments.seed, "samples"), labels)
    if digit is None:
        table, row_names = images.reshape(LABELS, count, SIDE, SIDE), names
    else:
        columns = choose_columns(count)
        table, row_names = fill_table(images, columns), ()
    title = entitle(origin.dataset, "samples from the prior", digit)
    what = f"{count} sample{'s' if count > 1 else ''} of {'each label' if digit is None else names[digit]}"
    return figures.draw_table(table, title, row_names), f"{what}, seed {arguments.seed}"


def draw_prior(model: "CVAE", count: int, seed: int, purpose: str) -> "np.ndarray":
    """`count` latents from the prior, (count, latent_dims)."""
    import torch

    from cvae.compute.seeding import generator

    return (torch.randn(count, model.latent_dims, generator=generator(seed, purpose)) * model.prior_std).numpy()


def choose_columns(count: int) -> int:
    """Of the tables for `count` images that are at most four times as wide as high, the one with the fewest gaps."""
    least = math.isqrt(count - 1) + 1
    return min(range(least, 2 * least + 1), key=lambda columns: -count % columns)


def fill_table(images: "np.ndarray", columns: int) -> "np.ndarray":
    """`images`, (n, 28, 28), in reading order as (rows, columns, 28, 28), with blank ones at the end."""
    import numpy as np

    blank = np.zeros((-len(images) % columns, SIDE, SIDE), images.dtype)
    return np.concatenate((images, blank)).reshape(-1, columns, SIDE, SIDE)


def draw_grid(model: "CVAE", origin: Origin, arguments: argparse.Namespace) -> "tuple[Figure, str]":
    """What the decoder draws across the latents of one label, or of each, as the pipeline's own pictures show it.

    Raises:
        UserError: a plane through more than two latents needs images of the label, and there are none.
    """
    from cvae.figures import figures

    data = None
    if model.latent_dims > 2:
        data, _ = open_data(arguments.data, origin)
    elif arguments.data is not None:
        raise UserError(f"--data: a grid over the latents of a model of {model.latent_dims} needs no images")
    caption, (size, half) = "what the decoder draws across its latents", (arguments.size, arguments.range)
    labels = range(LABELS) if arguments.digit is None else [arguments.digit]
    views = [view_label(model, origin.dataset, label, data, size, half) for label in labels]
    what = f"{views[0].manifold.size // SIDE**2} images across z from -{half:g} to {half:g}"
    if arguments.digit is None:
        title = entitle(origin.dataset, caption)
        return figures.draw_overview(views, figures.draw_manifold, title), f"{what}, of each label"
    title = entitle(origin.dataset, caption, arguments.digit)
    return figures.draw_one(views[0], figures.draw_manifold, title), f"{what}, of {views[0].name}"


def view_label(
    model: "CVAE", dataset: str | None, label: int, data: "Split | None", size: int, half: float
) -> "LabelView":
    """One label's manifold, on the plane that its images among `data` span; None will do for up to two latents."""
    import numpy as np

    from cvae.data.idx import Split
    from cvae.figures.figures import LabelView
    from cvae.figures.latent_plane import decode_manifold, fit_plane

    mu = np.zeros((1, model.latent_dims))
    if data is not None:
        own = data.labels == label
        if not own.any():
            raise UserError(f"there is no training image of label {label}, through which to lay a plane of latents")
        mu = encode(model, Split(data.images[own], data.labels[own]))
    plane = fit_plane(mu)
    return LabelView(
        label=label,
        name=label_names(dataset)[label],
        axis_names=plane.names,
        points=np.zeros((0, len(plane.names))),
        prior_mean=plane.project(np.zeros((1, model.latent_dims)))[0],
        prior_std=model.prior_std,
        reach=half,
        manifold=decode_manifold(model, plane, label, size, half),
        grid_range=half,
    )


def encode(model: "CVAE", split: "Split") -> "np.ndarray":
    """Posterior means of the images of `split`, (n, latent_dims)."""
    import torch

    from cvae.data.tensors import to_device

    with torch.no_grad():
        return model.encode(*to_device(split, torch.device("cpu")))[0].numpy()


def draw_styles(model: "CVAE", origin: Origin, arguments: argparse.Namespace) -> "tuple[Figure, str]":
    """One z from the prior a row, through all ten labels; by default those of plots/styles.png, if drawn by seed 0."""
    import numpy as np

    from cvae.figures import figures
    from cvae.figures.latent_plane import decode

    count = arguments.count
    z = draw_prior(model, count, arguments.seed, "styles")
    images = decode(model, z.repeat(LABELS, axis=0), np.tile(np.arange(LABELS), count))
    row_names = ["z = " + ", ".join(f"{value:z.1f}" for value in row) for row in z] if model.latent_dims <= 2 else ()
    column_names = [name.replace(" ", "\n", 1) for name in label_names(origin.dataset)]
    title = entitle(origin.dataset, "one z from the prior a row, through all labels")
    figure = figures.draw_table(images.reshape(count, LABELS, SIDE, SIDE), title, row_names, column_names)
    return figure, f"{count} z through all labels, seed {arguments.seed}"


def draw_interpolation(model: "CVAE", origin: Origin, arguments: argparse.Namespace) -> "tuple[Figure, str]":
    """Two test images, and between them what the decoder draws on a straight line from one's z to the other's.

    z is the posterior mean, of each image under its own label. Of two labels, each decodes a row, which shows the
    image that has it.

    Raises:
        UserError: the images cannot be read, or are fewer.
    """
    import numpy as np

    from cvae.data.idx import Split
    from cvae.figures import figures
    from cvae.figures.latent_plane import decode

    _, test = open_data(arguments.data, origin)
    if (last := max(arguments.interpolate)) >= len(test):
        raise UserError(f"--interpolate {last}: {arguments.data or DATA} has test images 0 to {len(test) - 1:,}")
    ends = Split(test.images[arguments.interpolate], test.labels[arguments.interpolate])
    first, second = encode(model, ends)
    path = first + np.linspace(0, 1, arguments.count)[:, None] * (second - first)

    originals, blank = ends.images.reshape(2, SIDE, SIDE) / 255, np.zeros((SIDE, SIDE))
    labels = list(dict.fromkeys(ends.labels.tolist()))
    rows = []
    for label in labels:
        start, end = np.where((ends.labels == label)[:, None, None], originals, blank)
        rows.append([start, blank, *decode(model, path, label), blank, end])
    names, between = label_names(origin.dataset), [""] * (arguments.count + 2)
    a, b = arguments.interpolate
    title = entitle(origin.dataset, "between the posterior means of two test images")
    column_names = [f"image {a}", *between, f"image {b}"]
    figure = figures.draw_table(np.array(rows), title, [f"as {names[label]}" for label in labels], column_names)
    return figure, f"{arguments.count} steps from test image {a} to {b}"


def main() -> None:
    arguments = parse_arguments()
    check_out(arguments.out)
    model, origin = open_model(arguments)
    draw = {"samples": draw_samples, "grid": draw_grid, "styles": draw_styles, "interpolate": draw_interpolation}
    figure, what = draw[arguments.kind](model, origin, arguments)

    from cvae.figures import figures

    figures.save(figure, arguments.out)
    print(one_line(f"{arguments.out}: {what}, drawn by {name_source(arguments)}"))


if __name__ == "__main__":
    gc.set_threshold(100_000)  # as the stages do: passes over what torch and seaborn import take a second
    run("sample", main)
