from __future__ import annotations

import errno
import json
import logging
import os
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest
from tests.helpers.tracking_helpers import (
    PARAMS,
    RANKINGS,
    STABILITY,
    TAGS,
    copy_template,
    make_result,
    settings_for,
    snapshot,
)

from scballast.config import keys
from scballast.errors import ConfigError, ScballastError
from scballast.tracking import Tracking, TrackingSettings
from scballast.tracking.faults import clear_faults
from scballast.tracking.liveness import ProcessIdentity, current_process
from scballast.tracking.location import without_password

pytest_plugins = ("tests.helpers.tracking_fixtures",)
# MLflow 3.17 asks SQLAlchemy 2.1 for a loader strategy that it is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

GONE = replace(current_process(), pid=2**22 + 7)


def runs_of(tracking: Tracking) -> Path:
    return tracking.settings.root


def same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """Compare values; what is missing may be None or NaN."""
    assert list(found.columns) == list(wanted.columns)
    for column in wanted:
        pairs = zip(found[column].tolist(), wanted[column].tolist(), strict=True)
        assert all(a == b or (pd.isna(a) and pd.isna(b)) for a, b in pairs), column


def disown(tracking: Tracking, run_id: str, process: ProcessIdentity, *, silent_seconds: float = 0.0) -> None:
    """Make a run look as if another process had started it and then fallen silent."""
    entry = tracking._outbox.find(run_id)
    assert entry is not None
    tracking._heartbeat.remove(entry.key)
    tracking._outbox.write(replace(entry, process=process))
    path = runs_of(tracking) / "outbox" / f"{entry.key}.json"
    then = time.time() - silent_seconds
    os.utime(path, (then, then))
    client = tracking._store.client
    client.set_tag(run_id, keys.PROCESS, process.to_json())
    client.set_tag(run_id, keys.HEARTBEAT, f"{then:.0f}")


class TestPublish:
    def test_everything_of_the_folder_is_in_the_run(self, tracking: Tracking) -> None:
        run_id = tracking.start_run("trial 3", PARAMS, TAGS)
        assert tracking.get_run(run_id).status == "RUNNING"
        folder = make_result(runs_of(tracking) / "a")
        assert tracking.publish(run_id, folder) == run_id

        run = tracking.get_run(run_id)
        assert (run.status, run.name) == ("FINISHED", "trial 3")
        assert {name: run.params[name] for name in PARAMS} == PARAMS
        assert len(run.params["extra"]) == 6000
        assert run.params["extra"].endswith("(7,000 characters; the whole of it is in config/resolved.yaml)")
        assert run.metrics["stability/contrast"] == 0.8
        assert "stability/undefined" not in run.metrics
        assert run.tags["scballast.trial"] == "3"
        assert run.tags["mlflow.note.content"] == "**answer**: trust `contrast`"
        assert run.tags["scballast.warnings"] == "population 'B' has 3 cells"
        found = snapshot(tracking, run_id)
        assert [(step, value) for step, value, _ in found["history"]["train/elbo"]] == [(e, 10.0 - e) for e in range(5)]
        assert found["inputs"] == [("pbmc", "0123456789abcdef" * 2 + "0123")]
        assert set(found["files"]) == {
            "report.html",
            "description.md",
            "warnings.json",
            "config/resolved.yaml",
            "figures/stability.png",
            "tables/stability.csv",
            "tables/stability.json",
            "tables/answer.csv",
            "tables/answer.json",
            "tables/rankings.csv",
            "tables/rankings.parquet",
        }
        assert json.loads((folder / "published.json").read_text())["run_id"] == run_id
        assert list((runs_of(tracking) / "outbox").iterdir()) == []

    def test_times_are_those_of_the_experiment(self, tracking: Tracking) -> None:
        before = int(time.time() * 1000)
        run_id = tracking.start_run("x", {}, {})
        folder = make_result(runs_of(tracking) / "a")
        finished = (before + 60_000) / 1000
        os.utime(folder / "complete.json", (finished, finished))
        tracking.publish(run_id, folder)
        run = tracking.get_run(run_id)
        assert before <= run.start_time <= before + 30_000
        assert tracking._store.client.get_run(run_id).info.end_time == before + 60_000

    def test_publishing_again_changes_nothing(self, tracking: Tracking) -> None:
        run_id = tracking.start_run("x", PARAMS, TAGS)
        folder = make_result(runs_of(tracking) / "a", n_metrics=40, n_curves=3)
        tracking.publish(run_id, folder)
        first = snapshot(tracking, run_id)
        tracking.publish(run_id, folder)
        assert snapshot(tracking, run_id) == first
        assert len(tracking.find_runs()) == 1

    @pytest.mark.parametrize("step", ["log_batch", "log_inputs", "set_terminated"])
    def test_what_stopped_half_way_is_completed(
        self, tracking: Tracking, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("scballast.tracking.publish._MAX_METRICS", 20)
        whole = tracking.start_run("whole", PARAMS, TAGS)
        tracking.publish(whole, make_result(runs_of(tracking) / "whole", n_metrics=30))
        run_id = tracking.start_run("x", PARAMS, TAGS)
        folder = make_result(runs_of(tracking) / "a", n_metrics=30)
        client = tracking._store.client
        real, calls = getattr(client, step), []

        def stop(*args: object, **kwargs: object) -> object:
            calls.append(1)
            if step == "log_batch" and len(calls) < 3:
                return real(*args, **kwargs)
            raise SystemExit

        monkeypatch.setattr(client, step, stop)
        with pytest.raises(SystemExit):
            tracking.publish(run_id, folder)
        monkeypatch.setattr(client, step, real)
        assert tracking.get_run(run_id).status == "RUNNING"
        assert tracking.sync().published == ("x",)
        found, wanted = snapshot(tracking, run_id), snapshot(tracking, whole)
        assert found["status"] == "FINISHED"
        for part in ("params", "inputs", "files"):
            assert found[part] == wanted[part]
        values = {name: [point[:2] for point in points] for name, points in found["history"].items()}
        assert values == {name: [point[:2] for point in points] for name, points in wanted["history"].items()}

    def test_compared_tables_keep_their_values(self, tracking: Tracking) -> None:
        run_id = tracking.start_run("x", {}, {})
        tracking.publish(run_id, make_result(runs_of(tracking) / "a"))
        path = tracking.folder_of(run_id) / "tables" / "stability.json"
        table = json.loads(path.read_text())
        same(pd.DataFrame(table["data"], columns=table["columns"]), STABILITY)
        logged = json.loads(tracking.get_run(run_id).tags["mlflow.loggedArtifacts"])
        assert logged == [{"path": f"tables/{name}.json", "type": "table"} for name in ("answer", "stability")]

    def test_tables_load_with_gene_names_that_look_missing(self, tracking: Tracking) -> None:
        run_id = tracking.start_run("x", {}, {})
        tracking.publish(run_id, make_result(runs_of(tracking) / "a"))
        tables = tracking.load_tables(run_id)
        assert sorted(tables) == ["answer", "rankings", "stability"]
        assert tables["rankings"]["gene"].tolist() == RANKINGS["gene"].tolist()
        assert tables["rankings"]["rank"].dtype == "int32"  # the parquet one, which has the types
        same(tables["stability"], STABILITY)
        assert tracking.get_run(run_id).metrics["stability/contrast"] == 0.8
        assert (tracking.folder_of(run_id) / "report.html").read_text() == "<html>report</html>"

    def test_a_folder_that_is_not_whole_is_refused(self, tracking: Tracking) -> None:
        run_id = tracking.start_run("x", {}, {})
        folder = make_result(runs_of(tracking) / "a")
        (folder / "tables" / "answer.csv").unlink()
        with pytest.raises(ScballastError, match=r"not published: complete.json is missing, or a file"):
            tracking.publish(run_id, folder)
        assert tracking.get_run(run_id).status == "RUNNING"

    def test_a_run_without_results_has_no_tables(self, tracking: Tracking) -> None:
        run_id = tracking.start_run("x", {}, {})
        with pytest.raises(ScballastError, match="holds no tables \\(its status is RUNNING\\)"):
            tracking.load_tables(run_id)
        with pytest.raises(ScballastError, match="not found"):
            tracking.get_run("0" * 32)


class TestRuns:
    def test_failure_tells_its_reason(self, tracking: Tracking) -> None:
        run_id = tracking.start_run("x", PARAMS, {})
        tracking.fail_run(run_id, "MemoryError: " + "y" * 9000, "Traceback …")
        run = tracking.get_run(run_id)
        assert run.status == "FAILED"
        assert run.tags["scballast.failure"].startswith("MemoryError: yyy")
        text = tracking._store.client.download_artifacts(run_id, "failure.txt")
        assert Path(text).read_text().endswith("Traceback …")

    def test_interrupted_and_taken_up_again(self, tracking: Tracking) -> None:
        parent = tracking.start_run("sweep", {}, {"scballast.sweep": "it's"})
        child = tracking.start_run("trial", {}, {}, parent)
        tracking.interrupt_run(parent)
        assert tracking.get_run(parent).status == "KILLED"
        tracking.reopen_run(parent)
        run = tracking.get_run(parent)
        assert run.status == "RUNNING"
        assert "scballast.failure" not in run.tags
        assert tracking.reap_stale() == []
        assert [r.run_id for r in tracking.find_runs({"mlflow.parentRunId": parent})] == [child]
        assert [r.run_id for r in tracking.find_runs({"scballast.sweep": "it's"}, status="RUNNING")] == [parent]
        tracking.set_tags(parent, {"done": 3})
        tracking.publish(parent, make_result(runs_of(tracking) / "a"))
        assert tracking.get_run(parent).status == "FINISHED"
        assert tracking.get_run(parent).tags["done"] == "3"

    def test_experiment_opens_on_the_primary_metric(self, tracking: Tracking) -> None:
        experiment = tracking._store.client.get_experiment_by_name("scballast")
        assert experiment.tags["mlflow.experiment.primaryMetric.name"] == "stability/contrast"
        assert experiment.artifact_location == (runs_of(tracking) / "artifacts").as_uri()

    def test_typed_search(self, tracking: Tracking) -> None:
        for n in (5, 20):
            run_id = tracking.start_run(f"n{n}", {"model.n_latent": n}, {})
            tracking.publish(run_id, make_result(runs_of(tracking) / f"r{n}", offset=n))
        client = tracking._store.client
        found = client.search_runs(
            [client.get_experiment_by_name("scballast").experiment_id],
            "metrics.`stability/contrast/p1` > 10 and params.`model.n_latent` = '20'",
        )
        assert [run.info.run_name for run in found] == ["n20"]

    def test_nothing_global_is_touched(self, tracking: Tracking) -> None:
        uri, environment = mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")
        run_id = tracking.start_run("x", {}, {})
        assert mlflow.active_run() is None
        tracking.publish(run_id, make_result(runs_of(tracking) / "a"))
        assert mlflow.get_tracking_uri() == uri
        assert os.environ.get("MLFLOW_TRACKING_URI") == environment

    def test_two_experiments_in_one_folder(self, tracking: Tracking) -> None:
        other = Tracking(TrackingSettings(uri=None, experiment="other", runs_dir=runs_of(tracking)))
        other.prepare()
        mine, theirs = tracking.start_run("mine", {}, {}), other.start_run("theirs", {}, {})
        disown(other, theirs, GONE)
        make = make_result(runs_of(tracking) / "theirs")
        entry = other._outbox.find(theirs)
        assert entry is not None
        other._outbox.write(replace(entry, run_id=None, store=None, key="f" * 32, folder="theirs"))
        other._outbox.drop(entry.key)
        result = tracking.sync()
        assert result.published == ("theirs",)
        assert json.loads((make / "published.json").read_text())["run_id"] in [r.run_id for r in other.find_runs()]
        assert [r.run_id for r in tracking.find_runs()] == [mine]


class TestLeftBehind:
    def test_run_of_a_dead_process_is_failed(self, tracking: Tracking) -> None:
        dead, alive = tracking.start_run("dead", {}, {}), tracking.start_run("alive", {}, {})
        disown(tracking, dead, GONE)
        again = Tracking(tracking.settings)
        assert again.reap_stale() == [dead]
        assert again.get_run(dead).status == "FAILED"
        assert again.get_run(dead).tags["scballast.failure"] == "its process ended without a word"
        assert again.get_run(alive).status == "RUNNING"

    def test_the_store_alone_is_enough(self, tracking: Tracking) -> None:
        dead, alive = tracking.start_run("dead", {}, {}), tracking.start_run("alive", {}, {})
        disown(tracking, dead, GONE)
        for path in (runs_of(tracking) / "outbox").iterdir():
            path.unlink()
        assert tracking.reap_stale() == [dead]
        assert tracking.get_run(alive).status == "RUNNING"

    def test_a_reused_process_number_is_another_process(self, tracking: Tracking) -> None:
        run_id = tracking.start_run("x", {}, {})
        disown(tracking, run_id, replace(current_process(), created=current_process().created - 3600))
        assert tracking.reap_stale() == [run_id]

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process is known by the clock at its start")
    def test_a_clock_that_was_set_back_ends_no_run(
        self, tracking: Tracking, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        folder = runs_of(tracking) / "results" / "a"
        run_id = tracking.start_run("x", PARAMS, {}, folder=folder)
        now, boot = time.time(), psutil.boot_time()
        monkeypatch.setattr(time, "time", lambda: now - 7200)
        monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: boot - 7200)  # what the system derives from it
        again = Tracking(tracking.settings)
        again.prepare()
        assert again.get_run(run_id).status == "RUNNING"
        make_result(folder)
        assert tracking.publish(run_id, folder) == run_id
        assert again.get_run(run_id).status == "FINISHED"

    @pytest.mark.parametrize(("minutes", "gone"), [(9, False), (11, True)])
    def test_other_machines_are_judged_by_their_silence(self, tracking: Tracking, minutes: int, gone: bool) -> None:
        run_id = tracking.start_run("x", {}, {})
        disown(tracking, run_id, replace(GONE, boot="another"), silent_seconds=60 * minutes)
        assert tracking.reap_stale() == ([run_id] if gone else [])

    def test_foreign_runs_are_left_alone(self, tracking: Tracking) -> None:
        client = tracking._store.client
        run = client.create_run(client.get_experiment_by_name("scballast").experiment_id)
        assert tracking.reap_stale() == []
        assert client.get_run(run.info.run_id).info.status == "RUNNING"

    @pytest.mark.parametrize("told", [True, False])
    def test_result_finished_before_the_kill_is_published_to_its_run(self, tracking: Tracking, told: bool) -> None:
        folder = runs_of(tracking) / "results" / "a"
        run_id = tracking.start_run("x", PARAMS, {}, folder=folder)
        make_result(folder)
        disown(tracking, run_id, GONE)
        if not told:
            for path in (runs_of(tracking) / "outbox").iterdir():
                path.unlink()
        again = Tracking(tracking.settings)
        again.prepare()
        assert [(r.run_id, r.status) for r in again.find_runs()] == [(run_id, "FINISHED")]
        assert "scballast.failure" not in again.get_run(run_id).tags
        assert again.sync().published == ()

    def test_a_folder_from_elsewhere_becomes_a_run_once(self, tracking: Tracking) -> None:
        folder = make_result(runs_of(tracking) / "deep" / "er" / "copied")
        assert tracking.sync().published == ("copied",)
        (folder / "published.json").unlink()
        assert tracking.sync().published == ("copied",)
        run = tracking.find_runs()[0]
        assert len(tracking.find_runs()) == 1
        assert run.params["model.n_latent"] == "10"

    def test_folders_of_a_run_at_work_are_left_alone(self, tracking: Tracking) -> None:
        tracking.start_run("working, and has not said where", {}, {})
        make_result(runs_of(tracking) / "a")
        result = tracking.sync()
        assert (result.published, result.running) == ((), 1)

    def test_an_unreadable_entry_is_named_and_kept(self, tracking: Tracking, caplog: pytest.LogCaptureFixture) -> None:
        (runs_of(tracking) / "outbox").mkdir(exist_ok=True)
        broken = runs_of(tracking) / "outbox" / "broken.json"
        broken.write_text("{")
        with caplog.at_level(logging.WARNING):
            tracking.sync()
        assert "broken.json is not an entry of the outbox" in caplog.text
        assert broken.exists()

    def test_process_identity_survives_its_tag(self) -> None:
        here = current_process()
        assert ProcessIdentity.from_json(here.to_json()) == here
        assert ProcessIdentity.from_json("{}") is None
        assert ProcessIdentity(**asdict(here)).is_alive(silent_seconds=1e9)


class TestFaults:
    def test_disk_full_keeps_the_results(self, tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
        run_id = tracking.start_run("x", {}, {})
        folder = make_result(runs_of(tracking) / "a")

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("scballast.tracking.publish.link_or_copy", full)
        with pytest.raises(
            ScballastError, match=r"the disk is full.*\n.*Free some space, then run: scballast-ui --sync"
        ):
            tracking.publish(run_id, folder)
        tracking.fail_run(run_id, "the disk is full")
        monkeypatch.undo()
        assert tracking.sync().published == ("x",)
        assert tracking.get_run(run_id).status == "FINISHED"

    def test_full_database(self, tracking: Tracking) -> None:
        run_id = tracking.start_run("x", {}, {})
        folder = make_result(runs_of(tracking) / "a", n_metrics=3000)
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
        from sqlalchemy import event

        engine = SqlAlchemyStore._get_or_create_engine(tracking.settings.store_uri)

        def limit(connection: sqlite3.Connection, *_: object) -> None:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count={pages + 2}")

        event.listen(engine, "checkout", limit)
        with pytest.raises(ScballastError, match="the disk is full"):
            tracking.publish(run_id, folder)
        event.remove(engine, "checkout", limit)
        engine.dispose()
        assert tracking.sync().published == ("x",)
        assert tracking.get_run(run_id).metrics["stability/contrast/p2999"] == 2999 / 7

    def test_broken_database(self, tmp_path: Path) -> None:
        (tmp_path / "mlflow.db").write_bytes(b"no database at all " * 100)
        with pytest.raises(ScballastError, match=r"mlflow\.db: is no intact SQLite database"):
            Tracking(settings_for(tmp_path)).prepare()

    def test_database_of_a_newer_mlflow_is_refused_and_left_as_it_is(
        self, tracking: Tracking, caplog: pytest.LogCaptureFixture
    ) -> None:
        database = tracking.settings.database
        assert database is not None
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = 'fromthefuture'")
        before = database.read_bytes()
        with caplog.at_level(logging.WARNING), pytest.raises(ConfigError, match="was made by a newer MLflow"):
            Tracking(tracking.settings).prepare()
        assert caplog.text == ""
        assert database.read_bytes() == before
        assert list(database.parent.glob("*.before-*")) == []

    def test_database_of_an_older_mlflow_is_migrated_and_kept(self, tmp_path: Path) -> None:
        from mlflow.store.db import utils
        from mlflow.store.tracking.dbmodels.initial_models import Base
        from sqlalchemy import create_engine

        engine = create_engine(f"sqlite:///{tmp_path / 'mlflow.db'}")
        Base.metadata.create_all(engine)
        from alembic import command

        config = utils._get_alembic_config(str(engine.url))
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "7ac759974ad8")
        engine.dispose()
        tracking = Tracking(settings_for(tmp_path))
        tracking.prepare()
        run_id = tracking.start_run("x", {}, {})
        tracking.publish(run_id, make_result(tmp_path / "a"))
        assert tracking.get_run(run_id).status == "FINISHED"
        (kept,) = tmp_path.glob("mlflow.db.before-*")
        with closing(sqlite3.connect(kept)) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("7ac759974ad8",)]

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (OSError(errno.EROFS, "Read-only file system"), "cannot be written"),
            (PermissionError(errno.EACCES, "Permission denied"), "cannot be written"),
            (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
            (sqlite3.OperationalError("attempt to write a readonly database"), "cannot be written"),
            (sqlite3.OperationalError("database is locked"), "another program has locked the database"),
        ],
    )
    def test_each_fault_has_its_message(self, error: Exception, message: str, tmp_path: Path) -> None:
        with pytest.raises(ScballastError, match=message) as raised, clear_faults(settings_for(tmp_path)):
            raise RuntimeError from error
        assert "\n" in str(raised.value)  # what to do about it

    def test_faults_of_the_program_are_not_hidden(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError), clear_faults(settings_for(tmp_path)):
            _ = 1 / 0

    def test_runs_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ScballastError, match="file: cannot be written"):
            Tracking(settings_for(tmp_path / "file")).prepare()

    def test_a_database_elsewhere_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        settings = TrackingSettings(f"sqlite:///{tmp_path}/file/x.db", "scballast", tmp_path / "runs")
        (tmp_path / "runs").mkdir()
        with pytest.raises(
            ScballastError, match=r"file/x\.db: cannot be written\.\nName another store \(tracking\.uri"
        ):
            Tracking(settings).prepare()

    def test_deleted_experiment(self, tracking: Tracking) -> None:
        client = tracking._store.client
        client.delete_experiment(client.get_experiment_by_name("scballast").experiment_id)
        with pytest.raises(ScballastError, match=r"tracking\.experiment: 'scballast' was deleted"):
            Tracking(tracking.settings).prepare()


class TestSettings:
    @pytest.mark.parametrize("uri", ["mlruns", "databricks", "file:///x", "ftp://x/y"])
    def test_unknown_address(self, uri: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"^tracking\.uri: .* is not the address of a store"):
            _ = settings_for(tmp_path, uri).store_uri

    @pytest.mark.parametrize("uri", ["file:/tmp/x", "databricks", "databricks://profile"])
    def test_unknown_address_in_the_environment(
        self, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(ConfigError, match=f"^the environment variable MLFLOW_TRACKING_URI: '{uri}' is not") as said:
            _ = settings_for(tmp_path).store_uri
        assert "unset MLFLOW_TRACKING_URI" in str(said.value)

    def test_a_server_on_this_machine_is_asked_without_a_proxy(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import requests

        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv("no_proxy", "example.org")
        monkeypatch.delenv("NO_PROXY", raising=False)
        _ = Tracking(settings_for(tmp_path, "http://127.0.0.1:5000"))._store.client
        assert requests.utils.get_environ_proxies("http://127.0.0.1:5000") == {}
        assert requests.utils.get_environ_proxies("http://localhost:5000") == {}
        assert requests.utils.get_environ_proxies("http://mlflow.example.com") != {}
        assert requests.utils.get_environ_proxies("http://example.org") == {}

    def test_environment_replaces_the_local_store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        assert settings_for(tmp_path).store_uri == "http://127.0.0.1:9"
        assert settings_for(tmp_path, "https://h/x").store_uri == "https://h/x"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
        assert settings_for(tmp_path).store_uri == f"sqlite:///{tmp_path.resolve()}/mlflow.db"

    def test_passwords_are_not_shown(self) -> None:
        assert without_password("postgresql://me:secret@host:5432/db") == "postgresql://me@host:5432/db"

    @pytest.mark.parametrize(("name", "sign"), [("what?", "question mark"), ("50%", "percent sign")])
    def test_signs_that_an_address_cannot_hold(self, name: str, sign: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=sign):
            _ = settings_for(tmp_path / name).store_uri

    @pytest.mark.parametrize("name", ["with space", "é#1 &x=y", "a'b;c"])
    def test_awkward_folder_names(self, name: str, tmp_path: Path, template_database: Path) -> None:
        runs = copy_template(template_database, tmp_path / name)
        tracking = Tracking(settings_for(runs))
        tracking.prepare()
        run_id = tracking.start_run("x", {}, {})
        tracking.publish(run_id, make_result(runs / "a"))
        assert sorted(tracking.load_tables(run_id)) == ["answer", "rankings", "stability"]
        assert (runs / "artifacts" / run_id / "artifacts" / "report.html").is_file()
        assert sorted(path.name for path in tmp_path.iterdir()) == [name]

    def test_moved_folder_still_opens(self, tracking: Tracking, tmp_path: Path) -> None:
        run_id = tracking.start_run("x", {}, {})
        tracking.publish(run_id, make_result(runs_of(tracking) / "a"))
        (tmp_path / "runs").rename(tmp_path / "moved away")
        moved = Tracking(settings_for(tmp_path / "moved away"))
        moved.prepare()
        assert sorted(moved.load_tables(run_id)) == ["answer", "rankings", "stability"]
        second = moved.start_run("y", {}, {})
        moved.publish(second, make_result(tmp_path / "moved away" / "b"))
        assert not (tmp_path / "runs").exists()
        assert moved._store.client.get_run(second).info.artifact_uri.startswith((tmp_path / "moved away").as_uri())
