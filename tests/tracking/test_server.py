"""A real MLflow server that goes away and comes back."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from tests.helpers.tracking_helpers import PARAMS, copy_template, free_port, make_result, mlflow_server, settings_for

from scballast.errors import ScballastError
from scballast.tracking import Tracking

pytest_plugins = ("tests.helpers.tracking_fixtures",)
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


def contents(tracking: Tracking, run_id: str) -> tuple[dict[str, str], dict[str, float], dict[str, bytes]]:
    folder, run = tracking.folder_of(run_id), tracking.get_run(run_id)
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return dict(run.params), dict(run.metrics), files


def test_server_restarts_in_mid_run(tmp_path: Path, template_database: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = copy_template(template_database, tmp_path / "server")
    runs, port = tmp_path / "runs", free_port()
    settings = settings_for(runs, f"http://127.0.0.1:{port}")

    tracking = Tracking(settings)
    with mlflow_server(store, port):
        tracking.prepare()
        whole = tracking.start_run("whole", PARAMS, {})
        assert tracking.publish(whole, make_result(runs / "whole", n_metrics=30)) == whole
        wanted = contents(tracking, whole)
        cut = tracking.start_run("cut", PARAMS, {})

    begun = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert tracking.publish(cut, make_result(runs / "cut", n_metrics=30)) is None
        parent = tracking.start_run("parent", {}, {})
        child = tracking.start_run("child", {}, {}, parent)
        tracking.set_tags(child, {"trial": 7})
        tracking.fail_run(child, "NaN", "Traceback …")
        assert tracking.publish(parent, make_result(runs / "parent")) is None
    assert time.monotonic() - begun < 30
    assert parent.startswith("pending-")
    assert caplog.text.count("gives no answer (Connection refused). Results are kept in") == 1
    assert "scballast-ui --sync" in caplog.text
    with pytest.raises(ScballastError, match="gave no answer"):
        tracking.find_runs()
    assert len(tracking.sync().waiting) == 3

    with mlflow_server(store, port):
        later = Tracking(settings)
        result = tracking.sync()
        assert sorted(result.published) == ["cut", "parent"]
        assert result.ended == ("child",)
        assert result.waiting == ()
        found = {run.name: run for run in later.find_runs()}
        assert {name: run.status for name, run in found.items()} == {
            "whole": "FINISHED",
            "cut": "FINISHED",
            "parent": "FINISHED",
            "child": "FAILED",
        }
        assert len(later.find_runs()) == 4
        assert found["cut"].run_id == cut
        assert found["child"].tags["mlflow.parentRunId"] == found["parent"].run_id
        assert found["child"].tags["trial"] == "7"
        assert found["child"].tags["scballast.failure"] == "NaN"
        assert contents(later, cut) == wanted
        assert sorted(later.load_tables(cut)) == ["answer", "rankings", "stability"]
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "model.pt").write_bytes(b"weights")
        assert later.register_model(cut, tmp_path / "model", "ldvae", "best") == "models:/ldvae@best"
        with pytest.raises(ScballastError, match=r"model\.pt: holds more than weights"):
            later.load_model("models:/ldvae@best", AnnData(np.zeros((1, 1))))
        later.prepare()
        again = later.sync()
        assert (again.published, again.ended, again.waiting) == ((), (), ())
        assert len(later.find_runs()) == 4
        assert list((runs / "outbox").iterdir()) == []


def test_no_server_from_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracking = Tracking(settings_for(tmp_path / "runs", f"http://127.0.0.1:{free_port()}"))
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING):
        tracking.prepare()
        run_id = tracking.start_run("x", PARAMS, {})
        assert tracking.publish(run_id, make_result(tmp_path / "runs" / "a")) is None
    assert time.monotonic() - begun < 20
    assert "gives no answer" in caplog.text
