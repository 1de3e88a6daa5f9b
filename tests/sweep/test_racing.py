"""Which trials racing stops: the level under repeated looks by simulation, and what it saves."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy import stats

from scballast.config import keys
from scballast.config.schema import Config, Objective, SweepConfig, build_config
from scballast.sweep.optuna_compat import hypervolume
from scballast.sweep.racing import LEVEL, add_pair, as_costs, is_raced, judge, n_pairs, obstacle, outlook

PAIRS = 5


def front_of(means: dict[int, np.ndarray]) -> list[int]:
    if not means:
        return []
    numbers, own = list(means), np.stack(list(means.values()))
    better = (own[None] <= own[:, None]).all(axis=2) & (own[None] < own[:, None]).any(axis=2)
    return [number for number, beaten in zip(numbers, better.any(axis=1), strict=True) if not beaten]


def beaten_by(own: np.ndarray, finished: dict[int, np.ndarray], ends: dict[int, np.ndarray]) -> list[int]:
    return outlook(own, finished, ends, tolerance=0.0)[0]


def gain_below(
    tolerance: float, own: np.ndarray, finished: dict[int, np.ndarray], ends: dict[int, np.ndarray]
) -> float | None:
    return outlook(own, finished, ends, tolerance=tolerance)[1]


def beaten(own: np.ndarray, finished: dict[int, np.ndarray]) -> list[int]:
    return beaten_by(own, finished, {number: values.mean(axis=0) for number, values in finished.items()})


def race(costs: np.ndarray, ends: np.ndarray, tolerance: float = SweepConfig().tolerance) -> tuple[set[int], int]:
    """Race trials one after another: (trial, pair, objective) costs, (trial, objective) costs in the end.

    Returns those stopped and the pairs that ran.
    """
    finished: dict[int, np.ndarray] = {}
    stopped, ran = set(), 0
    for number, own in enumerate(costs):
        for pair in range(1, PAIRS):
            ran += 1
            rivals, gain = outlook(own[:pair], finished, {n: ends[n] for n in finished}, tolerance=tolerance)
            if rivals or gain is not None:
                stopped.add(number)
                break
        else:
            ran += 1
            finished[number] = own
    return stopped, ran


def noise(generator: np.random.Generator, n_trials: int, n_objectives: int, kind: str) -> np.ndarray:
    """Return costs of equal trials: what is hard about a pair of replicates is so for all of them."""
    pairs = 3.0 * generator.standard_normal((1, PAIRS, n_objectives))
    if kind == "heavy":
        own = generator.standard_t(4, (n_trials, PAIRS, n_objectives))
    else:
        own = generator.standard_normal((n_trials, PAIRS, n_objectives))
    if kind == "uneven":
        own = own * generator.uniform(0.5, 1.5, (n_trials, 1, 1))
    return pairs + own


def alike(values: np.ndarray, correlation: float) -> np.ndarray:
    """Mix the first objective's values into those of the second."""
    for objective in range(1, values.shape[-1]):
        values[..., objective] *= (1 - correlation**2) ** 0.5
        values[..., objective] += correlation * values[..., 0]
    return values


def front_lost(
    costs: np.ndarray, ends: np.ndarray, *, first: int = 0, tolerance: float = SweepConfig().tolerance
) -> tuple[int, int]:
    """Race trials; return how many from the ``first`` on that would end on the front are stopped, and how many do."""
    stopped, _ = race(costs, ends, tolerance)
    front = {number for number in front_of(dict(enumerate(ends))) if number >= first}
    return len(stopped & front), len(front)


# One objective is the hardest: a trial is stopped where it is behind in all of them. Much is spent in each of several.
@pytest.mark.parametrize(
    ("kind", "n_objectives", "correlation"),
    [
        ("normal", 1, 0.0),
        ("heavy", 1, 0.0),
        ("uneven", 1, 0.0),
        ("index", 1, 0.0),
        ("normal", 2, 0.0),
        ("heavy", 2, 0.0),
        ("index", 2, 0.0),
        ("index", 2, 0.5),
        ("index", 2, 1.0),
    ],
)
def test_of_equal_trials_few_that_end_on_the_front_are_stopped_however_often_one_looks(
    kind: str, n_objectives: int, correlation: float
) -> None:
    generator = np.random.default_rng(7)
    stopped, of_front = 0, 0
    for _ in range(100 if correlation else 200):
        costs = alike(noise(generator, 40, n_objectives, kind), correlation)
        # An index over all replicates is not the mean of its values in pairs.
        aside = 0.5 * (kind == "index") * generator.standard_normal((40, n_objectives))
        lost, front = front_lost(costs, costs.mean(axis=1) + alike(aside, correlation))
        stopped, of_front = stopped + lost, of_front + front
    assert stopped / of_front <= LEVEL


# Such a trial is raced on the other objective alone.
@pytest.mark.parametrize("kind", ["heavy", "index"])
def test_trials_that_are_far_behind_in_one_objective_are_rarely_stopped(kind: str) -> None:
    generator = np.random.default_rng(7)
    stopped, of_front = 0, 0
    for _ in range(150):
        costs = noise(generator, 40, 2, kind)
        costs[20:, :, 0] += 20.0
        aside = 0.5 * (kind == "index") * generator.standard_normal((40, 2))
        # That such a trial is on the front, by noise, is worth next to nothing.
        lost, front = front_lost(costs, costs.mean(axis=1) + aside, first=20, tolerance=0.0)
        stopped, of_front = stopped + lost, of_front + front
    assert of_front > 80
    assert stopped / of_front <= LEVEL


def test_two_objectives_whose_noise_is_the_same_are_held_to_the_bound_of_one() -> None:
    generator = np.random.default_rng(4)
    pairs = noise(generator, 12, 1, "normal")
    alone = dict(enumerate(pairs))
    twice = dict(enumerate(np.concatenate([pairs, 2.0 * pairs], axis=2)))
    other = dict(enumerate(np.concatenate([pairs, noise(generator, 12, 1, "normal")], axis=2)))
    bounds = []
    for finished in (alone, twice, other):
        # The least distance behind the others, in all objectives, at which the first pair is enough.
        worse = np.linspace(0.0, 10.0, 401)
        first = np.max([values[:1] for values in finished.values()], axis=0)
        bounds.append(next(x for x in worse if len(beaten(first + x * np.array([1.0, 100.0])[: first.size], finished))))
    assert bounds[1] == bounds[0] > bounds[2]


def test_trials_that_are_worse_in_everything_stop_after_their_first_pair_and_the_front_is_kept() -> None:
    generator = np.random.default_rng(3)
    n_sweeps, n_trials = 40, 40
    shares, lost = [], 0
    for _ in range(n_sweeps):
        # Quality differs by ten times what noise does; the two objectives agree on half of it and conflict on half.
        common, conflict = 10 * generator.random(n_trials), 3 * generator.random(n_trials)
        quality = np.stack([common + conflict, common - conflict], axis=1)
        costs = noise(generator, n_trials, 2, "normal") * 0.5 + quality[:, None, :]
        stopped, ran = race(costs, costs.mean(axis=1), tolerance=0.0)
        front = set(front_of(dict(enumerate(costs.mean(axis=1)))))
        lost += bool(front & stopped)
        shares.append(ran / (n_trials * PAIRS))
    assert np.mean(shares) <= 0.5
    assert lost <= 0.05 * n_sweeps


def test_the_bound_is_that_of_a_prediction_from_the_pairs_so_far() -> None:
    generator = np.random.default_rng(5)
    n_trials, m = 8, 2
    finished = dict(enumerate(noise(generator, n_trials, 1, "normal")))
    ends = {number: own.mean(axis=0) + 0.3 * generator.standard_normal(1) for number, own in finished.items()}
    fitted = np.array([[own[i, 0] for i in range(PAIRS)] for own in finished.values()])
    # Trial and pair as dummies: the residuals of a linear model, by least squares.
    rows = [(t, i) for t in range(n_trials) for i in range(PAIRS)]
    design = np.array([[*np.eye(n_trials)[t], *np.eye(PAIRS)[i]] for t, i in rows])
    residuals = fitted.ravel() - design @ np.linalg.lstsq(design, fitted.ravel(), rcond=None)[0]
    freedom = n_trials * PAIRS - np.linalg.matrix_rank(design)
    noise_variance = residuals @ residuals / freedom * (1 / m - 1 / PAIRS)
    off = [float(ends[number][0] - own.mean()) for number, own in finished.items()]
    off_variance = statistics.variance(off)
    total = noise_variance + off_variance
    nu = total**2 / (noise_variance**2 / freedom + off_variance**2 / (n_trials - 1))
    # Of 4 + 3 + 2 + 1 pairs that stops save, one after two pairs saves three.
    limit = stats.t.isf(0.0025 * 3 / 10, nu) * (total * (1 + 1 / n_trials)) ** 0.5
    best = min(ends, key=lambda number: ends[number][0])
    # The same distance from the finished trials on both pairs: no variance of its own.
    expected = statistics.mean(float(end[0]) for end in ends.values())
    for excess, beaten in ((1.001, [best]), (0.999, [])):
        distance = float(ends[best][0]) + excess * limit - expected
        own = (fitted.mean(axis=0)[:m] + distance)[:, None]
        assert beaten_by(own, finished, ends) == beaten


def different(generator: np.random.Generator) -> np.ndarray:
    """Return costs of trials that conflict in two objectives, many near the front, far apart beside their noise."""
    along, behind = generator.random(40), 0.3 * generator.random(40)
    quality = 20.0 * np.stack([along + behind, 1 - along + behind], axis=1)
    return noise(generator, 40, 2, "normal") + quality[:, None, :]


def test_trials_that_add_next_to_nothing_to_the_front_stop_and_its_volume_stays() -> None:
    generator = np.random.default_rng(6)
    shares, volumes = {0.0: list[float](), 0.005: list[float]()}, list[float]()
    for _ in range(4):
        costs = different(generator)
        ends = costs.mean(axis=1)
        for tolerance, of_sweeps in shares.items():
            stopped, ran = race(costs, ends, tolerance)
            of_sweeps.append(ran / (len(costs) * PAIRS))
        kept = np.delete(ends, sorted(stopped), axis=0)
        volumes.append(hypervolume(kept, ends.max(axis=0)) / hypervolume(ends, ends.max(axis=0)))
    assert np.mean(shares[0.005]) < np.mean(shares[0.0]) - 0.15
    assert np.mean(volumes) >= 0.98


def test_the_gain_is_the_expected_improvement_and_too_little_below_the_tolerance() -> None:
    generator = np.random.default_rng(8)
    costs = 0.2 * noise(generator, 10, 1, "normal") + np.linspace(0.0, 5.0, 10)[:, None, None]
    finished = dict(enumerate(costs))
    ends = {number: own.mean(axis=0) for number, own in finished.items()}
    values = np.array([end[0] for end in ends.values()])
    own = costs.mean(axis=0)[:2] - costs.mean() + values.min() + 0.05  # 0.05 behind the best on each of two pairs
    gain = gain_below(1e9, own, finished, ends)
    assert gain is not None
    residuals = costs - costs.mean(axis=0) - costs.mean(axis=1, keepdims=True) + costs.mean(axis=(0, 1))
    scale = ((1 + 1 / 10) * (residuals**2).sum() / 36 * (1 / 2 - 1 / PAIRS)) ** 0.5
    improvement = stats.t(36, values.min() + 0.05, scale).expect(lambda y: values.min() - y, ub=values.min())
    # The volume reaches a tenth beyond the better half.
    assert gain == pytest.approx(improvement / (1.1 * (np.median(values) - values.min())), rel=0.15)
    # By the F test some of the differences between finished trials could be noise.
    assert gain_below(1.2 * gain, own, finished, ends) == gain
    assert gain_below(gain, own, finished, ends) is None
    assert gain_below(0.0, own + 100.0, finished, ends) is None


def test_where_finished_trials_may_be_equal_no_gain_is_too_little() -> None:
    generator = np.random.default_rng(9)
    costs = noise(generator, 8, 2, "normal")
    finished = dict(enumerate(costs))
    ends = {number: own.mean(axis=0) for number, own in finished.items()}
    assert gain_below(1e9, costs[0][:1] + 50.0, finished, ends) is None
    equal = dict.fromkeys(range(8), costs[0])
    assert gain_below(1e9, costs[0][:1] + 50.0, equal, {n: costs[0].mean(axis=0) for n in equal}) is None
    # One objective in which they differ for certain is enough.
    costs = costs + np.arange(8.0)[:, None, None] * np.array([50.0, 0.0])
    ends = {number: own.mean(axis=0) for number, own in enumerate(costs)}
    assert gain_below(1e9, costs[4][:1], dict(enumerate(costs)), ends) is not None


@pytest.mark.parametrize("same", [0.0, 1.0])
def test_an_objective_in_which_all_finished_trials_are_equal_does_not_decide(same: float) -> None:
    generator = np.random.default_rng(9)
    differ = noise(generator, 8, 1, "normal")[..., 0] + 50.0 * np.arange(8.0)[:, None]
    costs = np.stack([differ, np.full((8, PAIRS), same)], axis=2)
    finished, ends = dict(enumerate(costs)), {number: trial.mean(axis=0) for number, trial in enumerate(costs)}
    # A first pair does not say that the trial is not better in that one; far behind in the other it is beaten.
    assert gain_below(0.01, costs[3][:1], finished, ends) is None
    assert gain_below(1e9, costs[0][:1], finished, ends) > 0


def test_one_poor_trial_does_not_make_what_the_others_add_look_small() -> None:
    generator = np.random.default_rng(10)
    costs = different(generator)[:12]
    finished, ends = dict(enumerate(costs)), {number: trial.mean(axis=0) for number, trial in enumerate(costs)}
    first = front_of(ends)[0]
    candidate = costs[first][:2] - 0.5  # half of the noise of a pair ahead of one of the front
    gain = gain_below(1e9, candidate, finished, ends)
    poor = costs[0] + 1000.0
    gain_beside_poor = gain_below(1e9, candidate, finished | {12: poor}, ends | {12: poor.mean(axis=0)})
    assert gain is not None
    assert gain_beside_poor == pytest.approx(gain, rel=0.1)


@pytest.mark.parametrize("n_objectives", [3, 4])
def test_a_gain_in_many_objectives_is_the_volume_that_is_added(n_objectives: int) -> None:
    generator = np.random.default_rng(11)
    quality = generator.dirichlet(np.ones(n_objectives), 9)
    costs = np.broadcast_to(quality[:, None, :], (9, PAIRS, n_objectives))
    finished, ends = dict(enumerate(costs)), dict(enumerate(quality))
    trial = np.full(n_objectives, 0.9 / n_objectives)
    gain = gain_below(1e9, np.broadcast_to(trial, (PAIRS - 1, n_objectives)), finished, ends)
    worst = np.maximum(quality.max(axis=0), trial)
    worst += 0.1 * (worst - np.minimum(quality.min(axis=0), trial))
    added = hypervolume([*quality, trial], worst) / hypervolume(quality, worst) - 1
    assert gain == pytest.approx(added, rel=0.05)


def test_a_trial_that_is_best_in_one_objective_is_never_stopped() -> None:
    generator = np.random.default_rng(1)
    finished = dict(enumerate(noise(generator, 10, 2, "normal")))
    own = finished[0] + np.array([50.0, -50.0])
    assert beaten(own[:1], finished) == []
    assert beaten(finished[0][:1] + 50.0, finished) != []


def test_a_trial_noisier_than_the_others_is_held_to_its_own_noise() -> None:
    generator = np.random.default_rng(2)
    finished = dict(enumerate(0.01 * noise(generator, 10, 1, "normal")))
    own = finished[0][:2] + np.array([[30.0], [-20.0]])
    assert beaten(own, finished) == []
    assert 0 in beaten(finished[0][:2] + 5.0, finished)


def test_too_few_finished_trials_stop_nothing() -> None:
    finished = {0: np.zeros((PAIRS, 1)), 1: np.zeros((PAIRS, 1))}
    assert beaten(np.full((1, 1), 1e9), finished) == []


def test_shares_that_are_the_same_in_all_finished_trials_stop_no_trial_for_one_gene() -> None:
    finished = {number: np.full((PAIRS, 1), -0.9) for number in range(6)}
    assert beaten(np.array([[-0.88]]), finished) == []
    assert beaten(np.array([[-0.3]]), finished) == list(range(6))
    # Trials that differ by the same on each pair leave no noise either; a step is 0.05.
    finished = {number: np.full((PAIRS, 2), -0.9 + 0.05 * number) for number in range(6)}
    assert beaten(np.full((1, 2), -0.85), finished) == []
    assert 0 in beaten(np.full((1, 2), 1.0), finished)


def config(**changes: Any) -> Config:
    objectives = (Objective("fit/heldout_nll", "minimize"), Objective("stability/contrast", "maximize"))
    raced = build_config({"sweep": {"kind": "optuna"}, "resample": {"n_replicates": 2 * PAIRS}})
    return replace(raced, **{"objectives": objectives, **changes})


def finished_trial(number: int, nll: float, phi: float) -> FrozenTrial:
    jitter = np.random.default_rng(number).normal(0, 0.01, PAIRS)
    values = {"fit/heldout_nll": list(nll + jitter), "stability/contrast": list(phi + jitter)}
    trial = create_trial(state=TrialState.COMPLETE, values=[nll, phi], user_attrs={keys.PAIRS: json.dumps(values)})
    trial.number = number
    return trial


def test_a_trial_of_a_study_is_judged_against_its_front() -> None:
    trials = [finished_trial(n, 100.0 + n, 0.9 - 0.01 * n) for n in range(4)]
    own = {"fit/heldout_nll": [120.0], "stability/contrast": [0.2]}
    found = judge(config(), own, trials)
    assert found is not None
    # Only trial 0 is on the front: it is best in both.
    assert (found.pairs, found.rivals) == (1, (0,))
    assert found.reason == "after 2 replicates worse than trial 0 in every objective"
    assert judge(config(), {**own, "stability/contrast": [0.99]}, trials) is None
    # A configuration that has no value of an objective is not judged, and neither is a trial with all of its pairs.
    assert judge(config(), {"stability/contrast": [0.2]}, trials) is None
    assert judge(config(), {key: value * PAIRS for key, value in own.items()}, trials) is None


def test_a_trial_that_would_hardly_add_to_the_front_stops_unless_the_whole_front_is_wanted() -> None:
    trials = [finished_trial(n, 100.0 + n, 0.5 + 0.1 * n) for n in range(5)]
    # Between trials 1 and 2 in fit, and no worse than trial 1 in stability but for a thousandth.
    own = {"fit/heldout_nll": [101.01], "stability/contrast": [0.599]}
    found = judge(config(), own, trials)
    assert found is not None
    assert (found.pairs, found.rivals) == (1, ())
    assert 0 <= found.gain < 0.005
    assert found.reason == f"after 2 replicates expected to add {found.gain:.2%} to the front's hypervolume"
    whole_front = config(sweep=replace(config().sweep, tolerance=0.0))
    assert judge(whole_front, own, trials) is None
    assert judge(config(), {**own, "stability/contrast": [0.75]}, trials) is None


def test_a_trial_whose_fit_has_failed_stops_even_where_it_is_the_stablest() -> None:
    trials = [finished_trial(n, 100.0 + n, 0.9 - 0.01 * n) for n in range(4)]
    # Of five pairs: 600 nats on the first are 120 on average if the others fit perfectly. The better half of the
    # finished has a median of 100.5, and a tenth more is a failed fit.
    own = {"fit/heldout_nll": [600.0], "stability/contrast": [0.99]}
    found = judge(config(), own, trials)
    assert found is not None
    assert (found.pairs, found.rivals) == (1, ())
    assert found.reason == (
        "after 2 replicates a failed fit: fit/heldout_nll of 120 at least, where the better half has 100.5"
    )
    assert judge(config(), {**own, "fit/heldout_nll": [550.0]}, trials) is None
    # Too few to say what a failed fit is.
    assert judge(config(), own, trials[:2]) is None


def test_costs_are_signed_and_need_every_value() -> None:
    objectives = (Objective("fit/heldout_nll", "minimize"), Objective("stability/contrast", "maximize"))
    found = as_costs({"fit/heldout_nll": [3.0, 4.0], "stability/contrast": [0.5, 0.25]}, objectives, 2)
    np.testing.assert_array_equal(found, [[3.0, -0.5], [4.0, -0.25]])
    assert as_costs({"fit/heldout_nll": [3.0]}, objectives, 1) is None


def test_a_value_that_a_pair_does_not_have_keeps_its_place() -> None:
    objectives = (Objective("fit/heldout_nll", "minimize"), Objective("stability/contrast", "maximize"))
    values: dict[str, list[float]] = {}
    add_pair(values, {"stability/contrast": 0.5}, objectives)
    add_pair(values, {"fit/heldout_nll": 4.0, "stability/contrast": 0.25}, objectives)
    np.testing.assert_array_equal(values["fit/heldout_nll"], [np.nan, 4.0])
    assert as_costs(values, objectives, 1) is None
    assert as_costs(values, objectives, 2) is None
    trials = [finished_trial(n, 100.0 + n, 0.9 - 0.01 * n) for n in range(4)]
    assert judge(config(), json.loads(json.dumps(values)), trials) is None


def test_what_is_raced_by_itself_and_what_cannot_be() -> None:
    assert n_pairs(config()) == PAIRS
    assert is_raced(config(), 0)
    assert is_raced(config(), 13)
    assert not is_raced(config(), 12)
    asked = config(sweep=replace(config().sweep, racing=True))
    assert is_raced(asked, 5)
    seconds = replace(asked, objectives=(Objective("seconds/training", "minimize"),))
    assert "seconds/training" in obstacle(seconds)
    assert not is_raced(seconds, 0)
    assert "cache=false" in obstacle(replace(asked, cache=False))
    assert "one pair" in obstacle(replace(asked, resample=replace(asked.resample, n_replicates=3)))
