"""MLflow runs of this project: their tags, names and colours, and how they are created, resumed, found and closed."""

import os
import sys
from pathlib import Path

from cvae.pipeline import git
from cvae.pipeline.repository import main_repository
from cvae.support.errors import UserError
from cvae.tracking import description
from cvae.tracking.store import lock_folder
from cvae.tracking.tasks import applicable
from cvae.tracking.writers import Writer, is_abandoned, remove_tags, remove_writers, writers_of

# Tags. run_keys computes the values of all but the first.
CHECKPOINT = "checkpoint.key"  # identifies the training, finished or not
INPUTS = "training.inputs"  # the same without the device, because DVC's cache may supply a result from another device
TRAINING_KEY = "training.key"  # identifies the outputs of training; set when training is done
TRACKING = "pipeline.tracking"  # the pipeline key of what track writes to the run; set when track starts
PIPELINE_KEY = "pipeline.key"  # identifies everything that track logs; set when everything is logged

STUDY, TRIAL = "study", "study.trial"  # the search of `cvae tune` that made the run, and its number in it
PRUNED = "study.pruned"  # when it was pruned
STUDY_VARIABLE, TRIAL_VARIABLE = "CVAE_STUDY", "CVAE_TRIAL"  # in which `cvae tune` names them to the stages

COLOUR = "mlflow.runColor"  # MLflow's tag
# matplotlib's tab10, copied because importing matplotlib takes longer than recording a run
COLOURS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"]

EXPLORER = "explorer.html"  # an artifact's name


def writer() -> Writer:
    """Return this process as a writer of runs. Use as a context manager."""
    return Writer(_writers_folder())


def _writers_folder() -> Path:
    return lock_folder() / "writers"


def create_run(
    client,
    experiment: str,
    params: dict,
    tags: dict[str, str],
    writer: Writer,
    start_time: int | None = None,
):
    """Create a run with a name, a description, the origin of its code, and a colour that recent runs do not have.

    The caller must hold the lock. `start_time` is in milliseconds; None means now. MLflow picks colours at
    random, so they would repeat.
    """
    latest = client.search_runs([experiment], order_by=["attributes.start_time DESC"], max_results=len(COLOURS) - 1)
    taken = {run.data.tags.get(COLOUR) for run in latest}
    colour = next(colour for colour in COLOURS if colour not in taken)
    tags = source_tags() | {COLOUR: colour} | tags
    tags |= {description.NOTE: description.of_run(params, tags)} | writer.tags
    run = client.create_run(experiment, start_time=start_time, tags=tags, run_name=run_name(params))
    writer.add(run.info.run_id)
    return run


def reopen_run(client, experiment: str, params: dict, tags: dict[str, str], writer: Writer) -> str | None:
    """Resume the interrupted run with the same `CHECKPOINT` tag. Return its id, or None if none can be claimed.

    The caller must hold the lock and have called `close_killed_runs`. `tags` are the same as for `create_run`.
    """
    from mlflow.entities import RunTag

    for run in interrupted_runs(client, experiment):
        run_id = run.info.run_id
        if run.data.tags[CHECKPOINT] != tags.get(CHECKPOINT):
            continue
        if not (run := writer.claim(client, run_id, unless=TRAINING_KEY)):
            continue
        tags = source_tags() | tags
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        remove_tags(client, run_id, {"error", PRUNED} & run.data.tags.keys())  # the reason for the interruption
        client.update_run(run_id, status="RUNNING", name=run_name(params))
        return run_id
    return None


def find(client, experiment: str, tag: str, value: str) -> list:
    """Return the experiment's runs whose `tag` is `value`, without deleted ones."""
    return list(client.search_runs([experiment], f"tags.`{tag}` = '{value}'", max_results=1000))


def interrupted_runs(client, experiment: str) -> list:
    """Return the runs of trainings that ended before their results were written."""
    ended = [
        run
        for status in ("KILLED", "FAILED")
        for run in client.search_runs([experiment], f"attributes.status = '{status}'", max_results=1000)
    ]
    return [run for run in ended if CHECKPOINT in run.data.tags and TRAINING_KEY not in run.data.tags]


def close_killed_runs(client, experiment: str) -> None:
    """Mark RUNNING runs as KILLED if their writers have died, then delete superseded runs."""
    folder = _writers_folder()
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'", max_results=1000):
        if is_abandoned(folder, run):
            client.set_terminated(run.info.run_id, "KILLED")
            remove_writers(client, folder, run.info.run_id, writers_of(run))
    delete_superseded(client, experiment)


def delete_superseded(client, experiment: str) -> None:
    """Delete interrupted runs of trainings whose results another run records, so that each result has one run."""
    for run in interrupted_runs(client, experiment):
        same = find(client, experiment, INPUTS, run.data.tags.get(INPUTS, ""))
        if any(TRAINING_KEY in each.data.tags for each in same):
            with writer() as own:
                own.delete(client, run.info.run_id, unless=TRAINING_KEY)


def newest_model(client, run):
    """Return the newest model that `run` logged, as MLflow describes it. MLflow lists them in no particular order.

    Raises:
        UserError: the run has no model.
    """
    models = [client.get_logged_model(each.model_id) for each in (run.outputs.model_outputs if run.outputs else [])]
    if not models:
        raise UserError(
            f"run {run.info.run_name} ({run.info.run_id}) has no model; track logs it at the end of the pipeline"
        )
    return max(models, key=lambda model: model.creation_timestamp)


def explorer_page(info) -> str:
    """Return the address in MLflow's UI of a run's explorer, from the run's `info`."""
    return f"#/experiments/{info.experiment_id}/runs/{info.run_id}/artifacts/{EXPLORER}"


def source_tags() -> dict[str, str]:
    """Return tags for the code: git's commit, whether src, stages or dvc.yaml have changed since, DVC's experiment.

    If git fails, print one line and leave out the commit.
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
    return tags | study_tags()


def study_tags() -> dict[str, str]:
    """Return the tags that name the trial of `cvae tune` that runs this stage, or none if it is no trial."""
    named = {STUDY: os.environ.get(STUDY_VARIABLE), TRIAL: os.environ.get(TRIAL_VARIABLE)}
    return {tag: value for tag, value in named.items() if value}


def experiment_name() -> str | None:
    """Return the name of the DVC experiment that runs this stage, or None if this is not an experiment."""
    # If a stage of another repository runs this one, both variables are that repository's; ignore its name. A trial of
    # `cvae tune` is in a repository of its own, below the main one.
    named = os.environ.get("DVC_ROOT")
    if named and Path(named).resolve() not in (main_repository().resolve(), Path.cwd()):
        return None
    return os.environ.get("DVC_EXP_NAME") or None


def run_name(params: dict) -> str:
    """Return the DVC experiment's name, else the data set and each parameter that differs from its default.

    Your own images are named by their folder, and models by their class.
    """
    from cvae.pipeline.parameters import Parameters

    default, params = Parameters().model_dump(), applicable(params)
    data = Path(params.get("images", "")).name or params["dataset"]
    changed = [key for key in params if key not in ("dataset", "images") and params[key] != default.get(key)]
    values = {key: params[key].rpartition(":")[2] if key == "model" else params[key] for key in changed}
    return experiment_name() or " ".join([data, *(f"{key}={value}" for key, value in values.items())])
