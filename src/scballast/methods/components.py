"""Principal components of one population's cells: how many there are, and what they give to each gene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh

from scballast.arrays import FloatArray, divided
from scballast.seeds import Stream, generator_for

N_PERMUTATIONS = 3
_LANCZOS_TOLERANCE = 1e-4  # of the eigenvalue, against 1% by which it differs from permutation to permutation
_DENSE_SIZE = 20  # Gram matrices up to this size are decomposed whole
_KRYLOV_SIZE = 600  # matrices from this size on: of smaller ones all eigenvalues are found as quickly
_BLOCK = 12
_STEPS_BETWEEN_CHECKS = 3
_LARGEST_BASIS = 0.25  # of the size
_TOLERANCE = 1e-9
_SMALLEST_LENGTH = 1e-8  # of what is left of a vector, of the largest element
_LARGEST_RISE = 0.1  # of the distance to the limit, between two checks


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
    if n_cells > n_genes:
        covariance = centred.T @ centred
        covariance /= n_cells - 1
        return components_of_covariance(covariance, n_components=n_components, above=above)
    gram = centred @ centred.T
    gram /= n_cells - 1
    n_used = None if n_components is None else min(n_components, n_cells - 1)
    variances, vectors = leading_eigenpairs(gram, n_used, above)
    variances = np.maximum(variances, 0.0)
    loadings = vectors.T @ centred
    length = np.sqrt(variances * (n_cells - 1))[:, None]
    return Components(variances, divided(loadings, length))


def components_of_covariance(
    covariance: FloatArray, *, n_components: int | None = None, above: float = 0.0
) -> Components:
    """Return :func:`principal_components` from the (n_genes, n_genes) covariance of more cells than genes."""
    n_used = None if n_components is None else min(n_components, covariance.shape[0])
    variances, vectors = leading_eigenpairs(covariance, n_used, above)
    return Components(np.maximum(variances, 0.0), vectors.T)


def leading_eigenpairs(matrix: FloatArray, n_pairs: int | None, above: float) -> tuple[FloatArray, FloatArray]:
    """Return the largest eigenvalues, descending, and (size, n) unit eigenvectors of a symmetric matrix.

    Large matrices: block Lanczos with full orthogonalisation, until the residual of every pair that is returned is
    within ``_TOLERANCE`` of the largest eigenvalue; where that takes too long, as in the bulk of the spectrum, the
    whole decomposition.

    Parameters
    ----------
    matrix
        (size, size) positive semi-definite.
    n_pairs
        Pairs wanted, 1 to size; None: those with an eigenvalue above ``above``.
    above
        Used where ``n_pairs`` is None.

    References
    ----------
    Golub & Underwood (1977), The block Lanczos method for computing eigenvalues.
    """
    size = matrix.shape[0]
    if size >= _KRYLOV_SIZE:
        pairs = _block_lanczos(matrix, n_pairs, above)
        if pairs is not None:
            return pairs
    if n_pairs is None:
        values, vectors = eigh(matrix, subset_by_value=(above, np.inf))
    else:
        values, vectors = eigh(matrix, subset_by_index=[size - n_pairs, size - 1])
    return values[::-1], vectors[:, ::-1]


def _block_lanczos(matrix: FloatArray, n_pairs: int | None, above: float) -> tuple[FloatArray, FloatArray] | None:
    size = matrix.shape[0]
    block = np.linalg.qr(generator_for(0, Stream.CONTROLS, "block_lanczos").standard_normal((size, _BLOCK)))[0]
    basis, images = np.empty((size, 0)), np.empty((size, 0))
    next_before, matrix_scale = np.inf, float(np.abs(matrix.diagonal()).max())
    while basis.shape[1] < size * _LARGEST_BASIS:
        for _ in range(_STEPS_BETWEEN_CHECKS):
            image = matrix @ block
            basis, images = np.hstack([basis, block]), np.hstack([images, image])
            for _ in range(2):  # once leaves rounding errors that grow
                image = image - basis @ (basis.T @ image)
            block, triangle = np.linalg.qr(image)
            lengths = np.abs(np.diag(triangle))
            if lengths.min() <= _SMALLEST_LENGTH * matrix_scale:
                return None  # nothing is left to look at: the matrix has a low rank
        values, turns = np.linalg.eigh(basis.T @ images)
        values, turns = values[::-1], turns[:, ::-1]
        n_found = int((values > above).sum()) if n_pairs is None else n_pairs
        if n_found >= values.size:
            continue
        vectors = basis @ turns[:, :n_found]
        residuals = np.linalg.norm(images @ turns[:, :n_found] - vectors * values[:n_found], axis=0)
        # The next one must not be on its way to the limit either.
        rise, next_before = values[n_found] - next_before, values[n_found]
        is_below = n_pairs is not None or 0 <= rise < _LARGEST_RISE * (above - values[n_found])
        if is_below and (residuals <= _TOLERANCE * values[0]).all():
            return values[:n_found], vectors
    return None


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
    order = np.lexsort((values[0], values[-1], np.einsum("ig,ig->g", values, values)))
    # Single precision: within 1e-6 of what double would give, in half of the time.
    values = values.astype(np.float32)[:, order]
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


def _largest_variance(values: npt.NDArray[np.float32], stream: np.random.Generator) -> float:
    n_cells, n_genes = values.shape
    wide: npt.NDArray[np.float32] = values if n_cells <= n_genes else values.T
    size = wide.shape[0]
    if not values.any():
        return 0.0
    if size <= _DENSE_SIZE:
        eigenvalue = eigh(wide @ wide.T, eigvals_only=True, subset_by_index=[size - 1, size - 1])[0]
    else:
        gram = LinearOperator((size, size), matvec=lambda vector: wide @ (wide.T @ vector), dtype=np.float32)
        start = np.asarray(stream.standard_normal(size), dtype=np.float32)
        eigenvalue = eigsh(gram, k=1, which="LA", v0=start, tol=_LANCZOS_TOLERANCE, return_eigenvectors=False)[0]
    variance: float = float(eigenvalue) / (n_cells - 1)
    return variance
