"""Kill what can be killed at the worst moment, give the same command again, and count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.helpers.prepared_processes import run, start
from tests.helpers.sweep_helpers import (
    BASELINES,
    RANDOM,
    assert_whole,
    children,
    files_of,
    kill,
    parent,
    rows,
    running_trial,
    trial_notes,
    trial_states,
    wait_for,
)

pytestmark = pytest.mark.slow

# Sixteen values for eight trials; a ridge that no baseline uses makes configurations that differ and cost the same.
TUNED = (*BASELINES, *RANDOM, "sweep.n_trials=8", "sweep.name=killed", "rank.local_ridge=interval(1,2)")
GRID = (*BASELINES, "sweep.name=killed", "model.n_latent=2,3,4,5", "model.n_hidden=8,16")


@pytest.mark.parametrize("words", [TUNED, GRID], ids=["optuna", "grid"])
def test_a_killed_controller_resumes_and_finishes_exactly_what_is_left(tmp_path: Path, words: tuple[str, ...]) -> None:
    runs = tmp_path / "runs"
    process = start(runs, "-m", *words)
    wait_for(lambda: running_trial(runs, 2), "the third trial")
    kill(process)
    finished = {run_id: tags for run_id, tags in children(runs).items() if tags["status"] == "FINISHED"}
    assert len(finished) == 2
    files = {run_id: files_of(runs, run_id) for run_id in finished}

    said = run(runs, "-m", *words)

    assert_whole(runs, 8)
    after = children(runs)
    for run_id, tags in finished.items():
        assert after[run_id]["end_time"] == tags["end_time"]
        now = files_of(runs, run_id)
        if after[run_id].get("scballast.pareto") == "true":  # it has got its page, and was published with it
            page = {name for name in now if name.startswith("figures/")} | {"report.html", "description.md"}
            assert "report.html" in now
            now, files[run_id] = (
                {name: size for name, (size, _) in those.items() if name not in page} for those in (now, files[run_id])
            )
        assert now == files[run_id]
    # The third failed where it was, and its parameters were asked again.
    assert trial_states(runs)["FAIL"] == 1
    assert trial_notes(runs)[2]["scballast.reason"] == "its process ended without a word"
    assert [notes["scballast.retry_of"] for notes in trial_notes(runs).values() if "scballast.retry_of" in notes] == [2]
    hashes = [tags["scballast.config_hash"] for tags in after.values() if tags["status"] == "FINISHED"]
    assert len(set(hashes)) == 8
    assert "8 done, 0 failed, 8 in all" in said
    assert parent(runs)["status"] == "FINISHED"
    assert parent(runs)["scballast.progress"] == "8/0/8"


def test_of_three_workers_on_one_study_one_is_killed(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    workers = [start(runs, "-m", *TUNED, log=f"log{i}") for i in range(3)]

    def first_at_work() -> list[int]:
        owners = {n: json.loads(notes.get("scballast.process", "{}")) for n, notes in trial_notes(runs).items()}
        taken = [n for n, owner in owners.items() if owner.get("pid") == workers[0].pid]
        return [number for number in taken if running_trial(runs, number)]

    (taken,) = wait_for(first_at_work, "a trial of the first worker")
    kill(workers[0])
    assert [worker.wait(240) for worker in workers[1:]] == [0, 0], (tmp_path / "log1.txt").read_text()[-3000:]

    assert_whole(runs, 8)
    assert [n for (n,) in rows(runs / "optuna.db", "SELECT number FROM trials WHERE state = 'FAIL'")] == [taken]
    # The survivors shared the work, and one of them took the dead one's over.
    owners = {notes["scballast.process"] for notes in trial_notes(runs).values()}
    assert len(owners) == 3
    assert parent(runs)["status"] == "FINISHED"
    assert (runs / "sweeps" / "killed" / "report.html").stat().st_size > 10_000


def test_six_workers_start_at_once_on_fresh_runs(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    # Two configurations among six trials: all but the first of each are reused.
    words = (*BASELINES, *RANDOM, "sweep.n_trials=6", "model.n_latent=choice(2,3)")
    workers = [start(runs, "-m", *words, log=f"log{i}") for i in range(6)]
    ended = [worker.wait(300) for worker in workers]
    said = [(tmp_path / f"log{i}.txt").read_text()[-3000:] for i in range(6)]
    assert ended == [0] * 6, [text for status, text in zip(ended, said, strict=True) if status]
    assert_whole(runs, 6)
    assert not trial_states(runs)["FAIL"]
    # One study and one parent, although each command made up the name by itself.
    assert len(rows(runs / "optuna.db", "SELECT 1 FROM studies")) == 1
    assert parent(runs)["scballast.progress"] == "6/0/6"
