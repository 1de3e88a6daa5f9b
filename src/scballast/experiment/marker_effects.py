"""How far each gene sets a population apart from each single other one: effect sizes for readers, over all cells."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from scballast.experiment.scoring import blocks_of
from scballast.experiment.setup import Setup
from scballast.methods.cell_view import log_of
from scballast.methods.one_vs_each import PairwiseEffects, pairwise_effects, summarised

_VALUES_AT_ONCE = 2**25


def marker_effects_table(setup: Setup) -> pd.DataFrame:
    """Return the effects of every gene in every population against each other population, over all pairs.

    Returns
    -------
    DataFrame
        population, gene, and for each effect of :class:`~scballast.methods.one_vs_each.PairwiseEffects` ``min_``,
        ``mean_`` and ``min_rank_`` (best rank in any comparison, from 1) over the other ranked populations, within
        batches and samples where the data have them. All cells take part: these describe genes, and select none.
    """
    names, genes = setup.populations, setup.dataset.adata.var_names.to_numpy(dtype=str)
    effects = _effects(setup)
    columns: dict[str, Any] = {
        "population": pd.Categorical.from_codes(np.repeat(np.arange(len(names)), genes.size), categories=list(names)),
        "gene": np.tile(genes, len(names)),
    }
    for effect in fields(effects):
        summary = summarised(getattr(effects, effect.name))
        columns[f"min_{effect.name}"] = summary.minimum.ravel()
        columns[f"mean_{effect.name}"] = summary.mean.ravel()
        columns[f"min_rank_{effect.name}"] = summary.min_rank.ravel()
    return pd.DataFrame(columns)


def _effects(setup: Setup) -> PairwiseEffects:
    """Compare all cells, for as many genes at a time as make ``_VALUES_AT_ONCE`` values."""
    dataset, counts = setup.dataset, setup.counts
    n_populations, (n_cells, n_genes) = len(setup.populations), counts.shape
    effects = PairwiseEffects(*(np.empty((n_populations, n_populations, n_genes)) for _ in fields(PairwiseEffects)))
    blocks = blocks_of(dataset, np.arange(n_cells))
    at_once = max(1, n_genes * _VALUES_AT_ONCE // max(counts.nnz, 1))
    for start in range(0, n_genes, at_once):
        genes = slice(start, start + at_once)
        logs = log_of(counts[:, genes], dataset.total_counts)
        of_some = pairwise_effects(logs, dataset.population_codes, n_populations, blocks)
        for effect in fields(effects):
            getattr(effects, effect.name)[:, :, genes] = getattr(of_some, effect.name)
    return effects
