"""Small experiments that are killed, starved or poisoned, and what must hold afterwards."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from tests.helpers.spared_work import spare_work

from scballast.results import is_complete, read_tables
from scballast.tracking import StoredRun, Tracking, TrackingSettings

# 200 simulated cells, 60 genes, PCA: a few seconds, every stage of an experiment in it.
TINY = (
    "data=simulated",
    "data.min_cells=10",
    "data.simulation.n_genes=60",
    "data.simulation.population_sizes=[70,70,60]",
    "data.simulation.n_markers=6",
    "data.simulation.n_programs=1",
    "data.simulation.n_program_genes=4",
    "association.n_permutations=9",
    "fit.n_mc_samples=2",
    "resample.n_replicates=2",
    "rank.top_k=5",
    "model.n_latent=3",
)
PCA = (*TINY, "model=pca", "methods=[t_test,random,contrast,per_population]")
LDVAE = (*TINY, "train.max_epochs=2", "methods=[t_test,contrast]")


def command_line(
    log: Path, words: Sequence[str], fault: Callable[[], None] | None = None, *, whole: bool = True
) -> None:
    """Run the command in this process, with a fault put into it first; what it says goes into a file."""
    from scballast.commands.terminal import main

    if fault is not None:
        fault()
    if not whole:
        spare_work()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.argv = ["scballast", *words]
    main()


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_disk() -> None:
    """Let every parquet table meet a full disk."""
    pd.DataFrame.to_parquet = no_space  # type: ignore[method-assign, assignment]


def no_memory() -> None:
    """Let training ask for more memory than there is."""
    import scballast.experiment.training

    def too_much(*_: object, **__: object) -> None:
        message = "Unable to allocate 7.45 TiB"
        raise MemoryError(message)

    scballast.experiment.training._fit = too_much  # type: ignore[assignment]


def diverging_everywhere() -> None:
    """Let every member's loss become NaN."""
    diverging(None)


def diverging(positions: set[int] | None) -> Callable[[], None]:
    """Give some members, or all, a learning rate at which their loss becomes NaN; return what undoes it."""
    import scballast.experiment.training

    fit: Any = scballast.experiment.training._fit

    def fit_poisoned(role: Any, members: list[Any], *args: Any, **kwargs: Any) -> Any:
        changed = list(members)
        for i in range(len(members)) if positions is None else positions:
            changed[i] = replace(members[i], overrides={**members[i].overrides, "lr": 1e30})
        return fit(role, changed, *args, **kwargs)

    scballast.experiment.training._fit = fit_poisoned
    return lambda: setattr(scballast.experiment.training, "_fit", fit)


def kill_at(pid: int, cpu_seconds: float) -> bool:
    """Kill a process once it has used so much CPU time, or return False: it ended before.

    CPU time and not wall time, so that the moment is the same in an experiment's life on a busy machine.
    """
    process = psutil.Process(pid)
    while True:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            if used(process) >= cpu_seconds:
                process.send_signal(signal.SIGKILL)
                return True
        except psutil.NoSuchProcess:
            return False
        time.sleep(0.002)


def used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def runs_of(runs: Path) -> list[StoredRun]:
    """Do what the next command does first, and return the runs that it then finds."""
    tracking = Tracking(TrackingSettings(uri=None, experiment="scballast", runs_dir=runs))
    tracking.prepare()
    return tracking.find_runs()


def assert_whole(runs: Path) -> list[StoredRun]:
    """Assert that databases open, no run is stuck, and every table is whole; return the runs."""
    for database in runs.glob("*.db"):
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    found = runs_of(runs)
    assert {run.status for run in found} <= {"FINISHED", "FAILED"}
    folders = sorted((runs / "results").iterdir()) if (runs / "results").is_dir() else []
    assert [folder.name for folder in folders if not is_complete(folder)] == []
    finished = {run.name for run in found if run.status == "FINISHED"}
    assert {folder.name for folder in folders} == finished
    for folder in folders:
        for table in read_tables(folder).values():
            assert len(table.columns) > 1
    for run in found:
        _assert_artifacts(runs / "artifacts" / run.run_id / "artifacts", runs / "results" / run.name, run.status)
        assert run.status == "FINISHED" or run.tags["scballast.failure"]
    return found


def _assert_artifacts(artifacts: Path, folder: Path, status: str) -> None:
    if status == "FAILED":
        assert not list(artifacts.rglob("*.csv"))
        assert not list(artifacts.rglob("*.parquet"))
        return
    for name in json.loads((folder / "complete.json").read_text(encoding="utf-8")):
        if name.startswith("tables/"):
            assert (artifacts / name).read_bytes() == (folder / name).read_bytes(), name
    for path in artifacts.rglob("*.parquet"):
        assert len(pd.read_parquet(path))


def failure(run: StoredRun) -> str:
    """Return why a run failed, as its tag says."""
    return str(run.tags["scballast.failure"])


def experiment(runs: Path, *words: str) -> Any:
    """Run an experiment in this process."""
    import scballast

    return scballast.run([*words, f"runs_dir={runs}"])


def little_memory(stage: str) -> None:
    """Let a stage of the experiment meet a limit on the process's memory, and ask for more."""
    import scballast.experiment.run as run

    def starved(*_: object, **__: object) -> None:
        import resource

        import torch

        # On top of what the process has mapped; torch and Python have words of their own for it.
        mapped = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**26, resource.RLIM_INFINITY))
        try:
            torch.ones(2**31) if stage == "train_models" else bytearray(2**32)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    setattr(run, stage, starved)


def read_only(stage: str) -> None:
    """Let writes of a stage meet a disk that has become read-only, as one with errors is remounted."""
    import scballast.methods.cache
    import scballast.sweep.trial

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    if stage == "cache":
        scballast.methods.cache.whole = refuse  # type: ignore[assignment]
    else:
        scballast.sweep.trial.write_results = refuse  # type: ignore[assignment]


def killed_in_training(pid: int) -> None:
    """Let another process, a server, be killed once the run has begun."""
    import scballast.experiment.run as run

    train: Any = run.train_models

    def train_alone(*args: Any, **kwargs: Any) -> Any:
        os.kill(pid, signal.SIGKILL)
        return train(*args, **kwargs)

    run.train_models = train_alone


def without_privileges() -> None:
    """Let root be a user like others: what belongs to another and is closed to others stays closed."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def stopped_by(number: int) -> None:
    """Let a signal arrive in the middle of training."""
    import scballast.experiment.run as run

    def stop(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    run.train_models = stop  # type: ignore[assignment]
