"""Programs without a latent variable model: what varies most among the cells of one population."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from scipy.linalg import eigh

from scballast.arrays import FloatArray, IntArray
from scballast.methods.cell_view import CellView
from scballast.methods.residuals import pearson_residuals

logger = logging.getLogger(__name__)

SMALLEST_POPULATION = 3


def within_pca_scores(view: CellView) -> FloatArray:
    """Score genes by the leading principal components of the log-normalised cells of each population.

    Parameters
    ----------
    view
        The replicate's cells.

    Returns
    -------
    (n_populations, n_genes) float
        :func:`component_strength` of each population's own cells.
    """
    return _each_population(
        view, "within_pca", lambda cells: component_strength(view.log_counts[cells].toarray(), view.n_components)
    )


def residual_pca_scores(view: CellView) -> FloatArray:
    """Score genes by the leading principal components of the Pearson residuals of each population's counts.

    Parameters
    ----------
    view
        The replicate's cells.

    Returns
    -------
    (n_populations, n_genes) float
        :func:`component_strength` of the residuals of a null model of each population's own cells.
    """
    return _each_population(
        view,
        "residual_pca",
        lambda cells: component_strength(pearson_residuals(view.counts[cells]), view.n_components),
    )


def within_dispersion_scores(view: CellView) -> FloatArray:
    """Score genes by the variance of the Pearson residuals of each population's counts.

    Parameters
    ----------
    view
        The replicate's cells.

    Returns
    -------
    (n_populations, n_genes) float
        Variance, dimensionless; about 1 for a gene that follows the null model.

    References
    ----------
    Lause, Berens & Kobak (2021), Analytic Pearson residuals for normalization of single-cell RNA-seq
    UMI data.
    """
    return _each_population(
        view, "within_dispersion", lambda cells: np.var(pearson_residuals(view.counts[cells]), axis=0)
    )


def component_strength(values: FloatArray, n_components: int) -> FloatArray:
    r"""Return the standard deviation that the leading principal components give to each gene.

    .. math:: s_g = \sqrt{\sum_k \lambda_k w_{gk}^2}

    with the component variances :math:`\lambda_k` and unit loadings :math:`w_k`: loadings weighted by
    explained variance, whatever the sign of a component and the rotation of components of equal variance.
    Exact: from the eigenvectors of the smaller of the two Gram matrices.

    Parameters
    ----------
    values
        (n_cells, n_genes) at least two cells; centred here.
    n_components
        Components, >= 1; at most ``min(n_cells - 1, n_genes)`` are used.

    Returns
    -------
    (n_genes,) float
        In the units of ``values``, >= 0.
    """
    centred = values - values.mean(axis=0)
    n_cells, n_genes = centred.shape
    n_used = min(n_components, n_cells - 1, n_genes)
    cells_are_fewer = n_cells <= n_genes
    gram = centred @ centred.T if cells_are_fewer else centred.T @ centred
    top = [gram.shape[0] - n_used, gram.shape[0] - 1]
    eigenvalues, vectors = eigh(gram, subset_by_index=top)
    if cells_are_fewer:
        # With cell vectors u_k, the loading times its singular value is Yᵀ u_k.
        squares = (vectors.T @ centred) ** 2  # (component, gene)
    else:
        squares = np.maximum(eigenvalues, 0.0)[:, None] * vectors.T**2  # (component, gene)
    strength: FloatArray = np.sqrt(squares.sum(axis=0) / (n_cells - 1))
    return strength


def _each_population(view: CellView, method: str, score: Callable[[IntArray], FloatArray]) -> FloatArray:
    scores = view.empty_scores()
    for code, name in enumerate(view.populations):
        cells = np.flatnonzero(view.codes == code)
        if cells.size < SMALLEST_POPULATION:
            logger.warning(
                "%s: no score for population %r: %d cells, at least %d needed.",
                method,
                name,
                cells.size,
                SMALLEST_POPULATION,
            )
            continue
        scores[code] = score(cells)
    return scores
