"""Pictures of a study, in plots/studies/NAME: its history, each parameter, and parameters together.

Optuna's own pictures lack pruned and failed trials, let one bad trial flatten all others, and change pyplot's style.
"""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial

from cvae.commands.tune.space import Dimension
from cvae.commands.tune.study import Study
from cvae.figures.style import COLOURS, in_style, new_figure, save

FOLDER = Path("plots/studies")
ALL, BEST, OTHERS = COLOURS[0], COLOURS[3], "0.6"
LARGE = 0.9  # of the values, this share is within the axis; worse ones are at its end
COLUMNS = 3
ENOUGH = 10  # complete trials for importances
WIDE = 30  # characters of labels that fit below an axis


def draw(study: Study) -> list[Path]:
    """Draw all pictures of a study, and return their paths; none if it has less than two different values."""
    if len({trial.value for trial in complete_trials(study)}) < 2:
        return []
    figures = {"history": draw_history, "parameters": draw_parameters, "parallel": draw_parallel}
    paths = [FOLDER / study.name / f"{name}.png" for name in figures]
    for path, drawn in zip(paths, figures.values(), strict=True):
        save(drawn(study), path)
    return paths


@in_style
def draw_history(study: Study) -> Figure:
    """Draw the value of each trial in order, and the best so far, at 1000×560 pixels."""
    figure = new_figure(figsize=(10, 5.6), layout="constrained")
    axes = figure.add_subplot()
    complete = complete_trials(study)
    numbers, values = [trial.number for trial in complete], np.array([trial.value for trial in complete])
    best = np.minimum.accumulate(values) if is_minimised(study) else np.maximum.accumulate(values)
    place, end = _value_axis(axes, study)
    axes.step(
        [*numbers, len(study.trials) - 1], place([*best, best[-1]]), where="post", color=BEST, label="best so far"
    )
    is_beyond = place(values) != values
    shown = {"marker": "^" if is_minimised(study) else "v", "label": "complete, beyond the axis"}
    for chosen, style in ((~is_beyond, {"label": "complete"}), (is_beyond, shown)):
        if chosen.any():
            axes.scatter(np.array(numbers)[chosen], place(values)[chosen], color=ALL, zorder=3, **style)
    for state, marker in (("PRUNED", "|"), ("FAIL", "x")):
        found = [trial.number for trial in study.trials if trial.state.name == state]
        name = {"PRUNED": "pruned", "FAIL": "failed"}[state]
        axes.scatter(found, [end] * len(found), color=OTHERS, marker=marker, s=60, label=name if found else None)
    winner = study.best()
    name = f"{study.experiment(winner.number)}: {winner.value:.5g}"
    offset, above = ((0, -10), "top") if is_minimised(study) else ((0, 10), "bottom")
    share = winner.number / max(1, len(study.trials) - 1)
    side = "left" if share < 0.1 else "right" if share > 0.9 else "center"
    text = axes.annotate(name, (winner.number, winner.value), offset, textcoords="offset points", ha=side, va=above)
    text.set_path_effects([withStroke(linewidth=3, foreground="white")])
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.grid(False, axis="x")
    axes.set_xlabel("trial")
    axes.set_title(f"Study {study.name}: {len(study.trials)} trials", fontsize=16, pad=34)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=5, frameon=False, fontsize=10)
    return figure


@in_style
def draw_parameters(study: Study) -> Figure:
    """Draw the value over each parameter, the most important one first, at 420×400 pixels each."""
    shares = importances(study)
    dimensions = sorted(study.space.dimensions, key=lambda dimension: -shares.get(dimension.key, 0))
    columns = min(COLUMNS, len(dimensions))
    rows = math.ceil(len(dimensions) / columns)
    figure = new_figure(figsize=(max(4.2 * columns, 6.2), 4 * rows + 0.4), layout="constrained")
    complete, winner = complete_trials(study), study.best()
    for number, dimension in enumerate(dimensions):
        axes = figure.add_subplot(rows, columns, number + 1)
        place, _ = _value_axis(axes, study, named=number % columns == 0)
        x = [position(dimension, trial) for trial in complete]
        axes.scatter(x, place([trial.value for trial in complete]), color=ALL, alpha=0.7, linewidths=0)
        axes.scatter(position(dimension, winner), place([winner.value]), color=BEST, s=70, zorder=3)
        places, texts = ticks(dimension)
        axes.set_xlim(-0.06, 1.06)
        axes.set_xticks(places, texts, rotation=30 if sum(map(len, texts)) > WIDE else 0)
        axes.grid(False, axis="x")
        axes.set_xlabel(f"{dimension.key} (log scale)" if dimension.is_log else dimension.key)
        if dimension.key in shares:
            axes.set_title(f"importance {100 * shares[dimension.key]:.0f} %", fontsize=12)
    figure.suptitle(f"Study {study.name}: the parameters (red: the best trial)", fontsize=16)
    return figure


@in_style
def draw_parallel(study: Study) -> Figure:
    """Draw each trial as a line across all parameters to its value, at 250 pixels a parameter and 600 in height."""
    dimensions = study.space.dimensions
    figure = new_figure(figsize=(2.5 * (len(dimensions) + 1.6), 6), layout="constrained")
    axes = figure.add_subplot()
    complete, winner = complete_trials(study), study.best()
    values = [trial.value for trial in complete]
    bad, good = bounds(study)
    span = (good - bad) or 1
    for trial in study.trials:
        if trial.state.name == "PRUNED" and all(dimension.key in trial.params for dimension in dimensions):
            axes.plot([position(dimension, trial) for dimension in dimensions], color="0.85", linewidth=1, zorder=1)
    colours = _colours(values, bad, span)
    for trial, colour in sorted(zip(complete, colours, strict=True), key=lambda pair: pair[0].number == winner.number):
        is_best = trial.number == winner.number
        y = [*(position(dimension, trial) for dimension in dimensions), max(0, (trial.value - bad) / span)]
        axes.plot(y, color=BEST if is_best else colour, linewidth=3 if is_best else 1.3, zorder=4 if is_best else 2)
    last = len(dimensions)
    for number in range(last + 1):
        axes.axvline(number, color="0.3", linewidth=1, zorder=3)
        if number < last:
            places, texts = ticks(dimensions[number])
        else:
            shown = [tick for tick in MaxNLocator(6).tick_values(bad, good) if min(bad, good) <= tick <= max(bad, good)]
            places, texts = [(tick - bad) / span for tick in shown], [f"{tick:.6g}" for tick in shown]
        for place, text in zip(places, texts, strict=True):
            right = number == last
            offset, side = ((6, 0), "left") if right else ((-6, 0), "right")
            label = axes.annotate(text, (number, place), offset, textcoords="offset points", ha=side, va="center")
            label.set(fontsize=10, zorder=5)
            label.set_path_effects([withStroke(linewidth=3, foreground="white")])
    names = [f"{each.key}\n(log scale)" if each.is_log else each.key for each in dimensions]
    axes.set_xticks(range(last + 1), [*names, f"validation\n{study.plan.metric}"])
    axes.set(xlim=(-0.45, last + 0.45), ylim=(-0.04, 1.04), yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    legend = "red: the best trial; darker: better" + "; grey: pruned" * any(
        trial.state.name == "PRUNED" for trial in study.trials
    )
    axes.set_title(f"Study {study.name}: all parameters together\n", fontsize=16)
    axes.text(0.5, 1.01, legend, transform=axes.transAxes, ha="center", va="bottom", fontsize=10)
    return figure


def complete_trials(study: Study) -> list[FrozenTrial]:
    return [trial for trial in study.trials if trial.state.name == "COMPLETE"]


def is_minimised(study: Study) -> bool:
    return study.plan.direction == "minimize"


def importances(study: Study) -> dict[str, float]:
    """Return each parameter's share of the variation, by fANOVA (Hutter et al. 2014); none for few trials."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    if len(complete_trials(study)) < ENOUGH or len(study.space.dimensions) < 2:
        return {}
    return get_param_importances(study.optuna, evaluator=FanovaImportanceEvaluator(seed=0))


def bounds(study: Study) -> tuple[float, float]:
    """Return the bad and the good end of the values' axis. Bad outliers are beyond it."""
    values = np.array([trial.value for trial in complete_trials(study)])
    good = values.min() if is_minimised(study) else values.max()
    distances = np.abs(values - good)
    usual = np.quantile(distances, LARGE)
    furthest = distances.max() if distances.max() <= 2 * usual else 1.1 * usual
    return good + furthest * (1 if is_minimised(study) else -1), good


def position(dimension: Dimension, trial: FrozenTrial) -> float:
    """Return where a trial's value is on the parameter's axis, from 0 to 1."""
    value = trial.params[dimension.key]
    if dimension.choices is not None:
        return _place(list(dimension.choices).index(value), len(dimension.choices))
    return float(_scaled(dimension, value))


def ticks(dimension: Dimension) -> tuple[list[float], list[str]]:
    """Return places from 0 to 1 on the parameter's axis, and their labels."""
    if dimension.choices is not None:
        texts = [text.rpartition(":")[2] for text in dimension.choices]
        return [_place(number, len(texts)) for number in range(len(texts))], texts
    low, high = dimension.low, dimension.high
    if dimension.is_log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 2, 5) if high < 50 * low else (1, 3) if high < 1000 * low else (1,)
        found = [step * 10.0**decade for decade in decades for step in steps]
    else:
        found = MaxNLocator(5, integer=isinstance(low, int), steps=[1, 2, 5, 10]).tick_values(low, high)
    rounding = 1e-9 * (high - low)
    found = [tick for tick in found if low - rounding <= tick <= high + rounding]
    return [float(_scaled(dimension, tick)) for tick in found], [f"{tick:.3g}" for tick in found]


def _scaled(dimension: Dimension, value: float) -> float:
    scale = math.log if dimension.is_log else float
    low, high = scale(dimension.low), scale(dimension.high)
    return (scale(value) - low) / (high - low)


def _place(number: int, count: int) -> float:
    return number / (count - 1) if count > 1 else 0.5


def _value_axis(axes: Axes, study: Study, named: bool = True):
    """Prepare the vertical axis; return a function that moves values beyond its bad end there, and that end."""
    bad, good = bounds(study)
    margin = 0.08 * abs(bad - good) or 0.5
    low, high = min(bad, good) - 1.5 * margin, max(bad, good) + 1.5 * margin
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.ticklabel_format(axis="y", useOffset=False)
    if named:
        unit = "" if study.plan.metric.endswith("accuracy") else ", nats per image"
        axes.set_ylabel(f"validation {study.plan.metric}{unit}")
    end = high - 0.5 * margin if is_minimised(study) else low + 0.5 * margin
    inside = (
        (lambda values: np.minimum(values, end)) if is_minimised(study) else (lambda values: np.maximum(values, end))
    )
    return inside, end


def _colours(values: list[float], bad: float, span: float) -> np.ndarray:
    from matplotlib import colormaps

    shares = np.clip([(value - bad) / span for value in values], 0, 1)
    return colormaps["Blues"](0.25 + 0.7 * shares)
