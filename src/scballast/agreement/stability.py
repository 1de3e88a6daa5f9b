"""Stability: how much the gene lists of one method agree across replicates.

Pure functions of arrays; numpy and scipy only. Selections are (n_replicates, n_genes) booleans, scores
(n_replicates, n_genes) reals of which higher is stronger. What is undefined is NaN with the reason
(``Statistic.reason``); what is wrong raises ``ValueError``.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import stats

from scballast.agreement.arguments import check_level, selection_matrix, selection_pair
from scballast.agreement.rank_agreement import (
    ConsensusRanking,
    KendallW,
    consensus_ranking,
    kendall_w,
    pairwise_rank_biased_overlap,
    rank_biased_overlap,
    rank_biased_overlap_lists,
)
from scballast.agreement.statistic import Interval, Statistic, undefined
from scballast.arrays import FloatArray

__all__ = [
    "ConsensusRanking",
    "Interval",
    "KendallW",
    "Statistic",
    "consensus_ranking",
    "jaccard_index",
    "jackknife_interval",
    "kendall_w",
    "kuncheva_index",
    "mean_interval",
    "nogueira_stability",
    "nogueira_variance",
    "pairwise_kuncheva",
    "pairwise_rank_biased_overlap",
    "rank_biased_overlap",
    "rank_biased_overlap_lists",
    "selection_error_bound",
    "selection_frequency",
]


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
    reason = _degenerate_size(k, n_genes)
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


def pairwise_kuncheva(selections: npt.ArrayLike) -> FloatArray:
    """Kuncheva's index of every pair of selections of one size.

    Parameters
    ----------
    selections : (n_replicates, n_genes) bool or 0/1
        Selections with the same number of genes.

    Returns
    -------
    (n_replicates, n_replicates) float
        Symmetric, 1 on the diagonal; all NaN when no gene or every gene is selected.

    Raises
    ------
    ValueError
        Not a matrix of 0 and 1, or the sizes differ.
    """
    selected = selection_matrix(selections)
    sizes = selected.sum(axis=1)
    if np.any(sizes != sizes[0]):
        message = f"the selections must have one size, got {int(sizes.min())} to {int(sizes.max())} genes"
        raise ValueError(message)
    n_replicates, n_genes = selected.shape
    if _degenerate_size(sizes[0], n_genes):
        return np.full((n_replicates, n_replicates), np.nan)
    expected = sizes[0] ** 2 / n_genes
    index: FloatArray = (selected @ selected.T - expected) / (sizes[0] - expected)
    return index


def jackknife_interval(similarities: npt.ArrayLike, level: float = 0.95) -> Interval:
    r"""Interval of a mean pairwise similarity, by the jackknife over replicates.

    .. math:: SE^2 = \frac{4(M-1)}{M(M-2)^2}\sum_i (r_i - u)^2

    with u the mean over pairs and :math:`r_i` the mean over the pairs that have replicate i; Student's t with
    M - 1 degrees of freedom. The pairs are not independent, the replicates are.

    Parameters
    ----------
    similarities : (n_replicates, n_replicates) float
        Symmetric; the diagonal is not used. A difference between two methods: give the difference of their
        matrices, which deletes the same replicate from both.
    level
        Nominal coverage, in (0, 1).

    Returns
    -------
    Interval
        With one replicate all NaN; with two the estimate alone; NaN similarities make all of it NaN.

    Raises
    ------
    ValueError
        Not a symmetric matrix, or the level is not in (0, 1).

    References
    ----------
    Arvesen (1969), Jackknifing U-statistics, Annals of Mathematical Statistics 40.
    """
    matrix = np.array(similarities, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        message = f"similarities must be a square replicate × replicate matrix, got shape {matrix.shape}"
        raise ValueError(message)
    check_level(level)
    n_replicates = matrix.shape[0]
    np.fill_diagonal(matrix, 0.0)
    if not np.allclose(matrix, matrix.T, rtol=1e-9, atol=1e-9, equal_nan=True):
        message = "similarities must be symmetric"
        raise ValueError(message)
    if n_replicates == 1:
        return Interval(math.nan, math.nan, math.nan, math.nan, level, "one replicate has no pairs")
    if not np.all(np.isfinite(matrix)):
        return Interval(math.nan, math.nan, math.nan, math.nan, level, "a similarity is not a finite number")
    per_replicate = matrix.sum(axis=1) / (n_replicates - 1)
    mean = float(per_replicate.mean())
    if n_replicates == 2:
        return Interval(mean, math.nan, math.nan, math.nan, level, "an interval needs at least 3 replicates")
    variance = 4.0 * (n_replicates - 1) / (n_replicates * (n_replicates - 2) ** 2)
    error = math.sqrt(variance * float(np.sum((per_replicate - mean) ** 2)))
    return t_interval(mean, error, n_replicates - 1, level)


def mean_interval(values: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Interval of a mean over replicates; the jackknife of a mean is Student's interval.

    Parameters
    ----------
    values : (n_replicates,) float
        One value per replicate.
    level
        Nominal coverage, in (0, 1).

    Returns
    -------
    Interval
        With fewer than 3 replicates the estimate alone; NaN values make all of it NaN.

    Raises
    ------
    ValueError
        Not a vector, or the level is not in (0, 1).
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        message = f"values must be one number per replicate, got shape {vector.shape}"
        raise ValueError(message)
    check_level(level)
    if vector.size == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan, level, "no replicate has a value")
    if not np.all(np.isfinite(vector)):
        return Interval(math.nan, math.nan, math.nan, math.nan, level, "a value is not a finite number")
    mean = float(vector.mean())
    if vector.size < 3:
        return Interval(mean, math.nan, math.nan, math.nan, level, "an interval needs at least 3 replicates")
    return t_interval(mean, float(vector.std(ddof=1)) / math.sqrt(vector.size), vector.size - 1, level)


@cache
def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution."""
    return float(stats.t.ppf(probability, degrees))


def t_interval(estimate: float, error: float, degrees: int, level: float) -> Interval:
    """Student's t interval with ``degrees`` degrees of freedom around an estimate."""
    half = student_quantile(0.5 + level / 2.0, degrees) * error
    return Interval(estimate, estimate - half, estimate + half, error, level)


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


def selection_error_bound(n_selected: float, n_genes: int, threshold: float) -> Statistic:
    r"""Bound on the expected number of falsely selected genes in stability selection.

    .. math:: E[V] \le \frac{q^2}{(2\pi - 1) G}

    It holds for subsamples of half the cells under exchangeability; replicates that differ by seed alone carry no
    such guarantee.

    Parameters
    ----------
    n_selected
        q, the (mean) number of genes that each replicate selects, at most ``n_genes``.
    n_genes
        G, the number of genes.
    threshold
        π, the selection frequency from which a gene is kept, in (0.5, 1].

    Returns
    -------
    Statistic
        Number of genes.

    Raises
    ------
    ValueError
        A number outside its range.

    References
    ----------
    Meinshausen & Bühlmann (2010), Stability selection, JRSS B 72, Theorem 1.
    """
    if not (n_genes > 0 and 0 <= n_selected <= n_genes):
        message = f"need 0 <= n_selected <= n_genes and n_genes > 0, got {n_selected} of {n_genes}"
        raise ValueError(message)
    if not 0.5 < threshold <= 1.0:
        message = f"threshold must be in (0.5, 1], got {threshold}: the bound does not exist at or below one half"
        raise ValueError(message)
    return Statistic(n_selected**2 / ((2.0 * threshold - 1.0) * n_genes))


def _undefined_selections(selected: FloatArray) -> str:
    if selected.shape[0] == 1:
        return "one replicate has nothing to agree with"
    return _degenerate_size(selected.sum() / selected.shape[0], selected.shape[1])


def _degenerate_size(k: float, n_genes: int) -> str:
    if k == 0:
        return "no gene is selected"
    return "every gene is selected" if k >= n_genes else ""
