"""A run by what a person calls it."""

import fnmatch

from cvae.support.errors import UserError, suggest


def named_run(client, name: str):
    """Find the run whose id or name is `name`, or whose name alone matches it as a pattern, such as `latents-1*`.

    Of several runs with that very name, the newest counts.

    Raises:
        UserError: there is no such run, or the pattern matches runs of different names.
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
        raise UserError(f"{len(matching)} runs match {name}: {shown}; name one of them")
    if not matching:
        advice = suggest(name, names, "`make ui` shows what there is")
        raise UserError(f"no run of MLflow has the name or id {name!r:.60}; {advice}")
    return next(run for run in runs if run.info.run_name == matching[0])
