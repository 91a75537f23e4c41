"""A study: the plan of a search and all its trials, in one file that survives a kill at any moment, studies/NAME.db.

It is a database of Optuna's. Each outcome is written at once, so after a kill the file holds all finished trials, and
the running ones with the values that were chosen for them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cvae.commands.tune.space import Space, Value, parse_space
from cvae.pipeline.parameters import Parameters
from cvae.support.errors import UserError, one_line

if TYPE_CHECKING:
    import optuna

FOLDER = Path("studies")
# The figures of metrics/validation.json that can be the goal
MINIMISED = ("nll", "bits_per_dim", "loss", "reconstruction", "kl")
MAXIMISED = ("label_accuracy", "label_accuracy_iw", "sample_accuracy")
PRUNABLE = ("nll", "bits_per_dim", "loss")  # the goals that the live curve foretells
COMPARED = 5  # trials that must be complete before others are pruned
WARM_UP = 4  # no trial is pruned in the first quarter of its epochs


@dataclass(frozen=True)
class Plan:
    """What stays the same as long as a study lives.

    Attributes:
        settings: the space, as it was typed
        metric: the figure of metrics/validation.json that is minimised, or maximised
        seed: of Optuna's sampler
        base: the parameters that `settings` change
        head: the commit that trials start from
        snapshot: a commit with the edits on top of `head`
    """

    settings: list[str]
    metric: str
    seed: int
    base: dict[str, Value]
    head: str
    snapshot: str

    @property
    def direction(self) -> str:
        return "maximize" if self.metric in MAXIMISED else "minimize"


class Study:
    """A study whose file is open. `name`: also the first part of its experiments' names."""

    def __init__(self, name: str):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.name = name
        try:
            self._study = optuna.load_study(study_name=name, storage=_storage(file_of(name)))
        except KeyError:
            raise UserError(f"{file_of(name)}: has another study; a study's file cannot be renamed") from None
        self.plan = Plan(**json.loads(self._study.user_attrs["plan"]))
        # Parameters that are newer than the study have their defaults.
        known = {key: value for key, value in self.plan.base.items() if key in Parameters.model_fields}
        self.space: Space = parse_space(self.plan.settings, Parameters().model_dump() | known)
        epochs = [dimension for dimension in self.space.dimensions if dimension.key == "epochs"]
        fewest = min(epochs[0].ends) if epochs else self.fixed("epochs")
        self._study.pruner = optuna.pruners.MedianPruner(COMPARED, max(1, fewest // WARM_UP))

    def fixed(self, key: str) -> Value:
        """Return the value of a parameter that is not searched."""
        return self.space.fixed.get(key, self.plan.base[key])

    @property
    def options(self) -> dict[str, int | bool]:
        """The options that may change when the study is resumed: `trials`, `jobs` and `pruning`."""
        return json.loads(self._study.user_attrs["options"])

    @options.setter
    def options(self, options: Mapping[str, int | bool]) -> None:
        self._study.set_user_attr("options", json.dumps(dict(options)))

    @property
    def trials(self) -> list["optuna.trial.FrozenTrial"]:
        return self._study.get_trials(deepcopy=False)

    @property
    def optuna(self) -> "optuna.Study":
        """Optuna's own object, for its pictures."""
        return self._study

    def experiment(self, number: int) -> str:
        """Return the name of a trial's experiment."""
        return f"{self.name}-{number}"

    def running(self) -> list[int]:
        """Return the trials without an outcome, the oldest first."""
        return [trial.number for trial in self.trials if not trial.state.is_finished()]

    def propose(self) -> int:
        """Add a trial, and return its number."""
        return self._study.ask().number

    def values(self, number: int) -> dict[str, Value]:
        """Return what the trial sets: the values that Optuna chooses, now or earlier, and the fixed ones.

        Each trial has a sampler of its own, seeded by its number: what it is given depends on the trials that are
        finished, and not on how often the search was interrupted.
        """
        import numpy as np
        import optuna

        seed = int(np.random.SeedSequence([self.plan.seed, number]).generate_state(1)[0])
        self._study.sampler = optuna.samplers.TPESampler(seed=seed)
        return {**self.space.fixed, **self.space.suggest(self._trial(number))}

    def report(self, number: int, curve: Mapping[int, float]) -> bool:
        """Store a trial's curve, a value for each epoch, and return whether the trial should be pruned."""
        trial = self._trial(number)
        known = self.trials[number].intermediate_values
        for epoch in sorted(curve.keys() - known.keys()):
            trial.report(curve[epoch], epoch)
        return bool(curve) and trial.should_prune()

    def complete(self, number: int, value: float) -> None:
        self._study.tell(number, value)

    def prune(self, number: int) -> None:
        import optuna

        self._study.tell(number, state=optuna.trial.TrialState.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        import optuna

        self._trial(number).set_user_attr("error", reason)
        self._study.tell(number, state=optuna.trial.TrialState.FAIL)

    def best(self) -> "optuna.trial.FrozenTrial | None":
        complete = [trial for trial in self.trials if trial.value is not None and trial.state.name == "COMPLETE"]
        sign = 1 if self.plan.direction == "minimize" else -1
        return min(complete, key=lambda trial: sign * trial.value, default=None)

    def _trial(self, number: int) -> "optuna.Trial":
        import optuna

        return optuna.Trial(self._study, self.trials[number]._trial_id)


def create_study(name: str, plan: Plan, options: Mapping[str, int | bool]) -> None:
    """Write the file of a new study. A kill leaves no file, or a complete one."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    file = file_of(name)
    aside = file.with_suffix(".new")
    for end in ("", "-journal"):  # left by an attempt that was killed
        Path(f"{aside}{end}").unlink(missing_ok=True)
    storage = _storage(aside)
    study = optuna.create_study(study_name=name, storage=storage, direction=plan.direction)
    study.set_user_attr("plan", json.dumps(asdict(plan)))
    study.set_user_attr("options", json.dumps(dict(options)))
    storage.engine.dispose()
    aside.rename(file)


def file_of(name: str) -> Path:
    return FOLDER / f"{name}.db"


def log_of(name: str, experiment: str) -> Path:
    """Return the file for the output of one of the study's experiments."""
    return FOLDER / name / f"{experiment}.log"


@contextmanager
def reported_in_one_line(name: str) -> Iterator[None]:
    """Turn errors of the study's file into a `UserError` of one line."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OptunaError, SQLAlchemyError) as error:
        cause = error.__cause__ or error
        reason = one_line(getattr(cause, "orig", None) or cause)
        raise UserError(f"{file_of(name)}: {reason:.200}; check the file and its disk, then run it again") from error


def _storage(file: Path) -> "optuna.storages.RDBStorage":
    import optuna
    from sqlalchemy import URL

    file.parent.mkdir(exist_ok=True)
    address = URL.create("sqlite", database=str(file.absolute())).render_as_string()
    return optuna.storages.RDBStorage(address, engine_kwargs={"connect_args": {"timeout": 60}})
