"""Welch's t test of each population against all other cells."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from scballast.arrays import FloatArray, divided, membership
from scballast.methods.cell_view import CellView, comparable_populations

# A sum of squares loses up to n_cells·1e-16 of itself to rounding: a constant gene's variance is below this.
_RELATIVE_ROUNDING = 1e-12


def t_test_scores(view: CellView) -> FloatArray:
    """Return Welch's t statistic on log-normalised counts.

    Parameters
    ----------
    view
        The replicate's cells.

    Returns
    -------
    (n_populations, n_genes) float
        t, positive where the gene is higher in the population. A gene that is constant on both sides has no
        t: it gets 0 when the sides are equal, and otherwise, t being infinite, ±(1 + the largest finite |t|).

    References
    ----------
    Welch (1947), The generalization of 'Student's' problem when several different population variances
    are involved.
    """
    scores = view.empty_scores()
    values = view.log_counts
    squared = csr_matrix((values.data**2, values.indices, values.indptr), shape=values.shape)
    total, total_squares = (np.asarray(part.sum(axis=0)).ravel() for part in (values, squared))
    of_population = membership(view.codes, view.n_populations)
    sums = (of_population @ values).toarray()
    squares = (of_population @ squared).toarray()
    sizes = view.sizes()

    for code in comparable_populations(view, "t_test", smallest=2):
        n_in, n_out = int(sizes[code]), int(values.shape[0] - sizes[code])
        mean_in, error_in = _mean_and_squared_error(sums[code], squares[code], n_in)
        mean_out, error_out = _mean_and_squared_error(total - sums[code], total_squares - squares[code], n_out)
        scores[code] = _statistic(mean_in - mean_out, error_in + error_out)
    return scores


def _mean_and_squared_error(sums: FloatArray, squares: FloatArray, n: int) -> tuple[FloatArray, FloatArray]:
    """Return the mean and the squared standard error of the mean, from sums over ``n`` cells."""
    mean = sums / n
    spread = squares - n * mean**2
    spread = np.where(spread > _RELATIVE_ROUNDING * squares, spread, 0.0)
    return mean, spread / (n - 1) / n


def _statistic(difference: FloatArray, squared_error: FloatArray) -> FloatArray:
    t = divided(difference, np.sqrt(squared_error))
    infinite = ~(squared_error > 0) & (np.abs(difference) > np.sqrt(_RELATIVE_ROUNDING))
    t[infinite] = np.copysign(1.0 + np.abs(t).max(initial=0.0), difference[infinite])
    return t
