"""What is used of Optuna beyond its documented interface is still there; see scballast.sweep.optuna_compat."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from scballast.sweep.optuna_compat import asked_parameters, hypervolume, set_trial_attributes

MOVED = "Optuna has moved: adapt scballast/sweep/optuna_compat.py"


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(directions=["minimize", "maximize"])


def test_attributes_are_set_by_the_number_until_the_trial_ends(study: optuna.Study) -> None:
    trial = study.ask()
    set_trial_attributes(study, trial.number, {"a": 1, "b": "x"})
    assert study.trials[0].user_attrs == {"a": 1, "b": "x"}, MOVED
    study.tell(trial, [0.0, 0.0])
    with pytest.raises(RuntimeError):
        set_trial_attributes(study, 0, {"a": 2})


def test_parameters_that_a_trial_was_enqueued_with(study: optuna.Study) -> None:
    study.enqueue_trial({"x": 0.5})
    assert asked_parameters(study.trials[0]) == {"x": 0.5}, MOVED
    study.ask().suggest_float("x", 0, 1)
    assert asked_parameters(study.trials[0]) == {"x": 0.5}, MOVED


def test_a_stopped_trial_of_two_objectives_has_a_state_and_a_sampler_that_reads_it(study: optuna.Study) -> None:
    """Optuna refuses `Trial.report` with two objectives (its issue 3450); telling the state works."""
    study.sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=2)
    for number in range(6):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        study.tell(trial, None if number % 2 else [x, x], state=TrialState.PRUNED if number % 2 else None)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"] * 3, MOVED
    assert study.ask().suggest_float("x", 0, 1) >= 0.0
    assert create_trial(state=TrialState.WAITING).values is None, MOVED


def test_the_volume_that_points_dominate() -> None:
    """Of points up to a reference; those on or beyond it dominate nothing."""
    assert hypervolume([(1.0, 2.0), (2.0, 0.0), (3.0, 0.0), (0.0, 9.0)], (3.0, 3.0)) == 4.0, MOVED
    assert hypervolume([(3.0, 3.0)], (3.0, 3.0)) == 0.0, MOVED
