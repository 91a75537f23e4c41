"""MLflow's registry: a version for each run's model, and the alias `best` on the one with the lowest test NLL."""

import math

from cvae.errors import UserError
from cvae.tracking import description
from cvae.tracking.store import Location, newest_model

ALIAS = "best"
NLL = "final_test/nll"  # the metric, in nats per image
TASK = ("dataset", "likelihood", "pixels", "nll_samples")  # NLLs of equal ones are comparable; tags of a version


def enter(client, location: Location, run_id: str, name: str) -> str:
    """Enter the model of a whole run under `name`, unless it is there, put the alias where it belongs; a line says so.

    Called under the lock. Each step is left out where an earlier call has done it, so that a call that was
    killed is made whole by the next.

    Raises:
        UserError: the store has no registry, or its registry refuses.
    """
    from mlflow.exceptions import MlflowException

    try:
        version = _version_of(client, client.get_run(run_id), name)
        return f"Its model is version {version.version} of {name} in the registry; {_place_alias(client, version)}"
    except MlflowException as error:
        raise UserError(
            f"the run is whole, but its model is not in the registry: {location.complaint(error)}; "
            f'`dvc repro` tries again, and registered_model: "" in params.yaml turns this off'
        ) from error


def _version_of(client, run, name: str):
    """The version under `name` of the run's model, with the tags of its task; made where it is missing.

    A run has a second model, and so a second version, if the files of the first were lost.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=description.OF_MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    params = run.data.params
    pixels = "grey" if params["binarize"] == "none" else "binary"  # static and dynamic share their test images
    task = {key: (params | {"pixels": pixels})[key] for key in TASK}
    model = newest_model(client, run)
    for version in _versions(client, name):
        if version.run_id == run.info.run_id and version.source.endswith(model.model_id):
            for key in TASK:
                if version.tags.get(key) != task[key]:  # entered by hand, perhaps
                    client.set_model_version_tag(name, version.version, key, task[key])
            return client.get_model_version(name, version.version)
    return client.create_model_version(name, model.model_uri, run.info.run_id, tags=task, model_id=model.model_id)


def _place_alias(client, version) -> str:
    """Put the alias on the best version of the task of `version`, unless one of another task has it; says where it is.

    Versions without an NLL take no part, and of one run's only the last; of equal ones the oldest is best.
    """
    name, task = version.name, _task(version)
    versions = {str(each.version): each for each in _versions(client, name)}
    holder = client.get_registered_model(name).aliases.get(ALIAS)
    if holder is not None and (other := _task(versions[str(holder)])) != task:
        differences = ", ".join(f"{key} {other[key]}, not {task[key]}" for key in TASK if other[key] != task[key])
        return f"`{ALIAS}` stays on version {holder}, whose NLL does not compare ({differences})"
    last = {each.run_id: each for each in sorted(versions.values(), key=lambda each: int(each.version))}
    nlls = {int(each.version): _nll(client, each) for each in last.values() if _task(each) == task}
    ranked = sorted((nll, number) for number, nll in nlls.items() if nll is not None)
    if not ranked:
        return f"`{ALIAS}` takes a test NLL, which no version like it has"
    nll, best = ranked[0]
    if str(holder) == str(best):
        return f"`{ALIAS}` stays on version {best}, of test NLL {nll:.4f}"
    client.set_registered_model_alias(name, ALIAS, str(best))
    return f"`{ALIAS}` is now version {best}, of test NLL {nll:.4f}"


def _versions(client, name: str) -> list:
    return list(client.search_model_versions(f"name = '{name}'", max_results=10_000))


def _task(version) -> dict[str, str | None]:
    return {key: version.tags.get(key) for key in TASK}


def _nll(client, version) -> float | None:
    """The test NLL of the version's run, in nats per image; None where it has none, or there is no such run."""
    from mlflow.exceptions import MlflowException

    try:
        nll = client.get_run(version.run_id).data.metrics.get(NLL, math.nan)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None
    return nll if math.isfinite(nll) else None
