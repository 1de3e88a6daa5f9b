"""A sweep's tables from its trials' stored ones."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
from optuna.trial import TrialState, create_trial

from scballast.config import keys
from scballast.config.schema import Objective
from scballast.sweep.front import score_trials
from scballast.sweep.outcome import _notes, _trial_tables, trials_table
from scballast.verdict.caveats import OF_THE_DATA, Caveat, caveats_table

STABLE = Objective("stability/contrast", "maximize")


def study_of(trials: list[Any]) -> Any:
    config = SimpleNamespace(objectives=(STABLE,), resample=SimpleNamespace(n_replicates=2))
    return SimpleNamespace(
        trials=lambda: trials, scores=lambda: score_trials(trials, (STABLE,)), space=(), config=config
    )


def stored_trial(root: Path, number: int, metrics: dict[str, float], found: list[Caveat]) -> object:
    folder = root / "results" / f"trial{number}"
    for part in ("tables", "config"):
        (folder / part).mkdir(parents=True)
    (folder / "config" / "resolved.yaml").write_text("model: {name: pca, n_latent: 3}\n", encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    caveats_table(found).to_csv(folder / "tables" / "caveats.csv", index=False)
    attributes = {keys.RESULTS: f"results/trial{number}"}
    if "fit/heldout_nll" in metrics:
        attributes[keys.HELDOUT_NLL] = metrics["fit/heldout_nll"]  # type: ignore[assignment]
    trial = create_trial(state=TrialState.COMPLETE, values=[metrics[STABLE.metric]], user_attrs=attributes)
    trial.number = number
    return trial


def test_warnings_and_truth_of_trials_reach_the_sweep(tmp_path: Path) -> None:
    data, few = Caveat(OF_THE_DATA, "small populations", warned=True), Caveat("Few replicates", "two")
    steps = Caveat("Too few steps", "100 steps", warned=True)
    metrics = {"stability/contrast": 0.5, "truth/contrast/average_precision": 0.7, "concordance/a_vs_b": 0.9}
    trials = [stored_trial(tmp_path, number, metrics, [data, few, *[steps] * (number == 1)]) for number in (0, 1)]
    study = study_of(trials)
    warned = _trial_tables(study, None, tmp_path)["sweep_warnings"]  # type: ignore[arg-type]
    expected = pd.DataFrame([{"title": "Too few steps", "text": "100 steps", "trial": 1}])
    pd.testing.assert_frame_equal(warned.reset_index(drop=True), expected, check_dtype=False)
    table = trials_table(study, tmp_path)
    assert table["truth/contrast/average_precision"].tolist() == [0.7, 0.7]
    assert "concordance/a_vs_b" not in table


def test_a_failed_fit_that_is_no_objective_is_named_and_left_out_of_axes(tmp_path: Path) -> None:
    fits = {0: 1666.0, 1: 1700.0, 2: 1690.0, 3: 122405.0}
    trials = [
        stored_trial(tmp_path, n, {"stability/contrast": 0.5, "fit/heldout_nll": fit, "fit/heldout_elbo": fit}, [])
        for n, fit in fits.items()
    ]
    study = study_of(trials)
    table = trials_table(study, tmp_path).set_index("trial")
    assert table["fit/heldout_nll"].dropna().to_dict() == {0: 1666.0, 1: 1700.0, 2: 1690.0}
    assert list(table["fit/heldout_elbo"].dropna().index) == [0, 1, 2]
    assert table["stability/contrast"].tolist() == [0.5] * 4
    assert table["pareto"].all()
    assert table["failure"].tolist() == ["", "", "", why := score_trials(trials, (STABLE,)).poor_fits[3]]  # type: ignore[arg-type]
    assert "122405" in why
    (note,) = _notes(trials, score_trials(trials, (STABLE,)))  # type: ignore[arg-type]
    assert note == f"Trial 3 has {why}. The fit is no objective: the trial is compared, its fit is left out of axes."
