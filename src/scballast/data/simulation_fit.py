"""Expression levels, dispersions and library sizes of real cells, for the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.polynomial import Chebyshev
from scipy import sparse
from scipy.special import gammaln

from scballast.agreement.arguments import require
from scballast.arrays import FloatArray, IntArray

# From all but Poisson to far noisier than sequencing data within a population; steps of a factor 1.5.
_LOG_DISPERSIONS = np.arange(np.log(1e-3), np.log(20.0), np.log(1.5))
_EM_ITERATIONS = 200
_CHEBYSHEV_DEGREE = 120


@dataclass(frozen=True)
class SimulationParameters:
    """What the simulator takes from real data.

    Attributes
    ----------
    log_rate
        (n_fitted_genes,) log of each gene's mean share of a cell's counts: the ``b`` of the model.
    log_dispersion
        (n_fitted_genes,) log φ, where the variance of a count of mean μ is μ + φ μ².
    library_log_sd
        Standard deviation of the log counts per cell within populations.
    provenance
        Where the numbers come from: plain values that an h5ad file can hold.
    """

    log_rate: FloatArray
    log_dispersion: FloatArray
    library_log_sd: float
    provenance: Mapping[str, str | int | float] = field(default_factory=dict)


def fit_simulation_parameters(
    counts: npt.NDArray[Any] | sparse.spmatrix | sparse.sparray,
    codes: IntArray,
    *,
    min_cells: int = 20,
    source: str = "",
) -> SimulationParameters:
    r"""Fit gene levels, dispersions within populations, and the spread of library sizes.

    A count is taken as :math:`x_{ig} \sim NB(\ell_i \hat\rho_{cg}, \phi_g)` with the observed library size and
    the population's own pooled rate, so that differences between populations do not count as dispersion. The
    dispersions of all genes are a sample from one distribution, estimated on a grid by maximum likelihood; each
    gene gets the posterior mean of log φ under it, which keeps scarce genes from taking absurd values.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts.
    codes
        (n_cells,) population of each cell; negative: none.
    min_cells
        Cells of populations smaller than this take no part: their rates would be fitted to the noise.
    source
        Name of the data, for the provenance.

    Raises
    ------
    ValueError
        Sizes disagree, or no population has ``min_cells`` cells with counts.

    References
    ----------
    Laird (1978), Nonparametric maximum likelihood estimation of a mixing distribution.
    """
    matrix = sparse.csr_matrix(counts).astype(np.float64)
    codes = np.asarray(codes)
    require(codes.shape == matrix.shape[:1], f"codes has shape {codes.shape}; counts has {matrix.shape[0]} cells")
    library = np.asarray(matrix.sum(axis=1)).ravel()
    present, sizes = np.unique(codes[(codes >= 0) & (library > 0)], return_counts=True)
    fitted = present[sizes >= min_cells]
    require(fitted.size > 0, f"no population has {min_cells} cells with counts")
    keep = np.isin(codes, fitted) & (library > 0)
    matrix, codes, library = matrix[keep], codes[keep], library[keep]
    seen = np.asarray(matrix.sum(axis=0)).ravel() > 0
    matrix = sparse.csr_matrix(matrix[:, seen])

    log_likelihood = np.zeros((_LOG_DISPERSIONS.size, matrix.shape[1]))
    squared_deviation, degrees = 0.0, 0
    for code in fitted:
        members = codes == code
        log_library = np.log(library[members])
        squared_deviation += float(((log_library - log_library.mean()) ** 2).sum())
        degrees += int(members.sum()) - 1
        log_likelihood += _population_log_likelihood(matrix[members], library[members])
    rate = np.asarray(matrix.sum(axis=0)).ravel() / library.sum()
    return SimulationParameters(
        log_rate=np.log(rate),
        log_dispersion=_posterior_mean(log_likelihood),
        library_log_sd=float(np.sqrt(squared_deviation / degrees)),
        provenance={
            "source": source,
            "n_cells": int(matrix.shape[0]),
            "n_genes": int(matrix.shape[1]),
            "n_populations": int(fitted.size),
            "median_counts": float(np.median(library)),
            "min_cells": int(min_cells),
        },
    )


def dispersions_within(counts: sparse.csr_matrix, codes: IntArray) -> FloatArray:
    """Return the dispersion of each gene within populations, as :func:`fit_simulation_parameters` estimates it.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts.
    codes
        (n_cells,) population of each cell; negative: none, and no part in the estimate.

    Returns
    -------
    (n_genes,) float
        φ > 0, where the variance of a count of mean μ is μ + φ μ². A gene without counts has that of the prior.
    """
    log_likelihood = np.zeros((_LOG_DISPERSIONS.size, counts.shape[1]))
    for code in np.unique(codes[codes >= 0]):
        population_counts = sparse.csr_matrix(counts[codes == code], dtype=np.float64)
        log_likelihood += _population_log_likelihood(population_counts, np.asarray(population_counts.sum(1)).ravel())
    return np.asarray(np.exp(_posterior_mean(log_likelihood)))


def _population_log_likelihood(counts: sparse.csr_matrix, library: FloatArray) -> FloatArray:
    """Return the log-likelihood of each dispersion of the grid, by gene, up to a constant: (grid, gene)."""
    of_all_genes = np.asarray(counts.sum(axis=0)).ravel()
    result = np.zeros((_LOG_DISPERSIONS.size, of_all_genes.size))
    seen = np.flatnonzero(of_all_genes)
    if seen.size == 0:
        return result
    of_genes = of_all_genes[seen]
    rate = of_genes / library.sum()
    # The sum over cells of log(1 + φ μ) depends on a gene by its φ r alone, and smoothly.
    log_level = _LOG_DISPERSIONS[:, None] + np.log(rate)  # (grid, gene)

    def log_of_sums(log_levels: FloatArray) -> FloatArray:
        return np.log([np.log1p(level * library).sum() for level in np.exp(log_levels)])

    domain = (log_level.min() - 1.0, log_level.max() + 1.0)
    sums = np.exp(Chebyshev.interpolate(log_of_sums, _CHEBYSHEV_DEGREE, domain)(log_level))
    # Only the counts above zero have further terms, and many of them are equal.
    entries = counts[:, seen].tocoo()
    genes, values = entries.col, entries.data
    means = library[entries.row] * rate[genes]
    of_means = np.bincount(genes, values * np.log(means), minlength=of_genes.size)
    kinds, kind = np.unique(values, return_inverse=True)
    numbers = sparse.csr_matrix((np.ones(kind.size), (kind, genes)), shape=(kinds.size, of_genes.size))
    for position, log_dispersion in enumerate(_LOG_DISPERSIONS):
        dispersion = np.exp(log_dispersion)
        gained = (gammaln(kinds + 1 / dispersion) - gammaln(1 / dispersion)) @ numbers
        lost = np.bincount(genes, values * np.log(1 + dispersion * means), minlength=of_genes.size)
        result[position, seen] = gained + of_genes * log_dispersion + of_means - lost - sums[position] / dispersion
    return result


def _posterior_mean(log_likelihood: FloatArray) -> FloatArray:
    """Return each gene's posterior mean of log φ under the mixing distribution of most likelihood."""
    log_prior = np.full(_LOG_DISPERSIONS.size, -np.log(_LOG_DISPERSIONS.size))
    for _ in range(_EM_ITERATIONS):
        joint = log_likelihood + log_prior[:, None]
        log_posterior = joint - _log_sum_exp(joint, axis=0)
        log_prior = _log_sum_exp(log_posterior, axis=1).ravel() - np.log(log_likelihood.shape[1])
    posterior = np.exp(log_posterior)
    return np.asarray(_LOG_DISPERSIONS @ posterior)


def _log_sum_exp(values: FloatArray, axis: int) -> FloatArray:
    """Return the logarithm of the sum of exponentials of finite numbers along an axis, which stays with length 1.

    To the last bit what ``scipy.special.logsumexp`` gives, in a third of its time: that allows for weights, signs and
    numbers that are complex or infinite.
    """
    largest = values.max(axis=axis, keepdims=True)
    is_largest = values == largest
    rest = np.exp(values - largest)
    rest[is_largest] = 0.0  # counted apart, since beside them the others are lost
    n_largest = is_largest.sum(axis=axis, keepdims=True, dtype=np.float64)
    return np.asarray(np.log1p(rest.sum(axis=axis, keepdims=True) / n_largest) + np.log(n_largest) + largest)
