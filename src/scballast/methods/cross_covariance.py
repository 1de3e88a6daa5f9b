"""Programs by cross-fitting: what a gene shares, in cells not used to find them, with a population's components."""

from __future__ import annotations

import logging

import numpy as np

from scballast.agreement.residuals import pearson_residuals
from scballast.arrays import FloatArray
from scballast.methods.cell_view import CellView
from scballast.methods.components import noise_variance, principal_components
from scballast.seeds import Stream, generator_for

logger = logging.getLogger(__name__)

N_SPLITS = 5
SMALLEST_POPULATION = 6  # three cells in each half


def cross_covariance_scores(view: CellView) -> FloatArray:
    """Score genes by their covariance with components of other cells of the same population.

    Parameters
    ----------
    view
        The replicate's cells; ``seed`` decides the splits.

    Returns
    -------
    (n_populations, n_genes) float
        :func:`cross_fitted_covariance` of the Pearson residuals of each population's own counts.
    """
    scores = view.empty_scores()
    for code, name in enumerate(view.populations):
        cells = view.of_population(code)
        if cells.size < SMALLEST_POPULATION:
            logger.warning(
                "cross_covariance: no score for population %r: %d cells, at least %d needed.",
                name,
                cells.size,
                SMALLEST_POPULATION,
            )
            continue
        counts = view.counts[cells]
        # In the order of what cells hold, so that their order in the data has no part in the splits.
        totals, squares = (np.asarray(part.sum(axis=1)).ravel() for part in (counts, counts.power(2)))
        residuals = pearson_residuals(counts[np.lexsort((squares, totals))])
        stream = generator_for(view.seed, Stream.CONTROLS, "cross_covariance", name)
        scores[code] = cross_fitted_covariance(residuals, stream, n_components=view.n_components)
    return scores


def cross_fitted_covariance(
    values: FloatArray, stream: np.random.Generator, *, n_components: int | None, n_splits: int = N_SPLITS
) -> FloatArray:
    r"""Return each gene's covariance with components of one half of the cells, in the other half.

    .. math:: s_g = \sum_k w_{gk} \, \mathrm{Cov}\bigl(z_g, \textstyle\sum_{h \ne g} z_h w_{hk}\bigr)

    with the loadings :math:`w_k` from one half and the covariance from the other, averaged over both directions of
    several random splits. The gene itself has no part in the activity, and the cells have none in the loadings, so a
    gene that shares nothing has expectation 0 whatever its own variance; a gene of a program has the variance that
    the components explain.

    Parameters
    ----------
    values
        (n_cells, n_genes) at least six cells.
    stream
        Of the splits.
    n_components
        Components of each half; None: those above the noise (:func:`noise_variance`), and at least one.
    n_splits
        Random splits in halves.

    Returns
    -------
    (n_genes,) float
        In the squared units of ``values``; negative where both halves disagree.
    """
    n_cells = values.shape[0]
    scores = np.zeros(values.shape[1])
    noise: float | None = None
    for _ in range(n_splits):
        order = stream.permutation(n_cells)
        halves = (order[: n_cells // 2], order[n_cells // 2 :])
        for first, second in (halves, halves[::-1]):
            seen = values[first] - values[first].mean(axis=0)
            if n_components is None and noise is None:
                noise = noise_variance(seen)  # of halves of this size and these genes: one estimate serves all
            components = principal_components(seen, n_components=n_components, above=noise or 0.0)
            if components.variances.size == 0:
                components = principal_components(seen, n_components=1)
            unseen = values[second] - values[second].mean(axis=0)
            covariance = unseen.T @ (unseen @ components.loadings.T) / (len(second) - 1)  # (gene, component)
            covariance -= unseen.var(axis=0, ddof=1)[:, None] * components.loadings.T
            scores += (components.loadings.T * covariance).sum(axis=1)
    return scores / (2 * n_splits)
