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

from scballast.agreement.arguments import check_level, check_selection, require, selection_matrix
from scballast.agreement.statistic import Interval, no_interval
from scballast.arrays import FloatArray


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

    Examples
    --------
    >>> pairwise_kuncheva([[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0]])
    array([[1.  , 1.  , 0.25],
           [1.  , 1.  , 0.25],
           [0.25, 0.25, 1.  ]])
    """
    selected = selection_matrix(selections)
    sizes = selected.sum(axis=1)
    if np.any(sizes != sizes[0]):
        message = f"the selections must have one size, got {int(sizes.min())} to {int(sizes.max())} genes"
        raise ValueError(message)
    n_replicates, n_genes = selected.shape
    if degenerate_size(sizes[0], n_genes):
        return np.full((n_replicates, n_replicates), np.nan)
    expected = sizes[0] ** 2 / n_genes
    return np.asarray((selected @ selected.T - expected) / (sizes[0] - expected))


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

    Examples
    --------
    >>> similar = np.array([[1.0, 0.8, 0.7, 0.8], [0.8, 1.0, 0.8, 0.7], [0.7, 0.8, 1.0, 0.8], [0.8, 0.7, 0.8, 1.0]])
    >>> round(jackknife_interval(similar).estimate, 3)
    0.767
    """
    matrix = np.array(similarities, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        message = f"similarities must be a square replicate × replicate matrix, got shape {matrix.shape}"
        raise ValueError(message)
    check_level(level)
    n_replicates = matrix.shape[0]
    np.fill_diagonal(matrix, 0.0)
    require(np.allclose(matrix, matrix.T, rtol=1e-9, atol=1e-9, equal_nan=True), "similarities must be symmetric")
    if n_replicates == 1:
        return no_interval("one replicate has no pairs")
    if not np.all(np.isfinite(matrix)):
        return no_interval("a similarity is not a finite number")
    per_replicate = matrix.sum(axis=1) / (n_replicates - 1)
    mean = float(per_replicate.mean())
    if n_replicates == 2:
        return no_interval("an interval needs at least 3 replicates", mean)
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

    Examples
    --------
    >>> interval = mean_interval([0.5, 0.6, 0.7])
    >>> round(interval.lower, 2), round(interval.upper, 2)
    (0.35, 0.85)
    """
    vector = np.asarray(values, dtype=np.float64)
    require(vector.ndim == 1, f"values must be one number per replicate, got shape {vector.shape}")
    check_level(level)
    if vector.size == 0:
        return no_interval("no replicate has a value")
    if not np.all(np.isfinite(vector)):
        return no_interval("a value is not a finite number")
    mean = float(vector.mean())
    if vector.size < 3:
        return no_interval("an interval needs at least 3 replicates", mean)
    return t_interval(mean, float(vector.std(ddof=1)) / math.sqrt(vector.size), vector.size - 1, level)


@cache
def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution."""
    return float(stats.t.ppf(probability, degrees))


def t_interval(estimate: float, error: float, degrees: int, level: float) -> Interval:
    """Student's t interval with ``degrees`` degrees of freedom around an estimate."""
    half = student_quantile(0.5 + level / 2.0, degrees) * error
    return Interval(estimate, estimate - half, estimate + half, error)


def selection_error_bound(n_selected: float, n_genes: int, threshold: float) -> float:
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
    float
        Number of genes.

    Raises
    ------
    ValueError
        A number outside its range.

    References
    ----------
    Meinshausen & Bühlmann (2010), Stability selection, JRSS B 72, Theorem 1.

    Examples
    --------
    >>> selection_error_bound(50, 2000, 0.9)
    1.5625
    """
    check_selection(n_selected, n_genes, threshold)
    return n_selected**2 / ((2.0 * threshold - 1.0) * n_genes)


def degenerate_size(k: float, n_genes: int) -> str:
    """Return why selections of k genes say nothing; empty where they do."""
    if k == 0:
        return "no gene is selected"
    return "every gene is selected" if k >= n_genes else ""
