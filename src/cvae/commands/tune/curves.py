"""The live curves of trials in MLflow, and the marks on runs of pruned trials."""

import os
import sys
import time
from collections.abc import Callable

from cvae.commands.tune.study import Study
from cvae.tracking.checks import require_usable
from cvae.tracking.location import locate
from cvae.tracking.runs import CHECKPOINT, PIPELINE_KEY, PRUNED, STUDY, TRIAL
from cvae.tracking.store import EXPERIMENT, connect
from cvae.tracking.store_errors import explain

PARTS = ("validation/reconstruction", "validation/kl")
PAUSE = 60  # seconds to the next attempt after MLflow could not be used


class Curves:
    """Access to the runs of a study's trials. If MLflow cannot be used, one line says so, and there are no curves."""

    def __init__(self, study: Study):
        self._study = study.name
        # The sum of the parts is comparable whatever beta is. `loss` weights the KL by beta, which is then fixed.
        self._kl_weight = study.fixed("beta") if study.plan.metric == "loss" else 1
        self._location = locate()
        self._next_attempt = 0.0
        self._has_warned = False

    def of(self, number: int) -> dict[int, float]:
        """Return a trial's loss of the validation images after each epoch, as far as it is logged."""

        def read(client, run) -> dict[int, float]:
            if run.info.status != "RUNNING":
                return {}
            histories = [client.get_metric_history(run.info.run_id, part) for part in PARTS]
            first, second = ({metric.step: metric.value for metric in history} for history in histories)
            return {epoch: first[epoch] + self._kl_weight * second[epoch] for epoch in first.keys() & second.keys()}

        return self._with_run(number, read) or {}

    def mark_pruned(self, number: int, epoch: int) -> None:
        """End the run of a pruned trial as KILLED, tag it, and delete its checkpoint."""

        def mark(client, run) -> None:
            if PIPELINE_KEY in run.data.tags:  # the trial was faster
                return
            client.set_tag(run.info.run_id, PRUNED, f"after epoch {epoch}")
            client.set_terminated(run.info.run_id, "KILLED")
            if key := run.data.tags.get(CHECKPOINT):
                from cvae.pipeline.checkpoint import Checkpoint  # imports torch

                Checkpoint(key).remove()

        self._with_run(number, mark)

    def _with_run(self, number: int, work: Callable):
        """Return `work(client, run)` for the newest run of a trial, or None if there is none or MLflow fails."""
        database = self._location.database
        if time.monotonic() < self._next_attempt or (database and not database.exists()):
            return None
        try:
            require_usable(self._location)  # MLflow would try a database that is down for a minute and a half
            client = connect(self._location)
            experiment = client.get_experiment_by_name(os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT)
            if experiment is None:
                return None
            wanted = f"tags.`{STUDY}` = '{self._study}' and tags.`{TRIAL}` = '{number}'"
            newest = ["attributes.start_time DESC"]
            runs = client.search_runs([experiment.experiment_id], wanted, max_results=1, order_by=newest)
            return work(client, runs[0]) if runs else None
        except Exception as error:  # no error of the store may end a search
            self._next_attempt = time.monotonic() + PAUSE
            if not self._has_warned:
                self._has_warned = True
                print(
                    f"tune: {explain(self._location, error)}; until it can be used, no trial is pruned", file=sys.stderr
                )
            return None
