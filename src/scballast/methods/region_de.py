"""Genes of a region of the latent space: the extreme cells of an axis against all other cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scballast.agreement.arguments import require
from scballast.agreement.ranking import rank_genes, tie_keys
from scballast.arrays import BoolArray, FloatArray
from scballast.engine import scvi_compat
from scballast.methods import model_de
from scballast.seeds import Stream, generator_for, integer_for

if TYPE_CHECKING:
    import pandas as pd
    from scvi.model import SCVI, LinearSCVI


ENDS = ("low", "high")


def extreme_cells(scores: npt.ArrayLike, end: str, fraction: float, generator: np.random.Generator) -> BoolArray:
    """Select the extreme cells of an axis.

    Parameters
    ----------
    scores : (n_cells,) float
        Positions on the axis.
    end
        ``low`` or ``high``.
    fraction
        Share of the cells, in (0, 0.5]; rounded up.
    generator
        Chooses among cells tied at the edge.

    Returns
    -------
    (n_cells,) bool

    Raises
    ------
    ValueError
        ``end`` or ``fraction`` is not allowed, a score is not finite, or there are fewer than 2 cells.
    """
    values = np.asarray(scores, dtype=np.float64)
    require(end in ENDS, f"end must be one of {', '.join(ENDS)}, got {end!r}")
    require(0 < fraction <= 0.5, f"fraction must be above 0 and at most 0.5, got {fraction}")
    if values.ndim != 1 or values.size < 2 or not np.isfinite(values).all():
        message = f"scores {values.shape} must be one finite number for each of at least 2 cells"
        raise ValueError(message)
    n_extreme = max(1, int(np.ceil(fraction * values.size - 1e-9)))
    order = np.lexsort((generator.random(values.size), values if end == "low" else -values))
    selected = np.zeros(values.size, dtype=bool)
    selected[order[:n_extreme]] = True
    return selected


def region_differential_expression(
    model: LinearSCVI | SCVI,
    scores: FloatArray,
    *,
    fraction: float = 0.05,
    seed: int = 0,
    n_samples: int = model_de.N_SAMPLES,
    n_top_genes: int = 50,
) -> pd.DataFrame:
    """Compare both ends of every axis with all other cells, by the model's own differential expression.

    For linear and non-linear models alike: the genes of a region are read from the decoded expression, not from
    loadings. The statistics are those of scvi-tools' ``differential_expression`` with ``mode="change"`` and
    ``weights="uniform"`` (see ``model_de``). Region and test come from the same cells and model, so the
    probabilities describe the region; they are no evidence that it exists.

    Parameters
    ----------
    model
        Trained, with its AnnData.
    scores
        (n_cells, n_dimensions) latent positions of the cells of ``model.adata``.
    fraction
        Share of the cells at each end, in (0, 0.5].
    seed
        >= 0; the draws of a region depend on its axis and end alone.
    n_samples
        Draws from each side, >= 1.
    n_top_genes
        Genes kept for each end, the highest scores first.

    Returns
    -------
    DataFrame
        dimension (from 0), end (low, high), rank, gene, score (higher: more expressed in the region; see
        ``change_score``), lfc_mean (log2), proba_de, n_cells (of the region).

    Raises
    ------
    ValueError
        Scores and cells disagree, or see :func:`extreme_cells`.
    """
    import pandas as pd
    import torch
    from scipy.sparse import csr_matrix
    from scvi import REGISTRY_KEYS

    n_cells = model.adata.n_obs
    if scores.ndim != 2 or len(scores) != n_cells:
        message = f"scores {scores.shape} must be cell × dimension for {n_cells} cells"
        raise ValueError(message)
    genes = model.adata.var_names.to_numpy(dtype=str)
    keys = tie_keys(genes.tolist())
    posterior = model_de.encode_cells(model, np.arange(n_cells))
    counts = csr_matrix(model.adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY), dtype=np.float64)
    inside, outside = torch.empty((2, n_samples, genes.size), device=posterior.location.device)
    parts = []
    for dimension in range(scores.shape[1]):
        for end in ENDS:
            identity = ("region", dimension, end)
            ties = generator_for(seed, Stream.DIFFERENTIAL_EXPRESSION, *identity, "ties")
            region = extreme_cells(scores[:, dimension], end, fraction, ties)
            draws = torch.Generator().manual_seed(integer_for(seed, Stream.DIFFERENTIAL_EXPRESSION, *identity))
            model_de.draw_scales(model, posterior, np.flatnonzero(region), draws, inside)
            model_de.draw_scales(model, posterior, np.flatnonzero(~region), draws, outside)
            unexpressed = [
                np.asarray(counts[side].mean(axis=0)).ravel() < model_de.UNEXPRESSED_MEAN_COUNT
                for side in (region, ~region)
            ]
            pseudocount = scvi_compat.estimated_pseudocount(inside, outside, *unexpressed)
            statistics = model_de.change_statistics(inside, outside, pseudocount)
            score = model_de.change_score(statistics, n_samples)
            ranks = rank_genes(score, keys, seed, *identity)
            top = np.argsort(ranks)[:n_top_genes]
            parts.append(
                pd.DataFrame(
                    {
                        "dimension": dimension,
                        "end": end,
                        "rank": ranks[top],
                        "gene": genes[top],
                        "score": score[top],
                        "lfc_mean": statistics.lfc_mean[top],
                        "proba_de": statistics.proba_de[top],
                        "n_cells": int(region.sum()),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)
