r"""Which trials go on: those that can still reach the front, judged on the replicates that they have had so far.

A trial gets its replicates in complementary pairs. Each pair gives one value per objective: held-out fit and the
confirmed share are the mean of the two, stability is the index between the two (which share no cell). Replicate r has
the same cells in every trial, so trials are compared pair by pair.

After each pair but the last a trial is stopped when a finished trial of the front beats it in *every* objective:
for each objective, the mean difference d over the m pairs so far must exceed

.. math:: t_{1-\alpha/(L K),\,\nu} \cdot \sqrt{\max(2 s^2, s_d^2) / m}

- s² is the residual variance of pairs × finished trials after the means of both (two-way analysis of variance,
  ν = (A − 1)(n − 1) degrees of freedom for A trials of n pairs): one pair alone has no variance of its own;
- s_d² is the variance of this trial's own differences (from two pairs on), so that a trial noisier than the others
  is held to its own noise;
- to be beaten in every objective is an intersection of hypotheses, each tested at the full level (Berger 1982);
- the level α is spent evenly over the L looks (all pairs but the last) and over all K finished trials, not over
  those of the front alone: the front was chosen by looking at the same pairs.

So a trial that no finished trial beats in truth is stopped with a probability of at most α = 0.05, however often
one looks. Simulated in ``tests/sweep/test_racing.py``.

References
----------
Maron and Moore (1994), Hoeffding races. Birattari et al. (2002), A racing algorithm for configuring metaheuristics.
Berger (1982), Multiparameter hypothesis testing and acceptance sampling.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scballast.config import keys
from scballast.config.schema import Config, Objective
from scballast.sweep.front import pareto_front, score_trials

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

LEVEL = 0.05
# Fewer finished trials say too little of the noise.
_FEWEST_FINISHED = 3
# A grid of so many points is raced by itself.
_LARGE_GRID = 12
# Metrics that a pair of replicates has a value of.
_RACED = ("fit", "stability", "concordance", "confirmed", "truth")

Costs = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stopped:
    """Why a trial does not go on.

    Attributes
    ----------
    pairs
        How many pairs of replicates it had.
    rivals
        Numbers of the finished trials that beat it.
    """

    pairs: int
    rivals: tuple[int, ...]

    @property
    def reason(self) -> str:
        """One clause for a tag."""
        trials = ", ".join(map(str, self.rivals))
        plural = "s" if len(self.rivals) > 1 else ""
        return f"after {2 * self.pairs} replicates worse than trial{plural} {trials} in every objective"


def n_pairs(config: Config) -> int:
    """Return the number of complementary pairs of a whole trial."""
    return config.resample.n_replicates // 2


def obstacle(config: Config) -> str:
    """Return why a sweep cannot be raced, or an empty text."""
    if n_pairs(config) < 2:
        return f"resample.n_replicates={config.resample.n_replicates} is one pair at most"
    without = [o.metric for o in config.objectives if o.metric.split("/")[0] not in _RACED]
    if without:
        return f"a pair of replicates has no value of {', '.join(without)}"
    if not config.cache:
        return "cache=false: the models of earlier pairs would be trained again"
    return ""


def is_raced(config: Config, n_points: int) -> bool:
    """Return whether a sweep is raced: as ``sweep.racing`` says, else a tuned one or a large grid.

    Parameters
    ----------
    n_points
        Size of a grid; 0 for a tuned sweep.
    """
    if obstacle(config):
        return False
    if config.sweep.racing is None:
        return n_points == 0 or n_points > _LARGE_GRID
    return config.sweep.racing


def judge(config: Config, own: Mapping[str, Sequence[float]], trials: Sequence[FrozenTrial]) -> Stopped | None:
    """Return why a trial is stopped after its last pair, or None when it goes on.

    Parameters
    ----------
    own
        Its values by metric, one for each pair so far.
    trials
        The sweep's trials; those that have finished are its rivals.
    """
    scores = score_trials(trials, config.objectives)
    values = {trial.number: pair_values(trial) for trial in trials}
    finished = {}
    for number in scores.values:
        found = as_costs(values.get(number, {}), config.objectives, n_pairs(config))
        if found is not None:
            finished[number] = found
    done = min(len(own.get(objective.metric, ())) for objective in config.objectives)
    costs = as_costs(own, config.objectives, done)
    if costs is None or done >= n_pairs(config):
        return None
    front = [number for number in pareto_front(scores) if number in finished]
    rivals = beaten_by(costs, finished, front)
    return Stopped(done, tuple(rivals)) if rivals else None


def pair_values(trial: FrozenTrial) -> dict[str, list[float]]:
    """Return a trial's values by metric, one for each pair of replicates that it had; empty where it was not raced."""
    values: dict[str, list[float]] = json.loads(trial.user_attrs.get(keys.PAIRS, "{}"))
    return values


def as_costs(values: Mapping[str, Sequence[float]], objectives: Sequence[Objective], pairs: int) -> Costs | None:
    """Return (n_pairs, n_objectives) costs, lower is better; None where a value is missing."""
    columns = []
    for objective in objectives:
        column = np.array(values.get(objective.metric, ())[:pairs], dtype=np.float64)
        if len(column) < pairs or not np.isfinite(column).all():
            return None
        columns.append(column if objective.direction == "minimize" else -column)
    return np.column_stack(columns) if pairs and columns else None


@cache
def _limit(level: float, freedom: int) -> float:
    from scipy import stats

    return float(stats.t.isf(level, freedom))


def beaten_by(costs: Costs, finished: Mapping[int, Costs], front: Sequence[int], level: float = LEVEL) -> list[int]:
    """Return the trials of the front that beat a trial in every objective.

    Parameters
    ----------
    costs : (m, n_objectives) float
        Its costs on the pairs so far.
    finished
        (n_pairs, n_objectives) costs of every finished trial by its number.
    front
        Those that no finished trial dominates.
    level
        Probability with which a trial that none beats may be stopped, over all looks.
    """
    if len(finished) < _FEWEST_FINISHED:
        return []
    whole = np.stack(list(finished.values()))  # (trial, pair, objective)
    n_trials, pairs, _ = whole.shape
    residuals = whole - whole.mean(axis=0) - whole.mean(axis=1, keepdims=True) + whole.mean(axis=(0, 1))
    freedom = (n_trials - 1) * (pairs - 1)
    pooled = 2 * (residuals**2).sum(axis=(0, 1)) / freedom  # (objective,) variance of a difference
    looks = pairs - 1
    limit = _limit(level / (looks * n_trials), freedom)
    m = len(costs)
    found = []
    for number in front:
        differences = costs - finished[number][:m]
        variance = np.maximum(pooled, differences.var(axis=0, ddof=1)) if m > 1 else pooled
        if (differences.mean(axis=0) > limit * np.sqrt(variance / m)).all():
            found.append(number)
    return found
