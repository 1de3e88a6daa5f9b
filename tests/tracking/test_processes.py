"""Many processes at once, and processes that are killed."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import time
from contextlib import closing
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from tests.helpers.tracking_helpers import PARAMS, copy_template, make_result, settings_for

from scballast.results import is_complete
from scballast.tracking import Tracking

pytest_plugins = ("tests.helpers.tracking_fixtures",)
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.skipif(sys.platform == "win32", reason="processes are forked and killed"),
]

N_WORKERS = 12


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Return what starts processes from a clean one that has MLflow imported: they start close together."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store", "tracking_helpers"])
    return context


def work(runs: str, worker: int, start_at: float) -> None:
    time.sleep(max(0.0, start_at - time.time()))
    tracking = Tracking(settings_for(Path(runs)))
    tracking.prepare()
    folder = Path(runs) / "results" / str(worker)
    run_id = tracking.start_run(f"worker {worker}", {**PARAMS, "worker": worker}, {}, folder=folder)
    tracking.publish(run_id, make_result(folder, n_metrics=300, n_curves=2, n_epochs=200))


def work_for_ever(runs: str, name: str) -> None:
    tracking = Tracking(settings_for(Path(runs)))
    tracking.prepare()
    for i in itertools.count():
        folder = Path(runs) / "results" / f"{name}-{i}"
        run_id = tracking.start_run(folder.name, PARAMS, {}, folder=folder)
        part = folder.with_name(f".{folder.name}")
        make_result(part, n_metrics=300, n_curves=2, n_epochs=200).replace(folder)
        tracking.publish(run_id, folder)


def test_twelve_workers_start_at_once_on_a_fresh_folder(processes: ForkServerContext, tmp_path: Path) -> None:
    start_at = time.time() + 2.0
    workers = [processes.Process(target=work, args=(str(tmp_path / "runs"), i, start_at)) for i in range(N_WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert [worker.exitcode for worker in workers] == [0] * N_WORKERS
    tracking = Tracking(settings_for(tmp_path / "runs"))
    found = tracking.find_runs()
    assert sorted(run.params["worker"] for run in found) == sorted(str(i) for i in range(N_WORKERS))
    assert {run.status for run in found} == {"FINISHED"}
    assert {len(run.metrics) for run in found} == {304}
    experiments = tracking._store.client.search_experiments()
    assert sorted(experiment.name for experiment in experiments) == ["Default", "scballast"]


def test_killed_at_random_moments(processes: ForkServerContext, tmp_path: Path, template_database: Path) -> None:
    runs = copy_template(template_database, tmp_path / "runs")
    moments = random.Random(0)
    for kill in range(6):
        worker = processes.Process(target=work_for_ever, args=(str(runs), f"k{kill}"))
        worker.start()
        time.sleep(moments.uniform(0.4, 1.6))
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(timeout=30)
        assert worker.exitcode == -signal.SIGKILL

        with closing(sqlite3.connect(runs / "mlflow.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for table in (runs / "artifacts").rglob("*.csv"):
            if not table.name.startswith("."):
                assert table.read_bytes().endswith(b"\n")
        tracking = Tracking(settings_for(runs))
        tracking.prepare()
        found = tracking.find_runs()
        assert "RUNNING" not in {run.status for run in found}
        finished = sorted(run.name for run in found if run.status == "FINISHED")
        complete = sorted(p.name for p in (runs / "results").glob("k*") if is_complete(p)) if found else []
        assert finished == complete
        assert len(finished) == len(set(finished))
        for run in found:
            if run.status == "FINISHED":
                assert len(run.metrics) == 304
                assert list((runs / "artifacts" / run.run_id).rglob(".*.part")) == []


def test_killed_while_the_database_is_made(processes: ForkServerContext, tmp_path: Path) -> None:
    worker = processes.Process(target=work_for_ever, args=(str(tmp_path / "runs"), "x"))
    worker.start()
    end = time.monotonic() + 60
    while not list(tmp_path.glob("runs/.mlflow.db.*.part")) and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.3)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(timeout=30)
    assert not (tmp_path / "runs" / "mlflow.db").exists()
    tracking = Tracking(settings_for(tmp_path / "runs"))
    tracking.prepare()
    assert tracking.find_runs() == []
    assert list(tmp_path.glob("runs/.mlflow.db.*.part*")) == []
