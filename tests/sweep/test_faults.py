"""Trials that fail, processes that die alone, Ctrl-C: the sweep goes on, and both stores say the same."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from tests.helpers.prepared_processes import run, start
from tests.helpers.sweep_helpers import (
    BASELINES,
    RANDOM,
    STABLEST,
    assert_whole,
    children,
    parent,
    rows,
    running_trial,
    trial_notes,
    trial_states,
    wait_for,
)

from scballast.commands.report_command import main as report

pytestmark = pytest.mark.slow


def test_ctrl_c_then_a_trial_whose_process_dies_then_the_end(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    words = (*BASELINES, *RANDOM, "sweep.n_trials=3", "rank.local_ridge=interval(1,2)")
    process = start(runs, "-m", *words)
    wait_for(lambda: running_trial(runs, 1), "the second trial")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 1
    said = (tmp_path / "log.txt").read_text()
    assert "Stopped: 1 done, 0 failed, 3 in all." in said
    assert "Traceback" not in said
    statuses = {tags["scballast.trial"]: tags["status"] for tags in children(runs).values()}
    assert statuses == {"0": "FINISHED", "1": "KILLED"}
    assert parent(runs)["status"] == "KILLED"
    assert trial_notes(runs)[1]["scballast.reason"] == "interrupted by the user"

    # The command that it prints, with the name that it made up.
    (resume,) = [line.strip() for line in said.splitlines() if line.strip().startswith("scballast -m")]
    name = resume.split("sweep.name=")[1].split()[0]
    process = start(runs, "-m", *words, f"sweep.name={name}")
    wait_for(lambda: running_trial(runs, 2), "the third trial")
    (pid,) = [int(tags["scballast.pid"]) for tags in children(runs).values() if tags["status"] == "RUNNING"]
    assert pid != process.pid
    os.kill(pid, signal.SIGKILL)
    assert process.wait(240) == 0, (tmp_path / "log.txt").read_text()[-3000:]

    assert_whole(runs, 3)
    died = next(tags for tags in children(runs).values() if tags["status"] == "FAILED")
    assert died["scballast.trial"] == "2"
    assert died["scballast.failure"] == "its process was ended by SIGKILL, as the system does when memory runs out"
    assert trial_notes(runs)[2]["scballast.reason"] == died["scballast.failure"]
    assert parent(runs)["status"] == "FINISHED"


def test_failing_trials_leave_the_others_alone_and_too_many_stop_the_sweep(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    # 60 genes: a selection of 60 and more is refused once the data are there.
    words = (*BASELINES, "rank.top_k=5,60,6,61,62,7", "sweep.max_failures=2", "sweep.name=s")
    words += ("tracking.population_metrics=true",)  # hits of the cache are no headline
    said = run(runs, "-m", *words, status=1)
    assert "Stopped after 2 failures in a row (sweep.max_failures=2): 2 done, 3 failed, 6 in all." in said
    assert trial_states(runs) == {"COMPLETE": 2, "FAIL": 3, "WAITING": 1}
    # Both trials that were run found the same odd thing; it is said once.
    warned = [line for line in said.splitlines() if line.startswith("Warning: ")]
    assert warned
    assert len(set(warned)) == len(warned)
    notes = trial_notes(runs)
    by_trial = {tags["scballast.trial"]: tags for tags in children(runs).values()}
    for number, top_k in ((1, 60), (3, 61), (4, 62)):
        assert by_trial[str(number)]["status"] == "FAILED"
        assert f"rank.top_k: {top_k} is not below the number of genes, 60" in notes[number]["scballast.reason"]
        assert by_trial[str(number)]["scballast.failure"] == notes[number]["scballast.reason"]
    assert {by_trial["0"]["status"], by_trial["2"]["status"]} == {"FINISHED"}
    assert parent(runs)["status"] == "FAILED"

    # The cells of a replicate do not depend on the trial: what was scored once is scored no more.
    metrics = "SELECT tags.value, metrics.key, metrics.value FROM metrics JOIN tags USING (run_uuid)"
    found = {
        (trial, key): value
        for trial, key, value in rows(runs / "mlflow.db", f"{metrics} WHERE tags.key = 'scballast.trial'")
    }
    assert found["0", "cache/misses"] > 0
    assert found["2", "cache/misses"] == 0
    assert found["2", "cache/hits"] == found["0", "cache/misses"]

    # What is searched next in the same folder: the configurations that have finished are not computed again.
    said = run(runs, "-m", *BASELINES, STABLEST, "rank.top_k=5,7", "sweep.name=t", "tracking.population_metrics=true")
    # The end of a sweep: its choice, why, and what opens its report.
    assert re.search(r"^Chosen: trial \d \(rank\.top_k=\d\): .*stability/", said, re.MULTILINE)
    assert re.search(r"^Why: the best of the finished trials\.$", said, re.MULTILINE)
    assert f"Report: {runs / 'sweeps' / 't' / 'report.html'}" in said
    assert "report.html?workflowType=machine_learning" in said
    assert report(["t", "--runs-dir", str(runs), "--no-browser"]) == 0
    copies = [n.get("scballast.duplicate_of") for n in trial_notes(runs).values() if "scballast.duplicate_of" in n]
    original = next(
        i for i, tags in children(runs).items() if tags["scballast.trial"] == "0" and tags["scballast.sweep"] == "s"
    )
    assert copies == [original]
    assert "reused" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.n_latnt=2,3"], "Did you mean 'model.n_latent'?"),
        (["model.n_latent=0,3"], "model.n_latent: 0 is out of range; it must be at least 1."),
        (["model.n_latent=interval(2,9)"], "an interval has no finite list of values"),
        (["sweep=optuna", "+sweep.search_space.model.n_latnt='range(1,3)'"], "Did you mean 'model.n_latent'?"),
        (["sweep=optuna", "model.dropout_rate=interval(0.1,1.5)"], "model.dropout_rate: 1.5 is out of range"),
        (["sweep=optuna", "sweep.search_space=null"], "sweep.search_space: empty"),
        (["sweep=optuna", "sweep.sampler=tpee"], "Did you mean 'tpe'?"),
        (["sweep=optuna", "sweep.storage=mysql://u:secret@h/d"], "sweep.storage: 'mysql://u@h/d' is not the address"),
        (["model=pcaa,ldvae"], "Did you mean 'pca'?"),
        (["data=h5ad", "data.path=none.h5ad", "data.population_key=a", "model.n_latent=2,3"], "none.h5ad"),
    ],
)  # fmt: skip
def test_a_bad_sweep_ends_with_status_2_and_one_message_before_anything_is_written(
    tmp_path: Path, words: list[str], said: str
) -> None:
    output = run(tmp_path / "runs", "-m", *words, status=2)
    assert said in output
    assert "Traceback" not in output
    assert "secret" not in output
    assert not (tmp_path / "runs").exists()


def test_a_plan_counts_the_work_and_runs_nothing(tmp_path: Path) -> None:
    said = run(tmp_path / "runs", "-m", *BASELINES, "methods=[t_test,contrast]", "model.n_latent=2,3,3", "plan=true")
    assert "A grid of 2 trials over model.n_latent." in said
    assert "Duplicates left out: 1." in said
    assert "Finished before, and reused: 0." in said
    # Two trials of two replicates, one model each; the t test of two replicates serves both trials.
    assert "Members to train: 4, in 2 trainings." in said
    assert "Rankings by baselines: 2, of which the cache holds 0." in said
    # Of this family no plan knows what is usual.
    assert "Time: not known; no run of this model in this folder has been timed." in said
    said = run(tmp_path / "other", *BASELINES, "methods=[t_test]", "model=ldvae", "plan=true")
    assert "Time: about 17 s (from two cores elsewhere, roughly; plan=probe tries a little of it here)." in said
    assert "scoring baselines" not in said
    assert not (tmp_path / "runs").exists()
