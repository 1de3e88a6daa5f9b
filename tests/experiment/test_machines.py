"""Machines as they are: schedulers' variables, no home, terminals that lack a sign, a closed terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.helpers.fault_helpers import PCA, TINY

from scballast.tracking import Tracking, TrackingSettings

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
SLURM = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NAME": "batch",
    "SLURM_NTASKS": "4",
    "SLURM_NPROCS": "4",
    "SLURM_NNODES": "2",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_JOB_NODELIST": "node[1-2]",
}


def scballast(runs: Path, *words: str, **surroundings: str) -> subprocess.CompletedProcess[bytes]:
    environment = {"OMP_NUM_THREADS": "1", **os.environ, **surroundings}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "scballast.commands.terminal", *words, f"runs_dir={runs}"]
    return subprocess.run(command, capture_output=True, env=environment, cwd=runs.parent, timeout=590, check=False)


def test_inside_a_slurm_allocation_of_several_tasks_scvi_tools_trains_alone(tmp_path: Path) -> None:
    words = (*TINY, "resample.n_replicates=1", "train.max_epochs=1", "train.engine=scvi", "methods=[contrast]")
    done = scballast(tmp_path / "runs", *words, **SLURM)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    tracking = Tracking(TrackingSettings(uri=None, experiment="scballast", runs_dir=tmp_path / "runs"))
    assert [run.status for run in tracking.find_runs()] == ["FINISHED"]


def test_output_that_is_not_utf_8_holds_the_answer(tmp_path: Path) -> None:
    done = scballast(tmp_path / "runs", *PCA, PYTHONIOENCODING="latin-1", COLUMNS="100")
    assert done.returncode == 0, done.stderr.decode("latin-1")[-3000:]
    shown = done.stdout.decode("latin-1")
    assert "hold in unseen cells; Phi 0." in " ".join(shown.split())
    assert "Report: " in shown
    assert b"Traceback" not in done.stderr


def test_a_home_that_cannot_be_written_costs_one_line(tmp_path: Path) -> None:
    nowhere = {"HOME": "/dev/null/home", "XDG_CACHE_HOME": "/dev/null/cache", "XDG_CONFIG_HOME": "/dev/null/config"}
    words = (*TINY, "resample.n_replicates=1", "train.max_epochs=1", "methods=[contrast]")
    done = scballast(tmp_path / "runs", *words, **nowhere, TMPDIR=str(tmp_path), SCBALLAST_CACHE_DIR="")
    said = done.stderr.decode()
    assert done.returncode == 0, said[-3000:]
    assert "Traceback" not in said
    assert "matplotlib" not in said.lower()
    named = re.findall(
        r"^/dev/null/cache/scballast cannot be written \(.*\); kernels are compiled into (.*)\.$", said, re.M
    )
    assert named in ([str(tmp_path / f"scballast-{os.getuid()}")], [])  # none where there is no compiler
    if not named:
        assert "no C++ compiler found" in said
    (folder,) = (tmp_path / "runs" / "results").iterdir()
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
