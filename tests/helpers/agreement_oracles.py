"""Indices between two lists, or among lists, one by one: what the statistics in tables are held against.

Nogueira's and Kuncheva's formulas stand here as their authors wrote them; the rest are the smallest callers of the
functions that the tables are made with, so that these can be compared with brute force and published numbers.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from scballast.agreement.arguments import score_matrix, selection_matrix, zeros_and_ones
from scballast.agreement.concordance import agreement_by_replicate, rowwise_correlation
from scballast.agreement.overlap import (
    concordance_curve_weights,
    expected_overlap,
    pairwise_expected_overlap,
    rank_biased_weights,
    top_k_weights,
)
from scballast.agreement.rank_agreement import KendallW, kendall_w_of_spans
from scballast.agreement.ranking import rank_spans
from scballast.agreement.stability import degenerate_size, mean_interval
from scballast.agreement.statistic import Interval, Statistic, undefined
from scballast.arrays import FloatArray


def nogueira_stability(selections: npt.ArrayLike) -> Statistic:
    r"""Stability of gene selections, corrected for chance.

    .. math:: \hat\Phi = 1 - \frac{\frac{1}{G}\sum_g \frac{M}{M-1}\hat p_g(1-\hat p_g)}
              {\frac{\bar k}{G}(1-\frac{\bar k}{G})}

    Parameters
    ----------
    selections : (n_replicates, n_genes) bool or 0/1
        The sizes of the selections may differ.

    Returns
    -------
    Statistic
        Dimensionless, at most 1; 1 identical selections, 0 expected by chance. NaN with one replicate, or when
        no gene or every gene is selected. At equal sizes the mean pairwise Kuncheva index.

    Raises
    ------
    ValueError
        Not a matrix of 0 and 1.

    References
    ----------
    Nogueira, Sechidis & Brown (2018), On the stability of feature selection algorithms, JMLR 18(174), Def. 4.
    """
    selected = selection_matrix(selections)
    reason = _undefined_selections(selected)
    if reason:
        return undefined(reason)
    n_replicates = selected.shape[0]
    frequency = selected.mean(axis=0)
    share = frequency.mean()
    variance = n_replicates / (n_replicates - 1) * np.mean(frequency * (1.0 - frequency))
    return Statistic(1.0 - variance / (share * (1.0 - share)))


def nogueira_variance(selections: npt.ArrayLike) -> Statistic:
    r"""Variance of Nogueira's stability by its authors' formula, for reference.

    .. math:: v(\hat\Phi) = \frac{4}{M^2}\sum_i (\hat\phi_i - \bar\phi)^2

    The project's own interval is ``jackknife_interval``: with 10 replicates the normal interval on this variance
    covers too seldom.

    Parameters
    ----------
    selections : (n_replicates, n_genes) bool or 0/1

    Returns
    -------
    Statistic
        NaN with one replicate, or when no gene or every gene is selected.

    Raises
    ------
    ValueError
        Not a matrix of 0 and 1.

    References
    ----------
    Nogueira, Sechidis & Brown (2018), JMLR 18(174), Theorem 7.
    """
    selected = selection_matrix(selections)
    reason = _undefined_selections(selected)
    if reason:
        return undefined(reason)
    n_replicates, n_genes = selected.shape
    stability = float(nogueira_stability(selected))
    frequency = selected.mean(axis=0)
    share = frequency.mean()  # of the genes selected, over replicates
    own_share = selected.mean(axis=1)  # (replicate,)
    common = selected @ frequency / n_genes  # (replicate,)
    influence = (common - own_share * share + stability / 2.0 * (2.0 * own_share * share - own_share - share + 1.0)) / (
        share * (1.0 - share)
    )
    return Statistic(4.0 / n_replicates**2 * np.sum((influence - influence.mean()) ** 2))


def kuncheva_index(first: npt.ArrayLike, second: npt.ArrayLike) -> Statistic:
    r"""Chance-corrected overlap of two gene selections of equal size.

    .. math:: \frac{r - k^2/G}{k - k^2/G}

    Parameters
    ----------
    first, second : (n_genes,) bool or 0/1
        Selections with the same number k of genes, r of them in common.

    Returns
    -------
    Statistic
        Dimensionless, in [-1, 1]; 1 identical, 0 expected by chance. NaN when no gene or every gene is selected.

    Raises
    ------
    ValueError
        The selections differ in size or length, or are not 0 and 1.

    References
    ----------
    Kuncheva (2007), A stability index for feature selection.
    """
    one, other = selection_pair(first, second)
    k, n_genes = one.sum(), one.size
    if k != other.sum():
        message = f"the selections must have one size, got {int(k)} and {int(other.sum())} genes"
        raise ValueError(message)
    reason = degenerate_size(k, n_genes)
    if reason:
        return undefined(reason)
    expected = k**2 / n_genes
    return Statistic((one @ other - expected) / (k - expected))


def jaccard_index(first: npt.ArrayLike, second: npt.ArrayLike) -> Statistic:
    """Shared genes as a share of the genes in either selection; not corrected for chance.

    Parameters
    ----------
    first, second : (n_genes,) bool or 0/1
        Selections, of equal or different sizes.

    Returns
    -------
    Statistic
        In [0, 1]. NaN when both are empty.

    Raises
    ------
    ValueError
        The selections differ in length, or are not 0 and 1.

    References
    ----------
    Jaccard (1901), Étude comparative de la distribution florale.
    """
    one, other = selection_pair(first, second)
    either = np.maximum(one, other).sum()
    if either == 0:
        return undefined("no gene is selected")
    return Statistic(one @ other / either)


def selection_frequency(selections: npt.ArrayLike) -> FloatArray:
    """Share of the replicates that select each gene.

    Parameters
    ----------
    selections : (n_replicates, n_genes) bool or 0/1

    Returns
    -------
    (n_genes,) float
        In [0, 1].

    Raises
    ------
    ValueError
        Not a matrix of 0 and 1.
    """
    frequency: FloatArray = selection_matrix(selections).mean(axis=0)
    return frequency


def _undefined_selections(selected: FloatArray) -> str:
    if selected.shape[0] == 1:
        return "one replicate has nothing to agree with"
    return degenerate_size(selected.sum() / selected.shape[0], selected.shape[1])


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
    reason = no_top(k, one.size - 1) or _unscored(one, other)
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
    reason = no_top(k, one.size) or _unscored(one, other)
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
        overlap=_mean(values["overlap"], no_top(k, one.shape[1] - 1), level),
        rbo=_mean(values["rbo"], "", level),
        aucc=_mean(values["aucc"], no_top(k, one.shape[1]), level),
        spearman=_mean(values["spearman"], "", level),
        n_replicates=int(scored.sum()),
    )


def _mean(values: FloatArray, reason: str, level: float) -> Interval:
    interval = mean_interval(values, level)
    if not reason:
        return interval
    return Interval(np.nan, np.nan, np.nan, np.nan, reason)


def _unscored(first: FloatArray, second: FloatArray) -> str:
    return "a score is NaN" if np.isnan(first).any() or np.isnan(second).any() else ""


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


def score_pair(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Check and return two score vectors of the same genes as float64."""
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape or one.size == 0:
        message = f"scores must be two vectors over the same genes, got shapes {one.shape} and {other.shape}"
        raise ValueError(message)
    return one, other


def selection_pair(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Check and return two selections from the same genes as float64 0 and 1."""
    one, other = np.asarray(first), np.asarray(second)
    if one.ndim != 1 or one.shape != other.shape or one.size == 0:
        message = f"selections must be two vectors over the same genes, got shapes {one.shape} and {other.shape}"
        raise ValueError(message)
    return zeros_and_ones(one), zeros_and_ones(other)


def check_persistence(p: float) -> None:
    """Raise ``ValueError`` unless p is in (0, 1)."""
    if not 0.0 < p < 1.0:
        message = f"p must be in (0, 1), got {p}"
        raise ValueError(message)


def no_top(k: int, most: int) -> str:
    """Return why a top k is undefined with at most ``most`` genes in it; empty where it is defined."""
    if k < 0 or k != int(k):
        message = f"k must be a whole number of at least 0, got {k}"
        raise ValueError(message)
    if k == 0:
        return "no gene is selected"
    return f"k = {k} leaves no gene out" if k > most else ""
