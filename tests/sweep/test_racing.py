"""Which trials racing stops: the level under repeated looks by simulation, and what it saves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from scballast.config import keys
from scballast.config.schema import Config, Objective, build_config
from scballast.sweep.racing import LEVEL, as_costs, beaten_by, is_raced, judge, n_pairs, obstacle

PAIRS = 5


def front_of(means: dict[int, np.ndarray]) -> list[int]:
    if not means:
        return []
    numbers, own = list(means), np.stack(list(means.values()))
    better = (own[None] <= own[:, None]).all(axis=2) & (own[None] < own[:, None]).any(axis=2)
    return [number for number, beaten in zip(numbers, better.any(axis=1), strict=True) if not beaten]


def race(costs: np.ndarray) -> tuple[set[int], int]:
    """Race trials, (trial, pair, objective) costs, one after another; return those stopped and the pairs that ran."""
    finished: dict[int, np.ndarray] = {}
    stopped, ran = set(), 0
    for number, own in enumerate(costs):
        front = front_of({n: values.mean(axis=0) for n, values in finished.items()})
        for pair in range(1, PAIRS + 1):
            ran += 1
            if pair < PAIRS and beaten_by(own[:pair], finished, front):
                stopped.add(number)
                break
        else:
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


@pytest.mark.parametrize("kind", ["normal", "heavy", "uneven"])
@pytest.mark.parametrize("n_objectives", [1, 2])
def test_of_equal_trials_few_are_stopped_however_often_one_looks(kind: str, n_objectives: int) -> None:
    generator = np.random.default_rng(7)
    n_sweeps, n_trials = 200, 40
    wrong, of_front, front_size = 0, 0, 0
    for _ in range(n_sweeps):
        costs = noise(generator, n_trials, n_objectives, kind)
        stopped, _ = race(costs)
        front = set(front_of(dict(enumerate(costs.mean(axis=1)))))
        wrong += len(stopped)
        of_front += len(stopped & front)
        front_size += len(front)
    # Every trial is one that none beats. 8,000 trials: five standard errors of the level are 0.012.
    assert wrong / (n_sweeps * n_trials) <= LEVEL
    assert of_front / front_size <= LEVEL


def test_trials_that_are_worse_in_everything_stop_after_their_first_pair_and_the_front_is_kept() -> None:
    generator = np.random.default_rng(3)
    n_sweeps, n_trials = 40, 40
    shares, lost = [], 0
    for _ in range(n_sweeps):
        # Quality differs by ten times what noise does; the two objectives agree on half of it and conflict on half.
        common, conflict = 10 * generator.random(n_trials), 3 * generator.random(n_trials)
        quality = np.stack([common + conflict, common - conflict], axis=1)
        costs = noise(generator, n_trials, 2, "normal") * 0.5 + quality[:, None, :]
        stopped, ran = race(costs)
        front = set(front_of(dict(enumerate(costs.mean(axis=1)))))
        lost += bool(front & stopped)
        shares.append(ran / (n_trials * PAIRS))
    assert np.mean(shares) <= 0.5
    assert lost <= 0.05 * n_sweeps


def test_a_trial_that_is_best_in_one_objective_is_never_stopped() -> None:
    generator = np.random.default_rng(1)
    finished = dict(enumerate(noise(generator, 10, 2, "normal")))
    own = finished[0] + np.array([50.0, -50.0])
    assert beaten_by(own[:1], finished, list(finished)) == []
    assert beaten_by(finished[0][:1] + 50.0, finished, list(finished)) != []


def test_a_trial_noisier_than_the_others_is_held_to_its_own_noise() -> None:
    generator = np.random.default_rng(2)
    finished = dict(enumerate(0.01 * noise(generator, 10, 1, "normal")))
    own = finished[0][:2] + np.array([[30.0], [-20.0]])
    assert beaten_by(own, finished, [0]) == []
    assert beaten_by(finished[0][:2] + 5.0, finished, [0]) == [0]


def test_too_few_finished_trials_stop_nothing() -> None:
    finished = {0: np.zeros((PAIRS, 1)), 1: np.zeros((PAIRS, 1))}
    assert beaten_by(np.full((1, 1), 1e9), finished, [0, 1]) == []


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


def test_costs_are_signed_and_need_every_value() -> None:
    objectives = (Objective("fit/heldout_nll", "minimize"), Objective("stability/contrast", "maximize"))
    found = as_costs({"fit/heldout_nll": [3.0, 4.0], "stability/contrast": [0.5, 0.25]}, objectives, 2)
    np.testing.assert_array_equal(found, [[3.0, -0.5], [4.0, -0.25]])
    assert as_costs({"fit/heldout_nll": [3.0]}, objectives, 1) is None


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
