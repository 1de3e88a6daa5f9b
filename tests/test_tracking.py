from __future__ import annotations

import json
from pathlib import Path

import pytest

from scballast.tracking import Tracking
from tracking_helpers import PARAMS, TAGS, make_result, snapshot

pytest_plugins = ("tracking_fixtures",)
# MLflow 3.17 asks SQLAlchemy 2.1 for a loader strategy that it is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


def test_published_folder_is_in_the_run(tracking: Tracking, tmp_path: Path) -> None:
    run_id = tracking.start_run("trial 3", PARAMS, TAGS)
    assert tracking.get_run(run_id).status == "RUNNING"
    folder = make_result(tmp_path / "runs" / "a")
    assert tracking.publish(run_id, folder) == run_id
    run = tracking.get_run(run_id)
    assert run.status == "FINISHED"
    assert run.name == "trial 3"
    assert run.params["model.n_latent"] == "10"
    assert len(run.params["extra"]) == 6000
    assert "config/resolved.yaml" in run.params["extra"]
    assert run.metrics["stability/contrast"] == 0.8
    assert "stability/undefined" not in run.metrics
    assert run.tags["mlflow.note.content"].startswith("**answer**")
    assert run.tags["scballast.warnings"] == "population 'B' has 3 cells"
    found = snapshot(tracking, run_id)
    assert [(step, value) for step, value, _ in found["history"]["train/elbo"]] == [(e, 10.0 - e) for e in range(5)]
    assert found["inputs"] == [("pbmc", ("0123456789abcdef" * 4)[:36])]
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
    assert list((tmp_path / "runs" / "outbox").iterdir()) == []
