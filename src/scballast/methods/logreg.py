"""Multinomial logistic regression: one model that tells all populations apart."""

from __future__ import annotations

import logging
import warnings

import numpy as np
from scipy import sparse

from scballast.arrays import FloatArray
from scballast.methods.cell_view import CellView, comparable_populations

logger = logging.getLogger(__name__)

INVERSE_REGULARISATION = 1.0
MAX_ITERATIONS = 2_000
# scikit-learn's default, 1e-4, is near the size of the penalty's own gradient here: it leaves a sixth of the
# 50 strongest genes of a population to chance. At 1e-7 the list is that of the optimum.
GRADIENT_TOLERANCE = 1e-7
MOST_DENSE = 2**27
"""Numbers, cells times genes, that are held dense: 1 GiB."""


def logreg_scores(view: CellView) -> FloatArray:
    """Return the coefficients of a ridge-penalised multinomial logistic regression on scaled genes.

    One model over all populations. Cells in no population are a class of their own, whose coefficients are
    not reported: every cell has a part, as in the other tests, and no cell is forced into a population.
    Genes are log-normalised and scaled to mean 0 and standard deviation 1 (a constant gene to 0).

    Parameters
    ----------
    view
        The replicate's cells.

    Returns
    -------
    (n_populations, n_genes) float
        Coefficient, positive where a higher gene speaks for the population. With two classes in all, one
        model has one vector of coefficients: the classes get it with opposite signs.
    """
    scores = view.empty_scores()
    populations = comparable_populations(view, "logreg", smallest=1)
    if populations.size == 0:
        return scores

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        C=INVERSE_REGULARISATION, solver="lbfgs", tol=GRADIENT_TOLERANCE, max_iter=MAX_ITERATIONS
    )
    with warnings.catch_warnings():
        # Whether it converged is asked of the result, below, so that the log can say what was fitted.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(_scaled(view), view.codes)
    n_iterations = int(np.max(model.n_iter_))
    if n_iterations >= MAX_ITERATIONS:
        message = (
            "logreg: the fit of %d classes on %d cells had not converged after %d iterations; "
            "its coefficients are used as they are."
        )
        logger.warning(message, model.classes_.size, view.codes.size, n_iterations)
    coefficients = np.asarray(model.coef_, dtype=np.float64)
    if model.classes_.size == 2:
        coefficients = np.concatenate([-coefficients, coefficients])
    for code, row in zip(model.classes_, coefficients, strict=True):
        if code >= 0:
            scores[code] = row
    return scores


def _scaled(view: CellView) -> FloatArray | sparse.csr_matrix:
    """(n_cells, n_genes) log-normalised counts, of standard deviation 1 in each gene (a constant gene: of 0 alone).

    With mean 0, dense, while that fits ``MOST_DENSE``; else sparse and not centred, which the intercepts, being
    without penalty, make up for: the optimum is the same, found in more and cheaper iterations.
    """
    logged = view.log_counts
    mean = np.asarray(logged.mean(axis=0)).ravel()
    # About the mean, for the difference of two large sums of squares is nothing but rounding.
    n_zero = logged.shape[0] - logged.getnnz(axis=0)
    about = logged.copy()
    about.data = (about.data - mean[about.indices]) ** 2
    deviation = np.sqrt((np.asarray(about.sum(axis=0)).ravel() + n_zero * mean**2) / logged.shape[0])
    varies = deviation >= 1e-12
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    if logged.shape[0] * logged.shape[1] > MOST_DENSE:
        return sparse.csr_matrix(logged @ sparse.diags(scale))
    return np.asarray((logged.toarray() - mean) * scale)
