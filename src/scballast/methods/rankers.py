"""Scores of genes per population from a factor model: pure functions of loadings, cell scores and counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scballast.agreement.residuals import products_with_residuals
from scballast.arrays import BoolArray, FloatArray, IntArray, divided


@dataclass(frozen=True)
class FactorView:
    """A factor model and the cells of one replicate, as arrays.

    Attributes
    ----------
    scores
        (n_cells, n_factors) position of each cell; for a VAE the posterior mean (after softmax for ``ln``).
    loadings
        (n_genes, n_factors), or None for a non-linear model.
    counts
        (n_cells, n_genes) raw counts, CSR.
    codes
        (n_cells,) population of each cell; -1 for none.
    softmax
        Whether ``ρ = softmax(L z + β)`` over genes, so that ``L → L + 1aᵀ`` changes nothing.
    simplex
        Whether scores sum to one (``ln``), so that ``L → L + b1ᵀ`` changes nothing either.
    ridge
        Penalty of ``local``, in cells.
    """

    scores: FloatArray
    loadings: FloatArray | None
    counts: sparse.csr_matrix
    codes: IntArray
    softmax: bool = True
    simplex: bool = False
    ridge: float = 1000.0


Ranker = Callable[[FactorView, int], FloatArray]


def axis(view: FactorView, population: int) -> FloatArray:
    """Signed loading on the axis that separates the population best: "a cluster is an extreme on an axis".

    The axis is the one with the largest absolute standardised mean difference between the population and
    all other cells. Depends on the rotation of the latent space, which training does not fix.

    Returns
    -------
    (n_genes,) loadings, oriented so that the population lies on the positive side.
    """
    inside = view.codes == population
    first, rest = view.scores[inside], view.scores[~inside]
    pooled = np.sqrt((first.var(axis=0) + rest.var(axis=0)) / 2)
    difference = first.mean(axis=0) - rest.mean(axis=0)
    standardised = divided(difference, pooled)
    best = int(np.argmax(np.abs(standardised)))
    sign = 1.0 if standardised[best] >= 0 else -1.0
    return np.asarray(sign * centred_loadings(view)[:, best])


def contrast(view: FactorView, population: int) -> FloatArray:
    """Difference between population and rest along all axes: ``L (z̄_c − z̄_c̄)`` = E_c[log ρ] − E_c̄[log ρ].

    Equal, up to a constant over genes, whatever the rotation, sign, order or shift of the latent space.

    Returns
    -------
    (n_genes,) natural-log fold changes, centred over genes for softmax models.
    """
    inside = view.codes == population
    direction = view.scores[inside].mean(axis=0) - view.scores[~inside].mean(axis=0)
    return log_change(view, direction)


def spread(view: FactorView, population: int) -> FloatArray:
    """Return the spread of each gene's log expression within the population: ``sqrt(diag(L Cov_c(Z) Lᵀ))``.

    For softmax models the loadings are first centred over genes with the population's mean expression as
    weights, which to first order gives Var(log ρ_g).

    Returns
    -------
    (n_genes,) standard deviations, in natural-log units for softmax models.
    """
    inside = view.codes == population
    loadings = _linear(view)
    if view.softmax:
        loadings = loadings - mean_expression(view.counts, inside) @ loadings
    scores = np.asarray(view.scores[inside], dtype=np.float64)
    return _root_mean_square(scores - scores.mean(axis=0), loadings.T)


def local_loadings(view: FactorView, population: int) -> tuple[FloatArray, FloatArray]:
    """Regress the population's Pearson residuals on the whitened latent space of all cells.

    Whitening is by the pseudo-inverse square root of the covariance over all cells of the replicate (under
    ``ln`` it is singular), so the ridge penalty does not depend on the rotation of the latent space.

    Returns
    -------
    loadings : (n_factors, n_genes)
        ``B_c``: residual units per standard deviation of the whitened axis.
    score : (n_genes,)
        ``sqrt(mean_i (z_i B_c)²)``: root of the variance that each gene gets explained within the population.
    """
    inside = view.codes == population
    covariance = np.atleast_2d(np.cov(view.scores, rowvar=False))
    whitened = view.scores[inside] @ _inverse_root(covariance)
    whitened = whitened - whitened.mean(axis=0)
    gram = whitened.T @ whitened + view.ridge * np.eye(whitened.shape[1])
    # Of means over cells centred scores take nothing, so that residuals need no centring.
    loadings = np.linalg.solve(gram, products_with_residuals(whitened, view.counts[inside]))
    return loadings, _root_mean_square(whitened, loadings)


def local(view: FactorView, population: int) -> FloatArray:
    """Score of :func:`local_loadings`; serves non-linear models too."""
    return local_loadings(view, population)[1]


def centred_loadings(view: FactorView) -> FloatArray:
    """Return the loadings without what the model leaves free: for a softmax over genes, and a simplex of dimensions."""
    loadings = _linear(view)
    if view.simplex:
        loadings = loadings - loadings.mean(axis=1, keepdims=True)
    return loadings - loadings.mean(axis=0) if view.softmax else loadings


def log_change(view: FactorView, direction: FloatArray) -> FloatArray:
    """Return what a step in the latent space changes of each gene's log expression."""
    change = _linear(view) @ direction
    return np.asarray(change - change.mean() if view.softmax else change)


def mean_expression(counts: sparse.csr_matrix, cells: BoolArray) -> FloatArray:
    """Return the mean share of each gene in the counts of ``cells``, (n_genes,), summing to one."""
    part = counts[cells].astype(np.float64)
    totals = np.asarray(part.sum(axis=1)).ravel()
    weights = divided(1.0, totals)
    shares = np.asarray(part.T @ weights).ravel()
    return np.asarray(shares / shares.sum())


def _root_mean_square(scores: FloatArray, loadings: FloatArray) -> FloatArray:
    """(n_genes,) Root of the mean square over cells of ``scores @ loadings``, which is never made."""
    second_moment = scores.T @ scores / len(scores)
    return np.asarray(np.sqrt(np.maximum((loadings * (second_moment @ loadings)).sum(axis=0), 0.0)))


def _linear(view: FactorView) -> FloatArray:
    assert view.loadings is not None, "this ranker needs loadings, and a non-linear model has none"
    return np.asarray(view.loadings, dtype=np.float64)


def _inverse_root(covariance: FloatArray) -> FloatArray:
    values, vectors = np.linalg.eigh(covariance)
    kept = values > values.max() * len(values) * 1e-6
    roots = np.where(kept, 1 / np.sqrt(np.where(kept, values, 1.0)), 0.0)
    return np.asarray((vectors * roots) @ vectors.T)
