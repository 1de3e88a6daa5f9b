"""The smallest set of genes that tells one group of cells from all others, when seen above a threshold each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from scballast.arrays import BoolArray, FloatArray, IntArray

BETA = 0.5
"""Weight of recall against precision: a cell taken for one of the group is worse than one missed."""
MOST_GENES = 4
TOLERANCE = 0.02
"""What a gene more must add to the score to be worth its place."""

_ROUNDING = 1e-12


@dataclass(frozen=True)
class MinimalSet:
    """Genes that are all seen above their thresholds in the cells of the group, and not in others.

    Attributes
    ----------
    genes
        (n_genes,) columns of the values, ascending.
    thresholds
        (n_genes,) a cell is taken for one of the group where every value is above.
    f_score
        F with ``BETA`` in the cells that the set was chosen in.
    """

    genes: IntArray
    thresholds: FloatArray
    f_score: float


@dataclass(frozen=True)
class Separation:
    """How well a set tells a group from other cells; NaN where the group has no cells, or precision no cell at all.

    Attributes
    ----------
    f_score, precision, recall
        In [0, 1].
    """

    f_score: float
    precision: float
    recall: float


def smallest_set(values: FloatArray, inside: BoolArray) -> MinimalSet:
    """Choose thresholds for each gene, and the smallest set of genes that is nearly as good as the best.

    A set takes the cells that all of its genes take. Sets of at most ``MOST_GENES`` genes are compared with the
    thresholds that give each gene the best F score by itself; the best set of each size then has its thresholds moved,
    one after the other, as long as its score rises; the smallest set within ``TOLERANCE`` of the best is chosen. The
    question is NS-Forest's; there a random forest proposes the genes and decision trees the thresholds.

    Parameters
    ----------
    values
        (n_cells, n_candidates) expression, such as log counts.
    inside
        (n_cells,) whether a cell is of the group; at least one is.

    Returns
    -------
    MinimalSet
        Of equal sets the one whose candidates come first.

    Raises
    ------
    ValueError
        There are no candidates, or no cell is of the group.

    References
    ----------
    Aevermann et al. (2021), A machine learning method for the discovery of minimum marker gene combinations for cell
    type identification from single-cell RNA sequencing, Genome Research 31.

    Examples
    --------
    >>> values = np.array([[3.0, 1.0], [2.0, 1.0], [2.0, 0.0], [0.0, 1.0]])
    >>> smallest_set(values, np.array([True, True, False, False])).genes
    array([0, 1])
    """
    if values.shape[1] == 0 or not inside.any():
        message = f"{values.shape[1]} candidate genes and {int(inside.sum())} cells of the group: at least 1 of each"
        raise ValueError(message)
    n_inside = int(inside.sum())
    thresholds = np.array([_threshold(column, inside, n_inside) for column in values.T])
    # Which genes take a cell is one of few patterns, of which a set of genes takes those that have all of them.
    patterns, of_cell = np.unique(np.packbits(values > thresholds, axis=1), axis=0, return_inverse=True)
    taken = np.unpackbits(patterns, axis=1, count=values.shape[1]).astype(bool)  # (pattern, candidate)
    n_cells, n_both = (np.bincount(of_cell.ravel(), weight) for weight in (None, inside))
    best: list[MinimalSet] = []
    for size in range(1, min(MOST_GENES, values.shape[1]) + 1):
        sets = list(combinations(range(values.shape[1]), size))
        by_set = np.array([taken[:, chosen].all(axis=1) for chosen in sets])  # (set, pattern)
        scores = _f_score(by_set @ n_both, by_set @ n_cells, n_inside).tolist()
        place = int(np.argmax(scores))
        genes = np.array(sets[place])
        best.append(_refined(values[:, genes], inside, MinimalSet(genes, thresholds[genes], scores[place])))
    limit = max(best_of_size.f_score for best_of_size in best) - TOLERANCE
    return next(best_of_size for best_of_size in best if best_of_size.f_score >= limit)


def separation(taken: BoolArray, inside: BoolArray) -> Separation:
    r"""Score the cells that were taken for those of a group.

    .. math:: F_\beta = \frac{(1 + \beta^2) TP}{(1 + \beta^2) TP + \beta^2 FN + FP}

    Parameters
    ----------
    taken, inside
        (n_cells,) which are taken for the group's, and which are.

    Returns
    -------
    Separation
    """
    n_inside, n_taken = int(inside.sum()), int(taken.sum())
    both = int((taken & inside).sum())
    if n_inside == 0:
        return Separation(np.nan, np.nan, np.nan)
    return Separation(
        float(_f_score(np.array(both), n_taken, n_inside)), both / n_taken if n_taken else np.nan, both / n_inside
    )


def _f_score(both: IntArray, n_taken: IntArray | int, n_inside: int) -> FloatArray:
    weight = BETA**2
    return np.asarray((1 + weight) * both / (n_taken + weight * n_inside))


def _refined(values: FloatArray, inside: BoolArray, start: MinimalSet) -> MinimalSet:
    """Move one threshold after the other, among the cells that the other genes take, while the score rises."""
    thresholds, score = start.thresholds.copy(), start.f_score
    n_inside, improved = int(inside.sum()), len(thresholds) > 1
    while improved:
        improved = False
        for gene in range(len(thresholds)):
            taken = values > thresholds
            others = np.delete(taken, gene, axis=1).all(axis=1)
            if not others.any():
                continue
            moved = thresholds.copy()
            moved[gene] = _threshold(values[others, gene], inside[others], n_inside)
            moved_score = separation(np.logical_and.reduce(values > moved, axis=1), inside).f_score
            if moved_score > score + _ROUNDING:
                thresholds, score, improved = moved, moved_score, True
    return MinimalSet(start.genes, thresholds, score)


def _threshold(values: FloatArray, inside: BoolArray, n_inside: int) -> float:
    """Return the threshold with the best F score: half way between two values, so that it is no cell's own.

    ``n_inside`` counts the cells of the group, also those that are not among these cells.
    """
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    last = np.flatnonzero(np.append(ordered[:-1] > ordered[1:], True))  # of each distinct value
    both = np.cumsum(inside[order], dtype=np.int64)[last]
    # A threshold below the lowest value takes every cell: no gene says that.
    scores = _f_score(both, last + 1, n_inside)[:-1]
    if scores.size == 0:
        return float(ordered[0])
    cut = int(last[int(np.argmax(scores))])
    return float((ordered[cut] + ordered[cut + 1]) / 2)
