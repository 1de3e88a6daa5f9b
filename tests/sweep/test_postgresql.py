"""PostgreSQL for the trials and for the runs: a server from the system's packages, three workers, one killed."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from tests.helpers.fault_helpers import PCA, command_line, killed_in_training
from tests.helpers.prepared_processes import prepared, start
from tests.helpers.sweep_helpers import BASELINES, RANDOM, kill, wait_for

from scballast.results import is_complete
from scballast.tracking import Tracking, TrackingSettings

pytestmark = pytest.mark.postgresql
psycopg = pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed: pip install 'psycopg[binary]'")


@dataclass(frozen=True)
class Server:
    """A server: where it is, what starts it again, and the file with its process's number."""

    address: str
    begin: Callable[[], None]
    pid_file: Path


def _binaries() -> Path:
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += [Path(path).parent for path in sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), reverse=True)]
    if not places:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    return places[0]


@pytest.fixture
def server() -> Iterator[Server]:
    """Start a server on a free port of this machine, with a user that needs no password."""
    binaries = _binaries()
    # The server refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="scballast-pg-") as folder:
        data = Path(folder) / "data"
        if user is not None:
            shutil.chown(folder, user)

        def call(*words: str) -> None:
            with (Path(tempfile.gettempdir()) / f"scballast-pg-{port}.log").open("ab") as log:
                subprocess.run(words, check=True, user=user, cwd=folder, stdout=log, stderr=log)

        call(str(binaries / "initdb"), "-D", str(data), "-U", "scballast", "--auth=trust", "--no-sync", "-E", "UTF8")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=60"

        def begin() -> None:
            call(str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", f"{folder}/server.log", "-o", options, "start")

        begin()
        try:
            yield Server(f"scballast:secret@127.0.0.1:{port}", begin, data / "postmaster.pid")
        finally:
            call(str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
            (Path(tempfile.gettempdir()) / f"scballast-pg-{port}.log").unlink()


def test_a_server_that_is_killed_in_the_middle_of_a_run(server: Server, tmp_path: Path) -> None:
    runs, log = tmp_path / "runs", tmp_path / "log"
    with psycopg.connect(f"postgresql://{server.address}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE mlflow")
    uri = f"postgresql+psycopg://{server.address}/mlflow"
    pid = int(server.pid_file.read_text(encoding="utf-8").splitlines()[0])
    words = [*PCA, f"runs_dir={runs}", f"tracking.uri={uri}"]
    process = prepared().Process(
        target=command_line, args=(log, words, partial(killed_in_training, pid)), kwargs={"whole": False}
    )
    process.start()
    process.join()
    said = log.read_text(encoding="utf-8")
    assert process.exitcode == 0, said
    assert "Traceback" not in said
    assert "secret" not in said
    assert said.count("gives no answer (the connection to the database failed). Results are kept in") == 1, said
    (folder,) = (runs / "results").iterdir()
    assert is_complete(folder)
    server.begin()
    tracking = Tracking(TrackingSettings(uri=uri, experiment="scballast", runs_dir=runs))
    assert tracking.sync().published == (folder.name,)
    assert [run.status for run in tracking.find_runs()] == ["FINISHED"]


def test_three_workers_on_postgresql_finish_what_a_killed_one_began(server: Server, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    address = server.address
    words = (
        *BASELINES,
        *RANDOM,
        f"sweep.storage=postgresql://{address}/optuna",
        f"tracking.uri=postgresql+psycopg://{address}/mlflow",
        "sweep.n_trials=5",
        "sweep.name=pg",
        "rank.local_ridge=interval(1,2)",
    )
    with psycopg.connect(f"postgresql://{address}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE optuna")
        connection.execute("CREATE DATABASE mlflow")
    with (
        psycopg.connect(f"postgresql://{address}/optuna", autocommit=True) as optuna,
        psycopg.connect(f"postgresql://{address}/mlflow", autocommit=True) as mlflow,
    ):

        def rows(database: psycopg.Connection, query: str) -> list[tuple[object, ...]]:
            with contextlib.suppress(psycopg.errors.UndefinedTable):
                return database.execute(query).fetchall()
            return []

        workers = [start(runs, "-m", *words, log=f"log{i}") for i in range(3)]
        query = (
            "SELECT value_json FROM trial_user_attributes JOIN trials USING (trial_id) "
            "WHERE state = 'RUNNING' AND key = 'scballast.process'"
        )

        def first_at_work() -> bool:
            owners = [json.loads(json.loads(str(value))) for (value,) in rows(optuna, query)]
            return any(owner["pid"] == workers[0].pid for owner in owners)

        wait_for(first_at_work, "a trial of the first worker")
        kill(workers[0])
        said = [(tmp_path / f"log{i}.txt").read_text() for i in range(3)]
        assert [worker.wait(300) for worker in workers[1:]] == [0, 0], said
        states = [state for (state,) in rows(optuna, "SELECT state FROM trials ORDER BY number")]
        assert sorted(states) == ["COMPLETE"] * 5 + ["FAIL"]
        statuses = rows(
            mlflow,
            "SELECT runs.status, count(*) FROM runs JOIN tags USING (run_uuid) "
            "WHERE tags.key = 'mlflow.parentRunId' GROUP BY runs.status",
        )
        assert dict(statuses)["FINISHED"] == 5
        assert "RUNNING" not in dict(statuses)
        assert rows(mlflow, "SELECT status FROM runs WHERE name = 'pg'") == [("FINISHED",)]
        # No password in what is logged and shown.
        assert not rows(mlflow, "SELECT 1 FROM params WHERE value LIKE '%secret%'")
        assert not rows(mlflow, "SELECT 1 FROM tags WHERE value LIKE '%secret%'")
    assert not (runs / "optuna.db").exists()
    assert not (runs / "mlflow.db").exists()
    assert not any("secret" in text for text in said)
