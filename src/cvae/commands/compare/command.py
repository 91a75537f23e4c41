"""`cvae compare`: compare DVC's experiments by rate and distortion, as tables and a picture.

Git ignores the picture and its CSV, because they show experiments that only this clone has, and take seconds to make.
To commit them anyway, use `git add --force`.
"""

import shutil

import click

from cvae.commands.compare.experiments import find_results
from cvae.commands.compare.panels import write_picture
from cvae.commands.compare.results import EARLIER, by_task
from cvae.commands.compare.tables import PICTURE, TABLE, format_means, format_table, heading, write_table
from cvae.pipeline.repository import require_root
from cvae.support.errors import UserError

SWEEP = (
    "to run eight experiments, type "
    "`dvc exp run --queue -n dims -S threads=1 -S 'latent_dims=range(1,9)' && dvc queue start -j 2`"
)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--rev", metavar="COMMIT", multiple=True, help="Start at this commit instead of HEAD. Can be repeated.")
@click.option(
    "-n",
    "--num",
    metavar="N",
    type=click.IntRange(-1),
    default=1,
    help="Include experiments of the last N commits; -1 means all.",
)
def compare(names: tuple[str, ...], rev: tuple[str, ...], num: int) -> None:
    """Compare DVC experiments by rate and distortion.

    Prints tables, and writes plots/rate_distortion.png and .csv. NAME is an experiment, branch or commit as shown by
    `dvc exp show`, or a pattern such as 'latents-*'. Without NAME, all are compared.
    """
    require_root()
    results, notes = find_results(names, rev, num)
    for note in notes:
        print(note)
    if len(results) < 2:
        count = "are no results to compare" if results.empty else "is one result, and nothing to compare it with"
        raise UserError(f"there {count}; {SWEEP}; {EARLIER}")
    groups = by_task(results)
    # Without a terminal, as in a pipe, all columns are printed.
    width = shutil.get_terminal_size(fallback=(1_000_000, 0)).columns
    for group in groups:
        print(f"\n{heading(group)}")
        print(format_table(group, width))
        if means := format_means(group, width):
            print(f"\n{means}")

    write_table(groups)
    drawn = [group for group in groups if len(group) > 1] or groups  # one point alone shows nothing
    write_picture(drawn)
    which = "these results" if len(drawn) == len(groups) else "the tasks with several results"
    print(f"\n{PICTURE} shows {which}, and {TABLE} has all figures, unrounded.")
