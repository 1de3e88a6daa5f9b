r"""Which trials go on: those that can still move the front, judged on the replicates that they have had so far.

A trial gets its replicates in complementary pairs. Each pair gives one value per objective: held-out fit and the
confirmed share are the mean of the two, stability is the index between the two (which share no cell). Replicate r has
the same cells in every trial, so trials are compared pair by pair.

After each pair but the last, the trial's values after all n pairs are predicted, and it is stopped when a finished
trial j is better in *every* objective by more than the prediction may be wrong:

.. math:: \hat y - y_j > t_{1 - a_m,\,\nu} \cdot \sqrt{(1 + 1/K)\,(\tau^2 + s^2 (1/m - 1/n))},\quad
    \hat y = \bar y + \frac{1}{m}\sum_{i \le m} (x_i - \bar x_i)

- x̄_i and ȳ are the means of the K finished trials on pair i and of their values: what is hard about a pair is so for
  all trials;
- s² is the residual variance of pairs × finished trials after the means of both (two-way analysis of variance): one
  pair alone has no variance of its own. From two pairs on, a trial noisier than that is held to its own variance. A
  share of few genes may be the same in all of them, so s is the smallest difference between two of their values at
  least, or half a gene of a list;
- τ² is the variance between finished trials of y less the mean over pairs: stability is the index over all replicates;
- 1/m − 1/n: pairs that the trial has had are part of its final value. ν combines the degrees of freedom of τ² and s²
  (Satterthwaite);
- the level a is spent in every objective, over the looks in proportion to the pairs that a stop there saves,
  a_m ∝ n − m.

The level. A trial that would be on the front is better than trial j in some objective in the end, so it is stopped
only where its prediction is worse than its own end by more than the bound, in some objective at some look. Which and
how many trials it is compared with is not part of that, and neither is how they were chosen. So, of normal noise that
is the same in all trials, a trial comes to be on the front and is stopped with a probability of at most what is spent
in all objectives together. What share of the front that is, and what heavy tails and trials noisier than others make
of it, is simulated (``tests/sweep/test_racing.py``): at most 5%. In one objective, where the front is one trial, a is
0.0025. Where objectives are several a trial must seem behind in all of them at once, and a = 0.0125 is spent in each,
which holds too where trials are far apart in all objectives but one. Noise that is much the same in two objectives (a
correlation of residuals above 0.5) makes one of them. A trial as good as the front in truth, and behind it in all
objectives on these replicates, may be stopped: the whole sweep would show it behind too.

Trials near the front. Many trials differ from those of the front by less than a pair's noise, and would be run whole to
add next to nothing to it. So a trial is stopped too when its end is expected to add less than a share δ of the front's
hypervolume (``sweep.tolerance``). This, V, is bounded a tenth of the range beyond the worst values of the front, of the
better half of the trials and of its own, and no less than the prediction may be off: one poor trial does not make what
all others add look small.

.. math:: \mathrm E\,[V(F \cup \{y\})] - V(F) < \delta \cdot V(F) \cdot
    \max_o\,(0, 1 - F_{0.99} / F_o), \quad y \sim \hat y + t_\nu \sqrt{(1 + 1/K)\,(\tau^2 + s^2 (1/m - 1/n))}

with the correlation of the residuals. An expectation needs no correction for looks: it holds at the one at which the
trial is stopped. What a trial adds to a front is less the more the front holds, so no stop is expected to cost the
sweep's last front more than δ of the volume at the time; over many stops the losses add up. The maximum is the share of
the differences between finished trials that is not noise, by the lower bound that an objective's F test of trials
against residuals gives: where all trials are equal in all objectives it is 0, and a trial stops only where it cannot
reach the front. With δ > 0 a trial that would be on the front, beside others much like it or by noise in an objective
in which trials are equal, may be stopped. δ = 0 keeps the front whole.

A trial is stopped too when its fit on the pairs so far makes it a failed fit (``front.failed_fit_limit``) even if the
others fit perfectly: no front holds those.

References
----------
Emmerich, Giannakoglou and Naujoks (2006), Single- and multiobjective evolutionary optimization assisted by Gaussian
random field metamodels. Maron and Moore (1994), Hoeffding races. Birattari et al. (2002), A racing algorithm for
configuring metaheuristics. Lan, Simon and Halperin (1982), Stochastically curtailed tests in long-term clinical trials.
Satterthwaite (1946), An approximate distribution of estimates of variance components.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scballast.config import keys
from scballast.config.schema import Config, Objective
from scballast.report.sweep_tables import non_dominated
from scballast.sweep.front import failed_fit_limit, pareto_front, score_trials
from scballast.sweep.optuna_compat import FrozenTrial, hypervolume

# Of trials with a place on the front so many may be stopped; so much is spent in one objective, in each of several.
LEVEL = 0.05
_SPENT, _SPENT_IN_EACH = 0.0025, 0.0125
_MUCH_THE_SAME = 0.5  # correlation of the noise of two objectives
# How sure it must be that finished trials differ; ends that a trial's gain is the mean over.
_SURE_THAT_TRIALS_DIFFER = 0.99
_N_DRAWS = 500
# Volumes of many objectives take long.
_MANY_OBJECTIVES, _FEW_DRAWS = 4, 100
# Share of the range: a trial that is best in one objective and worst in another has a volume too.
_BEYOND_THE_WORST = 0.1
# Fewer finished trials say too little of the noise.
_FEWEST_FINISHED = 3
# What trials but those first are trained of in tests/benchmarks/bench_racing.py, and where the whole front is wanted.
_USUAL_SHARE, _USUAL_SHARE_WHOLE_FRONT = 0.6, 0.8
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
    failed_fit
        What is said of a fit that cannot but fail; it has no rivals.
    gain
        Share of the front's hypervolume that it is expected to add, where that is too little; it has no rivals.
    """

    pairs: int
    rivals: tuple[int, ...]
    failed_fit: str = ""
    gain: float = math.nan

    @property
    def reason(self) -> str:
        """One clause for a tag."""
        if self.failed_fit:
            return f"after {2 * self.pairs} replicates {self.failed_fit}"
        if not self.rivals:
            return f"after {2 * self.pairs} replicates expected to add {self.gain:.2%} to the front's hypervolume"
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


def usual_share(config: Config, n_trials: int) -> float:
    """Return the share of a sweep's replicates that a raced one usually trains."""
    return share_trained(n_trials, _USUAL_SHARE if config.sweep.tolerance > 0 else _USUAL_SHARE_WHOLE_FRONT)


def share_trained(n_trials: int, of_others: float) -> float:
    """Return the share of a sweep's replicates that a raced one trains.

    Parameters
    ----------
    of_others
        Of the trials that come when there are enough finished ones to stop them.
    """
    first = min(_FEWEST_FINISHED, n_trials)
    return (first + (n_trials - first) * of_others) / n_trials


def judge(config: Config, trial_values: Mapping[str, Sequence[float]], trials: Sequence[FrozenTrial]) -> Stopped | None:
    """Return why a trial is stopped after its last pair, or None when it goes on.

    Parameters
    ----------
    trial_values
        Its values by metric, one for each pair so far.
    trials
        The sweep's trials; those that have finished are its rivals.
    """
    done = min(len(trial_values.get(objective.metric, ())) for objective in config.objectives)
    costs = as_costs(trial_values, config.objectives, done)
    scores = score_trials(trials, config.objectives)
    if costs is None or done >= n_pairs(config) or scores.objectives != config.objectives:
        return None
    failed_fit = _failed_fit(config, trial_values, trials)
    if failed_fit:
        return Stopped(done, (), failed_fit)
    values = {trial.number: pair_values(trial) for trial in trials}
    finished, ends = dict[int, Costs](), dict[int, Costs]()
    for number in scores.values:
        rival_costs = as_costs(values.get(number, {}), config.objectives, n_pairs(config))
        if rival_costs is not None:
            finished[number], ends[number] = rival_costs, np.array(scores.costs(number))
    step = 0.5 / config.rank.top_k  # half a gene of a list
    # Behind any trial is behind one of the front too, and these are the ones to name.
    front = pareto_front(scores)
    beaten_by, gain = outlook(costs, finished, ends, tolerance=config.sweep.tolerance, step=step)
    rivals = tuple(number for number in beaten_by if number in front)
    if rivals:
        return Stopped(done, rivals)
    return None if gain is None else Stopped(done, (), gain=gain)


def _failed_fit(config: Config, trial_values: Mapping[str, Sequence[float]], trials: Sequence[FrozenTrial]) -> str:
    """Return what to say of a trial whose fit will be a failed one even if its other pairs fit perfectly; else nothing.

    Fits are negative log-likelihoods of counts, and bounds of them: none is below 0.
    """
    done = [trial.values for trial in trials if trial.state.name == "COMPLETE" and trial.values]
    for index, objective in enumerate(config.objectives):
        if objective.metric.split("/")[0] != "fit" or objective.direction != "minimize":
            continue
        middle, limit = failed_fit_limit([values[index] for values in done if math.isfinite(values[index])])
        least = sum(trial_values[objective.metric]) / n_pairs(config)
        if least > limit:
            return f"a failed fit: {objective.metric} of {least:.6g} at least, where the better half has {middle:.6g}"
    return ""


def pair_values(trial: FrozenTrial) -> dict[str, list[float]]:
    """Return a trial's values by metric, one for each pair of replicates that it had; empty where it was not raced."""
    values: dict[str, list[float]] = json.loads(trial.user_attrs.get(keys.PAIRS, "{}"))
    return values


def add_pair(values: dict[str, list[float]], of_pair: Mapping[str, float], objectives: Sequence[Objective]) -> None:
    """Append a pair's values to a trial's; NaN where one was not measured, for a place in the list is a pair."""
    for objective in objectives:
        values.setdefault(objective.metric, []).append(of_pair.get(objective.metric, math.nan))


def as_costs(values: Mapping[str, Sequence[float]], objectives: Sequence[Objective], pairs: int) -> Costs | None:
    """Return (n_pairs, n_objectives) costs, lower is better; None where a value is missing."""
    columns = []
    for objective in objectives:
        column = np.array(values.get(objective.metric, ())[:pairs], dtype=np.float64)
        if len(column) < pairs or not np.isfinite(column).all():
            return None
        columns.append(column if objective.direction == "minimize" else -column)
    return np.column_stack(columns) if pairs and columns else None


@dataclass(frozen=True, eq=False)
class _Predicted:
    """What is known of a trial's costs after all pairs: a Student distribution for each objective.

    Attributes
    ----------
    end, error, freedom
        Its middle, scale and degrees of freedom.
    limit
        How much the end may be off at the level of this look.
    correlation : (n_objectives, n_objectives) float
        Of the noise of the objectives.
    differ
        Share of the differences between finished trials that is certainly not noise, in the objective that has most.
    """

    end: Costs
    error: Costs
    freedom: Costs
    limit: Costs
    correlation: Costs
    differ: float


def outlook(
    costs: Costs,
    finished: Mapping[int, Costs],
    ends: Mapping[int, Costs],
    *,
    tolerance: float,
    step: float = 0.01,
) -> tuple[list[int], float | None]:
    """Return which finished trials beat a trial, and what it adds to their front where that is too little.

    Parameters
    ----------
    costs : (m, n_objectives) float
        Its costs on the pairs so far.
    finished
        (n_pairs, n_objectives) costs of every finished trial by its number.
    ends
        (n_objectives,) costs of the same trials after all pairs, which need not be the mean over pairs.
    tolerance
        Share of the front's hypervolume that is too little, where trials certainly differ; 0: none is.
    step
        Least standard deviation of an objective that is the same in all finished trials.

    Returns
    -------
    (list, float or None)
        Those that it is going to be behind in every objective; the share of their front's hypervolume that it is
        expected to add, None where that is enough, or where some beat it.
    """
    if len(finished) < _FEWEST_FINISHED:
        return [], None
    predicted = _predict(costs, finished, ends, step)
    beaten_by = [number for number, end in ends.items() if (predicted.end - end > predicted.limit).all()]
    return beaten_by, None if beaten_by else _gain_below(tolerance, predicted, np.stack(list(ends.values())))


def _gain_below(tolerance: float, predicted: _Predicted, whole: Costs) -> float | None:
    """Return the expected gain over (n_trials, n_objectives) costs of finished trials where it is too little."""
    from scipy import special

    limit = tolerance * predicted.differ
    if limit <= 0:
        return None
    end, front = predicted.end, _front(whole)
    best = np.minimum(front.min(axis=0), end)
    worst = np.max([front.max(axis=0), np.median(whole, axis=0), end], axis=0)
    # Where all are equal in an objective, as wide as the trial is uncertain.
    worst = worst + np.maximum(_BEYOND_THE_WORST * (worst - best), predicted.error)
    volume = hypervolume(front, worst)
    # The same draws at every look: a resumed sweep stops what the uninterrupted one would have.
    n_draws = _N_DRAWS if len(end) < _MANY_OBJECTIVES else _FEW_DRAWS
    normal = np.random.default_rng(0).multivariate_normal(
        np.zeros(len(end)), predicted.correlation, n_draws, method="eigh"
    )
    draws = end + predicted.error * special.stdtrit(predicted.freedom, special.ndtr(normal))
    adding = ~(front <= draws[:, None]).all(axis=2).any(axis=1) & (draws < worst).all(axis=1)
    gain = 0.0
    for draw in draws[adding]:
        of_others_too = hypervolume(_front(np.maximum(front, draw)), worst)
        gain += (np.prod(worst - draw) - of_others_too) / volume / n_draws
        if gain >= limit:
            return None
    return float(gain)


def _front(costs: Costs) -> Costs:
    """Return those of (n, n_objectives) costs that no other dominates."""
    return np.asarray(costs[non_dominated(costs, [False] * costs.shape[1])])


def _predict(costs: Costs, finished: Mapping[int, Costs], ends: Mapping[int, Costs], step: float) -> _Predicted:
    """Return what a trial's pairs so far say of its end; parameters are those of `outlook`."""
    from scipy import special

    pairs = np.stack([finished[number] for number in ends])  # (trial, pair, objective)
    whole = np.stack(list(ends.values()))  # (trial, objective)
    n_trials, n, n_objectives = pairs.shape
    m = len(costs)
    excess = costs - pairs.mean(axis=0)[:m]

    residuals = pairs - pairs.mean(axis=0) - pairs.mean(axis=1, keepdims=True) + pairs.mean(axis=(0, 1))
    freedom = (n_trials - 1) * (n - 1)
    noise = np.maximum((residuals**2).sum(axis=(0, 1)) / freedom, _grain(pairs, step) ** 2)
    trials = n * pairs.mean(axis=1).var(axis=0, ddof=1)
    least = special.fdtri(n_trials - 1, freedom, _SURE_THAT_TRIALS_DIFFER)
    of_noise = np.divide(least * noise, trials, out=np.ones(n_objectives), where=trials > 0)
    if m > 1:
        noise = np.maximum(noise, excess.var(axis=0, ddof=1))
    between = (whole - pairs.mean(axis=1)).var(axis=0, ddof=1)
    left = noise * (1 / m - 1 / n)
    error = between + left
    squares = between**2 / (n_trials - 1) + left**2 / freedom
    # Without any noise every freedom gives the same.
    nu = np.divide(error**2, squares, out=np.full(n_objectives, float(freedom)), where=squares > 0)
    scale = np.sqrt((1 + 1 / n_trials) * error)
    correlation = _correlation(residuals)
    level = _spent(correlation) * (n - m) / (n * (n - 1) / 2)
    return _Predicted(
        end=whole.mean(axis=0) + excess.mean(axis=0),
        error=scale,
        freedom=nu,
        limit=special.stdtrit(nu, 1 - level) * scale,
        correlation=correlation,
        differ=float(max(0.0, 1 - of_noise.min())),
    )


def _correlation(residuals: Costs) -> Costs:
    """Return the correlation of objectives by (n_trials, n_pairs, n_objectives) residuals; 0 where one has none."""
    columns = residuals.reshape(-1, residuals.shape[2])
    norms = np.sqrt((columns**2).sum(axis=0))
    correlation = columns.T @ columns / np.maximum(np.outer(norms, norms), np.finfo(float).tiny)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(correlation)


def _spent(correlation: Costs) -> float:
    """Return what is spent in each objective: more in several that differ."""
    several = len(correlation) > 1 and np.triu(np.abs(correlation), 1).max() <= _MUCH_THE_SAME
    return _SPENT_IN_EACH if several else _SPENT


def _grain(pairs: Costs, step: float) -> Costs:
    """Return the smallest difference between two finished values of each objective; ``step`` where all are equal."""
    grain = np.full(pairs.shape[2], step)
    for objective, column in enumerate(pairs.reshape(-1, pairs.shape[2]).T):
        gaps = np.diff(np.sort(column))
        # Less is the rounding of means, not a difference.
        gaps = gaps[gaps > 1e-9 * np.abs(column).max()]
        if gaps.size:
            grain[objective] = gaps.min()
    return grain
