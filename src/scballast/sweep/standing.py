"""How a sweep stands while it runs: its trials with their values so far, for the terminal and for MLflow."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from scballast.sweep.front import Scores, best_so_far, choose, pareto_front, score_trials
from scballast.sweep.optuna_compat import FrozenTrial
from scballast.sweep.racing import pair_values
from scballast.sweep.space import point_words
from scballast.sweep.study import SweepStudy

# Of a longer sweep the run's description shows those that tell most; it has to stay short.
_MOST_DESCRIBED = 25


@dataclass(frozen=True)
class Row:
    """A trial: its state in Optuna's words, and its cells in the order of the head."""

    state: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Standing:
    """Trials as rows in order of their numbers, what the columns are, and what the stars mean."""

    head: tuple[str, ...]
    rows: tuple[Row, ...]
    legend: str


def standing(study: SweepStudy, trials: Sequence[FrozenTrial], *, most_rows: int, with_errors: bool) -> Standing:
    """Return what was searched, replicates so far, and objectives for each trial that has begun.

    Parameters
    ----------
    trials
        Those that count.
    most_rows
        Of more trials those under way, on the front and ended last are shown.
    with_errors
        Whether a raced trial's objectives have the standard error of their mean over pairs of replicates.

    Returns
    -------
    Standing
        A star marks the Pareto front, two the trial that would be chosen.
    """
    scores = score_trials(trials, study.config.objectives)
    front, choice = set(pareto_front(scores)), choose(scores)
    begun = [trial for trial in trials if trial.state.name != "WAITING"]
    shown = _most_telling(begun, front, most_rows)
    hidden = f"{len(begun) - len(shown)} more that have ended" if len(shown) < len(begun) else ""
    stars = "★ Pareto front, ★★ would be chosen" if front else ""
    objectives = scores.objectives or study.config.objectives
    varied = tuple(dimension for dimension in study.space if len(dimension.choices) != 1)
    rows = []
    for trial in shown:
        star = "★★" if choice is not None and trial.number == choice.number else "★" if trial.number in front else ""
        point = ", ".join(word.rpartition(".")[2] for word in point_words(varied, trial.params))
        values = [_value(study, scores, trial, objective.metric, with_error=with_errors) for objective in objectives]
        cells = (f"{star} {trial.number}".strip(), point, _replicates(study, trial), *values)
        rows.append(Row(trial.state.name, cells))
    arrows = (f"{o.metric} {'↓' if o.direction == 'minimize' else '↑'}" for o in objectives)
    legend = "; ".join(part for part in (hidden, stars) if part)
    return Standing(("trial", "searched", "replicates", *arrows), tuple(rows), legend)


def standing_description(study: SweepStudy) -> str:
    """Return how a sweep stands as the Markdown that MLflow's UI shows of its run."""
    from scballast.report.description import markdown

    trials = study.trials()
    now = standing(study, trials, most_rows=_MOST_DESCRIBED, with_errors=True)
    lines = [
        f"**Under way: {study.progress()}.** Best so far: {markdown(best_so_far(trials, study.config.objectives))}",
        "",
        f"| {' | '.join(markdown(name) for name in now.head)} |",
        "|" + "---|" * len(now.head),
        *(f"| {' | '.join(markdown(cell) for cell in row.cells)} |" for row in now.rows),
    ]
    return "\n".join([*lines, *(["", now.legend] if now.legend else [])])


def seconds_left(trials: Sequence[FrozenTrial], n_left: int) -> float | None:
    """Return how long the trials that are left take, as the ended ones did, by as many at once as are running.

    None before one has ended.
    """
    ended = [t for t in trials if t.state.name in ("COMPLETE", "PRUNED") and t.datetime_start and t.datetime_complete]
    if not ended:
        return None
    seconds = [(t.datetime_complete - t.datetime_start).total_seconds() for t in ended]  # type: ignore[operator]
    begun = [t.datetime_start.timestamp() for t in trials if t.state.name == "RUNNING" and t.datetime_start]
    spent = sum(time.time() - moment for moment in begun)
    return max(0.0, n_left * sum(seconds) / len(seconds) - spent) / max(1, len(begun))


def _most_telling(trials: Sequence[FrozenTrial], front: set[int], most: int) -> list[FrozenTrial]:
    """Return those under way, then those on the front, then those that ended last, in order of their numbers."""

    def rank(trial: FrozenTrial) -> tuple[bool, bool, int]:
        return trial.state.name != "RUNNING", trial.number not in front, -trial.number

    return sorted(sorted(trials, key=rank)[:most], key=lambda trial: trial.number)


def _replicates(study: SweepStudy, trial: FrozenTrial) -> str:
    total = study.config.resample.n_replicates
    done = 2 * min((len(values) for values in pair_values(trial).values()), default=0)
    match trial.state.name:
        case "COMPLETE":
            return str(total)
        case "PRUNED":
            return f"stopped at {done} of {total}"
        case "FAIL":
            return "failed"
        case _:
            return f"{done} of {total}" if done else "under way"


def _value(study: SweepStudy, scores: Scores, trial: FrozenTrial, metric: str, *, with_error: bool) -> str:
    pairs = [pair for pair in pair_values(trial).get(metric, ()) if math.isfinite(pair)]
    final = dict(zip((o.metric for o in study.config.objectives), trial.values or (), strict=False)).get(metric)
    value = final if final is not None else sum(pairs) / len(pairs) if pairs else None
    if value is None:
        return ""
    if trial.number in scores.failed_fits:
        return f"{value:.4g} (failed fit)"
    if len(pairs) < 2 or not with_error:
        return f"{value:.4g}"
    return f"{value:.4g} ±{statistics.stdev(pairs) / len(pairs) ** 0.5:.2g}"
