"""`cvae tune`: start a search, or resume it."""

import re
from collections.abc import Mapping

import click
from filelock import FileLock, Timeout

from cvae.commands.tune import copies, report
from cvae.commands.tune.space import Value, parse_space, spell
from cvae.commands.tune.study import (
    FOLDER,
    MAXIMISED,
    MINIMISED,
    Plan,
    Study,
    create_study,
    file_of,
    reported_in_one_line,
)
from cvae.compute.threads import cores
from cvae.pipeline.git import git, require_git
from cvae.pipeline.parameters import Parameters, read_parameters
from cvae.pipeline.repository import require_root
from cvae.support.errors import UserError, suggest
from cvae.support.progress import count_progress
from cvae.tracking.tasks import split_of

EXAMPLE = "-S 'latent_dims=2..32' -S 'learning_rate=1e-4..1e-2 log'"
ANOTHER = "give the new search another name"
DEFAULTS = {"trials": 20, "jobs": 1, "pruning": True}


@click.command()
@click.argument("name")
@click.option(
    "-S",
    "--set-param",
    "settings",
    metavar="KEY=VALUES",
    multiple=True,
    help="What to search: 'KEY=LOW..HIGH', 'KEY=LOW..HIGH log' or 'KEY=A,B,C'; one value is set for all trials. "
    "Can be repeated.",
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    help=f"Search until the study has this many trials.  [default: {DEFAULTS['trials']}]",
)
@click.option("-j", "--jobs", type=click.IntRange(1), help=f"Trials at once.  [default: {DEFAULTS['jobs']}]")
@click.option(
    "--metric",
    type=click.Choice([*MINIMISED, *MAXIMISED]),
    help="The goal, in metrics/validation.json.  [default: nll]",
)
@click.option(
    "--seed", type=click.IntRange(0), help="Of the proposals. They repeat with one job at a time.  [default: 0]"
)
@click.option("--pruning/--no-pruning", default=None, help="Stop trials that fall behind.  [default: pruning]")
def tune(
    name: str,
    settings: tuple[str, ...],
    trials: int | None,
    jobs: int | None,
    metric: str | None,
    seed: int | None,
    pruning: bool | None,
) -> None:
    """Search for the parameters with the lowest NLL of the validation images.

    NAME is the study: trial 7 of the study `first` is the DVC experiment first-7. To resume a study, give only its
    name; --trials, --jobs and --pruning may change.
    """
    require_root()
    require_git()
    if not re.fullmatch(r"[A-Za-z0-9]([\w-]*[A-Za-z0-9])?", name, re.ASCII):
        raise UserError(f"{name!r:.60} cannot be the name of a study; use letters, digits, _ and -")
    params = read_parameters()
    FOLDER.mkdir(exist_ok=True)
    try:
        with FileLock(FOLDER / f"{name}.lock", timeout=0):
            chosen = {"trials": trials, "jobs": jobs, "pruning": pruning}
            options = {key: value for key, value in chosen.items() if value is not None}
            if not file_of(name).exists():
                _begin(name, settings, metric or "nll", seed or 0, params, DEFAULTS | options)

            with reported_in_one_line(name):
                study = Study(name)
                _require_same_plan(study, settings, metric, seed)
                study.options |= options
                _search(study, params)
    except Timeout:
        raise UserError(f"another `cvae tune` is searching {name}; wait for it, or choose another name") from None


def _begin(
    name: str, settings: tuple[str, ...], metric: str, seed: int, params: Parameters, options: dict[str, int | bool]
) -> None:
    """Write the file of a new study.

    Raises:
        UserError: the search makes no sense, or would overwrite other experiments.
    """
    if not settings:
        known = [file.stem for file in FOLDER.glob("*.db")]
        advice = suggest(name, known, f"say what to search: cvae tune {name} {EXAMPLE}")
        raise UserError(f"there is no study {name} yet; {advice}")
    base = params.model_dump()
    space = parse_space(settings, base)
    used = base | space.fixed
    if split_of(used) != "validation":
        raise UserError(
            "trials are compared on validation images, and validation_images is 0; add -S validation_images=5000, "
            "or another number of training images to hold out"
        )
    if metric == "loss" and any(dimension.key == "beta" for dimension in space.dimensions):
        raise UserError(
            "--metric loss weights the KL by beta, so it cannot be compared while beta is searched; use nll"
        )
    if reason := _never_measured(metric, used):
        raise UserError(f"--metric {metric}: {reason}; use another")
    if taken := copies.experiments_named_like(name):
        remedy = f"choose another name, or remove them: dvc exp remove {' '.join(taken)}"
        raise UserError(f"there are experiments of a study {name} already; {remedy}")

    head, snapshot = copies.take_snapshot(name)
    with reported_in_one_line(name):
        create_study(name, Plan(list(settings), metric, seed, base, head, snapshot), options)


def _never_measured(metric: str, used: Mapping[str, Value]) -> str:
    """Return why no trial would have `metric`, or an empty string."""
    if metric.startswith("label_accuracy") and used["labels"] == "none":
        return "a model without labels has none"
    if metric == "bits_per_dim" and (used["likelihood"] == "gaussian") != (used["binarize"] == "none"):
        return f"a {used['likelihood']} likelihood with binarize: {used['binarize']} is no code for pixels"
    return ""


def _require_same_plan(study: Study, settings: tuple[str, ...], metric: str | None, seed: int | None) -> None:
    """Raise a `UserError` if one of these is given and differs from what the study began with."""
    plan = study.plan
    for option, chosen, planned in (
        ("-S", list(settings) or None, plan.settings),
        ("--metric", metric, plan.metric),
        ("--seed", seed, plan.seed),
    ):
        if chosen not in (None, planned):
            was = " ".join(f"'{each}'" for each in planned) if isinstance(planned, list) else planned
            raise UserError(f"{study.name} began with {option} {was}; leave {option} out to resume it, or {ANOTHER}")


def _require_same_base(study: Study, params: Parameters) -> None:
    """Raise a `UserError` if params.yaml has changed since the study began. Mention it if the code has."""
    plan, present = study.plan, params.model_dump()
    set_by_trials = {*study.space.fixed, *(dimension.key for dimension in study.space.dimensions)}
    if edited := [key for key in plan.base if key not in set_by_trials and present.get(key) != plan.base[key]]:
        were = ", ".join(f"{key}: {spell(plan.base[key])}" for key in edited)
        raise UserError(f"params.yaml has changed since {study.name} began with {were}; set it back, or {ANOTHER}")
    if git("diff", "--name-only", plan.snapshot, "--", "src", "stages", "dvc.yaml"):
        print(f"The code has changed since {study.name} began; its trials still run the earlier code.")


def _search(study: Study, params: Parameters) -> None:
    """Run the missing trials, and show the outcome of all."""
    from cvae.commands.tune.search import Search

    total = study.options["trials"]
    finished = len(study.trials) - len(study.running())
    if finished:
        print(f"{study.name}: {finished} of {max(total, finished)} trials are finished", flush=True)
    if finished < total:
        _require_same_base(study, params)
        jobs, threads = study.options["jobs"], (params.model_dump() | study.space.fixed)["threads"]
        if jobs > 1 and jobs * threads > cores():
            print(f"{jobs} trials of {threads} threads are more than the {cores()} cores here; use -S threads=1")
        try:
            with count_progress(study.name, total, finished) as show:
                Search(study, show).run()
        except KeyboardInterrupt:
            print(f"Interrupted; `cvae tune {study.name}` resumes.", flush=True)
            raise
    print(f"\n{report.table(study)}", flush=True)

    from cvae.commands.tune.pictures import draw  # imports matplotlib, which takes seconds

    if drawn := draw(study):
        print(f"Pictures: {', '.join(map(str, drawn))}")
