r"""Two count matrices from one: what is learnt from the first can be tested in the second.

A count that is negative binomial with mean :math:`\mu` and overdispersion :math:`\phi` falls into two parts by a
beta-binomial draw; the parts are independent, with means :math:`\epsilon\mu` and :math:`(1-\epsilon)\mu`. With
:math:`\phi = 0` (Poisson) the draw is binomial. Binomial thinning of overdispersed counts would leave the noise of a
gene in a cell in both parts, and clusters made of noise in the one would be found again in the other.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from scballast.arrays import FloatArray, IntArray

_LARGEST_SHAPE = 1e8


def thin_counts(
    counts: sparse.csr_matrix, dispersion: FloatArray, generator: np.random.Generator, share: float = 0.5
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Split counts into two independent parts that sum to them.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts, CSR.
    dispersion
        (n_genes,) φ of each gene, variance μ + φ μ²; 0: Poisson.
    generator
        Rules the split.
    share
        ε, the expected share of the first part, in (0, 1).

    Returns
    -------
    csr_matrix, csr_matrix
        Of the type of ``counts``.

    References
    ----------
    Neufeld, Dharamshi, Gao & Witten (2024), Data thinning for convolution-closed distributions, JMLR 25(57).
    """
    matrix = sparse.csr_matrix(counts)
    values = np.rint(matrix.data).astype(np.int64)
    shape = 1.0 / np.maximum(np.asarray(dispersion, dtype=np.float64), 1.0 / _LARGEST_SHAPE)[matrix.indices]
    kept = generator.binomial(values, generator.beta(share * shape, (1.0 - share) * shape))
    parts = []
    for data in (kept, values - kept):
        part = sparse.csr_matrix((data.astype(matrix.dtype), matrix.indices.copy(), matrix.indptr.copy()), matrix.shape)
        part.eliminate_zeros()
        parts.append(part)
    return parts[0], parts[1]


def gene_dispersions(counts: sparse.csr_matrix, total_counts: FloatArray, codes: IntArray) -> FloatArray:
    r"""Overdispersion of each gene within populations, by moments.

    .. math:: \phi_g = \max\left(0,
              \frac{\sum_i (x_{ig} - \mu_{ig})^2 n_c / (n_c - 1) - \mu_{ig}}{\sum_i \mu_{ig}^2}\right)

    with :math:`\mu_{ig}` the gene's share in the counts of cell i's population, times the cell's depth.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts, CSR.
    total_counts
        (n_cells,) counts per cell.
    codes
        (n_cells,) population of each cell; cells of none (negative) are not used.

    Returns
    -------
    (n_genes,) float
        Dimensionless, >= 0; 0 for a gene without counts.
    """
    excess = np.zeros(counts.shape[1])
    squares = np.zeros(counts.shape[1])
    for code in np.unique(codes[codes >= 0]):
        cells = np.flatnonzero(codes == code)
        if cells.size < 2:
            continue
        population_counts = sparse.csr_matrix(counts[cells], dtype=np.float64)
        depth = np.asarray(total_counts, dtype=np.float64)[cells]
        share = np.asarray(population_counts.sum(axis=0)).ravel() / max(float(depth.sum()), 1.0)
        # sum (x - sd)^2 = sum x^2 - 2 s sum xd + s^2 sum d^2, without making zeros dense.
        mean_squares = share**2 * float(depth @ depth)
        deviations = (
            np.asarray(population_counts.multiply(population_counts).sum(axis=0)).ravel()
            - 2 * share * (population_counts.T @ depth)
            + mean_squares
        )
        excess += deviations * cells.size / (cells.size - 1) - share * depth.sum()
        squares += mean_squares
    return np.maximum(np.divide(excess, squares, out=np.zeros_like(excess), where=squares > 0), 0.0)
