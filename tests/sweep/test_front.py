"""The Pareto front and the choice, against brute force and by hand."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from scballast.config import keys
from scballast.config.schema import Objective
from scballast.sweep.front import Scores, best_so_far, choose, notes_on, pareto_front, score_trials, short_reason

FIT = Objective("fit/heldout_nll", "minimize")
STABLE = Objective("stability/contrast", "maximize")
INFINITY = float("inf")

pairs = st.tuples(st.integers(0, 6).map(float), st.integers(0, 6).map(float))


@given(st.lists(pairs, min_size=1, max_size=20))
def test_the_front_is_what_no_other_trial_beats(values: list[tuple[float, float]]) -> None:
    front = pareto_front(Scores((FIT, STABLE), dict(enumerate(values))))
    for number, (fit, stable) in enumerate(values):
        beaten = any(f <= fit and s >= stable and (f < fit or s > stable) for f, s in values)
        assert (number in front) == (not beaten)


@given(st.lists(pairs, min_size=1, max_size=20))
def test_the_chosen_trial_is_on_the_front_and_no_scale_of_an_objective_changes_it(
    values: list[tuple[float, float]],
) -> None:
    scores = Scores((FIT, STABLE), dict(enumerate(values)))
    chosen = choose(scores)
    assert chosen is not None
    assert chosen.number in pareto_front(scores)
    scaled = choose(Scores((FIT, STABLE), {n: (math.exp(f), s**3) for n, (f, s) in enumerate(values)}))
    assert scaled is not None
    assert scaled.number == chosen.number


def test_the_knee_is_chosen_and_the_reason_holds_the_rule_and_the_distance() -> None:
    # Of five trials, 0 and 1 are best in one objective and last but one in the other; 2 is second in both, at
    # hypot(1/4, 1/4) from the ideal point. The fit of 4 went wrong, by a factor that says nothing of the others.
    scores = Scores((FIT, STABLE), {0: (1.0, 0.1), 1: (10.0, 1.0), 2: (2.0, 0.9), 3: (9.0, 0.5), 4: (1e6, 0.0)})
    chosen = choose(scores)
    assert chosen is not None
    assert chosen.number == 2
    assert "0.354" in chosen.reason
    assert "3 trials on the front" in chosen.reason


def test_the_short_reason_names_the_best_of_each_objective() -> None:
    scores = Scores((FIT, STABLE), {0: (1.0, 0.1), 1: (10.0, 1.0), 2: (2.0, 0.9)})
    assert short_reason(scores) == (
        "nearest to the best of every objective (fit/heldout_nll 1 in trial 0, stability/contrast 1 in trial 1), "
        "of 3 on the Pareto front"
    )
    assert short_reason(Scores((STABLE,), {4: (0.5,)})) == "the best of the finished trials"


def test_a_single_objective_is_chosen_by_its_best_value_and_the_first_of_equals() -> None:
    chosen = choose(Scores((STABLE,), {4: (0.5,), 7: (0.8,), 9: (0.8,)}))
    assert chosen is not None
    assert chosen.number == 7
    assert choose(Scores((STABLE,), {})) is None


def _trial(number: int, values: list[float] | None) -> object:
    state = TrialState.COMPLETE if values else TrialState.FAIL
    trial = create_trial(state=state, values=values)
    trial.number = number
    return trial


def test_only_finished_trials_and_measured_objectives_are_compared() -> None:
    trials = [_trial(0, [INFINITY, 0.3]), _trial(1, None), _trial(2, [INFINITY, 0.4])]
    scores = score_trials(trials, (FIT, STABLE))  # type: ignore[arg-type]
    assert scores.objectives == (STABLE,)
    assert scores.values == {0: (0.3,), 2: (0.4,)}
    # One trial with a fit makes the fit an objective, for which the others have no value.
    scores = score_trials([*trials, _trial(3, [12.0, 0.1])], (FIT, STABLE))  # type: ignore[list-item]
    assert scores.values == {3: (12.0, 0.1)}
    assert best_so_far(trials, (FIT, STABLE)) == "stability/contrast 0.4 (trial 2)"  # type: ignore[arg-type]


def test_families_of_models_are_compared_by_what_all_of_them_have() -> None:
    trials = [
        _trial(0, [1000.0, 0.2]),
        _trial(1, [INFINITY, 0.8]),
        _trial(2, [INFINITY, 0.7]),
        _trial(3, [1010.0, 0.3]),
    ]
    for trial, family in zip(trials, ("ldvae", "pca", "nmf", "ldvae"), strict=True):
        trial.params = {"model": family}  # type: ignore[attr-defined]
    scores = score_trials(trials, (FIT, STABLE))  # type: ignore[arg-type]
    assert scores.objectives == (STABLE,)
    assert scores.values == {0: (0.2,), 1: (0.8,), 2: (0.7,), 3: (0.3,)}
    assert list(notes_on(scores)) == ["fit/heldout_nll is not compared: pca, nmf have none."]
    chosen = choose(scores)
    assert chosen is not None
    assert chosen.number == 1
    # A trial of a family that has fits, without one, takes no part; and families that share nothing are not compared.
    trials[0].values = [INFINITY, 0.2]  # type: ignore[attr-defined]
    of_ldvae = score_trials([trials[0], trials[3]], (FIT, STABLE))  # type: ignore[list-item]
    assert of_ldvae.values == {3: (1010.0, 0.3)}
    assert of_ldvae.not_shared == {}
    assert score_trials([trials[1], trials[3]], (FIT,)).objectives == (FIT,)  # type: ignore[list-item]


def test_a_fit_out_of_all_proportion_is_a_failed_fit_and_takes_no_part() -> None:
    # Three good fits, and one that diverged without becoming infinite; it is best in the other objective.
    values = {0: [1666.0, 0.4], 1: [1700.0, 0.5], 2: [1690.0, 0.45], 3: [122405.0, 0.9]}
    trials = [_trial(n, v) for n, v in values.items()]
    scores = score_trials(trials, (FIT, STABLE))  # type: ignore[arg-type]
    assert set(scores.values) == {0, 1, 2}
    assert best_so_far(trials, (FIT, STABLE)) == "fit/heldout_nll 1666 (trial 0), stability/contrast 0.5 (trial 1)"  # type: ignore[arg-type]
    assert list(scores.failed_fits) == [3]
    assert "122405" in scores.failed_fits[3]
    assert 3 not in pareto_front(scores)


def test_a_failed_fit_that_is_no_objective_is_named_and_stays_in_the_front() -> None:
    trials: list[Any] = [_trial(n, [phi]) for n, phi in enumerate((0.4, 0.5, 0.45, 0.9))]
    for trial, fit in zip(trials, (1666.0, 1700.0, 1690.0, 122405.0), strict=True):
        trial.user_attrs = {keys.HELDOUT_NLL: fit}
    scores = score_trials(trials, (STABLE,))
    assert scores.poor_fits == {3: "a failed fit: fit/heldout_nll of 122405, where the better half has 1678"}
    assert not scores.failed_fits
    assert pareto_front(scores) == [3]
    # Of other cells or genes fits are not to be compared, and a fit that is an objective is judged as one.
    trials[0].params = {"data.n_top_genes": 500}
    assert not score_trials(trials, (STABLE,)).poor_fits
    trials[0].params = {"model.n_latent": 5}
    assert list(score_trials(trials, (STABLE,)).poor_fits) == [3]
    for trial in trials:
        trial.values = [trial.user_attrs[keys.HELDOUT_NLL], 0.5]
    both = score_trials(trials, (FIT, STABLE))
    assert list(both.failed_fits) == [3]
    assert not both.poor_fits


@given(st.lists(st.floats(1000, 1090), min_size=1, max_size=30), st.integers(0, 10))
def test_fits_within_a_tenth_of_each_other_are_never_failed(fits: list[float], shift: int) -> None:
    trials = [_trial(n, [fit, 0.1 * (n % 3) + shift]) for n, fit in enumerate(fits)]
    assert not score_trials(trials, (FIT, STABLE)).failed_fits  # type: ignore[arg-type]


def test_failed_fits_are_found_where_they_are_the_majority() -> None:
    fits = [1666.0, 1680.0, 1e5, 1.1e5, 1.2e5]
    trials = [_trial(n, [fit, 0.5]) for n, fit in enumerate(fits)]
    assert set(score_trials(trials, (FIT, STABLE)).values) == {0, 1}  # type: ignore[arg-type]


def test_an_unstable_trial_is_no_failed_fit() -> None:
    trials = [_trial(n, [phi]) for n, phi in enumerate((0.9, 0.9, 0.91, 0.0))]
    assert not score_trials(trials, (STABLE,)).failed_fits  # type: ignore[arg-type]
