"""Register the models of runs, and keep the alias `best` on the version with the lowest NLL.

It is the NLL of the validation images for runs that have some, else of the test images.
"""

import math
import re

from cvae.support.errors import UserError
from cvae.tracking import description
from cvae.tracking.location import Location
from cvae.tracking.runs import newest_model
from cvae.tracking.store_errors import explain
from cvae.tracking.tasks import data_name, measured_on, pixels_of, split_of
from cvae.tracking.writers import DELETED

ALIAS = "best"
TASK = ("dataset", "likelihood", "pixels", "measured_on", "nll_samples")  # tags; NLLs are comparable if all are equal


def enter(client, location: Location, run_id: str, name: str) -> str:
    """Register the model of a complete run under `name` and update the alias. Return a line that reports both.

    The caller must hold the lock. Steps that are already done are skipped, so a second call completes an interrupted
    one.

    Raises:
        UserError: the store has no registry, or the registry refuses.
    """
    from mlflow.exceptions import MlflowException

    try:
        version = _version_of(client, client.get_run(run_id), name)
        return f"Its model is version {version.version} of {name} in the registry; {_place_alias(client, version)}"
    except MlflowException as error:
        raise UserError(
            f"the run is complete, but its model is not in the registry: {explain(location, error)}; "
            "`dvc repro` tries again, and registered_model: '' in params.yaml turns this off"
        ) from error


def _version_of(client, run, name: str):
    """Return the version of the run's model under `name`, with tags for its task. Create it if it is missing."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=description.OF_REGISTERED_MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    params = run.data.params
    values = params | {
        "dataset": data_name(params),
        "pixels": pixels_of(params),
        "measured_on": measured_on(params),
    }
    task = {key: values[key] for key in TASK}
    model = newest_model(client, run)
    if version := _first_version(client, name, run, model):
        for key in TASK:
            if version.tags.get(key) != task[key]:  # a person may have registered it without tags
                client.set_model_version_tag(name, version.version, key, task[key])
        return client.get_model_version(name, version.version)
    about = {"tags": task, "description": model.tags.get(description.NOTE), "model_id": model.model_id}
    made = client.create_model_version(name, model.model_uri, run.info.run_id, **about)
    first = _first_version(client, name, run, model)
    if int(first.version) != int(made.version):  # another clone, with its own lock, was faster
        client.delete_model_version(name, made.version)
    return first


def _first_version(client, name: str, run, model):
    """Return the oldest version of `run`'s `model` under `name`, or None."""
    versions = [
        version
        for version in _versions(client, name)
        if version.run_id == run.info.run_id and version.source.endswith(model.model_id)
    ]
    return min(versions, key=lambda version: int(version.version), default=None)


def resolve(client, uri: str) -> str:
    """Return `uri`. If it is an alias `best` whose run was deleted, return the best remaining version.

    The alias itself moves the next time that track or `make ui` runs.

    Raises:
        UserError: no version of the same task remains.
    """
    match = re.fullmatch(f"models:/+([^/@]+)@{ALIAS}", uri)
    if not match:
        return uri
    version = client.get_model_version_by_alias(match[1], ALIAS)
    if _has_run(client, version):
        return uri
    gone = f"the run of version {version.version}, which is {uri}, was deleted"
    ranked = _ranked(client, version.name, _task(version))
    if not ranked:
        again = "`dvc repro -sf track` registers the current result's model, if registered_model in params.yaml is set"
        raise UserError(f"{gone}, and no other version is comparable; {again}")
    print(f"{gone}; version {ranked[0][1]} is the best that remains", flush=True)
    return f"models:/{version.name}/{ranked[0][1]}"


def move_aliases(client) -> None:
    """Move each alias `best` whose run was deleted to the best remaining version. The caller must hold the lock."""
    for model in client.search_registered_models():
        if holder := model.aliases.get(ALIAS):
            version = client.get_model_version(model.name, holder)
            if not _has_run(client, version):
                _place_alias(client, version)


def _place_alias(client, version) -> str:
    """Move the alias to the best version of the task of `version`. Return a phrase that says where it is.

    An alias on a version of another task stays there, unless that version's run was deleted.
    """
    name, task = version.name, _task(version)
    versions = {str(each.version): each for each in _versions(client, name)}
    holder = client.get_registered_model(name).aliases.get(ALIAS)
    held = versions.get(str(holder))
    if held and (other := _task(held)) != task and _has_run(client, held):
        differences = ", ".join(f"{key} {other[key]}, not {task[key]}" for key in TASK if other[key] != task[key])
        return f"`{ALIAS}` stays on version {holder}, whose NLL is not comparable ({differences})"
    ranked = _ranked(client, name, task)
    if not ranked:
        return f"`{ALIAS}` does not move: no comparable version has an NLL"
    nll, best = ranked[0]
    chosen = f"version {best}, with NLL {nll:.4f} on {task['measured_on']}"
    if str(holder) == str(best):
        return f"`{ALIAS}` stays on {chosen}"
    client.set_registered_model_alias(name, ALIAS, str(best))
    if _ranked(client, name, task)[:1] != ranked[:1]:  # another clone has entered a better one since
        return _place_alias(client, version)
    return f"`{ALIAS}` is now {chosen}"


def _ranked(client, name: str, task: dict[str, str | None]) -> list[tuple[float, int]]:
    """Return the NLL and number of each version of this task, best first.

    Versions without an NLL are left out. Ties go to the oldest.
    """
    nlls = {int(each.version): _nll(client, each) for each in _versions(client, name) if _task(each) == task}
    return sorted((nll, number) for number, nll in nlls.items() if nll is not None)


def _versions(client, name: str) -> list:
    return list(client.search_model_versions(f"name = '{name}'", max_results=10_000))


def _task(version) -> dict[str, str | None]:
    defaults = {"measured_on": measured_on({})}  # of versions that are older than validation
    return {key: version.tags.get(key, defaults.get(key)) for key in TASK}


def _nll(client, version) -> float | None:
    """Return the NLL in nats per image by which the version is chosen, or None if there is no NLL or no run."""
    run = find_run(client, version.run_id)
    nll = run.data.metrics.get(f"final_{split_of(run.data.params)}/nll", math.nan) if run else math.nan
    return nll if math.isfinite(nll) else None


def _has_run(client, version) -> bool:
    """Whether the version's run still exists, or the version never had one because a person registered it."""
    return not version.run_id or find_run(client, version.run_id) is not None


def find_run(client, run_id: str | None):
    """Return the run `run_id`, or None if it does not exist or was deleted (in the UI, or by `mlflow gc`)."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id) if run_id else None
    except MlflowException as error:
        if error.error_code not in DELETED:
            raise
        return None
    return run if run and run.info.lifecycle_stage == "active" else None
