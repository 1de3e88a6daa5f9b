"""Rates of this machine from stored runs, against numbers worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from tests.helpers.sweep_helpers import TINY

from scballast.config.compose import compose_config
from scballast.errors import ConfigError
from scballast.experiment.run import prepare_dataset
from scballast.results import MARKER
from scballast.sweep import estimate
from scballast.sweep.messages import Estimated
from scballast.sweep.plan import _time
from scballast.sweep.racing import share_trained, usual_share
from scballast.sweep.rates import USUAL_BASELINES, Rates, stored_rates, usual_rest


def stored(root: Path, name: str, model: str, seconds: dict[str, float]) -> None:
    folder = root / "results" / name
    (folder / "config").mkdir(parents=True)
    (folder / "tables").mkdir()
    config = {"model": {"name": model}, "resample": {"n_replicates": 4}}
    (folder / "config" / "resolved.yaml").write_text(json.dumps(config))
    (folder / "metrics.json").write_text(json.dumps({f"seconds/{stage}": value for stage, value in seconds.items()}))
    (folder / "tables" / "training.csv").write_text("n_cells,epochs,failure\n100,20,\n50,20,\n100,20,diverged\n")
    (folder / "tables" / "populations.csv").write_text("population,n_cells\nA,150\nB,50\n")
    (folder / MARKER).write_text("{}")


def test_rates_are_per_unit_of_work(tmp_path: Path) -> None:
    stored(tmp_path, "a", "ldvae", {"training": 6.0, "baselines": 8.0, "total": 20.0, "report": 5.0})
    stored(tmp_path, "b", "ldvae", {"training": 12.0, "baselines": 0.1, "total": 20.0, "report": 5.0})
    stored(tmp_path, "c", "pca", {"training": 600.0, "baselines": 800.0, "total": 2000.0})
    # The models of this one came from the cache.
    stored(tmp_path, "e", "ldvae", {"training": 0.2, "baselines": 0.1, "total": 11.7, "report": 0.0})
    (tmp_path / "results" / "d").mkdir()
    (tmp_path / "results" / "d" / MARKER).write_text("{}")
    rates = stored_rates(tmp_path, "ldvae")
    assert rates.n_runs == 3
    assert rates.training == pytest.approx((6.0 + 12.0) / 2 / 3000)
    assert rates.baselines == pytest.approx(8.0 / 800)  # the other's came from the cache
    assert rates.rest == pytest.approx(11.4 / (15.0 + 0.4 * 2 + 1.4e-3 * 200))
    assert math.isnan(stored_rates(tmp_path, "nmf").training)
    assert rates.or_usual(7.0) == rates
    assert stored_rates(tmp_path, "nmf").or_usual(7.0) == Rates(7.0, USUAL_BASELINES, 1.0, 0)


def test_the_time_counts_rounds_of_workers_and_says_when_it_is_not_known() -> None:
    found = Estimated((), 60.0, 30.0, 10.0, "3 finished runs in runs")
    assert _time(found, 1, 1) == "Time: about 2 min (from 3 finished runs in runs)."
    assert _time(found, 4, 3) == "Time: about 3 min, 3 workers (from 3 finished runs in runs)."
    # 30 s, and 40 times 70 s. Raced, three trials are trained whole and of the others 0.6, or 0.8 where the whole
    # front is wanted, or a fifth at least, of 60 s: 1,512 s, 1,956 s and 624 s beside the 30 s and 40 times 10 s.
    config = compose_config(["sweep=optuna"])
    whole_front = compose_config(["sweep=optuna", "sweep.tolerance=0"])
    for own, told in ((config, "32 min"), (whole_front, "40 min")):
        raced = _time(found, 40, 1, (usual_share(own, 40), share_trained(40, 1 / 5)))
        assert raced.startswith(f"Time: about 47 min without racing; with it about {told}, 18 min at least (from 3 ")
    assert _time(found, 0, 1).startswith("Time: none")
    assert "plan=probe" in _time(Estimated((), math.nan, 0.0, math.nan, ""), 1, 1)


def test_plan_is_true_false_or_probe() -> None:
    assert [compose_config([f"plan={word}"]).plan for word in ("true", "false", "probe")] == [True, False, "probe"]
    with pytest.raises(ConfigError, match="plan: 'prob' is not allowed; allowed: true, false, probe"):
        compose_config(["plan=prob"])


def test_what_is_left_is_told_without_a_server_that_gives_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "stored_rates", lambda *_: Rates(1e-3, 2e-3, 5.0, 1))
    config = compose_config(
        [*TINY, "model=pca", "methods=[t_test,contrast]", f"runs_dir={tmp_path}", "tracking.uri=http://127.0.0.1:9"]
    )
    found = estimate.stage_seconds(config, prepare_dataset(config))
    # 200 cells in two replicates at 2 ms; a PCA of each half, 100 cells at 1 ms.
    assert found == pytest.approx((0.8, 0.2, 5.0 * usual_rest(200, 3)))
