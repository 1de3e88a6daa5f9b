"""Do programs come back: in unseen cells, and in either half of the cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import linear_sum_assignment

from scballast.agreement.program_components import rotated_programs
from scballast.arrays import FloatArray, IntArray, divided

LEVEL = 0.95


@dataclass(frozen=True)
class Unseen:
    """Candidates found again without some of the cells, and their activity in those cells.

    Attributes
    ----------
    weights
        (n_parts, n_genes, n_programs) from the cells outside each part, of length 1; 0 without a counterpart.
    agreement
        (n_programs,) mean cosine of the weights of two parts, whose cells are for the most part the same.
    activity
        (n_cells, n_programs) of each cell, by weights that it took no part in.
    signal
        (n_programs,) variance of that activity which is covariation of its genes.
    share, lower, upper
        (n_programs,) the same as a share of the activity's variance, with its interval over cells.
    """

    weights: FloatArray
    agreement: FloatArray
    activity: FloatArray
    signal: FloatArray
    share: FloatArray
    lower: FloatArray
    upper: FloatArray


def found_again(values: FloatArray, candidates: FloatArray, n_components: int) -> FloatArray:
    """Search some of the cells, blind to the others, and match what is found with the candidates.

    Parameters
    ----------
    values
        (n_cells, n_genes) noise-scaled; means need not be 0.
    candidates
        (n_genes, n_programs) columns of length 1, which say no more than what to call the things found.
    n_components
        Components of the search that gave the candidates, before factors were joined.

    Returns
    -------
    (n_genes, n_programs)
        One to one by absolute cosine, with the candidates' signs; 0 where there is no counterpart.
    """
    n_cells, n_genes = values.shape
    # Largest variance of a component of independent genes, for many cells and genes.
    edge = float((1 + np.sqrt(n_genes / n_cells)) ** 2)
    programs = rotated_programs(values - values.mean(axis=0), n_components, 0.5 * edge)
    matched = np.zeros_like(candidates)
    if programs.shape[1]:
        cosine = programs.T @ candidates
        rows, columns = linear_sum_assignment(np.abs(cosine), maximize=True)
        signs = np.where(cosine[rows, columns] < 0, -1.0, 1.0)
        matched[:, columns] = programs[:, rows] * signs
    return matched


def in_unseen_cells(values: FloatArray, parts: Sequence[IntArray], weights: FloatArray) -> Unseen:
    r"""Measure activities in cells that took no part in their weights.

    .. math:: 1 - \frac{\sum_i \sum_g w_g^2 z_{ig}^2}{\sum_i (\sum_g w_g z_{ig})^2}

    with :math:`z` centred within each part and :math:`w` from all other cells. Its expectation is 0 where genes vary
    independently, whatever the weights are: it cannot come from both resting on the same abundant genes. It is the
    reliability of the activity, the squared correlation with what the cells do beside the noise of single genes. The
    interval is that of a ratio of means over cells: one odd cell makes it wide.

    Parameters
    ----------
    values
        (n_cells, n_genes) noise-scaled.
    parts
        Positions of the cells left out together; every cell is in one of them, none in two.
    weights
        (n_parts, n_genes, n_programs) from the cells outside each part.

    References
    ----------
    Lord & Novick (1968), Statistical theories of mental test scores (reliability).
    Cochran (1977), Sampling techniques, chapter 6 (the ratio of two means).
    Chen, Roch, Rohe & Yu (2021), Estimating graph dimension with cross-validated eigenvalues.
    """
    n_cells, n_parts, n_programs = len(values), len(parts), weights.shape[2]
    shape = (n_cells, n_programs)
    activity, squares, noise = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for part, fitted in zip(parts, weights, strict=True):
        mean = values[part].mean(axis=0)
        outside = (values.sum(axis=0) - len(part) * mean) / (n_cells - len(part))
        activity[part] = (values[part] - outside) @ fitted
        centred = values[part] - mean
        unbiased = len(part) / max(len(part) - 1, 1)
        squares[part] = (centred @ fitted) ** 2 * unbiased
        noise[part] = centred**2 @ fitted**2 * unbiased
    total = squares.mean(axis=0)
    safe = np.where(total > 0, total, 1.0)
    share = np.where(total > 0, 1 - noise.mean(axis=0) / safe, 0.0)
    influence = (noise - (1 - share) * squares) / safe
    reach = stats.t.ppf((1 + LEVEL) / 2, n_cells - 1) * np.sqrt((influence**2).mean(axis=0) / n_cells)
    cosine = np.einsum("igp,jgp->ijp", weights, weights)
    pairs = np.triu_indices(n_parts, 1)
    return Unseen(
        weights=weights,
        agreement=cosine[pairs].mean(axis=0),
        activity=activity,
        signal=total * share,
        share=share,
        lower=share - reach,
        upper=np.minimum(share + reach, 1.0),
    )


def gene_p_values(values: FloatArray, parts: Sequence[IntArray], weights: FloatArray) -> FloatArray:
    r"""Test whether each gene follows each program, in cells that took no part in the weights.

    The statistic is the gene's slope on the activity without what the gene itself adds, the other activities held
    fixed, both centred within parts: with :math:`C` the covariances of genes and activities less those that come from
    the gene itself, and :math:`P` the inverse covariance of the activities,

    .. math:: t_{gk} = \sqrt{\nu}\,\frac{(C P)_{gk}}{\sqrt{P_{kk}}\,s_g}

    one-sided in the direction of the mean weight, against Student's t with :math:`\nu` = cells - parts - programs
    degrees of freedom.

    Parameters
    ----------
    values
        (n_cells, n_genes) noise-scaled.
    parts
        Positions of the cells left out together; every cell is in one of them, none in two.
    weights
        (n_parts, n_genes, n_programs) from the cells outside each part.

    Returns
    -------
    (n_genes, n_programs)
        NaN for a gene that does not vary or has no weight.
    """
    n_genes, n_programs = weights.shape[1:]
    degrees = len(values) - len(parts) - n_programs
    covariance, between = np.zeros((n_genes, n_programs)), np.zeros((n_programs, n_programs))
    variance = np.zeros(n_genes)
    for part, fitted in zip(parts, weights, strict=True):
        centred = values[part] - values[part].mean(axis=0)
        activity = centred @ fitted
        squares = (centred**2).sum(axis=0)
        covariance += centred.T @ activity - squares[:, None] * fitted
        between += activity.T @ activity
        variance += squares
    direction = np.sign(weights.mean(axis=0))
    p_values = np.full((n_genes, n_programs), np.nan)
    if degrees < 1:
        return p_values
    precision = np.linalg.pinv(between)
    scale = np.sqrt(np.outer(variance, np.maximum(np.diag(precision), 0.0)))
    r = divided(covariance @ precision, scale)
    t = direction * r * np.sqrt(degrees)
    tested = (variance[:, None] > 0) & (direction != 0) & (scale > 0)
    p_values[tested] = stats.t.sf(t[tested], degrees)
    return p_values


def agreement_of_halves(halves: FloatArray) -> FloatArray:
    """Return the mean cosine of the weights of complementary halves.

    Parameters
    ----------
    halves
        (2 · n_pairs, n_genes, n_programs) first and second half in turn, of length 1 or 0.

    Returns
    -------
    (n_programs,)
        0 by chance.
    """
    cosine = np.einsum("hgp,hgp->hp", halves[0::2], halves[1::2])
    return np.asarray(cosine.mean(axis=0))
