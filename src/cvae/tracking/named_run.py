"""Find a run by its name or id."""

import fnmatch

from cvae.support.errors import UserError, suggest


def named_run(client, name: str):
    """Return the run whose id or name is `name`, or the only one whose name matches it as a pattern (`latents-1*`).

    If several runs have that name, the newest is returned.

    Raises:
        UserError: there is no such run, or the pattern matches several names.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(name)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = list(client.search_runs(experiments, order_by=["attributes.start_time DESC"], max_results=1000))
    names = list(dict.fromkeys(run.info.run_name for run in runs))
    matching = [name] if name in names else sorted(fnmatch.filter(names, name))
    if len(matching) > 1:
        shown = ", ".join(matching[:5]) + ", …" * (len(matching) > 5)
        raise UserError(f"{len(matching)} runs match {name}: {shown}; choose one of them")
    if not matching:
        advice = suggest(name, names, "`make ui` lists all runs")
        raise UserError(f"no MLflow run has the name or id {name!r:.60}; {advice}")
    return next(run for run in runs if run.info.run_name == matching[0])
