"""Principal components of one population's cells: how many there are, and what they give to each gene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh

from scballast.arrays import FloatArray
from scballast.seeds import Stream, generator_for

N_PERMUTATIONS = 3
_LANCZOS_TOLERANCE = 1e-4  # of the eigenvalue, against 1% by which it differs from permutation to permutation
_DENSE_SIZE = 20  # Gram matrices up to this size are decomposed whole


@dataclass(frozen=True)
class Components:
    """Leading principal components, the strongest first.

    Attributes
    ----------
    variances
        (n_components,) variance of the cells along each.
    loadings
        (n_components, n_genes) of unit length each.
    """

    variances: FloatArray
    loadings: FloatArray


def principal_components(centred: FloatArray, *, n_components: int | None = None, above: float = 0.0) -> Components:
    """Return leading principal components, exactly: from the smaller of the two Gram matrices.

    Parameters
    ----------
    centred
        (n_cells, n_genes) at least two cells, each gene with mean 0.
    n_components
        Components wanted, at most ``min(n_cells - 1, n_genes)``; None: those whose variance is larger than ``above``.
    above
        In the squared units of ``centred``; used where ``n_components`` is None.
    """
    n_cells, n_genes = centred.shape
    cells_are_fewer = n_cells <= n_genes
    gram = centred @ centred.T if cells_are_fewer else centred.T @ centred
    gram /= n_cells - 1
    size = gram.shape[0]
    if n_components is None:
        eigenvalues, vectors = eigh(gram, subset_by_value=(above, np.inf))
    else:
        n_used = min(n_components, n_cells - 1, n_genes)
        eigenvalues, vectors = eigh(gram, subset_by_index=[size - n_used, size - 1])
    variances = np.maximum(eigenvalues[::-1], 0.0)
    loadings = vectors.T[::-1]
    if cells_are_fewer:
        loadings = loadings @ centred
        length = np.sqrt(variances * (n_cells - 1))[:, None]
        loadings = np.divide(loadings, length, out=np.zeros_like(loadings), where=length > 0)
    return Components(variances, loadings)


def noise_variance(centred: FloatArray) -> float:
    """Return the variance of the largest principal component of genes that are permuted each by itself.

    Permuting a gene over the cells keeps its distribution and takes away what it shares with other genes, so a
    component is told from noise where its variance is larger than this (parallel analysis). The largest of a few
    permutations, which follow the values and not their order: cells and genes in another order give the same.

    Parameters
    ----------
    centred
        (n_cells, n_genes) at least two cells, each gene with mean 0.

    Returns
    -------
    float
        In the squared units of ``centred``; 0 where every value is 0. A gene that varies far more than the others sets
        it alone, and hides what they share.

    References
    ----------
    Horn (1965), A rationale and test for the number of factors in factor analysis.
    Buja & Eyuboglu (1992), Remarks on parallel analysis.
    """
    values = np.sort(centred, axis=0)
    values = values[:, np.lexsort((values[0], values[-1], (values**2).sum(axis=0)))]
    largest: list[float] = []
    for number in range(N_PERMUTATIONS):
        stream = generator_for(0, Stream.CONTROLS, "parallel_analysis", number)
        largest.append(_largest_variance(stream.permuted(values, axis=0), stream))
    return max(largest)


def shrunk_strength(components: Components, noise: float) -> FloatArray:
    r"""Return the standard deviation that components give to each gene, less the part that noise gives them.

    .. math:: s_g = \sqrt{\sum_k (\lambda_k - \nu)_+ w_{gk}^2}

    Parameters
    ----------
    components
        With variances :math:`\lambda_k` and unit loadings :math:`w_k`.
    noise
        :math:`\nu`, see :func:`noise_variance`; 0: no shrinkage.

    Returns
    -------
    (n_genes,) float
        0 for every gene where no component is above the noise.
    """
    kept = np.maximum(components.variances - noise, 0.0)
    return np.asarray(np.sqrt(kept @ components.loadings**2))


def _largest_variance(values: FloatArray, stream: np.random.Generator) -> float:
    n_cells, n_genes = values.shape
    wide = values if n_cells <= n_genes else values.T
    size = wide.shape[0]
    if not values.any():
        return 0.0
    if size <= _DENSE_SIZE:
        eigenvalue = eigh(wide @ wide.T, eigvals_only=True, subset_by_index=[size - 1, size - 1])[0]
    else:
        gram = LinearOperator((size, size), matvec=lambda vector: wide @ (wide.T @ vector), dtype=np.float64)
        start = stream.standard_normal(size)
        eigenvalue = eigsh(gram, k=1, which="LA", v0=start, tol=_LANCZOS_TOLERANCE, return_eigenvectors=False)[0]
    variance: float = float(eigenvalue) / (n_cells - 1)
    return variance
