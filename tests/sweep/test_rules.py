"""Sweeps that race, keep to a budget, and end trials that take too long: real ones, as small as they get."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tests.helpers.prepared_processes import run
from tests.helpers.sweep_helpers import TINY, children, parent, rows, trial_notes, trial_states

pytestmark = pytest.mark.slow

# Four configurations whose markers are found again, and one that has none to find.
RACED = (
    *TINY,
    "methods=[t_test,random]",
    "resample.n_replicates=4",
    "objectives=[{metric: stability/t_test, direction: maximize}]",
    "data.simulation.marker_log_fold_change=3.0,2.9,2.8,2.7,0.0",
    "sweep.name=raced",
)


def states_of(runs: Path) -> dict[int, str]:
    return dict(rows(runs / "optuna.db", "SELECT number, state FROM trials"))  # type: ignore[arg-type]


# Two sweeps one after the other: minutes on a machine that others use too.
@pytest.mark.timeout(2000)
def test_what_cannot_reach_the_front_is_stopped_and_can_be_completed(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    said = run(runs, "-m", *RACED, "sweep.racing=true", seconds=900)
    assert states_of(runs) == {0: "COMPLETE", 1: "COMPLETE", 2: "COMPLETE", 3: "COMPLETE", 4: "PRUNED"}
    assert "4 done, 0 failed, 1 stopped early, 5 in all" in said
    by_trial = {tags["scballast.trial"]: tags for tags in children(runs).values()}
    stopped = by_trial["4"]
    assert stopped["status"] == "FINISHED"
    assert stopped["scballast.rung"] == "2"
    rivals = {int(number) for number in stopped["scballast.stopped_by"].split(", ")}
    assert rivals
    assert rivals <= {0, 1, 2, 3}
    assert stopped["scballast.stopped"].startswith("after 2 replicates worse than trial")
    # Its run is an experiment with the replicates that it had.
    params = dict(rows(runs / "mlflow.db", "SELECT run_uuid, value FROM params WHERE key = 'resample.n_replicates'"))
    assert sorted(params[run_id] for run_id in children(runs)) == ["2", "4", "4", "4", "4"]
    assert (parent(runs)["status"], parent(runs)["scballast.raced"]) == ("FINISHED", "1")
    with (runs / "sweeps" / "raced" / "tables" / "racing.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["trial"], row["replicates"], row["of"]) == ("4", "2", "4")
    pairs = json.loads(trial_notes(runs)[0]["scballast.pairs"])
    assert len(pairs["stability/t_test"]) == 2

    # Without racing the same command completes it, and confirms the choice; nothing else runs again.
    ended = {run_id: tags["end_time"] for run_id, tags in children(runs).items()}
    said = run(runs, "-m", *RACED, "sweep.racing=false", "sweep.confirm=true", seconds=900)
    assert "5 done, 0 failed, 5 in all" in said
    assert trial_states(runs) == {"COMPLETE": 5, "PRUNED": 1}
    after = children(runs)
    assert len(after) == 7
    assert {run_id: after[run_id]["end_time"] for run_id in ended} == ended
    chosen = parent(runs)["scballast.chosen"]
    (confirmation,) = [tags for tags in after.values() if "scballast.confirms" in tags]
    assert confirmation["scballast.confirms"] == chosen
    assert confirmation["status"] == "FINISHED"
    assert "scballast.trial" not in confirmation
    assert f"Trial {chosen} on fresh replicates (seed=1): stability/t_test " in said


def test_a_budget_and_a_limit_per_trial(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    words = (*TINY, "methods=[t_test,random]", "model.n_latent=2,3,4", "sweep.name=short")
    said = run(runs, "-m", *words, "sweep.timeout=0.05s", seconds=580)
    assert "Sweep short: 1 done, 0 failed, 3 in all." in said
    assert "Ended early: sweep.timeout=0.05s is used up" in said
    assert trial_states(runs) == {"COMPLETE": 1, "WAITING": 2}
    assert parent(runs)["status"] == "FINISHED"
    assert parent(runs)["scballast.stopped"].startswith("sweep.timeout=0.05s is used up")

    said = run(runs, "-m", *words, "sweep.trial_timeout=0.01", status=0, seconds=580)
    assert trial_states(runs) == {"COMPLETE": 1, "FAIL": 2}
    for number in (1, 2):
        reason = trial_notes(runs)[number]["scballast.reason"]
        assert reason == "sweep.trial_timeout=0.01: it took longer, and was ended"
    failed = [tags for tags in children(runs).values() if tags["status"] == "FAILED"]
    assert {tags["scballast.failure"] for tags in failed} == {reason}
    assert "Traceback" not in said
