"""What is used of MLflow beyond its documented interface is still there; see scballast.tracking.mlflow_compat."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy

from scballast.tracking import Tracking, TrackingSettings, mlflow_compat

MOVED = "MLflow has moved: adapt scballast/tracking/mlflow_compat.py"
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
# What scballast-export deletes by, and scballast-ui corrects after a move.
COLUMNS = {
    "runs": {"run_uuid", "artifact_uri", "experiment_id", "lifecycle_stage", "status"},
    "tags": {"run_uuid", "key", "value"},
    "inputs": {"destination_type", "destination_id"},
    "experiments": {"experiment_id", "artifact_location"},
    "experiment_tags": {"experiment_id", "key", "value"},
    "logged_models": {"model_id", "artifact_location", "source_run_id"},
    "model_versions": {"name", "version", "source", "storage_location", "run_id"},
    "registered_models": {"name"},
    "registered_model_aliases": {"name", "version"},
}
# What a run, an experiment or a model owns is found by foreign keys.
OWNED = (
    *("params", "metrics", "latest_metrics", "tags", "experiment_tags", "datasets", "logged_model_params"),
    *("logged_model_tags", "logged_model_metrics", "model_version_tags", "registered_model_tags"),
)


def test_a_database_is_made_in_the_newest_form(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow_compat.make_database(uri, (tmp_path / "artifacts").as_uri())
    engine = sqlalchemy.create_engine(uri)
    try:
        assert mlflow_compat.schema_of(engine) == mlflow_compat.newest_schema(), MOVED
        inspector = sqlalchemy.inspect(engine)
        for table, wanted in COLUMNS.items():
            assert wanted <= {column["name"] for column in inspector.get_columns(table)}, f"{table}: {MOVED}"
        assert [table for table in OWNED if not inspector.get_foreign_keys(table)] == [], MOVED
    finally:
        engine.dispose()


def test_a_database_out_of_reach_is_waited_for_for_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed: pip install 'psycopg[binary]'")
    waits: list[float] = []
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 10)
    monkeypatch.setattr("mlflow.store.db.utils.time.sleep", waits.append)
    runs_dir = tmp_path / "runs"
    tracking = Tracking(TrackingSettings("postgresql+psycopg://nobody@127.0.0.1:9/x", "scballast", runs_dir))
    tracking.prepare()
    assert 3 < sum(waits) < 10, MOVED
    assert tracking.start_run("x", {}, {}).startswith("pending-")


def test_forms_that_can_be_brought_up_to_date_are_known(tmp_path: Path) -> None:
    assert mlflow_compat.knows_schema(mlflow_compat.newest_schema()), MOVED
    assert mlflow_compat.knows_schema("7ac759974ad8"), MOVED
    assert not mlflow_compat.knows_schema("fromthefuture"), MOVED


def test_addresses_of_this_machine_are_folders(tmp_path: Path) -> None:
    assert mlflow_compat.local_path((tmp_path / "a b").as_uri()) == tmp_path / "a b", MOVED
    assert mlflow_compat.local_path(str(tmp_path)) == tmp_path, MOVED
    assert mlflow_compat.local_path("mlflow-artifacts:/x") is None
