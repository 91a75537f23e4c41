"""Make the complete MLflow record of the results in the workspace: find its run, complete it or create it."""

import importlib.metadata
import json
import math
from contextlib import suppress

from cvae.support.errors import shown
from cvae.support.files import write_whole
from cvae.tracking import description, registry, run_keys
from cvae.tracking.location import Location, locate
from cvae.tracking.results import Results, has_its_files, log_results, read_results
from cvae.tracking.runs import (
    PIPELINE_KEY,
    PRUNED,
    TRACKING,
    TRAINING_KEY,
    close_killed_runs,
    create_run,
    delete_superseded,
    experiment_name,
    explorer_page,
    find,
    study_tags,
    writer,
)
from cvae.tracking.store import locked, open_store
from cvae.tracking.store_errors import explain, reported_in_one_line
from cvae.tracking.tasks import split_of
from cvae.tracking.writers import remove_tags

MEASURED = ("device", "torch.version", "train.seconds", "train.images_per_second")  # tags whose values only train knows


def record(params: dict) -> str:
    """Log the results in the workspace, made with `params`, as one MLflow run. Return their pipeline key.

    The run is the first of these that exists:
    1. A run that already records exactly these results. If its files are gone, they are logged again.
    2. A run that train or an earlier attempt started for these results. It is completed.
    3. Otherwise a new run, for example if training came from DVC's cache.

    A run that another process may still write to is left alone. The pipeline key is written last, so a run without it
    is incomplete. Such a run ends FAILED or KILLED with the reason in its `error` tag, and the next attempt completes
    it. Clones that record the same results at once share no lock, only the store: each makes a run, and the first one
    that is complete stays. If `params["registered_model"]` is not empty, the run's model is registered under that name.

    Raises:
        UserError: the store cannot be used. DVC will run track again.
    """
    location, name = locate(), params[run_keys.DESTINATION]
    params = run_keys.recorded(params)
    results = read_results(params)
    advice = "; run `dvc repro` again when it can be used"
    with reported_in_one_line(location, advice), locked(), writer() as own:
        client, experiment = open_store(location, split_of(params))
        close_killed_runs(client, experiment)
        key, training = run_keys.pipeline_key(params), run_keys.training_key(params)
        same_training = find(client, experiment, TRAINING_KEY, training)
        measured = _measured(same_training)
        unfinished = [run for run in same_training if PIPELINE_KEY not in run.data.tags]
        known = find(client, experiment, PIPELINE_KEY, key)
        complete = _first_complete(client, known)

        if complete:
            run_id, verb = complete.info.run_id, "are already"
            ours = description.of_run(params, complete.data.tags, results.schema, explorer_page(complete.info))
            edited = complete.data.tags.get(description.NOTE, ours) != ours
            _tag(client, run_id, results, measured, keep_description=edited)
        else:
            candidates = [(run, "") for run in known] + [(run, PIPELINE_KEY) for run in _completable(unfinished, key)]
            claims = (own.claim(client, run.info.run_id, unless) for run, unless in candidates)
            left = next(filter(None, claims), None)
            verb = "are now"
            if left:
                verb = "are again" if PIPELINE_KEY in left.data.tags else "complete"
            tags = {"dvc.stage": "track", TRAINING_KEY: training, TRACKING: key}
            run_id = (left or create_run(client, experiment, params, tags, own)).info.run_id
            try:
                client.set_tag(run_id, TRACKING, key)  # first, since MLflow never changes a parameter once it is logged
                remove_tags(client, run_id, {PIPELINE_KEY} & left.data.tags.keys() if left else [])
                log_results(client, run_id, results)
                _tag(client, run_id, results, measured)
                remove_tags(client, run_id, {"error", PRUNED} & client.get_run(run_id).data.tags.keys())
                client.set_terminated(run_id, "FINISHED")
                client.set_tag(run_id, PIPELINE_KEY, key)
            except BaseException as error:
                with suppress(Exception):  # if the store itself has failed, the next attempt closes the run
                    _close(client, run_id, location, error)
                    own.release(client, run_id)
                raise
            own.release(client, run_id)
        kept = _keep_first(client, experiment, key, run_id)
        for run in unfinished:  # left by a repeated training, for example
            if run.info.run_id != run_id and not _is_left_to_another(run, key):
                own.delete(client, run.info.run_id, unless=PIPELINE_KEY)
        delete_superseded(client, experiment)
        run_name = client.get_run(run_id).info.run_name
    if kept != run_id:
        return record(params | {run_keys.DESTINATION: name})  # finds the run of the clone that was faster
    print(f"These results {verb} MLflow run {run_name} ({run_id}) in {location.shown}")
    if name:
        with reported_in_one_line(location, advice), locked():
            entered = registry.enter(client, location, run_id, name)
        print(entered)
    return key


def _first_complete(client, runs: list):
    """Return the first of `runs` that was completed and still has its files, or None.

    All clones agree on it: clocks of two machines may differ, but the times in the store are the same for all.
    """
    in_order = sorted(runs, key=lambda run: (run.info.end_time or math.inf, run.info.run_id))
    return next((run for run in in_order if has_its_files(client, run)), None)


def _keep_first(client, experiment: str, key: str, own: str) -> str:
    """Delete all complete runs of the same results but the first, and return the id of the run that stays.

    `own`: the run that this process completed; another clone may have deleted it since. Each clone does this once its
    own run is complete. The last one to look sees all of them, and all keep the same one, so exactly one remains. If a
    clone is killed before it looks, the next track does it.
    """
    runs = find(client, experiment, PIPELINE_KEY, key)
    if [run.info.run_id for run in runs] == [own] or not (first := _first_complete(client, runs)):
        return own
    for run in runs:
        if run is not first:
            client.delete_run(run.info.run_id)
    return first.info.run_id


def _close(client, run_id: str, location: Location, error: BaseException) -> None:
    """End a run that could not be completed, and tag it with the reason."""
    killed = isinstance(error, KeyboardInterrupt)
    reason = shown(str(error)) if killed else explain(location, error)
    if reason:
        client.set_tag(run_id, "error", reason.splitlines()[0][:500])
    remove_tags(client, run_id, [PIPELINE_KEY])  # it may be set although the store reported an error
    client.set_terminated(run_id, "KILLED" if killed else "FAILED")


def _completable(unfinished: list, key: str) -> list:
    """Return the runs that can become the record of these results: earlier attempts first, then those of train.

    Within each group, runs of this DVC experiment come first. Runs that were started for other results are left out,
    because their parameters cannot be changed.
    """
    fitting = [run for run in unfinished if run.data.tags.get(TRACKING, key) == key]
    return sorted(fitting, key=lambda run: (TRACKING not in run.data.tags, _belongs_to_another(run)))


def _is_left_to_another(run, key: str) -> bool:
    """Whether another experiment's track should complete `run`, even if it failed to do so before."""
    return _belongs_to_another(run) and run.data.tags.get(TRACKING) != key


def _belongs_to_another(run) -> bool:
    """Whether another DVC experiment created `run`."""
    return run.data.tags.get("dvc.experiment") != experiment_name()


def _measured(runs: list) -> dict[str, str]:
    """Return what train measured, from the newest of `runs` that has it, else only the version of torch."""
    for run in sorted(runs, key=lambda run: -run.info.start_time):
        if "train.seconds" in run.data.tags:
            return {name: run.data.tags[name] for name in MEASURED if name in run.data.tags}
    return {"torch.version": importlib.metadata.version("torch")}


def _tag(client, run_id: str, results: Results, measured: dict[str, str], keep_description: bool = False) -> None:
    """Tag the run with this experiment's name and with what train measured, and write its description."""
    from mlflow.entities import RunTag

    run = client.get_run(run_id)
    tags = run.data.tags | measured
    names = tags.get("dvc.experiments", "").split()
    if (name := experiment_name()) and name not in names:
        names.append(name)
    if names:
        tags["dvc.experiments"] = " ".join(names)
    ours = study_tags()  # of the last trial with these results
    tags |= ours
    if not keep_description:
        tags[description.NOTE] = description.of_run(results.params, tags, results.schema, explorer_page(run.info))
    added = [*measured, *ours, "dvc.experiments", description.NOTE]
    client.log_batch(run_id, tags=[RunTag(name, tags[name]) for name in added if name in tags])


def write_receipt(key: str) -> None:
    """Write the file by which DVC knows that these results are recorded."""
    write_whole({run_keys.RECEIPT: (json.dumps({PIPELINE_KEY: key}) + "\n").encode()})
