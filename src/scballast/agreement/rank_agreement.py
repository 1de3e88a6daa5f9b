"""Agreement of whole rankings: rank-biased overlap, Kendall's W, and the consensus of many rankings.

Pure functions of arrays; numpy only. ``stability`` offers all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scballast.agreement.arguments import require, score_matrix, selection_matrix
from scballast.agreement.ranking import RankSpans, rank_spans
from scballast.agreement.statistic import Statistic
from scballast.arrays import FloatArray, IntArray


class KendallW(Statistic):
    r"""Kendall's W, and its chance-corrected form.

    Attributes
    ----------
    chance_corrected
        :math:`(mW - 1)/(m - 1)`, the mean pairwise Spearman correlation when no replicate has ties; 0 by chance.
    reason
        Why W is undefined; empty when it is defined.
    """

    chance_corrected: float = math.nan


def kendall_w_of_spans(spans: RankSpans) -> KendallW:
    """Kendall's W of (n_replicates, n_genes) rank spans, at least 2 of either; genes tied at the end are ranked so."""
    n_replicates, n_genes = spans.top.shape
    tied = spans.bottom - spans.top + 1.0
    correction = np.sum(tied**2 - 1.0)  # each of the t genes of a group adds its share of t³ - t
    sums = spans.midranks.sum(axis=0)
    spread = np.sum((sums - sums.mean()) ** 2)
    most = n_replicates**2 * (float(n_genes) ** 3 - n_genes) - n_replicates * correction
    if most <= 0.0:
        return KendallW(math.nan, "every replicate ties all genes")
    w = 12.0 * spread / most
    return KendallW(w, chance_corrected=float((n_replicates * w - 1.0) / (n_replicates - 1.0)))


@dataclass(frozen=True)
class ConsensusRanking:
    """One ranking out of many.

    Attributes
    ----------
    order : (n_genes,) int
        Gene positions from best to worst.
    ranks : (n_genes,) int
        Rank of each gene, 1 is the best, each used once.
    mean_rank : (n_genes,) float
        Mean midrank over the replicates (Borda).
    frequency : (n_genes,) float
        Share of the replicates that select the gene.
    """

    order: IntArray
    ranks: IntArray
    mean_rank: FloatArray
    frequency: FloatArray


def consensus_ranking(scores: npt.ArrayLike, selections: npt.ArrayLike, tie_keys: npt.ArrayLike) -> ConsensusRanking:
    """Order the genes by their mean midrank over replicates (Borda), ties by selection frequency.

    Parameters
    ----------
    scores : (n_replicates, n_genes) float
        Higher is stronger. Genes with a NaN score are tied at the end.
    selections : (n_replicates, n_genes) bool
        Top-k selections.
    tie_keys : (n_genes,) sortable
        Settles what is tied in frequency too (``ranking.tie_keys``).

    Returns
    -------
    ConsensusRanking

    Raises
    ------
    ValueError
        Not a matrix of scores, or the selections or keys do not fit it.
    """
    matrix, chosen, keys = score_matrix(scores), selection_matrix(selections), np.asarray(tie_keys)
    n_genes = matrix.shape[1]
    require(chosen.shape == matrix.shape, f"selections {chosen.shape} do not fit scores {matrix.shape}")
    require(keys.shape == (n_genes,), f"tie keys {keys.shape} do not fit {n_genes} genes")
    mean_rank, frequency = rank_spans(matrix).midranks.mean(axis=0), chosen.mean(axis=0)
    order = np.lexsort((keys, -frequency, mean_rank))
    return ConsensusRanking(order, np.argsort(order) + 1, mean_rank, frequency)
