"""One complementary pair of an experiment's replicates, as far as a few figures of merit need it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd

from scballast.config.schema import Config
from scballast.data.dataset import Dataset
from scballast.experiment.confirming import cells_of
from scballast.experiment.heldout_fit import fit_table
from scballast.experiment.metrics import collect_metrics
from scballast.experiment.run import model_cache, populations_table
from scballast.experiment.scoring import baseline_scores, model_scores, score_set_of
from scballast.experiment.setup import Setup
from scballast.experiment.training import train_models
from scballast.methods.cache import ScoreCache
from scballast.verdict.confirmation import confirm
from scballast.verdict.tables import concordance_table, stability_table
from scballast.verdict.truth import truth_table


def setup_objectives(setup: Setup, *, cache_dir: Path | None) -> dict[str, float]:
    """Return the objectives' values on the replicates and methods of a setup, as of one pair by `pair_setup`.

    Parameters
    ----------
    setup
        The experiment. Only what its objectives need is trained, scored and tested: ``fit/…``, ``stability/…``,
        ``concordance/…``, ``confirmed/…`` or ``truth/…``. Its models are kept in the cache, where the whole
        experiment finds them.
    cache_dir
        As for :func:`scballast.experiment.run.run_experiment`.

    Returns
    -------
    dict
        Those that this configuration measures, finite values only.
    """
    config, dataset = setup.config, setup.dataset
    metrics = [objective.metric for objective in config.objectives]
    scores = baseline_scores(setup, ScoreCache(cache_dir))
    tables: dict[str, pd.DataFrame] = {"populations": populations_table(dataset)}
    fit_wanted = any(metric.startswith("fit/") for metric in metrics) and setup.family.likelihood
    if setup.from_models or fit_wanted:
        models = train_models(setup, model_cache(config, cache_dir))
        scores.update(model_scores(setup, models))
        if fit_wanted:
            tables["fit"] = fit_table(setup, models)
    score_set = score_set_of(setup, scores)
    tables["stability"] = stability_table(score_set, config.rank.top_k)
    tables["concordance"] = concordance_table(score_set, config.rank.top_k)
    if any(metric.startswith("confirmed/") for metric in metrics):
        cells, top_k = cells_of(setup), config.rank.top_k
        tables["confirmation"] = confirm(score_set, cells, setup.replicates, top_k, seed=config.seed).summary
    if dataset.truth is not None and any(metric.startswith("truth/") for metric in metrics):
        tables["truth"] = truth_table(score_set, dataset.truth, config.rank.top_k)
    measured = collect_metrics(tables, config, {})
    return {metric: measured[metric] for metric in metrics if math.isfinite(measured.get(metric, math.nan))}


def pair_setup(config: Config, dataset: Dataset, pair: int) -> Setup:
    """Return an experiment that has one pair of its replicates only, and the methods that its objectives need.

    The pair sees the same cells and seeds as in the whole experiment.

    Parameters
    ----------
    config
        The whole experiment.
    dataset
        From :func:`scballast.experiment.run.prepare_dataset`.
    pair
        Replicates 2 · pair and 2 · pair + 1.
    """
    setup = Setup.of(config, dataset)
    needed = {name for objective in config.objectives for name in _methods_in(objective.metric)}
    return replace(
        setup,
        replicates=setup.replicates[2 * pair : 2 * pair + 2],
        methods=tuple(method for method in setup.methods if method.name in needed),
    )


def _methods_in(metric: str) -> list[str]:
    """Return the methods that a metric's name holds: ``stability/NAME``, ``concordance/NAME_vs_NAME``."""
    family, _, rest = metric.partition("/")
    name = rest.split("/")[0]
    return [] if family == "fit" else name.split("_vs_")
