"""What a search prints: a line for each trial that is finished, and a table of the best."""

from tabulate import tabulate

from cvae.commands.tune.space import spell
from cvae.commands.tune.study import Study

ROWS = 10  # of the table


def line(study: Study, number: int) -> str:
    """Return a line that says what a trial tried, how it ended, and which is the best so far."""
    trial, metric = study.trials[number], study.plan.metric
    values = " ".join(f"{key}={spell(value)}" for key, value in study.space.values(trial.params).items())
    best = study.best()
    so_far = f"best {best.value:.6g} ({study.experiment(best.number)})" if best else "none complete yet"
    match trial.state.name:
        case "COMPLETE":
            outcome = f"{metric} {trial.value:.6g}"
        case "PRUNED":
            outcome = f"pruned after epoch {trial.last_step}"
        case _:
            outcome = f"failed: {trial.user_attrs.get('error', 'unknown')}"
    return f"{study.experiment(number)}: {values}: {outcome}; {so_far}"


def table(study: Study) -> str:
    """Return a table of the best trials, and how many trials are complete, pruned and failed."""
    sign = 1 if study.plan.direction == "minimize" else -1
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    complete.sort(key=lambda trial: (sign * trial.value, trial.number))
    keys = [dimension.key for dimension in study.space.dimensions]
    rows = []
    for trial in complete[:ROWS]:
        values = study.space.values(trial.params)
        rows.append([study.experiment(trial.number), *(spell(values[key]) for key in keys), f"{trial.value:.6g}"])
    headers = ["experiment", *keys, f"validation {study.plan.metric}"]
    sides = ["left", *["right"] * (len(keys) + 1)]
    lines = [tabulate(rows, headers, tablefmt="plain", disable_numparse=True, colalign=sides)] if rows else []
    states = [trial.state.name for trial in study.trials]
    names = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    counts = [f"{states.count(state)} {name}" for name, state in names.items() if state in states]
    lines += [f"{len(states)} trial{'s' * (len(states) != 1)}: {', '.join(counts)}"]
    if rows:
        lines += [f"`dvc exp apply {rows[0][0]}` brings the best into your workspace."]
    return "\n".join(lines)
