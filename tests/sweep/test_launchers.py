"""Workers started by Hydra's launchers share one study."""

from __future__ import annotations

import json
import os
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.helpers.sweep_helpers import (
    BASELINES,
    RANDOM,
    STABLEST,
    assert_whole,
    parent,
    running_trial,
    start,
    trial_notes,
    wait_for,
)

pytestmark = pytest.mark.slow


def owners(runs: Path) -> set[int]:
    notes = trial_notes(runs).values()
    return {json.loads(own["scballast.process"])["pid"] for own in notes if "scballast.process" in own}


def test_joblib_workers_share_the_trials_and_a_killed_one_is_replaced(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    words = (*BASELINES, *RANDOM, "sweep.n_trials=5", "rank.local_ridge=interval(1,2)", "sweep.name=s")
    process = start(runs, "-m", *words, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    wait_for(lambda: len(owners(runs)) == 2 and any(running_trial(runs, n) for n in range(5)), "two workers")
    killed = next(pid for pid in owners(runs) if pid != process.pid)
    os.kill(killed, signal.SIGKILL)
    assert process.wait(300) == 0, (tmp_path / "log.txt").read_text()[-4000:]
    assert_whole(runs, 5)
    assert len(owners(runs)) >= 3
    assert parent(runs)["status"] == "FINISHED"


@pytest.mark.skipif(find_spec("ray") is None, reason="no Ray here: pip install 'scballast[ray]'")
def test_ray_workers_share_the_trials_and_a_killed_one_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    runs = tmp_path / "runs"
    words = (*BASELINES, STABLEST, "hydra/launcher=ray", "sweep.n_workers=2", "seed=1,2,3,4,5,6", "sweep.name=s")
    process = start(runs, "-m", *words)
    wait_for(lambda: len(owners(runs)) == 2 and any(running_trial(runs, n) for n in range(6)), "two workers")
    killed = next(pid for pid in owners(runs) if pid != process.pid)
    os.kill(killed, signal.SIGKILL)
    assert process.wait(300) == 0, (tmp_path / "log.txt").read_text()[-4000:]
    assert_whole(runs, 6)
    assert parent(runs)["status"] == "FINISHED"


def test_submitit_sends_workers_into_processes_of_their_own(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    launcher = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", "sweep.n_workers=1")
    process = start(runs, "-m", *BASELINES, "model.n_latent=2,3", *launcher)
    assert process.wait(300) == 0, (tmp_path / "log.txt").read_text()[-4000:]
    assert_whole(runs, 2)
    assert process.pid not in owners(runs)
    assert len(list(runs.glob("hydra/sweeps/*/*/workers/*"))) == 1
    assert "2 done, 0 failed, 2 in all" in (tmp_path / "log.txt").read_text()
    # Each trial is a Hydra job with a folder that its run names, and the folder names the run.
    said = []
    for notes in trial_notes(runs).values():
        folder = runs / notes["scballast.hydra_dir"]
        assert json.loads((folder / "mlflow.json").read_text())["run_id"] == notes["scballast.run_id"]
        assert "model.n_latent" in (folder / ".hydra" / "overrides.yaml").read_text()
        said.append("Fewer than 3 replicates give point estimates" in (folder / "scballast.log").read_text())
    assert any(said)
