"""How far each gene sets a population apart from each single other one: effect sizes for readers, over all cells."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from scballast.experiment.scoring import cell_view
from scballast.experiment.setup import Setup
from scballast.methods.one_vs_each import pairwise_effects, summarised

if TYPE_CHECKING:
    import pandas as pd


def marker_effects_table(setup: Setup) -> pd.DataFrame:
    """Return the effects of every gene in every population against each other population, over all pairs.

    Returns
    -------
    DataFrame
        population, gene, and for each effect of :class:`~scballast.methods.one_vs_each.PairwiseEffects` ``min_``,
        ``mean_`` and ``min_rank_`` (best rank in any comparison, from 1) over the other ranked populations, within
        batches and samples where the data have them. All cells take part: these describe genes, and select none.
    """
    import pandas as pd

    names, genes = setup.populations, setup.dataset.adata.var_names.to_numpy(dtype=str)
    view = cell_view(setup, np.arange(setup.counts.shape[0]), seed=0)
    effects = pairwise_effects(view.log_counts, view.codes, view.n_populations, view.blocks)
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
