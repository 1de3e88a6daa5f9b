"""Analytic Pearson residuals: a count less what cell depth and gene level predict, in standard deviations."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from scballast.arrays import FloatArray


def pearson_residuals(counts: csr_matrix, theta: float | FloatArray = 100.0) -> FloatArray:
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
    matrix = csr_matrix(counts, dtype=np.float64)
    of_cells = np.asarray(matrix.sum(axis=1)).ravel()
    of_genes = np.asarray(matrix.sum(axis=0)).ravel()
    total = of_cells.sum()
    if total == 0:
        return np.zeros(matrix.shape)
    expected = np.outer(of_cells, of_genes / total)
    residuals: FloatArray = matrix.toarray() - expected
    # In place: a large population's residuals are the largest arrays of the baselines.
    deviation = expected / theta
    deviation += 1.0
    deviation *= expected
    np.sqrt(deviation, out=deviation)
    np.divide(residuals, deviation, out=residuals, where=deviation > 0)
    limit = np.sqrt(matrix.shape[0])
    return np.clip(residuals, -limit, limit, out=residuals)
