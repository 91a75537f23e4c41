"""`cvae sample`: pictures of what a trained model draws.

It runs on one CPU thread, whatever trained the model, so that the same arguments give the same bytes.
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

DIGIT = click.IntRange(0, LABELS - 1)
SEED = click.IntRange(0, 2**32 - 1)
EXAMPLES = """\b
Examples:
  cvae sample                                16 samples of each digit, to samples.png
  cvae sample --digit 7 --seed 1 --out a.png 16 sevens; another seed, others
  cvae sample grid --digit 7                 what the decoder draws across the latents
  cvae sample styles --count 5               five z, each through all ten digits
  cvae sample interpolate 3 8                from one test image to another
  cvae sample --exp dims-4 --digit 7         the model of a DVC experiment
  cvae sample --model models:/cvae@best      a model in MLflow's registry

The model is that of the last `dvc repro` unless --model, --run or --exp names another. MLflow's models come from
this repository's store, or from the one that MLFLOW_TRACKING_URI names.
"""


class Kinds(click.Group):
    """The kinds of pictures; `prior` where the first argument names none."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["prior", *args]
        require_known(args[0], self.commands)
        return super().parse_args(ctx, args)


@click.group(cls=Kinds, epilog=EXAMPLES)
def sample() -> None:
    """Draw pictures with a trained model: samples from the prior, or another kind."""


def kind_of_picture(out: str) -> Callable:
    """Make a sub-command of a function: add the options that all kinds have. `out`: where the picture goes."""

    def decorate(draw: Callable) -> click.Command:
        for option in (
            click.option("--out", type=Path, metavar="FILE.png", default=out, help=f"Where the picture goes ({out})."),
            click.option("--exp", metavar="NAME", help="Draw with the model of this DVC experiment, branch or commit."),
            click.option("--run", metavar="RUN", help="Draw with the model of this MLflow run: its name or id."),
            click.option(
                "--model",
                metavar="MODEL",
                help=f"Draw with the model in this folder ({MODEL}), or MLflow's models:/... or runs:/...",
            ),
        ):
            draw = option(draw)
        return sample.command()(draw)

    return decorate


COUNT_HELP = "fewer need not be the first of more"


@kind_of_picture("samples.png")
@click.option("--digit", type=DIGIT, metavar="N", help="Of this digit only: 0 to 9 (all ten).")
@click.option("--count", type=click.IntRange(1, 1000), default=16, help=f"Samples of a digit (16); {COUNT_HELP}.")
@click.option("--seed", type=SEED, metavar="N", default=0, help="Seed of z (0).")
def prior(digit: int | None, count: int, seed: int, **source) -> None:
    """Draw samples of z from the prior, decoded as a digit, or as all ten (the default kind)."""
    if digit is None and count > 50:
        raise click.UsageError(f"--count {count}: samples of all ten digits can have from 1 to 50")

    make(draw_samples, (digit, count, seed), **source)


@kind_of_picture("grid.png")
@click.option("--digit", type=DIGIT, metavar="N", help="Of this digit only: 0 to 9 (all ten).")
@click.option("--size", type=click.IntRange(2, 100), default=20, help="Images along each side (20).")
@click.option("--range", "half", type=click.FloatRange(0.001, 100), default=2.0, help="Span z from -X to X (2.0).")
@click.option("--data", metavar="FOLDER", help=f"Images for a model of more than two latents ({DATA}).")
def grid(digit: int | None, size: int, half: float, data: str | None, **source) -> None:
    """Decode a grid of z across the latents of a digit, or of each."""
    if math.isnan(half):  # which click takes for a number in the range
        raise click.UsageError("--range nan: it spans z from -X to X, for X from 0.001 to 100")

    make(draw_grid, (digit, size, half, data), **source)


@kind_of_picture("styles.png")
@click.option("--count", type=click.IntRange(1, 50), default=10, help=f"Rows, one z each (10); {COUNT_HELP}.")
@click.option("--seed", type=SEED, metavar="N", default=0, help="Seed of z (0).")
def styles(count: int, seed: int, **source) -> None:
    """Decode each z from the prior as all ten digits, a row each."""

    make(draw_styles, (count, seed), **source)


@kind_of_picture("interpolation.png")
@click.argument("a", type=click.IntRange(0))
@click.argument("b", type=click.IntRange(0))
@click.option("--count", type=click.IntRange(2, 50), default=10, help="Steps (10).")
@click.option("--data", metavar="FOLDER", help=f"The test images ({DATA}).")
def interpolate(a: int, b: int, count: int, data: str | None, **source) -> None:
    """Decode a straight line between the posterior means of two test images, numbered from 0."""

    make(draw_interpolation, (a, b, count, data), **source)


def make(draw: Callable, arguments: tuple, out: Path, model: str | None, run: str | None, exp: str | None) -> None:
    """Open the model that was asked for, `draw` with it and `arguments`, and write the picture to `out`."""
    if sum(each is not None for each in (model, run, exp)) > 1:
        raise click.UsageError("--model, --run and --exp each name a model; give one of them")
    source = Source(MODEL if model is None else model, run, exp)
    check_out(out)
    figure, what = draw(*open_model(source), *arguments)

    from cvae.figures.style import save

    save(figure, out)
    print(one_line(f"{out}: {what}, drawn by {source.name}"))


def check_out(path: Path) -> None:
    """Refuse a picture that cannot be written, before any work goes into it.

    Raises:
        UserError: `path` is a folder, is not a PNG, or cannot be written.
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
