"""Counts vary at least as much as a Poisson distribution; logarithms and scaled values vary less."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scballast.arrays import FloatArray

SMALLEST_MEAN = 1.5
"""Of the values above 0: below, nearly all counts are 1, and their spread says nothing."""
FEWEST_CELLS = 5
FEWEST_DEGREES = 200
"""Values above 0, less one per gene, from which on the spread is known well enough."""
TOP_SHARE = 0.2
"""Logarithms spread least in the genes with the highest mean, counts most."""
TOO_LITTLE = 0.7
"""Three standard errors below Poisson counts where the fewest values tell."""


def dispersion(matrix: sp.csr_matrix) -> float:
    r"""Return how the values above 0 vary within genes, over what Poisson counts of the same means would.

    Of a Poisson variable with rate :math:`\lambda`, the values above 0 have mean
    :math:`m = \lambda / (1 - e^{-\lambda})` and variance :math:`m (1 + \lambda - m)`. Where all cells have the same
    total, a gene with a share of it varies less by this share. Over genes, the variances are summed up; the smaller
    one counts of that of all genes and that of the genes with the highest mean.

    Parameters
    ----------
    matrix
        (n_cells, n_genes) values of 0 and above.

    Returns
    -------
    float
        1 for Poisson counts, more for counts of cells that differ; NaN: too few values tell.

    References
    ----------
    Plackett (1953), The truncated Poisson distribution.
    """
    by_gene = sp.csc_matrix(matrix)
    n = np.diff(by_gene.indptr)
    gene = np.repeat(np.arange(n.size, dtype=np.int32), n)
    sums = np.bincount(gene, weights=by_gene.data, minlength=n.size)
    means = sums / np.maximum(n, 1)
    spread = np.bincount(gene, weights=np.square(by_gene.data - means[gene]), minlength=n.size)
    tell = np.flatnonzero((n >= FEWEST_CELLS) & (means >= SMALLEST_MEAN))
    tell = tell[np.argsort(-sums[tell], kind="stable")]
    expected = (n[tell] - 1) * _variances(means[tell]) * (1 - sums[tell] / sums.sum())
    ratios = []
    for n_genes in (tell.size, int(np.ceil(TOP_SHARE * tell.size))):
        if (n[tell[:n_genes]] - 1).sum() >= FEWEST_DEGREES and expected[:n_genes].sum() > 0:
            ratios.append(float(spread[tell[:n_genes]].sum() / expected[:n_genes].sum()))
    return min(ratios, default=np.nan)


def _variances(means: FloatArray) -> FloatArray:
    """Return the variances of Poisson variables above 0 with these means."""
    rates = means.copy()
    for _ in range(50):  # λ = m (1 - exp(-λ)) contracts for means above 1
        rates = means * -np.expm1(-rates)
    return np.asarray(means * (1 + rates - means))
