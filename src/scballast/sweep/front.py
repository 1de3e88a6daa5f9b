"""What a sweep's finished trials say: which of them no other beats, and which one to choose."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scballast.config import keys
from scballast.config.schema import Objective
from scballast.report.sweep_tables import non_dominated
from scballast.sweep.optuna_compat import FrozenTrial

RULE_ONE = "the best value of the objective among the finished trials; of equal ones the first"
RULE_MANY = (
    "of the Pareto front, the trial nearest to the ideal point: for each objective a trial's distance is the share "
    "of the other finished trials that are better, and the root of the summed squares over the objectives is least; "
    "of equal ones the first"
)


HELDOUT_NLL = "fit/heldout_nll"
# Of other genes or cells a fit is another number.
_DECIDE_COUNTS = ("data", "resample", "fit")
# Of fewer fits none can be said to be out of proportion.
_FEWEST_TO_JUDGE = 3


@dataclass(frozen=True)
class Choice:
    """The chosen trial, and the rule and numbers that chose it."""

    number: int
    reason: str


@dataclass(frozen=True)
class Scores:
    """The values of the objectives that were measured, for the trials that have all of them.

    Attributes
    ----------
    objectives
        Those that every family of models in the sweep has in at least one trial: decompositions have no held-out fit,
        but can be compared by their stability. Where the families share none, those that any trial has.
    values
        By the trial's number, in the order of the objectives.
    failed_fits
        Trials left out because a fit of theirs is far worse than the rest, and what is said of it.
    not_shared
        Objectives that are not compared, by their metrics, and the families of models that do not have them.
    poor_fits
        Trials that take part, since their fit is none of the objectives that are compared, though it is far worse than
        the rest; and what is said of it.
    """

    objectives: tuple[Objective, ...]
    values: Mapping[int, tuple[float, ...]]
    failed_fits: Mapping[int, str] = field(default_factory=dict)
    not_shared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    poor_fits: Mapping[int, str] = field(default_factory=dict)

    def costs(self, number: int) -> tuple[float, ...]:
        """Return a trial's values, signed so that lower is better."""
        signs = (1.0 if objective.direction == "minimize" else -1.0 for objective in self.objectives)
        return tuple(sign * value for sign, value in zip(signs, self.values[number], strict=True))


def score_trials(trials: Sequence[FrozenTrial], objectives: Sequence[Objective]) -> Scores:
    """Return the finished trials' values of the objectives; infinity stands for one that was not measured."""
    done = {trial.number: trial.values for trial in trials if trial.state.name == "COMPLETE" and trial.values}
    without = _families_without(trials, done, len(objectives))
    anywhere = [i for i in range(len(objectives)) if any(math.isfinite(values[i]) for values in done.values())]
    measured = [i for i in anywhere if not without[i]] or anywhere
    not_shared = {objectives[i].metric: without[i] for i in anywhere if i not in measured}
    values = {number: tuple(trial_values[i] for i in measured) for number, trial_values in done.items()}
    compared = tuple(objectives[i] for i in measured)
    whole = {
        number: trial_values
        for number, trial_values in values.items()
        if trial_values and all(math.isfinite(value) for value in trial_values)
    }
    failed: dict[int, str] = {}
    for index, objective in enumerate(compared):
        if objective.metric.split("/")[0] == "fit":
            column = {number: trial_values[index] for number, trial_values in whole.items()}
            failed |= _far_worse(column, objective)
    kept = {number: trial_values for number, trial_values in whole.items() if number not in failed}
    of_fit = any(objective.metric.split("/")[0] == "fit" for objective in compared)
    return Scores(compared, kept, failed, not_shared, {} if of_fit else _poor_fits(trials))


def notes_on(scores: Scores) -> Iterator[str]:
    """Yield a sentence for each objective that is not compared, since not every family of models has it.

    And for each trial that is left out, or compared, though its fit is far worse than the rest.
    """
    for metric, families in scores.not_shared.items():
        yield f"{metric} is not compared: {', '.join(families)} {'have' if len(families) > 1 else 'has'} none."
    for number, why in scores.failed_fits.items():
        yield f"Trial {number} is left out of front and axes: {why}."
    for number, why in scores.poor_fits.items():
        yield f"Trial {number} has {why}. The fit is no objective: the trial is compared, its fit is left out of axes."


def _families_without(
    trials: Sequence[FrozenTrial], done: Mapping[int, Sequence[float]], n_objectives: int
) -> list[tuple[str, ...]]:
    """Return for each objective the families of models of which no finished trial has it; without a search, none."""
    families: dict[str, list[Sequence[float]]] = {}
    for trial in trials:
        if trial.number in done:
            name = trial.params.get("model", trial.params.get("model.name", ""))
            families.setdefault(str(name), []).append(done[trial.number])
    return [
        tuple(
            name
            for name, family_values in families.items()
            if not any(math.isfinite(values[i]) for values in family_values)
        )
        for i in range(n_objectives)
    ]


def _poor_fits(trials: Sequence[FrozenTrial]) -> dict[int, str]:
    """Return the finished trials whose noted fit is a failed one; none where fits are not of the same counts."""
    if any(key.split(".")[0] in _DECIDE_COUNTS for trial in trials for key in trial.params):
        return {}
    fits = {
        trial.number: float(trial.user_attrs[keys.HELDOUT_NLL])
        for trial in trials
        if trial.state.name == "COMPLETE" and keys.HELDOUT_NLL in trial.user_attrs
    }
    return _far_worse(fits, Objective(HELDOUT_NLL, "minimize"))


def _far_worse(values: Mapping[int, float], objective: Objective) -> dict[int, str]:
    """Return the trials whose fit is out of all proportion to the better half, and what to say of each."""
    sign = 1.0 if objective.direction == "minimize" else -1.0
    middle, limit = failed_fit_limit([sign * value for value in values.values()])
    return {
        number: f"a failed fit: {objective.metric} of {value:.6g}, where the better half has {sign * middle:.6g}"
        for number, value in values.items()
        if sign * value > limit
    }


def failed_fit_limit(costs: Sequence[float]) -> tuple[float, float]:
    """Return the median fit of the better half of trials, and the cost above which a fit is a failed one.

    Robust, since a front drawn on the scale of a fit of 122,405 nats shows nothing of those around 1,700: worse
    than the better half's median by more than ten of its (normal-consistent) median absolute deviations, and by
    more than a tenth. Infinite where there are too few fits to say.
    """
    if len(costs) < _FEWEST_TO_JUDGE:
        return math.nan, math.inf
    better = sorted(costs)[: -(-len(costs) // 2)]
    middle = statistics.median(better)
    spread = 1.4826 * statistics.median([abs(cost - middle) for cost in better])
    return middle, middle + max(10 * spread, abs(middle) / 10)


def pareto_front(scores: Scores) -> list[int]:
    """Return the numbers of the trials that no other dominates.

    A trial dominates another when it is no worse in every objective and better in at least one.
    """
    values = np.array(list(scores.values.values()), dtype=float).reshape(len(scores.values), len(scores.objectives))
    marked = non_dominated(values, [objective.direction == "maximize" for objective in scores.objectives])
    return [number for number, is_marked in zip(scores.values, marked, strict=True) if is_marked]


def choose(scores: Scores) -> Choice | None:
    """Return the chosen trial, or None when none finished with every objective."""
    front = pareto_front(scores)
    if not front:
        return None
    if len(scores.objectives) == 1:
        return Choice(min(front, key=lambda n: (scores.costs(n)[0], n)), RULE_ONE)
    # Shares, not scaled values: one failed fit would stretch a scale until all others look alike.
    columns = list(zip(*(scores.costs(number) for number in scores.values), strict=True))
    others = max(1, len(scores.values) - 1)

    def distance(number: int) -> float:
        costs = zip(columns, scores.costs(number), strict=True)
        return math.hypot(*(sum(other < cost for other in column) / others for column, cost in costs))

    number = min(front, key=lambda n: (distance(n), n))
    on_front = f"{len(front)} trial{'s' if len(front) > 1 else ''} on the front"
    return Choice(number, f"{RULE_MANY}. Distance {distance(number):.3f}; {on_front}")


def short_reason(scores: Scores) -> str:
    """Say in a line why the chosen trial is chosen, beside the best of each objective; reports say the rule in full."""
    if len(scores.objectives) == 1:
        return "the best of the finished trials"
    best = []
    for index, objective in enumerate(scores.objectives):
        _, number = min((scores.costs(number)[index], number) for number in scores.values)
        best.append(f"{objective.metric} {scores.values[number][index]:.4g} in trial {number}")
    n_front = len(pareto_front(scores))
    return f"nearest to the best of every objective ({', '.join(best)}), of {n_front} on the Pareto front"


def best_so_far(trials: Sequence[FrozenTrial], objectives: Sequence[Objective]) -> str:
    """Return the best value of each objective so far, for a tag; failed fits are no candidates."""
    failed = score_trials(trials, objectives).failed_fits
    done = [t for t in trials if t.state.name == "COMPLETE" and t.values and t.number not in failed]
    parts = []
    for index, objective in enumerate(objectives):
        values = [(trial.values[index], trial.number) for trial in done if math.isfinite(trial.values[index])]
        if values:
            value, number = min(values) if objective.direction == "minimize" else max(values)
            parts.append(f"{objective.metric} {value:.4g} (trial {number})")
    return ", ".join(parts) or "none yet"
