"""Trials whose models are trained together: real sweeps, as small as they get."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.helpers.prepared_processes import run, start
from tests.helpers.sweep_helpers import TINY, children, kill, trial_states, wait_for

pytestmark = pytest.mark.slow

LDVAE = (
    *(word for word in TINY if word != "model=pca"),
    "methods=[contrast,local,per_population,t_test,random]",
    "train.max_epochs=2",
    "fit.n_mc_samples=2",
    "sweep.name=fused",
)


def tables_of(runs: Path) -> dict[str, dict[str, bytes]]:
    """Return the files of every trial's tables, by its number."""
    found = {}
    for tags in children(runs).values():
        (folder,) = (runs / "results").glob(f"trial{tags['scballast.trial']}-*")
        found[tags["scballast.trial"]] = {path.name: path.read_bytes() for path in (folder / "tables").iterdir()}
    return found


@pytest.mark.timeout(1200)
def test_a_grid_trained_together_has_the_tables_of_the_same_grid_trained_one_by_one(tmp_path: Path) -> None:
    words = ("-m", *LDVAE, "model.n_latent=2,3", "train.lr=2e-3,5e-3")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    said = run(tmp_path / "a" / "runs", *words, "sweep.fused=3", seconds=600)
    assert "Trained 3 trials together" in said
    assert "4 done, 0 failed, 4 in all" in said
    run(tmp_path / "b" / "runs", *words, seconds=600)
    fused, alone = tables_of(tmp_path / "a" / "runs"), tables_of(tmp_path / "b" / "runs")
    assert sorted(fused) == sorted(alone) == ["0", "1", "2", "3"]
    for number, tables in alone.items():
        assert len(tables) > 20
        assert sorted(tables) == sorted(fused[number])
        assert [name for name, content in tables.items() if content != fused[number][name]] == []


def test_trials_that_are_not_begun_are_given_back(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    words = ("-m", *LDVAE, "model.n_latent=2,3,4", "sweep.fused=3")
    said = run(runs, *words, "sweep.timeout=1s", seconds=600)
    assert "Trained 3 trials together" in said
    assert "1 done, 0 failed, 3 in all" in said
    assert trial_states(runs) == {"COMPLETE": 1, "FAIL": 2, "WAITING": 2}
    said = run(runs, *words, seconds=600)
    assert "3 done, 0 failed, 3 in all" in said


def test_a_killed_sweep_trains_nothing_twice(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    words = ("-m", *LDVAE, "model.n_latent=2,3,4", "sweep.fused=3")
    process = start(runs, *words)
    wait_for(lambda: "Trained 3 trials together" in (tmp_path / "log.txt").read_text(), "the training")
    kill(process)
    trained = {path.name: path.stat().st_ino for path in (runs / "cache" / "models").iterdir()}
    assert len(trained) == 3 * (2 + 6)
    said = run(runs, *words, seconds=600)
    assert "3 done, 0 failed, 3 in all" in said
    assert trial_states(runs) == {"COMPLETE": 3, "FAIL": 3}
    assert {path.name: path.stat().st_ino for path in (runs / "cache" / "models").iterdir()} == trained
