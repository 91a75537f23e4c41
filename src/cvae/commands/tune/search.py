"""The search itself: keep trials running, take in their outcomes, prune those that fall behind.

Every step can be repeated after a kill. A trial is in the study's file before it starts. It is finished once its
experiment is in this repository, and counted once the file has its value. So the next `cvae tune` finds each running
trial as one that still runs, that is finished, or that must be run again under its number, from its checkpoint.
"""

import time
from collections.abc import Callable

from cvae.commands.tune import copies, report, trials
from cvae.commands.tune.curves import Curves
from cvae.commands.tune.study import FOLDER, PRUNABLE, Study, log_of
from cvae.support.errors import UserError

TICK = 0.2  # seconds between looks at the processes
POLL = 3.0  # seconds between looks at the curves; train logs about as often
HOPELESS = 3  # failures in a row that end the search if nothing has worked yet
LOST = 5  # failures in a row that end it otherwise


class Search:
    """A search that is going on. `show(count, remark)`: called every second; `count` trials are finished."""

    def __init__(self, study: Study, show: Callable[[int, str], object]):
        options = study.options
        self._study = study
        self._show = show
        self._jobs, self._total = options["jobs"], options["trials"]
        self._curves = Curves(study) if options["pruning"] and study.plan.metric in PRUNABLE else None
        self._cache = copies.dvc_cache()
        self._running: list[trials.Trial] = []
        self._to_run: list[int] = []  # trials that were running when the search was interrupted
        self._epochs: dict[int, int] = {}  # how far running trials are
        self._polled_at = self._shown_at = 0.0
        self._failures = 0  # in a row
        self._has_succeeded = study.best() is not None

    def run(self) -> None:
        """Run trials until the study has all of them.

        Raises:
            UserError: trials fail one after another.
        """
        try:
            self._take_up()
            while True:
                while len(self._running) < self._jobs and (number := self._next()) is not None:
                    self._start(number)
                if not self._running:
                    break
                time.sleep(TICK)
                for trial in [trial for trial in self._running if trial.has_ended()]:
                    self._finish(trial)
                self._prune()
                self._report_progress()
        finally:
            trials.end(self._running)
            for trial in self._running:
                copies.bring_experiment(trial.name)  # one that was finished before it was interrupted is not lost
            copies.remove_copies(self._study.name)

    def _take_up(self) -> None:
        """Sort the trials without an outcome into those that still run, are finished, or must be run again."""
        study = self._study
        for number in study.running():
            name, values = study.experiment(number), study.values(number)
            if trial := trials.adopt(number, name, values, log_of(study.name, name)):
                self._running.append(trial)
            elif copies.bring_experiment(name):
                self._finish(trials.Trial(number, name, values, log_of(study.name, name), []))
            else:
                self._to_run.append(number)
        copies.remove_copies(study.name, kept=[trial.name for trial in self._running])

    def _next(self) -> int | None:
        """Return the number of the trial to start, or None if the study has all trials."""
        if self._to_run:
            return self._to_run.pop(0)
        return self._study.propose() if len(self._study.trials) < self._total else None

    def _start(self, number: int) -> None:
        study = self._study
        name, values = study.experiment(number), study.values(number)
        folder = copies.make_copy(copies.copy_of(name), study.name, study.plan.head, study.plan.snapshot, self._cache)
        self._running.append(trials.start(study.name, number, name, values, folder, log_of(study.name, name)))

    def _finish(self, trial: trials.Trial) -> None:
        """Store the outcome of a trial that has ended, and print it."""
        study, failure = self._study, ""
        commit = copies.bring_experiment(trial.name)  # if git fails, the search ends, and the next one tries again
        if commit:
            try:
                value = trials.figure(trial.name, commit, study.plan.metric, study.plan.base | trial.values)
                study.complete(trial.number, value)
            except UserError as error:
                failure = str(error)
        elif trial.pruned_after:
            self._curves.mark_pruned(trial.number, trial.pruned_after)
            study.prune(trial.number)
        elif trial.status() is None:  # an earlier `cvae tune` started it, and it may have ended because that was killed
            self._running.remove(trial)
            self._to_run.append(trial.number)
            return
        else:
            failure = trials.reason_for_failure(trial)
        if failure:
            study.fail(trial.number, failure)
        if trial in self._running:
            self._running.remove(trial)
        copies.remove_copy(trial.name)
        print(report.line(study, trial.number), flush=True)
        self._shown_at = 0.0
        self._give_up_if_hopeless(failure)

    def _give_up_if_hopeless(self, failure: str) -> None:
        self._failures = self._failures + 1 if failure else 0
        self._has_succeeded |= not failure
        if self._failures >= (LOST if self._has_succeeded else HOPELESS):
            raise UserError(
                f"{self._failures} trials failed one after another, so the search stops; the last: {failure}; "
                f"{FOLDER / self._study.name} has the output of all"
            )

    def _prune(self) -> None:
        if not self._curves or time.monotonic() < self._polled_at + POLL:
            return
        for trial in self._running:
            curve = self._curves.of(trial.number)
            epochs = trial.values.get("epochs", self._study.plan.base["epochs"])
            last = self._epochs[trial.number] = max(curve, default=0)
            if not trial.pruned_after and last < epochs and self._study.report(trial.number, curve):
                trial.pruned_after = last
                trial.interrupt()
        self._polled_at = time.monotonic()

    def _report_progress(self) -> None:
        if time.monotonic() < self._shown_at + 1:
            return
        finished = len(self._study.trials) - len(self._study.running())
        running = []
        for trial in self._running:
            epoch = self._epochs.get(trial.number)
            running.append(f"{trial.number} (epoch {epoch})" if epoch else f"{trial.number}")
        self._show(finished, f"running {', '.join(running)}" if running else "")
        self._shown_at = time.monotonic()
