"""Concordance: how much the gene lists of two methods agree on the same replicates.

Pure functions of arrays; numpy and scipy only. Only methods with one estimand may be compared.
"""

from __future__ import annotations

import numpy as np

from scballast.agreement.overlap import concordance_curve_weights, expected_overlaps, rank_biased_weights, top_k_weights
from scballast.agreement.ranking import RankSpans
from scballast.arrays import FloatArray, divided


def agreement_by_replicate(first: RankSpans, second: RankSpans, k: int, p: float) -> dict[str, FloatArray]:
    """Overlap at k, rank-biased overlap, area under the concordance curve and Spearman of paired rankings.

    Parameters
    ----------
    first, second
        Rank spans of shape (n_replicates, n_genes).
    k
        Length of the top list, at least 0.
    p
        Persistence, in (0, 1).

    Returns
    -------
    dict of (n_replicates,) float
        ``overlap``, ``rbo``, ``aucc`` and ``spearman``; NaN where undefined.
    """
    n_replicates, n_genes = first.top.shape
    weights = {"rbo": rank_biased_weights(n_genes, p)}
    if 0 < k < n_genes:
        weights["overlap"] = top_k_weights(k)
    if 0 < k <= n_genes:
        weights["aucc"] = concordance_curve_weights(k)
    nothing = np.full(n_replicates, np.nan)
    overlaps = dict(zip(weights, expected_overlaps(first, second, list(weights.values())), strict=True))
    return {
        "overlap": overlaps.get("overlap", nothing),
        "rbo": overlaps["rbo"],
        "aucc": overlaps.get("aucc", nothing),
        "spearman": rowwise_correlation(first.midranks, second.midranks),
    }


def rowwise_correlation(first: FloatArray, second: FloatArray) -> FloatArray:
    """Pearson correlation along the last axis; NaN where a vector is constant."""
    return np.asarray((standardised(first) * standardised(second)).sum(axis=-1))


def standardised(values: FloatArray) -> FloatArray:
    """Vectors along the last axis with mean 0 and length 1, so that products are correlations; NaN if constant."""
    centred = values - values.mean(axis=-1, keepdims=True)
    return divided(centred, np.sqrt((centred**2).sum(axis=-1, keepdims=True)), np.nan)
