"""Programs as sparse factors of the counts of one population: a small count model of each population's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import expit

from scballast.agreement.residuals import pearson_residuals
from scballast.arrays import FloatArray, IntArray, divided
from scballast.data.simulation_fit import dispersions_within
from scballast.methods.cell_view import CellView, score_each_population
from scballast.methods.components import noise_variance, principal_components

SMALLEST_POPULATION = 3
MOST_COMPONENTS = 8
SPARE_FACTORS = 2  # beside the components that stand out: a sparse prior empties what is not needed
N_LINEARISATIONS = 8
N_SWEEPS = 2  # of the updates between two linearisations
_CELLS_AT_ONCE = 128
_LARGEST_SHIFT = 3.0  # of a log rate by the factors: a factor of 20
_PRIOR_GENES = 1.0, 20.0  # genes in and in all, added to those of a factor: 5% before any is seen
_SLAB_VARIANCES = 0.01, 4.0  # of log rates, within which each factor finds its own
_LARGEST_SHARE = 0.3  # of the genes in one factor


@dataclass(frozen=True)
class SparseFactors:
    """Factors of one population's counts.

    Attributes
    ----------
    loadings
        (n_genes, n_factors) posterior means, in natural-log units of the rate per standard deviation of the activity.
    log_odds
        (n_genes, n_factors) posterior log odds that the gene is in the factor; -inf for a gene without counts.
    activities
        (n_cells, n_factors) posterior means, of mean 0.
    """

    loadings: FloatArray
    log_odds: FloatArray
    activities: FloatArray

    def evidence(self) -> FloatArray:
        """Return (n_genes,) minus the log probability that the gene is in none of the factors.

        From the log odds: of many cells the probabilities themselves would round to 1, and the genes tie.
        """
        return np.asarray(np.logaddexp(0.0, self.log_odds).sum(axis=1))


def sparse_factor_scores(view: CellView) -> FloatArray:
    """Score genes by the evidence that they are in a factor of the population's counts.

    Parameters
    ----------
    view
        The replicate's cells; all populations have a part in the dispersions of the genes.

    Returns
    -------
    (n_populations, n_genes) float
        :meth:`SparseFactors.evidence` of :func:`fit_sparse_factors`.
    """
    looked_at = np.sort(np.concatenate([view.of_population(code) for code in range(view.n_populations)]))
    dispersions = dispersions_within(view.counts[looked_at], view.codes[looked_at])

    def score(cells: IntArray, _: str) -> FloatArray:
        counts = view.counts[cells]
        start = initial_activities(counts, dispersions, view.n_components)
        return fit_sparse_factors(counts, dispersions, start).evidence()

    return score_each_population(view, "sparse_factors", score, smallest=SMALLEST_POPULATION)


def initial_activities(counts: csr_matrix, dispersions: FloatArray, n_factors: int | None) -> FloatArray:
    """Return (n_cells, n_factors) standardised scores on the leading components of the Pearson residuals.

    Parameters
    ----------
    counts
        (n_cells, n_genes) of one population.
    dispersions
        (n_genes,) φ.
    n_factors
        How many, at most the number of cells less one; None: the components above those of permuted genes, at most
        ``MOST_COMPONENTS`` of them, and ``SPARE_FACTORS`` more.
    """
    residuals = pearson_residuals(counts, 1 / dispersions)
    residuals -= residuals.mean(axis=0)
    components = principal_components(residuals, n_components=n_factors or MOST_COMPONENTS + SPARE_FACTORS)
    n_used = len(components.variances)
    if n_factors is None:
        above = components.variances[:MOST_COMPONENTS] > noise_variance(residuals)
        n_used = int(above.sum()) + SPARE_FACTORS
    activities = residuals @ components.loadings[:n_used].T
    return divided(activities, activities.std(axis=0))


def fit_sparse_factors(counts: csr_matrix, dispersions: FloatArray, activities: FloatArray) -> SparseFactors:
    r"""Fit sparse factors to the counts of one population.

    .. math::
        x_{ig} \sim NB\Bigl(\ell_i r_g \exp\bigl(b_g + \textstyle\sum_k t_{ik} a_{gk}\bigr), \phi_g\Bigr), \quad
        t_{ik} \sim N(0, 1), \quad a_{gk} \sim \pi_k N(0, \sigma_k^2) + (1 - \pi_k) \delta_0

    with the cell's counts :math:`\ell_i` and the gene's share :math:`r_g` of the population's. The log-likelihood is
    approximated by a quadratic of the Fisher information around the current log rates; between two approximations the
    variational posteriors of loadings and activities are updated in turn, and :math:`\pi_k` and :math:`\sigma_k` with
    them. A gene's evidence thus allows for how much its counts can say: a scarce gene of a program is not held
    against a frequent one that varies by its own dispersion.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts.
    dispersions
        (n_genes,) φ > 0, where the variance of a count of mean μ is μ + φ μ².
    activities
        (n_cells, n_factors) start, of mean 0 and variance 1.

    References
    ----------
    Mitchell & Beauchamp (1988), Bayesian variable selection in linear regression (the prior).
    Carbonetto & Stephens (2012), Scalable variational inference for Bayesian variable selection (the updates).
    Townes et al. (2019), Feature selection and dimension reduction for single-cell RNA-seq based on a multinomial
    model (factors of the counts' likelihood).
    """
    matrix = csr_matrix(counts, dtype=np.float64)
    n_genes, n_factors = matrix.shape[1], activities.shape[1]
    of_genes = np.asarray(matrix.sum(axis=0)).ravel()
    seen = of_genes > 0
    if not seen.any():
        nothing = np.zeros((n_genes, n_factors))
        return SparseFactors(nothing, nothing - np.inf, np.zeros_like(activities))
    fit = _Fit(matrix[:, seen].toarray(), of_genes[seen] / of_genes.sum(), dispersions[seen], activities)
    for _ in range(N_LINEARISATIONS):
        fit.linearise()
        for _ in range(N_SWEEPS):
            fit.update_loadings()
            fit.update_activities()
    loadings, log_odds = np.zeros((n_genes, n_factors)), np.full((n_genes, n_factors), -np.inf)
    loadings[seen], log_odds[seen] = fit.loadings, fit.log_odds
    return SparseFactors(loadings, log_odds, fit.activities)


class _Fit:
    """The variational posterior of the factors, and the quadratic that stands for the likelihood."""

    def __init__(self, counts: FloatArray, shares: FloatArray, dispersions: FloatArray, activities: FloatArray) -> None:
        n_genes, n_factors = counts.shape[1], activities.shape[1]
        self.counts, self.dispersions = counts, dispersions
        self.depths, self.shares = counts.sum(axis=1), shares  # of which the products are expected without factors
        self.information = np.empty(counts.shape)
        self.weighted_response = np.empty(counts.shape)  # log rates and what counts add to them, times information
        self.intercepts = np.zeros(n_genes)
        self.activities, self.activity_squares = activities, activities**2
        self.loadings = np.zeros((n_genes, n_factors))
        self.loading_squares = np.zeros((n_genes, n_factors))
        self.log_odds = np.full((n_genes, n_factors), -np.inf)
        first, prior = _PRIOR_GENES
        self.share = np.full(n_factors, first / prior)
        self.slab = np.full(n_factors, 0.5)

    def linearise(self) -> None:
        """Expand the log-likelihood around the current log rates.

        The intercepts are set so that a gene's rates sum to its counts: a quadratic far from the mode would overshoot.
        Some cells at a time: what is in between stays in the processor's cache.
        """
        n_cells = self.counts.shape[0]
        parts = [slice(start, start + _CELLS_AT_ONCE) for start in range(0, n_cells, _CELLS_AT_ONCE)]
        shift, rate = self.weighted_response, self.information  # which take their places
        for part in parts:
            np.matmul(self.activities[part], self.loadings.T, out=shift[part])
            np.clip(shift[part], -_LARGEST_SHIFT, _LARGEST_SHIFT, out=shift[part])
            np.exp(shift[part], out=rate[part])
            rate[part] *= np.outer(self.depths[part], self.shares)
        self.intercepts = np.log(self.counts.sum(axis=0) / rate.sum(axis=0))
        level = np.exp(self.intercepts)
        for part in parts:
            rates = rate[part] * level
            inflation = 1 + self.dispersions * rates
            deviation = (self.counts[part] - rates) / inflation
            rate[part] = rates / inflation
            shift[part] += self.intercepts
            shift[part] *= rate[part]
            shift[part] += deviation

    def update_loadings(self) -> None:
        """Update intercepts and loadings, one factor after the other, and what the prior says of them."""
        activities, n_factors = self.activities, self.activities.shape[1]
        first, second = np.triu_indices(n_factors)
        constant = np.ones((len(activities), 1))
        pairs = activities[:, first] * activities[:, second]
        weights = np.hstack([constant, activities, self.activity_squares, pairs]).T @ self.information
        total, of_factors, seen, upper = np.split(weights, np.cumsum([1, n_factors, n_factors]))
        # What a change of one loading takes from the products of residuals and activities, for all pairs of factors.
        of_pairs = np.empty((n_factors, n_factors, total.size))
        of_pairs[first, second] = of_pairs[second, first] = upper
        products = np.hstack([constant, activities]).T @ self.weighted_response
        residuals = products[0] - total[0] * self.intercepts - (of_factors * self.loadings.T).sum(axis=0)
        step = np.clip(residuals / total[0], -_LARGEST_SHIFT, _LARGEST_SHIFT)
        self.intercepts = self.intercepts + step
        # Of residuals and activities: (factor, gene).
        products = products[1:] - of_factors * self.intercepts - np.einsum("klg,gl->kg", of_pairs, self.loadings)
        for k in range(n_factors):
            variance = 1 / (seen[k] + 1 / self.slab[k])
            mean = variance * (products[k] + of_pairs[k, k] * self.loadings[:, k])
            log_odds = np.log(self.share[k] / (1 - self.share[k])) + 0.5 * np.log(variance / self.slab[k])
            self.log_odds[:, k] = log_odds + 0.5 * mean**2 / variance
            inclusion = expit(self.log_odds[:, k])
            change = inclusion * mean - self.loadings[:, k]
            products -= of_pairs[k] * change
            self.loadings[:, k] += change
            self.loading_squares[:, k] = inclusion * (mean**2 + variance)

    def update_activities(self) -> None:
        """Update the activities, and the shares of genes and sizes of loadings that factors have."""
        n_factors = self.loadings.shape[1]
        first, second = np.triu_indices(n_factors)
        products = self.loadings[:, first] * self.loadings[:, second]
        products[:, first == second] = self.loading_squares
        products = self.information @ np.hstack([self.intercepts[:, None] * self.loadings, products])
        precision = np.zeros((self.counts.shape[0], n_factors, n_factors))
        precision[:, first, second] = precision[:, second, first] = products[:, n_factors:]
        precision += np.eye(n_factors)
        covariance = np.linalg.inv(precision)
        weighted = self.weighted_response @ self.loadings - products[:, :n_factors]
        mean = np.einsum("ikl,il->ik", covariance, weighted)
        squares = mean**2 + np.diagonal(covariance, axis1=1, axis2=2)
        mean = mean - mean.mean(axis=0)
        # The scale is free between activities and loadings: activities have second moment 1.
        scale = np.sqrt(squares.mean(axis=0))
        self.activities, self.activity_squares = mean / scale, squares / scale**2
        self.loadings, self.loading_squares = self.loadings * scale, self.loading_squares * scale**2
        included = expit(self.log_odds).sum(axis=0)
        self.slab = np.clip(self.loading_squares.sum(axis=0) / np.maximum(included, 1e-6), *_SLAB_VARIANCES)
        of_prior, prior = _PRIOR_GENES
        n_genes = self.counts.shape[1]
        self.share = np.clip((included + of_prior) / (n_genes + prior), 1e-4, _LARGEST_SHARE)
