"""Each population against each other one: effect sizes of every pair, and what a gene keeps over all pairs.

Against all other cells together, a gene of many cells' common background can look like a marker, and the largest of the
other populations decides. Here every other population counts once, and cells in no population have no part.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.stats import rankdata

from scballast.arrays import BoolArray, FloatArray, IntArray, cross_table, divided, membership
from scballast.methods.cell_view import CellView

logger = logging.getLogger(__name__)

_MOST_ENTRIES = 2**22  # of the tables of one part of the genes: 32 MiB each
_FEW_CELLS = 32  # of a block, which are compared one by one


@dataclass(frozen=True)
class PairwiseEffects:
    """Effect sizes of each population against each other one; NaN where no block has cells of both.

    Attributes
    ----------
    auc
        (n_populations, n_populations, n_genes) chance that a cell of the first population has more than one of the
        second, ties counted half.
    cohens_d
        Difference of the means over the root of the mean of the two variances; 0 where both are 0 and the means are
        equal, and infinite where they are not.
    detection_difference
        Share of the first population's cells with a count less that of the second.
    log2_fold_change
        Difference of the means of log counts, in powers of two.
    """

    auc: FloatArray
    cohens_d: FloatArray
    detection_difference: FloatArray
    log2_fold_change: FloatArray


@dataclass(frozen=True)
class Summary:
    """An effect over all other populations.

    Attributes
    ----------
    minimum, mean
        (n_populations, n_genes).
    min_rank
        (n_populations, n_genes) the best of the gene's ranks in the comparisons, from 1; equal effects share the
        best of their ranks. The genes of ranks 1 to T tell the population from every other by T genes at least.
    """

    minimum: FloatArray
    mean: FloatArray
    min_rank: FloatArray


def min_auc_scores(view: CellView) -> FloatArray:
    """Score genes by their smallest AUC against another population, less a half.

    Parameters
    ----------
    view
        The replicate's cells.

    Returns
    -------
    (n_populations, n_genes) float
        In [-0.5, 0.5]: above 0 only if the gene is higher than in every single other population.

    References
    ----------
    Lun, McCarthy & Marioni (2016), A step-by-step workflow for low-level analysis of single-cell RNA-seq data with
    Bioconductor (scran; ``min.AUC`` of ``scoreMarkers``).
    """
    auc = _auc_of(view, "min_auc")
    return view.empty_scores() if auc is None else summarised(auc).minimum - 0.5


def min_rank_auc_scores(view: CellView) -> FloatArray:
    """Score genes by the best rank of their AUC in any comparison with another population.

    Parameters
    ----------
    view
        The replicate's cells.

    Returns
    -------
    (n_populations, n_genes) float
        Genes that are higher than in some other population: number of genes, less the rank, plus the mean AUC, which
        puts the genes of equal rank in order. The others: the mean AUC less a half, not above 0.

    References
    ----------
    Lun, McCarthy & Marioni (2016), see :func:`min_auc_scores` (``rank.AUC`` of ``scoreMarkers``, ``Top`` of
    ``findMarkers``).
    """
    auc = _auc_of(view, "min_rank_auc")
    if auc is None:
        return view.empty_scores()
    summary = summarised(auc)
    somewhere_higher = np.nanmax(np.where(np.isnan(auc), -np.inf, auc), axis=1) > 0.5
    by_rank = auc.shape[2] - summary.min_rank + summary.mean
    return np.where(somewhere_higher, by_rank, summary.mean - 0.5)


def summarised(effect: FloatArray) -> Summary:
    """Summarise an effect over the other populations.

    Parameters
    ----------
    effect
        (n_populations, n_populations, n_genes), NaN where there is no comparison: these are left out.

    Returns
    -------
    Summary
        NaN for a population without any comparison.
    """
    n_populations, _, n_genes = effect.shape
    minimum, mean, min_rank = (np.full((n_populations, n_genes), np.nan) for _ in range(3))
    for population, pairs in enumerate(effect):
        compared = pairs[~np.isnan(pairs).any(axis=1)]
        if len(compared):
            minimum[population], mean[population] = compared.min(axis=0), compared.mean(axis=0)
            min_rank[population] = rankdata(-compared, method="min", axis=1).min(axis=0)
    return Summary(minimum, mean, min_rank)


def pairwise_auc(
    values: sparse.csr_matrix, codes: IntArray, n_populations: int, blocks: IntArray | None = None
) -> FloatArray:
    """Return the AUC of each gene between each two populations.

    Parameters
    ----------
    values
        (n_cells, n_genes) not negative; a monotone change, the same for all cells, changes nothing.
    codes
        (n_cells,) population of each cell; negative: none.
    n_populations
        Number of populations.
    blocks
        (n_cells,) only cells of one block are compared; a block weighs as many pairs of cells as it has.

    Returns
    -------
    (n_populations, n_populations, n_genes) float
        See :class:`PairwiseEffects`.
    """
    wins = np.zeros((n_populations, n_populations, values.shape[1]))
    pairs = np.zeros((n_populations, n_populations))
    for cells in _blocks(codes, blocks):
        sizes = np.bincount(codes[cells], minlength=n_populations)
        pairs += np.outer(sizes, sizes)
        if cells.size <= _FEW_CELLS:
            _add_wins_of_few(wins, values[cells].toarray(), codes[cells])
        else:
            _add_wins(wins, values if cells.size == codes.size else values[cells], codes[cells], sizes)
    np.fill_diagonal(pairs, 0)
    return divided(wins, pairs[:, :, None], np.nan)


def pairwise_effects(
    log_counts: sparse.csr_matrix, codes: IntArray, n_populations: int, blocks: IntArray | None = None
) -> PairwiseEffects:
    """Return all effect sizes of each gene between each two populations.

    Parameters
    ----------
    log_counts
        (n_cells, n_genes) natural logs of 1 + scaled counts.
    codes, n_populations, blocks
        See :func:`pairwise_auc`. Effects are means over blocks, weighted by their pairs of cells; Cohen's d is taken
        from the blocks with at least two cells of both.

    References
    ----------
    Cohen (1988), Statistical Power Analysis for the Behavioral Sciences. Summaries and blocks as in scran.
    """
    shape = (n_populations, n_populations, log_counts.shape[1])
    difference, detection, cohens_d = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    pairs, varying_pairs = np.zeros(shape[:2]), np.zeros(shape[:2])
    for cells in _blocks(codes, blocks):
        part = log_counts if cells.size == codes.size else log_counts[cells]
        # Of many small blocks each has few of the populations.
        present, place = np.unique(codes[cells], return_inverse=True)
        of_population = membership(place, present.size)
        sizes = np.bincount(place).astype(np.float64)
        means, detected, squares = (
            (of_population @ sparse.csr_matrix((data, part.indices, part.indptr), part.shape)).toarray()
            for data in (part.data, (part.data > 0).astype(np.float64), part.data**2)
        )
        means, detected = means / sizes[:, None], detected / sizes[:, None]
        variances = _variances(squares, means, sizes)
        weight = np.outer(sizes, sizes)
        both = np.ix_(present, present)
        pairs[both] += weight
        enough = sizes >= 2
        varying = weight * np.outer(enough, enough)
        varying_pairs[both] += varying
        for first, population in enumerate(present):
            of_means = means[first] - means
            difference[population, present] += weight[first, :, None] * of_means
            detection[population, present] += weight[first, :, None] * (detected[first] - detected)
            rows = np.flatnonzero(varying[first])
            rows = rows[rows != first]
            standardised = _standardised(of_means[rows], (variances[first] + variances[rows]) / 2)
            cohens_d[population, present[rows]] += varying[first, rows, None] * standardised
    for weights in (pairs, varying_pairs):
        np.fill_diagonal(weights, 0)
    return PairwiseEffects(
        auc=pairwise_auc(log_counts, codes, n_populations, blocks),
        cohens_d=divided(cohens_d, varying_pairs[:, :, None], np.nan),
        detection_difference=divided(detection, pairs[:, :, None], np.nan),
        log2_fold_change=divided(difference, pairs[:, :, None], np.nan) / np.log(2),
    )


def _auc_of(view: CellView, method: str) -> FloatArray | None:
    """Return the AUCs of a replicate, or None where there is no pair; the log names populations without one."""
    auc = pairwise_auc(view.log_counts, view.codes, view.n_populations, view.blocks)
    compared: BoolArray = np.isfinite(auc[:, :, 0])  # of a pair every gene has an AUC, or none
    sizes = view.sizes()
    for code in np.flatnonzero(~compared.any(axis=1)):
        message = "%s: no score for population %r: of its %d cells none is in a block with cells of another population."
        logger.warning(message, method, view.populations[code], sizes[code])
    return auc if compared.any() else None


def _blocks(codes: IntArray, blocks: IntArray | None) -> Iterator[IntArray]:
    """Yield the positions of the cells of each block that are in a population."""
    inside = np.flatnonzero(codes >= 0)
    if blocks is None:
        yield inside
        return
    for block in np.unique(blocks[inside]):
        yield inside[blocks[inside] == block]


def _add_wins_of_few(wins: FloatArray, values: FloatArray, codes: IntArray) -> None:
    """Add the same of a few cells, (n_cells, n_genes), each compared with all."""
    present, place = np.unique(codes, return_inverse=True)
    members = np.zeros((present.size, codes.size))
    members[place, np.arange(codes.size)] = 1.0
    for cell, code in zip(values, codes, strict=True):
        wins[code, present] += members @ ((cell > values) + (cell == values) / 2)


def _add_wins(wins: FloatArray, values: sparse.csr_matrix, codes: IntArray, sizes: IntArray) -> None:
    """Add, for each two populations, the pairs of cells of which the first has more, and half of those that tie.

    Equal values of a gene are one row of a table of how many cells of each population have them; with how many have
    less, all pairs of populations are one product. Zeros are counted, never listed.
    """
    n_genes, n_populations = wins.shape[2], sizes.size
    columns = values.tocsc()
    columns.eliminate_zeros()
    stored = np.diff(columns.indptr)
    start = 0
    while start < n_genes:
        filled = np.cumsum(stored[start:]) * n_populations
        stop = start + max(1, int(np.searchsorted(filled, _MOST_ENTRIES, side="right")))
        part = slice(columns.indptr[start], columns.indptr[stop])
        gene = np.repeat(np.arange(stop - start), stored[start:stop])
        order = np.lexsort((columns.data[part], gene))
        value, population = columns.data[part][order], codes[columns.indices[part][order]]
        first = np.ones(value.size, dtype=bool)
        first[1:] = (value[1:] != value[:-1]) | (gene[1:] != gene[:-1])
        row = np.cumsum(first) - 1
        n_rows = int(row[-1]) + 1 if row.size else 0
        tied = cross_table(row, n_rows, population, n_populations).astype(np.float64)  # (value, population)
        bounds = np.searchsorted(gene[first], np.arange(stop - start + 1))
        for position, (low, high) in enumerate(itertools.pairwise(bounds)):
            gene_ties = tied[low:high]
            zeros = sizes - gene_ties.sum(axis=0)
            less = zeros + np.cumsum(gene_ties, axis=0) - gene_ties / 2
            wins[:, :, start + position] += gene_ties.T @ less + np.outer(zeros, zeros) / 2
        start = stop


def _variances(squares: FloatArray, means: FloatArray, sizes: FloatArray) -> FloatArray:
    """Return unbiased variances from sums of squares; what is below rounding is 0."""
    spread = squares - sizes[:, None] * means**2
    spread = np.where(spread > 1e-12 * squares, spread, 0.0)
    return np.asarray(spread / np.maximum(sizes - 1, 1.0)[:, None])


def _standardised(difference: FloatArray, variance: FloatArray) -> FloatArray:
    # Without variance a difference is one of two constants, or rounding.
    result = np.where(np.abs(difference) > 1e-9, np.copysign(np.inf, difference), 0.0)
    np.divide(difference, np.sqrt(variance), out=result, where=variance > 0)
    return result
