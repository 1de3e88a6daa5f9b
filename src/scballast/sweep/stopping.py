"""When a sweep ends before its last trial: its time is used up, or its front has stopped moving."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from scballast.config import keys
from scballast.config.duration import seconds_of
from scballast.config.schema import Config
from scballast.progress import duration
from scballast.sweep.front import Scores, score_trials
from scballast.sweep.optuna_compat import FrozenTrial, hypervolume

# A smaller share of the hypervolume is no improvement.
_LEAST_GAIN = 0.01


def stop_reason(config: Config, trials: Sequence[FrozenTrial]) -> str:
    """Return why no further trial begins, or an empty text.

    What it rests on is in the study, so that a resumed sweep goes on counting where it was, and all workers
    say the same.
    """
    budget = seconds_of("sweep.timeout", config.sweep.timeout)
    if budget is not None:
        used = busy_seconds(trials)
        if used >= budget:
            return f"sweep.timeout={config.sweep.timeout} is used up ({duration(used)} at work)"
    if config.sweep.stop == "no_improvement" and has_stalled(config, trials):
        return f"sweep.stop=no_improvement: {config.sweep.patience} trials in a row moved the front by less than 1 %"
    return ""


def busy_seconds(trials: Sequence[FrozenTrial]) -> float:
    """Return for how long at least one trial has been under way: nights between two commands do not count."""
    spans = []
    for trial in trials:
        if trial.datetime_start is None:
            continue
        begin = trial.datetime_start.timestamp()
        end = trial.datetime_complete.timestamp() if trial.datetime_complete else time.time()
        if trial.state.name in ("FAIL", "RUNNING") and keys.HEARTBEAT in trial.user_attrs:
            # The trial of a process that died was ended when somebody found it; it was alive a minute after its
            # last sign of life at most.
            end = min(end, float(trial.user_attrs[keys.HEARTBEAT]) + 60.0)
        spans.append((begin, max(begin, end)))
    total, reached = 0.0, -math.inf
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def has_stalled(config: Config, trials: Sequence[FrozenTrial]) -> bool:
    """Return whether the last ``sweep.patience`` trials left the front's hypervolume where it was."""
    ended = [trial for trial in trials if trial.state.name in ("COMPLETE", "PRUNED") and trial.datetime_complete]
    ended.sort(key=lambda trial: (trial.datetime_complete, trial.number))
    scores = score_trials(trials, config.objectives)
    before = [trial.number for trial in ended[: -config.sweep.patience]]
    known = [number for number in before if number in scores.values]
    if len(known) < 2:
        return False
    # The worst values bound the volume; trials that are far worse are failed fits and not among the scores.
    worst = tuple(max(column) for column in zip(*(scores.costs(number) for number in scores.values), strict=True))
    whole = _volume(scores, list(scores.values), worst)
    return whole - _volume(scores, known, worst) <= _LEAST_GAIN * whole


def _volume(scores: Scores, numbers: Sequence[int], worst: Sequence[float]) -> float:
    return hypervolume([scores.costs(number) for number in numbers], worst)
