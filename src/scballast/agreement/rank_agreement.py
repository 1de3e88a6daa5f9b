"""Agreement of whole rankings: rank-biased overlap, Kendall's W, and the consensus of many rankings.

Pure functions of arrays; numpy only. ``stability`` offers all of them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scballast.agreement.arguments import check_persistence, score_matrix, score_pair, selection_matrix
from scballast.agreement.overlap import expected_overlap, pairwise_expected_overlap, rank_biased_weights
from scballast.agreement.ranking import RankSpans, rank_spans
from scballast.agreement.statistic import Statistic, undefined
from scballast.arrays import FloatArray, IntArray


def rank_biased_overlap(first: npt.ArrayLike, second: npt.ArrayLike, p: float = 0.98) -> Statistic:
    r"""Extrapolated rank-biased overlap of two score vectors: top-weighted agreement of complete rankings.

    .. math:: RBO_{EXT} = \frac{1-p}{p}\sum_{d=1}^{G}\frac{X_d}{d}p^d + \frac{X_G}{G}p^G

    with :math:`X_d` the expected number of genes that both rankings have among their first d when ties are broken
    at random: the result is the mean over all tie-breakings.

    Parameters
    ----------
    first, second : (n_genes,) float
        Scores of the same genes, higher is stronger; ties allowed.
    p
        Persistence, in (0, 1): with 0.98 the first 50 genes carry 86% of the weight.

    Returns
    -------
    Statistic
        In [0, 1]; 1 only for identical rankings without ties at the top. NaN when a score is NaN.

    Raises
    ------
    ValueError
        The vectors differ in length or are empty, or p is not in (0, 1).

    References
    ----------
    Webber, Moffat & Zobel (2010), A similarity measure for indefinite rankings, eq. 30.
    Corsi & Urbano (2024), The treatment of ties in rank-biased overlap (variant a).
    """
    one, other = score_pair(first, second)
    check_persistence(p)
    if np.isnan(one).any() or np.isnan(other).any():
        return undefined("a score is NaN")
    weights = rank_biased_weights(one.size, p)
    return Statistic(float(expected_overlap(rank_spans(one), rank_spans(other), weights)))


def pairwise_rank_biased_overlap(scores: npt.ArrayLike, p: float = 0.98) -> FloatArray:
    """Rank-biased overlap of every pair of replicates.

    Parameters
    ----------
    scores : (n_replicates, n_genes) float
        Higher is stronger; genes with a NaN score are tied at the end of their ranking.
    p
        Persistence, in (0, 1).

    Returns
    -------
    (n_replicates, n_replicates) float
        Symmetric; on the diagonal each ranking with an independent tie-breaking of itself.

    Raises
    ------
    ValueError
        Not a matrix, or p is not in (0, 1).
    """
    matrix = score_matrix(scores)
    check_persistence(p)
    return pairwise_expected_overlap(rank_spans(matrix), rank_biased_weights(matrix.shape[1], p))


def rank_biased_overlap_lists(first: Sequence[Hashable], second: Sequence[Hashable], p: float = 0.98) -> Statistic:
    r"""Extrapolated rank-biased overlap of two ranked lists, of equal or unequal length.

    .. math:: \frac{1-p}{p}\left(\sum_{d=1}^{l}\frac{X_d}{d}p^d + \sum_{d=s+1}^{l}\frac{X_s(d-s)}{sd}p^d\right)
              + \left(\frac{X_l-X_s}{l}+\frac{X_s}{s}\right)p^l

    Parameters
    ----------
    first, second : sequence of hashable
        Items from best to worst, without ties; the lists need not share items. s and l are the lengths of the
        shorter and the longer list.
    p
        Persistence, in (0, 1).

    Returns
    -------
    Statistic
        In [0, 1]. NaN when a list is empty: there is no agreement to extrapolate.

    Raises
    ------
    ValueError
        A list names an item twice, or p is not in (0, 1).

    References
    ----------
    Webber, Moffat & Zobel (2010), A similarity measure for indefinite rankings, eq. 32.
    """
    check_persistence(p)
    shorter, longer = sorted((list(first), list(second)), key=len)
    for items in (shorter, longer):
        if len(set(items)) != len(items):
            message = "a ranked list names an item twice"
            raise ValueError(message)
    n_short, n_long = len(shorter), len(longer)
    if n_short == 0:
        return undefined("a ranked list is empty")
    position = {item: depth for depth, item in enumerate(longer, start=1)}
    enters = np.zeros(n_long + 1)  # how many common items enter the overlap at each depth
    for depth, item in enumerate(shorter, start=1):
        if item in position:
            enters[max(depth, position[item])] += 1
    overlap = np.cumsum(enters)[1:]  # (n_long,)
    depths = np.arange(1, n_long + 1)
    seen_short = overlap[n_short - 1]
    agreement = overlap / depths
    agreement[n_short:] += seen_short * (depths[n_short:] - n_short) / (n_short * depths[n_short:])
    return Statistic((1.0 - p) * np.sum(agreement * p ** (depths - 1.0)) + agreement[-1] * p**n_long)


class KendallW(Statistic):
    r"""Kendall's W, and its chance-corrected form.

    Attributes
    ----------
    chance_corrected
        :math:`(mW - 1)/(m - 1)`, the mean pairwise Spearman correlation when no replicate has ties; 0 by chance.
    reason
        Why W is undefined; empty when it is defined.
    """

    __slots__ = ("chance_corrected",)
    chance_corrected: float

    def __new__(cls, value: float, reason: str = "", chance_corrected: float = math.nan) -> KendallW:
        """Keep the chance-corrected form beside W."""
        self = super().__new__(cls, value, reason)
        object.__setattr__(self, "chance_corrected", float(chance_corrected))
        assert isinstance(self, KendallW)
        return self

    def __reduce__(self) -> tuple[type[KendallW], tuple[float, str, float]]:
        return type(self), (float(self), self.reason, self.chance_corrected)


def kendall_w(scores: npt.ArrayLike) -> KendallW:
    r"""Kendall's coefficient of concordance between replicates, corrected for ties.

    .. math:: W = \frac{12\sum_g (R_g - \bar R)^2}{m^2(G^3 - G) - m\sum_i\sum_t (t^3 - t)}

    with :math:`R_g` the sum of the midranks of gene g over the m replicates, and t the sizes of the groups of tied
    genes in replicate i.

    Parameters
    ----------
    scores : (n_replicates, n_genes) float
        One ranking per row: the replicates are the raters, the genes the items.

    Returns
    -------
    KendallW
        In [0, 1], 1/m expected by chance; ``chance_corrected`` is :math:`(mW - 1)/(m - 1)`. NaN with one
        replicate, one gene, a NaN score, or when every replicate ties all genes.

    Raises
    ------
    ValueError
        Not a matrix of scores.

    References
    ----------
    Kendall & Gibbons (1990), Rank correlation methods, 5th ed., eq. 6.13.
    """
    matrix = score_matrix(scores)
    n_replicates, n_genes = matrix.shape
    if n_replicates == 1:
        return KendallW(math.nan, "one replicate agrees with nothing but itself")
    if n_genes == 1:
        return KendallW(math.nan, "one gene cannot be ranked")
    if np.isnan(matrix).any():
        return KendallW(math.nan, "a score is NaN")
    return kendall_w_of_spans(rank_spans(matrix))


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
    return KendallW(w, chance_corrected=(n_replicates * w - 1.0) / (n_replicates - 1.0))


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
        Mean midrank over the replicates (Borda); NaN where ``reason`` is given.
    frequency : (n_genes,) float
        Share of the replicates that select the gene.
    reason
        Why there is no consensus; empty when there is one.
    """

    order: IntArray
    ranks: IntArray
    mean_rank: FloatArray
    frequency: FloatArray
    reason: str = ""


def consensus_ranking(
    scores: npt.ArrayLike, selections: npt.ArrayLike | None = None, tie_keys: npt.ArrayLike | None = None
) -> ConsensusRanking:
    """Order the genes by their mean midrank over replicates (Borda), ties by selection frequency.

    Parameters
    ----------
    scores : (n_replicates, n_genes) float
        Higher is stronger. Genes with a NaN score are tied at the end; a replicate without any score is left out.
    selections : (n_replicates, n_genes) bool, optional
        Top-k selections; without them the frequency is that of the best 50 genes (or fewer than all of them), a
        gene tied at the boundary counting with its chance of being among them.
    tie_keys : (n_genes,) sortable, optional
        Settles what is tied in frequency too (``ranking.tie_keys``); without it, gene position does.

    Returns
    -------
    ConsensusRanking

    Raises
    ------
    ValueError
        Not a matrix of scores, or the selections or keys do not fit it.
    """
    matrix = score_matrix(scores)
    n_genes = matrix.shape[1]
    scored = ~np.isnan(matrix).all(axis=1)
    spans = rank_spans(matrix[scored])
    if selections is None:
        k = min(50, max(1, n_genes - 1))
        chosen = np.clip((k - spans.top + 1.0) / (spans.bottom - spans.top + 1.0), 0.0, 1.0)
    else:
        chosen = selection_matrix(selections)
        if chosen.shape != matrix.shape:
            message = f"selections {chosen.shape} do not fit scores {matrix.shape}"
            raise ValueError(message)
        chosen = chosen[scored]
    keys = np.arange(n_genes) if tie_keys is None else np.asarray(tie_keys)
    if keys.shape != (n_genes,):
        message = f"tie keys {keys.shape} do not fit {n_genes} genes"
        raise ValueError(message)
    if not scored.any():
        nothing = np.full(n_genes, np.nan)
        unordered = np.lexsort((keys,))
        return ConsensusRanking(unordered, _inverse(unordered), nothing, nothing, "no replicate has a score")
    mean_rank, frequency = spans.midranks.mean(axis=0), chosen.mean(axis=0)
    order = np.lexsort((keys, -frequency, mean_rank))
    return ConsensusRanking(order, _inverse(order), mean_rank, frequency)


def _inverse(order: IntArray) -> IntArray:
    ranks = np.empty_like(order)
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks
