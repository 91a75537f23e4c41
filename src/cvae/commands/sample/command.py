"""`cvae sample`: draw pictures with a trained model.

It uses one CPU thread, so that the same arguments always give the same bytes.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path

import click

from cvae.commands.program import require_known
from cvae.commands.sample.drawing import draw_grid, draw_interpolation, draw_samples, draw_styles
from cvae.commands.sample.sources import DATA, MODEL, Source, open_model
from cvae.data.idx import LABELS
from cvae.support.errors import UserError, one_line
from cvae.support.files import ensure_writable

DIGIT = click.IntRange(0, LABELS - 1)
SEED = click.IntRange(0, 2**32 - 1)
EXAMPLES = """\b
Examples:
  cvae sample                           16 samples of each digit
  cvae sample --digit 7 --seed 1        16 sevens, with another seed
  cvae sample grid --digit 7            a grid of z, decoded as 7
  cvae sample styles --count 5          five z, each as all ten digits
  cvae sample interpolate 3 8           from test image 3 to test image 8
  cvae sample --exp dims-4 --digit 7    the model of a DVC experiment
  cvae sample --model models:/cvae@best a model in MLflow's registry

Options belong to the kind of picture: see `cvae sample prior --help`. The model is that of the last `dvc repro`,
unless --model, --run or --exp names another. MLflow's models come from this repository's store, or from the one in
MLFLOW_TRACKING_URI.
"""


class Kinds(click.Group):
    """The kinds of pictures; `prior` if the first argument is an option or missing."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["prior", *args]
        require_known(args[0], self.commands)
        return super().parse_args(ctx, args)


@click.group(cls=Kinds, epilog=EXAMPLES)
def sample() -> None:
    """Draw pictures with a trained model."""


def kind_of_picture(out: str) -> Callable:
    """Turn a function into a sub-command with the options that all kinds have; `out` is the default of --out."""

    def decorate(draw: Callable) -> click.Command:
        for option in (
            click.option("--out", type=Path, metavar="FILE.png", default=out, help="Write the picture to this file."),
            click.option("--exp", metavar="NAME", help="Use the model of this DVC experiment, branch or commit."),
            click.option("--run", metavar="RUN", help="Use the model of this MLflow run: its name or id."),
            click.option(
                "--model",
                metavar="MODEL",
                help="Use the model in this folder, or at MLflow's models:/...",
            ),
        ):
            draw = option(draw)
        return sample.command()(draw)

    return decorate


@kind_of_picture("samples.png")
@click.option("--digit", type=DIGIT, metavar="N", help="Draw this digit only.")
@click.option("--count", type=click.IntRange(1, 1000), metavar="N", default=16, help="Number of samples of each digit.")
@click.option("--seed", type=SEED, metavar="N", default=0, help="Seed of z.")
def prior(digit: int | None, count: int, seed: int, **source) -> None:
    """Decode samples from the prior (the default)."""
    if digit is None and count > 50:
        raise click.UsageError(f"--count {count}: without --digit, it is from 1 to 50")
    make(draw_samples, (digit, count, seed), **source)


@kind_of_picture("grid.png")
@click.option("--digit", type=DIGIT, metavar="N", help="Draw this digit only.")
@click.option("--size", type=click.IntRange(2, 100), metavar="N", default=20, help="Number of images along each side.")
@click.option(
    "--range", "half", type=click.FloatRange(0.001, 100), metavar="X", default=2.0, help="Span z from -X to X."
)
@click.option("--data", metavar="FOLDER", help=f"Training images for a model of more than two latents ({DATA}).")
def grid(digit: int | None, size: int, half: float, data: str | None, **source) -> None:
    """Decode a grid of z, for each digit or for one."""
    if math.isnan(half):  # click accepts it as being in the range
        raise click.UsageError("--range nan: use a number from 0.001 to 100")
    make(draw_grid, (digit, size, half, data), **source)


@kind_of_picture("styles.png")
@click.option("--count", type=click.IntRange(1, 50), metavar="N", default=10, help="Number of rows, each with one z.")
@click.option("--seed", type=SEED, metavar="N", default=0, help="Seed of z.")
def styles(count: int, seed: int, **source) -> None:
    """Decode samples from the prior as all ten digits."""
    make(draw_styles, (count, seed), **source)


@kind_of_picture("interpolation.png")
@click.argument("a", type=click.IntRange(0))
@click.argument("b", type=click.IntRange(0))
@click.option("--count", type=click.IntRange(2, 50), metavar="N", default=10, help="Number of steps.")
@click.option("--data", metavar="FOLDER", help=f"Folder of the images ({DATA}).")
def interpolate(a: int, b: int, count: int, data: str | None, **source) -> None:
    """Decode a straight line between two test images.

    The line connects their posterior means. A and B number the test images from 0.
    """
    make(draw_interpolation, (a, b, count, data), **source)


def make(draw: Callable, arguments: tuple, out: Path, model: str | None, run: str | None, exp: str | None) -> None:
    """Open the chosen model, call `draw` with it and `arguments`, and write the picture to `out`."""
    if sum(each is not None for each in (model, run, exp)) > 1:
        raise click.UsageError("--model, --run and --exp each name a model; use only one of them")
    source = Source(MODEL if model is None else model, run, exp)
    check_out(out)
    figure, what = draw(*open_model(source), *arguments)

    from cvae.figures.style import save

    save(figure, out)
    print(one_line(f"{out}: {what}, drawn by {source.name}"))


def check_out(path: Path) -> None:
    """Raise a `UserError` before any work if the picture cannot be written to `path`."""
    if os.path.isdir(path):
        raise UserError(f"--out {path}: is a folder; name a file in it")
    if path.suffix.lower() != ".png":
        raise UserError(f"--out {path}: pictures are PNG files; its name must end in .png")
    ensure_writable(path)
