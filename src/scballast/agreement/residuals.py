"""Analytic Pearson residuals: a count less what cell depth and gene level predict, in standard deviations."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from scballast.arrays import FloatArray, IntArray

_THETA = 100.0
_CELLS_AT_ONCE = 2**12


def pearson_residuals(counts: csr_matrix, theta: float | FloatArray = _THETA) -> FloatArray:
    r"""Return the analytic Pearson residuals of a negative binomial null model, clipped.

    .. math:: Z_{ig} = \frac{X_{ig} - \mu_{ig}}{\sqrt{\mu_{ig} + \mu_{ig}^2/\theta}}, \quad
              \mu_{ig} = \frac{\sum_h X_{ih} \sum_j X_{jg}}{\sum_{jh} X_{jh}}

    clipped to :math:`\pm\sqrt{N}`.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts; the null model is fitted to these cells and genes alone.
    theta
        Overdispersion of the null model, > 0, of all genes or (n_genes,) each; infinity: Poisson.

    Returns
    -------
    (n_cells, n_genes) float64
        Dimensionless; 0 for a gene or a cell without counts.

    Raises
    ------
    ValueError
        ``theta`` is not positive.

    References
    ----------
    Lause, Berens & Kobak (2021), Analytic Pearson residuals for normalization of single-cell RNA-seq
    UMI data.

    Examples
    --------
    >>> pearson_residuals(csr_matrix([[2, 0], [0, 2]])).round(2)
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    if not np.all(np.asarray(theta) > 0):
        message = f"theta must be positive, got {np.min(theta)}"
        raise ValueError(message)
    of_cells, shares = _margins(counts)
    return _residuals(counts, of_cells, shares, theta, np.sqrt(counts.shape[0]))


def residuals_within(counts: csr_matrix, categories: IntArray) -> FloatArray:
    """Return (n_cells, n_genes) Pearson residuals within each category of cells, of mean 0 there."""
    values = np.zeros(counts.shape)
    for category in np.unique(categories):
        cells = np.flatnonzero(categories == category)
        values[cells] = pearson_residuals(counts[cells])
        values[cells] -= values[cells].mean(axis=0)
    return values


def products_with_residuals(left: FloatArray, counts: csr_matrix) -> FloatArray:
    r"""Return ``left.T @ pearson_residuals(counts)``, of which never more than some cells are dense.

    Parameters
    ----------
    left
        (n_cells, n_columns) any numbers of the cells.
    counts
        (n_cells, n_genes) raw counts; the null model is fitted to all of them.

    Returns
    -------
    (n_columns, n_genes) float64
    """
    of_cells, shares = _margins(counts)
    limit = np.sqrt(counts.shape[0])
    products = np.zeros((left.shape[1], counts.shape[1]))
    for start in range(0, counts.shape[0], _CELLS_AT_ONCE):
        part = slice(start, start + _CELLS_AT_ONCE)
        products += left[part].T @ _residuals(counts[part], of_cells[part], shares, _THETA, limit)
    return products


def _margins(counts: csr_matrix) -> tuple[FloatArray, FloatArray]:
    """(n_cells,) counts, and (n_genes,) shares of all of them; 0 where there are none."""
    of_cells, of_genes = (np.asarray(counts.sum(axis=axis, dtype=np.float64)).ravel() for axis in (1, 0))
    total = of_cells.sum()
    return of_cells, of_genes / total if total > 0 else of_genes


def _residuals(
    counts: csr_matrix, of_cells: FloatArray, shares: FloatArray, theta: float | FloatArray, limit: float
) -> FloatArray:
    expected = np.outer(of_cells, shares)
    residuals: FloatArray = csr_matrix(counts, dtype=np.float64).toarray()
    residuals -= expected
    # In place: a large population's residuals are the largest arrays of the baselines.
    deviation = expected / theta
    deviation += 1.0
    deviation *= expected
    np.sqrt(deviation, out=deviation)
    np.divide(residuals, deviation, out=residuals, where=deviation > 0)
    return np.clip(residuals, -limit, limit, out=residuals)
