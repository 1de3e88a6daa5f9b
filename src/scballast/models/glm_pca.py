"""GLM-PCA: factors of the counts' own likelihood, with each cell's depth as an offset."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import digamma, gammaln, polygamma

from scballast.agreement.program_components import leading_components
from scballast.agreement.residuals import residuals_within
from scballast.arrays import FloatArray, IntArray, membership
from scballast.engine.interface import TrainedEnsemble
from scballast.errors import TrainingError, require
from scballast.models.decomposition import Cells, fitted_by
from scballast.models.family import FitRequest, ModelFamily
from scballast.threads import one_thread

logger = logging.getLogger(__name__)

PENALTY = 1.0  # the authors' default
TOLERANCE, MOST_ITERATIONS = 5e-5, 100
_INTERCEPT_PENALTY = 1e-2  # keeps the level of a gene without counts in a category finite
_FIRST_SIZE, _SIZES = 100.0, (1e-2, 1e6)  # the first is the authors'
_LARGEST_STEP = 2.0  # of a log rate's level, or of the log of the size, in one iteration
_LARGEST_CHANGE = 20.0  # of a log rate by one step of the factors: e to this power can be halved to a sensible one
_HALVINGS = 6
_ROUNDING = 1e-13  # of the information, as a share of its trace
_RELAXATION = 1.5  # of the steps: the two sides take turns, and each would wait for the other


@dataclass(frozen=True)
class CountFactors:
    """Factors of counts.

    Attributes
    ----------
    loadings
        (n_genes, n_factors) orthonormal, the factor with the largest scores first; 0 for a gene without counts.
    scores
        (n_cells, n_factors) of mean 0 in each category; products with the loadings are natural-log changes of the rate.
        0 for a cell without counts.
    size
        θ, where the variance of a count of mean μ is μ + μ²/θ; infinity: Poisson.
    objective
        Penalised log-likelihood after each iteration, in nats.
    converged
        Whether it ended by the tolerance, not by the number of iterations.
    """

    loadings: FloatArray
    scores: FloatArray
    size: float
    objective: tuple[float, ...]
    converged: bool


def glm_pca(
    counts: sparse.csr_matrix,
    n_factors: int,
    covariate: IntArray | None = None,
    *,
    poisson: bool = False,
    penalty: float = PENALTY,
    tolerance: float = TOLERANCE,
) -> CountFactors:
    r"""Fit factors to counts by penalised maximum likelihood.

    .. math::
        x_{ig} \sim NB(\mu_{ig}, \theta), \quad
        \log \mu_{ig} = \log t_i + a_{c(i)g} + \textstyle\sum_k u_{ik} v_{gk}, \quad
        \text{less } \tfrac{\lambda}{2} (\|U\|^2 + \|V\|^2)

    with the cell's total :math:`t_i`, a level :math:`a` of each gene (in each category of the covariate), and one size
    :math:`\theta` for all genes. The authors' objective by another algorithm: from the principal components of the
    Pearson residuals, the loadings of all genes and the scores of all cells take turns at one step of Fisher scoring
    over all factors at once, half as long again, and halved where a gene or cell would fit less well; between them the
    penalty is lowered by the rotation and scaling that leave the rates as they are. The size takes Newton's steps.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts.
    n_factors
        Below the numbers of cells and genes.
    covariate
        (n_cells,) category of each cell.
    poisson
        θ is infinite, not estimated.
    penalty
        λ.
    tolerance
        Relative change of the objective at which it ends, after 100 iterations at most.

    Raises
    ------
    TrainingError
        There are no counts, or the likelihood became infinite.

    References
    ----------
    Townes, Hicks, Aryee & Irizarry (2019), Feature selection and dimension reduction for single-cell RNA-Seq based on a
    multinomial model, Genome Biology 20.
    """
    matrix = sparse.csr_matrix(counts, dtype=np.float64)
    cells, genes = (np.flatnonzero(np.asarray(matrix.sum(axis=axis)).ravel()) for axis in (1, 0))
    require(genes.size, "glmpca: the cells have no counts.", TrainingError)
    seen = matrix[cells][:, genes]
    categories = np.zeros(cells.size, dtype=np.int64)
    if covariate is not None:
        categories = np.unique(covariate[cells], return_inverse=True)[1]
    n_used = min(n_factors, cells.size - 1, genes.size - 1)
    fit = _Fit(seen, categories, n_used, penalty, poisson=poisson)
    objective, converged = [fit.objective()], False
    for _ in range(MOST_ITERATIONS):
        fit.iterate()
        objective.append(fit.objective())
        if not np.isfinite(objective[-1]):
            remedy = "Set model.gene_likelihood=nb." if poisson else "Lower model.n_latent."
            message = f"glmpca: the likelihood became {objective[-1]}. {remedy}"
            raise TrainingError(message)
        converged = objective[-1] - objective[-2] < tolerance * abs(objective[-2])
        if converged:
            break
    loadings, scores = np.zeros((matrix.shape[1], n_factors)), np.zeros((matrix.shape[0], n_factors))
    length = np.linalg.norm(fit.loadings, axis=0)
    loadings[genes, :n_used] = np.divide(fit.loadings, length, out=np.zeros_like(fit.loadings), where=length > 0)
    scores[cells, :n_used] = fit.scores * length
    return CountFactors(loadings, scores, fit.size, tuple(objective[1:]), converged)


class _Fit:
    """Loadings, scores, levels and size on their way."""

    def __init__(
        self, counts: sparse.csr_matrix, categories: IntArray, n_factors: int, penalty: float, *, poisson: bool
    ) -> None:
        self.counts, self.penalty = counts.toarray(), penalty
        totals, of_genes = self.counts.sum(axis=1), self.counts.sum(axis=0)
        self.base = np.log(totals)[:, None] + np.log(of_genes / of_genes.sum())
        self.categories = membership(categories, categories.max() + 1)
        self.levels = np.zeros((self.categories.shape[0], self.counts.shape[1]))  # beyond those of all cells
        self.size = np.inf if poisson else _FIRST_SIZE
        self.values, self.frequencies = np.unique(self.counts[self.counts > 0], return_counts=True)
        residuals = residuals_within(counts, categories)
        variances, components = leading_components(residuals, n_factors)
        scores = residuals @ components
        self.scores: FloatArray = scores / np.sqrt(np.where(variances > 0, variances, 1.0))
        self.loadings = np.zeros((self.counts.shape[1], n_factors))

    def iterate(self) -> None:
        """Take one step of everything, the levels and the size last."""
        offset = self.base + self.categories.T @ self.levels
        self.loadings = self._stepped(self.counts.T, offset.T, self.loadings, self.scores)
        self._balance()
        offset = self.base + self.categories.T @ self.levels
        self.scores = self._stepped(self.counts, offset, self.scores, self.loadings)
        self._balance()
        self._update_levels()
        if np.isfinite(self.size):
            self._update_size()

    def objective(self) -> float:
        """Return the penalised log-likelihood."""
        log_rate = self._log_rate()
        log_likelihood = -self._loss(self.counts, log_rate, np.exp(log_rate)).sum()
        log_likelihood -= float((self.frequencies * gammaln(self.values + 1)).sum())
        if np.isfinite(self.size):
            log_likelihood += float((self.frequencies * (gammaln(self.values + self.size) - gammaln(self.size))).sum())
            log_likelihood -= float((self.frequencies * self.values).sum()) * np.log(self.size)
        squares = (self.loadings**2).sum() + (self.scores**2).sum()
        return float(log_likelihood - 0.5 * self.penalty * squares - 0.5 * _INTERCEPT_PENALTY * (self.levels**2).sum())

    def _log_rate(self) -> FloatArray:
        return np.asarray(self.base + self.categories.T @ self.levels + self.scores @ self.loadings.T)

    def _loss(self, counts: FloatArray, log_rate: FloatArray, rate: FloatArray) -> FloatArray:
        """Return what of the negative log-likelihood depends on the rates."""
        if np.isinf(self.size):
            return np.asarray(rate - counts * log_rate)
        return np.asarray((counts + self.size) * np.log1p(rate / self.size) - counts * log_rate)

    def _stepped(self, counts: FloatArray, offset: FloatArray, moving: FloatArray, held: FloatArray) -> FloatArray:
        """Return one step of Fisher scoring for each row: of the genes' loadings, or of the cells' scores.

        Parameters
        ----------
        counts, offset
            (n_rows, n_columns), the latter the log rates without factors.
        moving
            (n_rows, n_factors) before the step.
        held
            (n_columns, n_factors) of the other side.
        """

        def loss(rows: IntArray, values: FloatArray) -> FloatArray:
            log_rate = offset[rows] + values @ held.T
            total = self._loss(counts[rows], log_rate, np.exp(log_rate)).sum(axis=1)
            return np.asarray(total + 0.5 * self.penalty * (values**2).sum(axis=1))

        log_rate = offset + moving @ held.T
        rate = np.exp(log_rate)
        before = self._loss(counts, log_rate, rate).sum(axis=1) + 0.5 * self.penalty * (moving**2).sum(axis=1)
        weight = 1 / (1 + rate / self.size)
        gradient = ((counts - rate) * weight) @ held - self.penalty * moving
        n_factors = held.shape[1]
        first, second = np.triu_indices(n_factors)
        information = np.empty((len(moving), n_factors, n_factors))
        information[:, first, second] = information[:, second, first] = (rate * weight) @ (
            held[:, first] * held[:, second]
        )
        # The penalty alone is lost in the rounding of very large rates, and directions without scores stay singular.
        ridge = self.penalty + _ROUNDING * np.trace(information, axis1=1, axis2=2)
        information += ridge[:, None, None] * np.eye(n_factors)
        step = _RELAXATION * np.linalg.solve(information, gradient[:, :, None])[:, :, 0]
        # Where rates are near 0 only the penalty holds the step, and rates would overflow at its end.
        change = np.linalg.norm(step, axis=1, keepdims=True) * np.linalg.norm(held, axis=1).max()
        step *= np.divide(_LARGEST_CHANGE, change, out=np.ones_like(change), where=change > _LARGEST_CHANGE)
        stepped = moving.copy()
        rows = np.arange(len(moving))
        for _ in range(_HALVINGS):
            tried = moving[rows] + step[rows]
            better = loss(rows, tried) <= before[rows]
            stepped[rows[better]] = tried[better]
            rows = rows[~better]
            if not rows.size:
                break
            step[rows] /= 2
        return stepped

    def _balance(self) -> None:
        """Give the scores mean 0 in each category, and both sides the form with the least penalty for these rates."""
        sizes = np.asarray(self.categories.sum(axis=1)).ravel()
        means = (self.categories @ self.scores) / sizes[:, None]
        self.levels = self.levels + means @ self.loadings.T
        first, of_scores = np.linalg.qr(self.scores - self.categories.T @ means)
        second, of_loadings = np.linalg.qr(self.loadings)
        left, strength, right = np.linalg.svd(of_scores @ of_loadings.T)
        self.scores, self.loadings = first @ (left * np.sqrt(strength)), second @ (right.T * np.sqrt(strength))

    def _update_levels(self) -> None:
        rate = np.exp(self._log_rate())
        weight = 1 / (1 + rate / self.size)
        gradient = self.categories @ ((self.counts - rate) * weight) - _INTERCEPT_PENALTY * self.levels
        information = self.categories @ (rate * weight) + _INTERCEPT_PENALTY
        self.levels = self.levels + np.clip(gradient / information, -_LARGEST_STEP, _LARGEST_STEP)

    def _update_size(self) -> None:
        """Take one step of Newton's for the log of the size, by the observed information."""
        size, total = self.size, self.counts + self.size
        rate = np.exp(self._log_rate()) + size
        share = total / rate
        slope = (self.frequencies * (digamma(self.values + size) - digamma(size))).sum()
        slope += (np.log(size / rate) + 1 - share).sum()
        curve = (self.frequencies * (polygamma(1, self.values + size) - polygamma(1, size))).sum()
        curve += (1 / size - 2 / rate + share / rate).sum()
        slope, curve = size * slope, size**2 * curve + size * slope
        step = slope / -curve if curve < 0 else np.sign(slope)
        self.size = float(np.clip(size * np.exp(np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)), *_SIZES))


def _fit(request: FitRequest) -> TrainedEnsemble:
    converged: list[bool] = []
    poisson = request.config.model.gene_likelihood == "poisson"

    def decompose(cells: Cells) -> tuple[FloatArray, FloatArray]:
        with one_thread():
            fitted = glm_pca(cells.values, cells.n_factors, cells.covariate, poisson=poisson)
        converged.append(fitted.converged)
        return fitted.loadings, fitted.scores

    trained = fitted_by(decompose, of_counts=True)(request)
    if not all(converged):
        remedy = "Set model.gene_likelihood=nb" if poisson else "Lower model.n_latent"
        message = "glmpca: %d of %d models had not converged after %d iterations; they are used as they are. %s."
        logger.warning(message, converged.count(False), len(converged), MOST_ITERATIONS, remedy)
    return trained


def _methods_text(config: Mapping[str, Any]) -> str:
    model = config["model"]
    kinds = {"nb": "negative binomial counts with one size for all genes", "poisson": "Poisson counts"}
    return (
        f"GLM-PCA (Townes et al. 2019) with {model['n_latent']} factors of {kinds[model['gene_likelihood']]}, the "
        "cell's total over the analysed genes as offset, by likelihood with an L2 penalty of "
        f"{PENALTY:g} on loadings and scores (Fisher scoring from the principal components of Pearson residuals)."
    )


GLMPCA = ModelFamily(
    "glmpca",
    fit=_fit,
    methods_text=_methods_text,
    conditional=True,
    deterministic=True,
    gene_likelihoods=("nb", "poisson"),
    dense_bytes=110,  # counts, rates and steps; measured
)
