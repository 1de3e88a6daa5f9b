"""Concordance: how much the gene lists of two methods agree on the same replicates.

Pure functions of arrays; numpy and scipy only. Only methods with one estimand may be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from scballast.agreement.arguments import check_persistence, score_matrix, score_pair
from scballast.agreement.overlap import concordance_curve_weights, expected_overlap, rank_biased_weights, top_k_weights
from scballast.agreement.ranking import RankSpans, rank_spans
from scballast.agreement.stability import mean_interval
from scballast.agreement.statistic import Interval, Statistic, undefined
from scballast.arrays import FloatArray


def overlap_at_k(first: npt.ArrayLike, second: npt.ArrayLike, k: int) -> Statistic:
    """Share of the k best genes that two score vectors have in common; not corrected for chance.

    Parameters
    ----------
    first, second : (n_genes,) float
        Scores of the same genes, higher is stronger. With ties at the boundary: the mean over all ways of
        breaking them, so that two uninformative scores share k / n_genes and no more.
    k
        Number of genes, at least 0.

    Returns
    -------
    Statistic
        In [0, 1]; k / n_genes expected by chance. NaN when a score is NaN, k is 0, or k selects every gene.

    Raises
    ------
    ValueError
        The vectors differ in length, or k is negative.
    """
    one, other = score_pair(first, second)
    reason = _no_top(k, one.size - 1) or _unscored(one, other)
    if reason:
        return undefined(reason)
    return Statistic(float(expected_overlap(rank_spans(one), rank_spans(other), top_k_weights(int(k)))))


def area_under_concordance_curve(first: npt.ArrayLike, second: npt.ArrayLike, k: int) -> Statistic:
    r"""Area under the concordance curve: the number of shared genes among the first t, summed over t up to k.

    .. math:: AUCC = \frac{\sum_{t=1}^{k} |\cap_t|}{k(k+1)/2}

    Parameters
    ----------
    first, second : (n_genes,) float
        Scores of the same genes, higher is stronger. With ties: the mean over all ways of breaking them.
    k
        Length of the lists, at least 0.

    Returns
    -------
    Statistic
        In [0, 1]. NaN when a score is NaN, k is 0, or k exceeds the number of genes.

    Raises
    ------
    ValueError
        The vectors differ in length, or k is negative.

    References
    ----------
    Squair et al. (2021), Confronting false discoveries in single-cell differential expression, Nature
    Communications 12, 5692.
    """
    one, other = score_pair(first, second)
    reason = _no_top(k, one.size) or _unscored(one, other)
    if reason:
        return undefined(reason)
    return Statistic(float(expected_overlap(rank_spans(one), rank_spans(other), concordance_curve_weights(int(k)))))


def weighted_tau(first: npt.ArrayLike, second: npt.ArrayLike) -> Statistic:
    """Kendall's tau with additive hyperbolic weights, so that exchanges at the top count more.

    Parameters
    ----------
    first, second : (n_genes,) float
        Scores of the same genes, higher is stronger. Weights come from the ranks in either vector in turn, and the
        two values are averaged.

    Returns
    -------
    Statistic
        In [-1, 1]. NaN when a score is NaN, a vector is constant, or there is one gene.

    Raises
    ------
    ValueError
        The vectors differ in length.

    References
    ----------
    Vigna (2015), A weighted correlation index for rankings with ties, WWW; ``scipy.stats.weightedtau``.
    """
    one, other = score_pair(first, second)
    reason = _unscored(one, other)
    if not reason and (one.min() == one.max() or other.min() == other.max()):
        reason = "all scores of a vector are tied"
    if reason:
        return undefined(reason)
    return Statistic(float(stats.weightedtau(one, other).statistic))


def spearman_correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> Statistic:
    """Spearman's rank correlation; a diagnostic only, for the many genes without signal rule it.

    Parameters
    ----------
    first, second : (n_genes,) float
        Scores of the same genes.

    Returns
    -------
    Statistic
        In [-1, 1]. NaN when a score is NaN or a vector is constant.

    Raises
    ------
    ValueError
        The vectors differ in length.
    """
    one, other = score_pair(first, second)
    reason = _unscored(one, other)
    if reason:
        return undefined(reason)
    value = float(rowwise_correlation(rank_spans(one).midranks, rank_spans(other).midranks))
    return undefined("all scores of a vector are tied") if np.isnan(value) else Statistic(value)


@dataclass(frozen=True)
class MethodComparison:
    """Agreement of two methods, paired by replicate.

    Attributes
    ----------
    overlap, rbo, aucc, spearman
        Mean over the replicates and its interval.
    n_replicates
        Replicates in which both methods gave scores.
    """

    overlap: Interval
    rbo: Interval
    aucc: Interval
    spearman: Interval
    n_replicates: int


def compare_methods(
    first: npt.ArrayLike, second: npt.ArrayLike, k: int = 50, p: float = 0.98, level: float = 0.95
) -> MethodComparison:
    """Compare two methods on the same replicates of one population.

    Parameters
    ----------
    first, second : (n_replicates, n_genes) float
        Scores of the two methods; row i of both comes from the same cells. Higher is stronger, ties count with
        their mean over tie-breakings, genes with a NaN score are tied at the end. A replicate in which a method
        has no score at all is left out.
    k
        Length of the top list for overlap and the area under the concordance curve, at least 0.
    p
        Persistence of rank-biased overlap, in (0, 1).
    level
        Nominal coverage of the intervals, in (0, 1).

    Returns
    -------
    MethodComparison
        Indices that k leaves undefined are NaN with the reason.

    Raises
    ------
    ValueError
        The matrices differ in shape, k is negative, or p is not in (0, 1).
    """
    one, other = score_matrix(first), score_matrix(second)
    if one.shape != other.shape:
        message = f"the methods must be paired by replicate and gene, got shapes {one.shape} and {other.shape}"
        raise ValueError(message)
    check_persistence(p)
    scored = ~(np.isnan(one).all(axis=1) | np.isnan(other).all(axis=1))
    values = agreement_by_replicate(rank_spans(one[scored]), rank_spans(other[scored]), k, p)
    return MethodComparison(
        overlap=_mean(values.overlap, _no_top(k, one.shape[1] - 1), level),
        rbo=_mean(values.rbo, "", level),
        aucc=_mean(values.aucc, _no_top(k, one.shape[1]), level),
        spearman=_mean(values.spearman, "", level),
        n_replicates=int(scored.sum()),
    )


@dataclass(frozen=True)
class AgreementByReplicate:
    """Indices of agreement of paired rankings, (n_replicates,) each; NaN where undefined."""

    overlap: FloatArray
    rbo: FloatArray
    aucc: FloatArray
    spearman: FloatArray


def agreement_by_replicate(first: RankSpans, second: RankSpans, k: int, p: float) -> AgreementByReplicate:
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
    AgreementByReplicate
    """
    n_replicates, n_genes = first.top.shape
    nothing = np.full(n_replicates, np.nan)
    return AgreementByReplicate(
        overlap=nothing if _no_top(k, n_genes - 1) else expected_overlap(first, second, top_k_weights(int(k))),
        rbo=expected_overlap(first, second, rank_biased_weights(n_genes, p)),
        aucc=nothing if _no_top(k, n_genes) else expected_overlap(first, second, concordance_curve_weights(int(k))),
        spearman=rowwise_correlation(first.midranks, second.midranks),
    )


def rowwise_correlation(first: FloatArray, second: FloatArray) -> FloatArray:
    """Pearson correlation along the last axis; NaN where a vector is constant."""
    one, other = standardised(first), standardised(second)
    correlation: FloatArray = (one * other).sum(axis=-1)
    return correlation


def standardised(values: FloatArray) -> FloatArray:
    """Vectors along the last axis with mean 0 and length 1, so that products are correlations; NaN if constant."""
    centred = values - values.mean(axis=-1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=-1, keepdims=True))
    unit: FloatArray = np.divide(centred, length, out=np.full_like(centred, np.nan), where=length > 0)
    return unit


def _mean(values: FloatArray, reason: str, level: float) -> Interval:
    interval = mean_interval(values, level)
    if not reason:
        return interval
    return Interval(np.nan, np.nan, np.nan, np.nan, level, reason)


def _no_top(k: int, most: int) -> str:
    if k < 0 or k != int(k):
        message = f"k must be a whole number of at least 0, got {k}"
        raise ValueError(message)
    if k == 0:
        return "no gene is selected"
    return f"k = {k} leaves no gene out" if k > most else ""


def _unscored(first: FloatArray, second: FloatArray) -> str:
    return "a score is NaN" if np.isnan(first).any() or np.isnan(second).any() else ""
