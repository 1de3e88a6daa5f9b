"""The figures of merit of an experiment, under the names by which MLflow, sweeps and reports know them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest

import numpy as np
import pandas as pd

from scballast.config.schema import Config
from scballast.experiment.program_models import programs_in_models
from scballast.experiment.programs import program_metrics
from scballast.experiment.training import TrainedModels
from scballast.methods.registry import CONTROLS

_OF_EACH_METHOD = ("stability", "confirmed", "truth")
_OF_THE_RUN = {
    "fit/heldout_nll",
    "fit/heldout_elbo",
    "axis/purity",
    "programs/n_replicated",
    "programs/in_model",
    "train/failures",
    "seconds/baselines",
    "seconds/training",
    "seconds/total",
}


def collect_metrics(
    tables: Mapping[str, pd.DataFrame], config: Config, seconds: Mapping[str, float]
) -> dict[str, float]:
    """Return every metric of DESIGN.md from the tables.

    Parameters
    ----------
    tables
        The experiment's tables by name.
    config
        ``rank.top_k`` chooses the headline.
    seconds
        Wall time by stage.

    Returns
    -------
    dict
        Value by name; undefined values are NaN.
    """
    safe = dict(zip(tables["populations"]["population"], tables["populations"]["safe_name"], strict=True))
    metrics: dict[str, float] = {}
    headline = tables["stability"][tables["stability"]["k"] == config.rank.top_k]
    for method, rows in headline.groupby("method", sort=False, observed=True):
        metrics |= _by_list(f"stability/{method}", rows, "phi", safe)
    for (first, second), rows in tables["concordance"].groupby(["method_a", "method_b"], sort=False, observed=True):
        metrics |= _by_list(f"concordance/{first}_vs_{second}", rows, "overlap", safe)
    if "confirmation" in tables:
        for method, rows in tables["confirmation"].groupby("method", sort=False, observed=True):
            metrics[f"confirmed/{method}"] = _mean(rows["confirmed"])
    if "programs" in tables:
        metrics |= program_metrics(tables, safe)
    if "program_models" in tables:
        metrics["programs/in_model"] = programs_in_models(tables["program_summary"], tables["program_models"])
    if "fit" in tables:
        _fit(metrics, tables["fit"], safe)
    if "axis_purity" in tables and len(tables["axis_purity"]):
        metrics["axis/purity"] = float(tables["axis_purity"]["purity"].mean())
    if "truth" in tables:
        for method, rows in tables["truth"].groupby("method", sort=False, observed=True):
            metrics[f"truth/{method}/average_precision"] = _mean(rows["average_precision"])
    if "factors" in tables and len(tables["factors"]):
        metrics["factors/matched_correlation"] = _mean(tables["factors"]["matched_correlation"])
        metrics["factors/subspace_cos2"] = _mean(tables["factors"]["subspace_cos2"])
    if "training" in tables:
        metrics["train/models"] = float(len(tables["training"]))
        metrics["train/failures"] = float((tables["training"]["failure"] != "").sum())
        final = tables["training"].loc[tables["training"]["role"] == "global", "final_kl_weight"]
        metrics["train/final_kl_weight"] = _mean(final)
    for stage, value in seconds.items():
        metrics[f"seconds/{stage}"] = value
    metrics["seconds/total"] = sum(seconds.values())
    return metrics


def logged_metrics(metrics: Mapping[str, float], config: Config) -> dict[str, float]:
    """Return the metrics that a run is compared by; the tables hold every other value.

    Stability, the confirmed share and recovered truth of every method that is no control, means over populations; a
    handful of the whole run; and whatever an objective names. ``tracking.population_metrics=true`` keeps everything:
    populations, pairs of methods, controls, factors, single stages.

    Parameters
    ----------
    metrics
        From :func:`collect_metrics`.
    config
        ``tracking`` and ``objectives`` are used.
    """
    if config.tracking.population_metrics:
        return dict(metrics)
    named = {objective.metric for objective in config.objectives}
    return {name: value for name, value in metrics.items() if name in named or _is_headline(name)}


def _is_headline(name: str) -> bool:
    group, _, rest = name.partition("/")
    method, _, more = rest.partition("/")
    if group in _OF_EACH_METHOD:
        return method not in CONTROLS and more == ("average_precision" if group == "truth" else "")
    return name in _OF_THE_RUN


def mean_history(models: TrainedModels | None) -> dict[str, list[tuple[int, float]]]:
    """Return the global models' training curves, mean over replicates, as (epoch, value) by metric name."""
    if models is None or "global" not in models.ensembles:
        return {}
    names = {"elbo_train": "train/elbo", "kl_local_train": "train/kl", "kl_weight": "train/kl_weight"}
    curves: dict[str, list[list[float]]] = {name: [] for name in names.values()}
    for ensemble, position in models.global_models():
        history = ensemble.history(position)
        for history_name, name in names.items():
            if history_name in history:
                curves[name].append(list(history[history_name]))
    return {name: _mean_curve(rows) for name, rows in curves.items() if rows}


def _by_list(name: str, rows: pd.DataFrame, column: str, safe: Mapping[str, str]) -> dict[str, float]:
    """Return the mean of a column under a metric's name, and its value for each population."""
    lists = zip(rows["population"], rows[column], strict=True)
    return {name: _mean(rows[column]), **{f"{name}/{safe[population]}": float(value) for population, value in lists}}


def _fit(metrics: dict[str, float], table: pd.DataFrame, safe: Mapping[str, str]) -> None:
    overall = table[(table["model"] == "global") & (table["population"] == "")]
    metrics["fit/heldout_nll"] = _mean(overall["heldout_nll"])
    metrics["fit/heldout_elbo"] = _mean(overall["heldout_elbo"])
    by_population = table[table["population"] != ""]
    for (model, population), rows in by_population.groupby(["model", "population"], sort=False):
        metrics[f"fit/{model}_nll/{safe[str(population)]}"] = _mean(rows["heldout_nll"])


def _mean(values: pd.Series) -> float:
    numbers = values.to_numpy(dtype=float)
    return float(np.nanmean(numbers)) if np.isfinite(numbers).any() else float("nan")


def _mean_curve(rows: list[list[float]]) -> list[tuple[int, float]]:
    epochs = ([v for v in values if np.isfinite(v)] for values in zip_longest(*rows, fillvalue=np.nan))
    return [(epoch, float(np.mean(values))) for epoch, values in enumerate(epochs) if values]
