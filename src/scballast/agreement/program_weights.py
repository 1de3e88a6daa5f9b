"""Weights of few genes: what a component says of each gene, and how far to believe it.

A component of G genes in n cells carries the noise of all G. A program has a few dozen: believing the others nothing
makes its activity truer than any choice of component does, most of all where cells are few and counts are low.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from scballast.arrays import FloatArray, divided

N_STEPS = 4
_PRIOR_GENES = 1.0, 20.0  # genes in and in all, added to those of a program: 5% before any is seen
_SHARES = 1e-3, 0.4  # of the genes in one program
_SLABS = 1.0, 400.0  # variance of the z-scores of a program's genes


def sparse_weights(values: FloatArray, weights: FloatArray) -> FloatArray:
    r"""Replace weights by how far each gene follows the activity of the others, shrunk towards none.

    In each step a gene's z-score is its slope on the activity, the other activities held fixed, without what the gene
    itself adds to it; z-scores of a program's genes are :math:`N(0, 1 + s^2)`, those of all others N(0, 1), and the
    new weight is the posterior mean. The share of genes in a program and :math:`s^2` follow from the z-scores, an
    expectation-maximisation step each time.

    Parameters
    ----------
    values
        (n_cells, n_genes) noise-scaled, with column means 0; a column of zeros gets no weight.
    weights
        (n_genes, n_programs) to start from.

    Returns
    -------
    (n_genes, n_programs)
        Columns of length 1.

    References
    ----------
    Johnstone & Silverman (2004), Needles and straw in haystacks: empirical Bayes estimates of sparse sequences.
    Ma (2013), Sparse principal component analysis and iterative thresholding.
    """
    n_cells, n_genes = values.shape
    variance = values.var(axis=0)[:, None]
    deviation = np.sqrt(variance)
    share, slab = np.full(weights.shape[1], _PRIOR_GENES[0] / _PRIOR_GENES[1]), np.full(weights.shape[1], 9.0)
    for _ in range(N_STEPS):
        activity = values @ weights
        precision = np.linalg.pinv(activity.T @ activity / n_cells)
        # Of each activity, what the others do not tell.
        unshared = 1 / np.sqrt(np.maximum(np.diag(precision), 1e-300))
        slopes = (values.T @ activity / n_cells) @ precision * unshared - weights * variance / unshared
        z = divided(slopes, deviation) * np.sqrt(n_cells)
        kept = slab / (1 + slab)
        inside = expit(np.log(share / (1 - share)) - 0.5 * np.log1p(slab) + 0.5 * z**2 * kept)
        inside[variance[:, 0] == 0] = 0.0
        total = inside.sum(axis=0)
        shrunk = inside * z * kept
        share = np.clip((total + _PRIOR_GENES[0]) / (n_genes + _PRIOR_GENES[1]), *_SHARES)
        slab = np.clip((inside * z**2).sum(axis=0) / np.maximum(total, 1e-300) - 1, *_SLABS)
        weights = shrunk / np.maximum(np.sqrt((shrunk**2).sum(axis=0)), 1e-300)
    return weights
