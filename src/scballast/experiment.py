"""One experiment from counts to tables: read it from top to bottom and see all of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scballast.cache import ScoreCache
from scballast.config import Config, config_hash, to_leaves, to_nested
from scballast.data import load_dataset
from scballast.data.dataset import Dataset
from scballast.evaluation import (
    Method,
    ScoreSet,
    concordance_table,
    consensus_table,
    differences_table,
    rankings_table,
    stability_table,
)
from scballast.fit import fit_table
from scballast.latent import latent_tables
from scballast.metrics import collect_metrics, mean_history
from scballast.methods import PlannedMethod, plan_methods
from scballast.resample import Replicate, draw_replicates
from scballast.results import Results
from scballast.scoring import baseline_scores, model_scores
from scballast.training import MemberKey, TrainedModels, train_models

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experiment:
    """An experiment's results, and the models behind them while they are still in memory."""

    dataset: Dataset
    results: Results
    models: TrainedModels | None


def prepare_dataset(config: Config) -> Dataset:
    """Load and check the data, and check the configuration against them.

    Raises
    ------
    DataError, ConfigError
        What is wrong, where, and what to do.
    """
    dataset = load_dataset(config.data, seed=config.seed)
    check_against_data(config, dataset)
    return dataset


def run_experiment(config: Config, dataset: Dataset, *, cache_dir: Path | None) -> Experiment:
    """Draw replicates, train, score, evaluate.

    Parameters
    ----------
    config
        The whole configuration.
    dataset
        From :func:`prepare_dataset`.
    cache_dir
        Folder of scores that do not depend on the model, shared by all experiments; None: no cache.
    """
    clock = _Clock()
    cache = ScoreCache(cache_dir)
    methods = plan_methods(config, has_samples=dataset.sample_key is not None)
    replicates = _replicates(config, dataset)
    with clock.stage("baselines"):
        scores = baseline_scores(config, dataset, replicates, methods, cache)
    models: TrainedModels | None = None
    tables: dict[str, pd.DataFrame] = {}
    if any(method.source != "baseline" for method in methods):
        with clock.stage("training"):
            models = train_models(config, dataset, replicates, methods)
        with clock.stage("rankings"):
            scores.update(model_scores(config, dataset, replicates, methods, models))
        with clock.stage("fit"):
            tables["fit"] = fit_table(config, dataset, replicates, models)
        with clock.stage("latent"):
            tables.update(latent_tables(config, dataset, replicates, models))
        tables["training"] = models.table
    with clock.stage("statistics"):
        score_set = _score_set(config, dataset, methods, scores)
        tables.update(statistics_tables(config, score_set))
        tables.update(_truth_tables(config, dataset, score_set))
    tables["populations"] = _populations_table(dataset)
    warnings = dataset.warnings + _resample_warnings(config) + (models.warnings if models else ())
    for warning in warnings:
        logger.warning("Warning: %s", warning)
    results = Results(
        tables=tables,
        metrics=collect_metrics(tables, config, clock.seconds, cache),
        history=mean_history(models),
        config=to_nested(config),
        params={key: _text(value) for key, value in to_leaves(config).items()},
        tags=_tags(config, dataset),
        warnings=warnings,
    )
    return Experiment(dataset, results, models)
