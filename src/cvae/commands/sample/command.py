"""`cvae sample`: draw pictures with a trained model.

It uses one CPU thread, so that the same arguments always give the same bytes.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path

import click

from cvae.commands.sample.drawing import (
    GRID,
    MOST_EACH,
    MOST_IMAGES,
    SAMPLES,
    STYLES,
    draw_grid,
    draw_interpolation,
    draw_samples,
    draw_styles,
)
from cvae.commands.sample.sources import DATA, MODEL, Source, open_model
from cvae.support.errors import UserError, one_line
from cvae.support.files import ensure_writable

SEED = click.IntRange(0, 2**32 - 1)
EXAMPLES = """\b
Examples:
  cvae sample                            16 samples of each class
  cvae sample --label 7 --seed 1         16 samples of class 7, with another seed
  cvae sample grid --label 7             a grid of z, decoded as class 7
  cvae sample styles --count 5           5 samples of z, each as every class
  cvae sample interpolate 3 8            from test image 3 to test image 8
  cvae sample --exp dims-4 --label 7     use the model of a DVC experiment
  cvae sample --model models:/cvae@best  use a model in MLflow's registry

Each command has its own options: see `cvae sample grid --help`, for example. All of them use the model in
data/model, unless --model, --run or --exp names another. MLflow's models come from this repository's store, or from
the one in MLFLOW_TRACKING_URI.
"""


class Kinds(click.Group):
    """The kinds of pictures; `prior` if the first argument is an option or missing."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["prior", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Kinds, epilog=EXAMPLES)
def sample() -> None:
    """Draw pictures with a trained model. Without COMMAND, draw samples from the prior."""


def kind_of_picture(out: str) -> Callable:
    """Turn a function into a sub-command with the options that all kinds have; `out` is the default of --out."""

    def decorate(draw: Callable) -> click.Command:
        for option in (
            click.option("--out", type=Path, metavar="FILE.png", default=out, help="Write the picture to this file."),
            click.option("--exp", metavar="NAME", help="Use the model of this DVC experiment, branch or commit."),
            click.option("--run", metavar="RUN", help="Use the model of the MLflow run with this name or id."),
            click.option("--model", metavar="MODEL", help="Use the model at this folder or MLflow URI (models:/...)."),
        ):
            draw = option(draw)
        return sample.command()(draw)

    return decorate


@kind_of_picture("samples.png")
@click.option("--label", metavar="NAME", help="Draw only this class.")
@click.option(
    "--count",
    type=click.IntRange(1, MOST_IMAGES),
    metavar="N",
    help=f"Samples of each class.  [default: {SAMPLES}, or fewer if there are many classes]",
)
@click.option("--seed", type=SEED, metavar="N", default=0, help="Seed for sampling z.")
def prior(label: str | None, count: int | None, seed: int, **source) -> None:
    """Decode samples from the prior (the default)."""
    make(draw_samples, (label, count, seed), **source)


@kind_of_picture("grid.png")
@click.option("--label", metavar="NAME", help="Draw only this class.")
@click.option(
    "--size",
    type=click.IntRange(2, 100),
    metavar="N",
    help=f"Images along each side.  [default: {GRID}, or fewer in a picture of all classes]",
)
@click.option(
    "--range", "half", type=click.FloatRange(0.001, 100), metavar="X", default=2.0, help="Span z from -X to X."
)
@click.option(
    "--data", metavar="FOLDER", help=f"Folder of training images, for more than two latents.  [default: {DATA}]"
)
def grid(label: str | None, size: int | None, half: float, data: str | None, **source) -> None:
    """Decode a grid of z, as each class or as one.

    With more than two latents, the grid lies in the plane that best fits the latents of a class's training images.
    """
    if math.isnan(half):  # click's range accepts it
        raise click.UsageError("--range nan: use a number from 0.001 to 100")
    make(draw_grid, (label, size, half, data), **source)


@kind_of_picture("styles.png")
@click.option(
    "--count",
    type=click.IntRange(1, MOST_EACH),
    metavar="N",
    help=f"Samples of z.  [default: {STYLES}, or fewer if there are many classes]",
)
@click.option("--seed", type=SEED, metavar="N", default=0, help="Seed for sampling z.")
def styles(count: int | None, seed: int, **source) -> None:
    """Decode each sample from the prior as every class."""
    make(draw_styles, (count, seed), **source)


@kind_of_picture("interpolation.png")
@click.argument("a", type=click.IntRange(0))
@click.argument("b", type=click.IntRange(0))
@click.option("--count", type=click.IntRange(2, 50), metavar="N", default=10, help="Points on the line.")
@click.option("--data", metavar="FOLDER", help=f"Folder of the test images.  [default: {DATA}]")
def interpolate(a: int, b: int, count: int, data: str | None, **source) -> None:
    """Decode points on a line between two test images.

    The line connects the posterior means of images number A and B, counted from 0.
    """
    make(draw_interpolation, (a, b, count, data), **source)


def make(draw: Callable, arguments: tuple, out: Path, model: str | None, run: str | None, exp: str | None) -> None:
    """Open the chosen model, call `draw` with it and `arguments`, and write the picture to `out`."""
    if sum(each is not None for each in (model, run, exp)) > 1:
        raise click.UsageError("--model, --run and --exp each name a model; use only one of them")
    source = Source(MODEL if model is None else model, run, exp)
    check_out(out)
    trained, origin = open_model(source)

    from cvae.figures.style import mention_missing_letters, save

    mention_missing_letters((trained.schema.title, *trained.schema.classes))
    figure, what = draw(trained, origin, *arguments)
    save(figure, out)
    print(one_line(f"{out}: {what}, drawn by {source.name}"))


def check_out(path: Path) -> None:
    """Raise a `UserError` before any work if the picture cannot be written to `path`."""
    if os.path.isdir(path):
        raise UserError(f"--out {path}: is a folder; name a file in it")
    if path.suffix.lower() != ".png":
        raise UserError(f"--out {path}: pictures are PNG files; choose a name that ends in .png")
    ensure_writable(path)
