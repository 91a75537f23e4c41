"""`cvae compare`: compare DVC's experiments by rate and distortion, as a table and a picture.

The picture and its table are of this clone's experiments, which git does not carry, and are made again in
seconds: .gitignore names them. `git add --force` keeps one.
"""

import click

from cvae.commands.compare.experiments import find_results
from cvae.commands.compare.panels import write_picture
from cvae.commands.compare.results import EARLIER, by_task
from cvae.commands.compare.tables import PICTURE, TABLE, format_means, format_table, heading, write_table
from cvae.pipeline.repository import require_root
from cvae.support.errors import UserError

SWEEP = "`dvc exp run --queue -n dims -S threads=1 -S 'latent_dims=range(1,9)' && dvc queue start -j 2` makes eight"


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--rev", multiple=True, help="Start from this commit, not HEAD; may be repeated.")
@click.option("-n", "--num", type=click.IntRange(-1), default=1, help="Look at this many commits back; -1: at all.")
def compare(names: tuple[str, ...], rev: tuple[str, ...], num: int) -> None:
    """Compare DVC's experiments by rate and distortion: tables, plots/rate_distortion.png and .csv.

    NAME is an experiment, branch or commit as `dvc exp show` has it, or a pattern such as 'latents-*'; without any,
    all are compared.
    """
    require_root()
    results, notes = find_results(names, rev, num)
    for note in notes:
        print(note)
    if len(results) < 2:
        count = "is one result, and nothing to compare it with" if results else "are no results to compare"
        raise UserError(f"there {count}; {SWEEP}; {EARLIER}")
    groups = by_task(results)
    for group in groups:
        print(f"\n{heading(group)}")
        print(format_table(group))
        if means := format_means(group):
            print(f"\n{means}")

    write_table(groups)
    write_picture(groups)
    print(f"\n{PICTURE} draws it, {TABLE} has every digit.")
