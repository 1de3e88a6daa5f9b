"""Programs by cross-fitting: what a gene shares, in cells not used to find them, with a population's components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scballast.agreement.residuals import pearson_residuals
from scballast.arrays import FloatArray, IntArray
from scballast.methods.cell_view import CellView, score_each_population
from scballast.methods.components import Components, components_of_covariance, noise_variance, principal_components
from scballast.seeds import Stream, generator_for

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

    def score(cells: IntArray, population: str) -> FloatArray:
        counts = view.counts[cells]
        # In the order of what cells hold, so that their order in the data has no part in the splits.
        totals, squares = (np.asarray(part.sum(axis=1)).ravel() for part in (counts, counts.power(2)))
        residuals = pearson_residuals(counts[np.lexsort((squares, totals))])
        stream = generator_for(view.seed, Stream.CONTROLS, "cross_covariance", population)
        return cross_fitted_covariance(residuals, stream, n_components=view.n_components)

    return score_each_population(view, "cross_covariance", score, smallest=SMALLEST_POPULATION)


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
    n_cells, n_genes = values.shape
    values = values - values.mean(axis=0)
    # Where cells are many, a half's products of genes are those of all cells less those of the other half.
    products = values.T @ values if n_cells // 2 > n_genes else None
    scores = np.zeros(n_genes)
    noise: float | None = None
    for _ in range(n_splits):
        order = stream.permutation(n_cells)
        halves = _halves(values, order, products)
        for seen, unseen in (halves, halves[::-1]):
            if n_components is None and noise is None:
                cells = values[order[: n_cells // 2]]
                noise = noise_variance(cells - cells.mean(axis=0))  # one estimate serves all halves of this size
            components = seen.components(n_components, noise or 0.0)
            if components.variances.size == 0:
                components = seen.components(1, 0.0)
            covariance = unseen.covariance_with(components.loadings.T)  # (gene, component)
            scores += (components.loadings.T * covariance).sum(axis=1)
    return scores / (2 * n_splits)


@dataclass(frozen=True)
class _Half:
    """Half of the cells: (n_cells, n_genes) with means of 0, or the (n_genes, n_genes) covariance of their genes."""

    values: FloatArray
    is_covariance: bool = False

    def components(self, n_components: int | None, above: float) -> Components:
        if self.is_covariance:
            return components_of_covariance(self.values, n_components=n_components, above=above)
        return principal_components(self.values, n_components=n_components, above=above)

    def covariance_with(self, loadings: FloatArray) -> FloatArray:
        """Return each gene's covariance with the activities (gene, component), but for its own part in them."""
        if self.is_covariance:
            return np.asarray(self.values @ loadings - np.diag(self.values)[:, None] * loadings)
        products = self.values.T @ (self.values @ loadings)
        products -= np.einsum("ig,ig->g", self.values, self.values)[:, None] * loadings
        return np.asarray(products / (len(self.values) - 1))


def _halves(values: FloatArray, order: IntArray, products: FloatArray | None) -> tuple[_Half, _Half]:
    """Cut the cells in this order in halves; of ``values`` each gene has mean 0."""
    n_first = len(order) // 2
    first = values[order[:n_first]]
    if products is None:
        second = values[order[n_first:]]
        return _Half(first - first.mean(axis=0)), _Half(second - second.mean(axis=0))
    sums, of_first = first.sum(axis=0), first.T @ first

    def half(products: FloatArray, n_cells: int) -> _Half:
        return _Half((products - np.outer(sums, sums) / n_cells) / (n_cells - 1), is_covariance=True)

    return half(of_first, n_first), half(products - of_first, len(order) - n_first)
