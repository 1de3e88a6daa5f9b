from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from tests.helpers.tracking_helpers import PARAMS, make_result, settings_for, snapshot

from scballast.commands.export import main
from scballast.tracking import Tracking

pytest_plugins = ("tests.helpers.tracking_fixtures",)
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture
def sweeps(tracking: Tracking) -> dict[str, list[str]]:
    """Return two sweeps of a parent and two trials each, with their Optuna studies."""
    runs = tracking.settings.root
    found: dict[str, list[str]] = {}
    for sweep in ("first", "second"):
        tags = {"scballast.sweep": sweep}
        parent = tracking.start_run(sweep, {}, tags)
        trials = [tracking.start_run(f"{sweep} {i}", {**PARAMS, "i": i}, tags, parent) for i in range(2)]
        for run_id in [*trials, parent]:
            tracking.publish(run_id, make_result(runs / "results" / run_id, sweep=sweep))
        found[sweep] = sorted([parent, *trials])
        model = runs / "saved" / sweep
        model.mkdir(parents=True)
        (model / "model.pt").write_bytes(sweep.encode())
        tracking.register_model(trials[0], model, "ldvae", sweep)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{runs / 'optuna.db'}")
    for sweep in found:
        optuna.create_study(study_name=sweep, storage=storage)
    storage.engine.dispose()
    return found


def test_a_sweep_opens_elsewhere(tracking: Tracking, sweeps: dict[str, list[str]], tmp_path: Path) -> None:
    runs = tracking.settings.root
    wanted = {run_id: snapshot(tracking, run_id) for run_id in sweeps["first"]}
    (tmp_path / "away").mkdir()
    assert main([str(tmp_path / "away" / "out"), "--sweep", "first", "--runs-dir", str(runs)]) == 0
    (tmp_path / "away" / "out").rename(tmp_path / "elsewhere")
    runs.rename(tmp_path / "gone")

    there = Tracking(settings_for(tmp_path / "elsewhere"))
    there.prepare()
    assert sorted(run.run_id for run in there.find_runs()) == sweeps["first"]
    for run_id in sweeps["first"]:
        assert snapshot(there, run_id) == wanted[run_id]
    client = there._store.client
    assert client.get_registered_model("ldvae").aliases.keys() == {"first"}
    assert len(client.search_model_versions("name = 'ldvae'")) == 1
    version = client.get_model_version_by_alias("ldvae", "first")
    (logged,) = client.search_logged_models([client.get_run(sweeps["first"][0]).info.experiment_id])
    assert version.source == logged.artifact_location
    saved = Path(version.source.removeprefix("file://")) / "model" / "model.pt"
    assert saved.is_relative_to(tmp_path / "elsewhere")
    assert saved.read_bytes() == b"first"
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'elsewhere' / 'optuna.db'}")
    assert optuna.get_all_study_names(storage) == ["first"]
    storage.engine.dispose()
    assert "scballast-ui --runs-dir ." in (tmp_path / "elsewhere" / "README.md").read_text()


def test_what_is_left_out_leaves_nothing_behind(
    tracking: Tracking, sweeps: dict[str, list[str]], tmp_path: Path
) -> None:
    main([str(tmp_path / "out"), "--sweep", "first", "--runs-dir", str(tracking.settings.root)])
    with closing(sqlite3.connect(tmp_path / "out" / "mlflow.db")) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    for run_id in sweeps["second"]:
        assert run_id.encode() not in everything


def test_all_runs(tracking: Tracking, sweeps: dict[str, list[str]], tmp_path: Path) -> None:
    assert main([str(tmp_path / "out"), "--runs-dir", str(tracking.settings.root)]) == 0
    there = Tracking(settings_for(tmp_path / "out"))
    there.prepare()
    assert sorted(run.run_id for run in there.find_runs()) == sorted(sweeps["first"] + sweeps["second"])
    # The original still opens where it is.
    tracking.prepare()
    assert sorted(tracking.load_tables(sweeps["first"][0])) == ["answer", "rankings", "stability"]


def test_what_cannot_be_exported(
    tracking: Tracking, sweeps: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = str(tracking.settings.root)
    assert main([str(tmp_path / "out"), "--sweep", "third", "--runs-dir", runs]) == 2
    assert "sweep 'third': there is none of that name; sweeps here: first, second." in capsys.readouterr().err
    assert main([runs, "--runs-dir", runs]) == 2
    assert "exists already, and nothing is overwritten" in capsys.readouterr().err
    assert main([str(tmp_path / "out"), "--runs-dir", str(tmp_path / "none")]) == 2
    assert "holds no MLflow database" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
