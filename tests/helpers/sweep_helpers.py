"""Real sweeps in processes of their own, as small as experiments get, and what they leave behind."""

from __future__ import annotations

import atexit
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

# 200 simulated cells, 60 genes, baselines only: a second per trial.
TINY = (
    "data=simulated",
    "data.min_cells=10",
    "data.simulation.n_genes=60",
    "data.simulation.population_sizes=[70,70,60]",
    "data.simulation.n_markers=6",
    "data.simulation.n_programs=1",
    "data.simulation.n_program_genes=4",
    "association.n_permutations=0",
    "fit.n_mc_samples=0",
    "resample.n_replicates=2",
    "rank.top_k=5",
    "model=pca",
)
BASELINES = (*TINY, "methods=[t_test,random]")
STABLEST = "objectives=[{metric: stability/t_test, direction: maximize}]"
RANDOM = ("sweep=optuna", "sweep.search_space=null", "sweep.sampler=random", STABLEST)
WAIT_SECONDS = 240.0


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "scballast.commands.terminal", *words]


def start(runs: Path, *words: str, log: str = "log") -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, its output kept in a file beside the runs folder."""
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with (runs.parent / f"{log}.txt").open("ab") as output:
        process = subprocess.Popen(
            command(*words, f"runs_dir={runs}"),
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
            cwd=runs.parent,
        )
    # A test that fails leaves no sweep behind it.
    atexit.register(lambda: process.poll() is None and process.kill())
    return process


def run(runs: Path, *words: str, status: int = 0, log: str = "log", seconds: float = WAIT_SECONDS) -> str:
    """Run a command to its end and return what it said."""
    path = runs.parent / f"{log}.txt"
    begin = path.stat().st_size if path.exists() else 0
    process = start(runs, *words, log=log)
    found = process.wait(seconds)
    said = path.read_text()[begin:]
    assert found == status, said[-4000:]
    return said


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(30)


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    message = f"waited in vain for {what}"
    raise AssertionError(message)


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    if not database.exists():
        return []
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=20)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError as error:
        # A database that is only just being made.
        if "no such table" in str(error):
            return []
        raise


def trial_states(runs: Path) -> Counter[str]:
    return Counter(state for (state,) in rows(runs / "optuna.db", "SELECT state FROM trials"))


def trial_notes(runs: Path) -> dict[int, dict[str, Any]]:
    """Return the attributes of every trial, by its number."""
    found: dict[int, dict[str, Any]] = {}
    query = "SELECT number, key, value_json FROM trial_user_attributes JOIN trials USING (trial_id)"
    for number, key, value in rows(runs / "optuna.db", query):
        found.setdefault(number, {})[key] = json.loads(value)
    return found


def children(runs: Path) -> dict[str, dict[str, str]]:
    """Return status and tags of every run that has a parent, by its id."""
    found: dict[str, dict[str, str]] = {}
    for run_id, status, end in rows(runs / "mlflow.db", "SELECT run_uuid, status, end_time FROM runs"):
        found[run_id] = {"status": status, "end_time": str(end)}
    for run_id, key, value in rows(runs / "mlflow.db", "SELECT run_uuid, key, value FROM tags"):
        # A run that began between the two queries is seen the next time.
        found.get(run_id, {})[key] = value
    return {run_id: tags for run_id, tags in found.items() if "mlflow.parentRunId" in tags}


def parent(runs: Path) -> dict[str, str]:
    (run_id,) = {tags["mlflow.parentRunId"] for tags in children(runs).values()}
    tags = dict(rows(runs / "mlflow.db", f"SELECT key, value FROM tags WHERE run_uuid = '{run_id}'"))
    ((status,),) = rows(runs / "mlflow.db", f"SELECT status FROM runs WHERE run_uuid = '{run_id}'")
    return {**tags, "status": status, "run_id": run_id}


def files_of(runs: Path, run_id: str) -> dict[str, tuple[int, int]]:
    """Return size and time of change of every file of a run's artifacts."""
    ((uri,),) = rows(runs / "mlflow.db", f"SELECT artifact_uri FROM runs WHERE run_uuid = '{run_id}'")
    root = Path(uri.removeprefix("file://"))
    found = {p: p.stat() for p in sorted(root.rglob("*")) if p.is_file()}
    return {str(p.relative_to(root)): (s.st_size, s.st_mtime_ns) for p, s in found.items()}


def running_trial(runs: Path, number: int) -> bool:
    """Return whether the trial of a number is under way, in Optuna and in MLflow."""
    in_optuna = rows(runs / "optuna.db", f"SELECT 1 FROM trials WHERE number = {number} AND state = 'RUNNING'")
    return bool(in_optuna) and any(
        tags["status"] == "RUNNING" and tags.get("scballast.trial") == str(number) for tags in children(runs).values()
    )


def assert_whole(runs: Path, n_finished: int) -> None:
    """Assert that nothing is lost, nothing is there twice, nothing runs, and that both stores agree."""
    states = trial_states(runs)
    assert states["COMPLETE"] == n_finished
    assert not states["RUNNING"]
    assert not states["WAITING"]
    runs_by_status = Counter(tags["status"] for tags in children(runs).values())
    assert runs_by_status["FINISHED"] == n_finished
    assert not runs_by_status["RUNNING"]
    assert not rows(runs / "mlflow.db", "SELECT 1 FROM runs WHERE status = 'RUNNING'")
    finished = {
        tags["scballast.trial"]: run_id for run_id, tags in children(runs).items() if tags["status"] == "FINISHED"
    }
    complete = [n for (n,) in rows(runs / "optuna.db", "SELECT number FROM trials WHERE state = 'COMPLETE'")]
    assert {str(number) for number in complete} == set(finished)
    notes = trial_notes(runs)
    assert all(notes[number]["scballast.run_id"] == finished[str(number)] for number in complete)
