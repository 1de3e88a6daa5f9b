"""Budgets and the rule of no improvement."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from scballast.config import keys
from scballast.config.duration import seconds_of
from scballast.config.schema import Config, build_config
from scballast.errors import ConfigError
from scballast.progress import duration
from scballast.sweep.optuna_compat import hypervolume
from scballast.sweep.stopping import busy_seconds, stop_reason

NOON = datetime(2026, 1, 1, 12)


def config(**sweep: object) -> Config:
    objectives = [
        {"metric": "fit/heldout_nll", "direction": "minimize"},
        {"metric": "stability/contrast", "direction": "maximize"},
    ]
    return build_config({"sweep": {"kind": "optuna", **sweep}, "objectives": objectives})


def trial(
    number: int,
    begin: float,
    end: float | None,
    values: list[float] | None = None,
    state: TrialState = TrialState.COMPLETE,
    seen: float | None = None,
) -> FrozenTrial:
    """Return a trial that ran between two moments, in minutes after noon."""
    made = create_trial(state=state, values=values if values or state != TrialState.COMPLETE else [1.0, 0.5])
    made.number = number
    made.datetime_start = NOON + timedelta(minutes=begin)
    made.datetime_complete = None if end is None else NOON + timedelta(minutes=end)
    if seen is not None:
        made.set_user_attr(keys.HEARTBEAT, (NOON + timedelta(minutes=seen)).timestamp())
    return made


points = st.lists(st.tuples(*[st.integers(0, 5).map(float)] * 3), min_size=1, max_size=8)


@given(points)
def test_the_volume_is_that_of_the_unit_cubes_below_the_reference(costs: list[tuple[float, ...]]) -> None:
    corners = np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    dominated = (corners[:, None, :] >= np.array(costs)[None]).all(axis=2).any(axis=1)
    assert hypervolume(costs, (6.0, 6.0, 6.0)) == dominated.sum()
    flat = [cost[:2] for cost in costs]
    squares = (corners[::6, None, :2] >= np.array(flat)[None]).all(axis=2).any(axis=1)
    assert hypervolume(flat, (6.0, 6.0)) == squares.sum()


def test_time_at_work_counts_workers_once_and_pauses_not_at_all() -> None:
    trials = [trial(0, 0, 10), trial(1, 5, 12), trial(2, 600, 605)]
    assert busy_seconds(trials) == 17 * 60
    # Found dead on the next day: it was alive until a minute after its last sign.
    lost = trial(3, 700, 2000, state=TrialState.FAIL, seen=704)
    assert busy_seconds([*trials, lost]) == (17 + 5) * 60
    # One that still runs elsewhere has used what it has shown.
    assert busy_seconds([trial(4, 0, None, state=TrialState.RUNNING, seen=9)]) == 10 * 60


def test_a_budget_ends_the_sweep_once_it_is_used_up() -> None:
    trials = [trial(0, 0, 61), trial(1, 600, 659)]
    assert stop_reason(config(), trials) == ""
    assert stop_reason(config(timeout="2h1m"), trials) == ""
    assert stop_reason(config(timeout="2h"), trials) == "sweep.timeout=2h is used up (2.0 h at work)"


def test_patience_ends_with_a_front_that_does_not_move() -> None:
    moving = [trial(n, n, n + 1, [100.0 - 5 * n, 0.1 + 0.1 * n]) for n in range(6)]
    stuck = [trial(n, n, n + 1, [100.0, 0.1]) for n in range(6, 9)]
    pruned = trial(9, 9, 10, state=TrialState.PRUNED)
    rule = config(stop="no_improvement", patience=4)
    assert stop_reason(rule, moving) == ""
    assert stop_reason(rule, [*moving, *stuck]) == ""
    assert "4 trials in a row" in stop_reason(rule, [*moving, *stuck, pruned])
    better = trial(9, 9, 10, [60.0, 0.9])
    assert stop_reason(rule, [*moving, *stuck, better]) == ""
    assert stop_reason(config(), [*moving, *stuck, pruned]) == ""


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90m", 5400.0), ("2h", 7200.0), ("1d12h", 129600.0), (30, 30.0), ("1.5h", 5400.0), ("30min", 1800.0)],
)  # fmt: skip
def test_spans_of_time(written: str | int, seconds: float) -> None:
    assert seconds_of("sweep.timeout", written) == seconds
    assert seconds_of("sweep.timeout", None) is None


@pytest.mark.parametrize("written", ["soon", "2 hours", "0", "-5m", "h", "", "inf", "nan"])
def test_what_is_no_span_of_time_is_refused_at_the_door(written: str) -> None:
    with pytest.raises(ConfigError, match=r"^sweep\.timeout: .* is no span of time"):
        config(timeout=written)


def test_spans_are_told_in_the_unit_that_one_reads() -> None:
    assert [duration(s) for s in (12, 600, 7200)] == ["12 s", "10 min", "2.0 h"]
