"""What a baseline receives, and what a baseline is: arrays in, one score per population and gene out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix

from scballast.arrays import FloatArray, IntArray, membership
from scballast.threads import side_by_side

logger = logging.getLogger(__name__)

CELL_TARGET_COUNTS = 1e4
MOST_CELLS = 5000
"""Cells of one population that methods look at which hold them as a dense matrix, in a replicate.

Smaller populations are whole. The search for programs, which cuts populations in halves itself, looks at twice as many.
"""
_CELLS_AT_ONCE = 2**14


@dataclass(frozen=True, eq=False)
class CellView:
    """The cells of one replicate, as arrays; every baseline of the replicate sees this same object.

    Attributes
    ----------
    counts
        (n_cells, n_genes) raw counts of the selected genes.
    total_counts
        (n_cells,) counts per cell over all genes, before gene selection.
    codes
        (n_cells,) index into ``populations``; -1: in none. Such cells are in the rest of every population.
    n_populations
        Length of ``populations``.
    populations
        Names of the ranked populations.
    samples
        (n_cells,) index of the biological sample of each cell, or None.
    seed
        The replicate's own seed, >= 0.
    sample_names
        Names by index in ``samples``; empty: samples are named by their index.
    n_components
        Leading components of ``within_pca``, ``residual_pca`` and ``cross_covariance``, and factors of
        ``sparse_factors``; None: as many as stand out from genes that are permuted over the cells (and two spare
        factors), which differs between populations.
    blocks
        (n_cells,) code of batch crossed with sample, within which one may compare cells; None: the data have neither.
    conditions
        (n_cells,) 0: the reference, 1: the other condition, -1: neither; None: the data have none.
    null_conditions
        (n_cells,) the same after permuting (``response.permuted_conditions``), alike in all replicates.
    """

    counts: csr_matrix
    total_counts: FloatArray
    codes: IntArray
    n_populations: int
    populations: tuple[str, ...]
    samples: IntArray | None
    seed: int
    sample_names: tuple[str, ...] = ()
    n_components: int | None = None
    blocks: IntArray | None = None
    conditions: IntArray | None = None
    null_conditions: IntArray | None = None

    @cached_property
    def log_counts(self) -> csr_matrix:
        """(n_cells, n_genes) :func:`log_of`."""
        return log_of(self.counts, self.total_counts)

    def of_population(self, code: int) -> IntArray:
        """Return the positions of a population's cells, of a very large one ``MOST_CELLS``, evenly over their depth."""
        return evenly_over_depth(np.flatnonzero(self.codes == code), self.total_counts, self.counts, MOST_CELLS)

    def sizes(self) -> IntArray:
        """(n_populations,) cells of each population in this replicate."""
        return np.bincount(self.codes[self.codes >= 0], minlength=self.n_populations)

    def empty_scores(self) -> FloatArray:
        """(n_populations, n_genes) NaN: what a population that cannot be scored keeps."""
        return np.full((self.n_populations, self.counts.shape[1]), np.nan)


def log_of(counts: csr_matrix, total_counts: FloatArray) -> csr_matrix:
    """Return float64 natural logs of 1 + counts per 10,000, sorted indices; a zero stays zero.

    Count over total is divided out first, in float64: equal fractions such as 1/300 and 2/600 then round to
    the same number, so that what is tied stays tied for the rank test.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts.
    total_counts
        (n_cells,) counts per cell over all genes.
    """
    shares = csr_matrix(counts, dtype=np.float64, copy=True)
    shares.eliminate_zeros()
    totals = np.repeat(np.asarray(total_counts, dtype=np.float64), np.diff(shares.indptr))
    shares.data = np.log1p(shares.data / totals * CELL_TARGET_COUNTS)
    shares.sort_indices()
    return shares


def mean_log_counts(counts: csr_matrix, total_counts: FloatArray, codes: IntArray, n_populations: int) -> FloatArray:
    """Return (n_populations, n_genes) mean :func:`log_of` of each population's cells, made for some cells at a time.

    Parameters
    ----------
    counts, total_counts
        See :func:`log_of`.
    codes
        (n_cells,) population of each cell; negative: none.
    n_populations
        Number of populations; one without cells has zeros.
    """
    sums = np.zeros((n_populations, counts.shape[1]))
    for start in range(0, counts.shape[0], _CELLS_AT_ONCE):
        part = slice(start, start + _CELLS_AT_ONCE)
        sums += (membership(codes[part], n_populations) @ log_of(counts[part], total_counts[part])).toarray()
    sizes = np.bincount(codes[codes >= 0], minlength=n_populations)
    return np.asarray(sums / np.maximum(sizes, 1)[:, None])


def evenly_over_depth(cells: IntArray, total_counts: FloatArray, counts: csr_matrix, most: int) -> IntArray:
    """Return some cells, or of many a sample that has their depths: every so many-th in the order of depth.

    What the cells hold decides: of equal depths the sum of squared counts, then a sum of counts in which each gene has
    a weight of its own. No random number, and the order of the cells has no part.

    Parameters
    ----------
    cells
        Positions, ascending.
    total_counts
        Counts of all cells, over all genes.
    counts
        (n_cells, n_genes) of all cells.
    most
        Returned at most, ascending.
    """
    if cells.size <= most:
        return cells
    rows = counts[cells]
    squares = np.asarray(csr_matrix((rows.data.astype(np.float64) ** 2, rows.indices, rows.indptr), rows.shape).sum(1))
    weighted = rows @ np.sqrt(np.arange(2.0, rows.shape[1] + 2))
    by_depth = cells[np.lexsort((weighted, squares.ravel(), total_counts[cells]))]
    places = (np.arange(most) + 0.5) * cells.size / most
    return np.asarray(np.sort(by_depth[places.astype(np.int64)]))


def comparable_populations(view: CellView, method: str, *, smallest: int) -> IntArray:
    """Return the populations with enough cells in and outside them; the log names the others.

    Parameters
    ----------
    view
        The replicate's cells.
    method
        For the log.
    smallest
        Cells needed on each side.

    Returns
    -------
    (n,) int
        Population indices in ascending order.
    """
    inside = view.sizes()
    outside = view.codes.size - inside
    enough = (inside >= smallest) & (outside >= smallest)
    for code in np.flatnonzero(~enough):
        message = "%s: no score for population %r: %d cells in it and %d outside, at least %d needed on each side."
        logger.warning(message, method, view.populations[code], inside[code], outside[code], smallest)
    return np.flatnonzero(enough)


def score_each_population(
    view: CellView, method: str, score: Callable[[IntArray, str], FloatArray], *, smallest: int
) -> FloatArray:
    """Score each population by its own cells alone, a few side by side; the log names those with too few.

    Parameters
    ----------
    view
        The replicate's cells.
    method
        For the log.
    score
        From the positions of a population's cells, and its name, to (n_genes,) scores.
    smallest
        Cells needed.

    Returns
    -------
    (n_populations, n_genes) float
    """
    scores = view.empty_scores()
    cells = [view.of_population(code) for code in range(view.n_populations)]
    enough = [code for code, positions in enumerate(cells) if positions.size >= smallest]
    for code in sorted(set(range(view.n_populations)) - set(enough)):
        message = "%s: no score for population %r: %d cells, at least %d needed."
        logger.warning(message, method, view.populations[code], cells[code].size, smallest)
    if enough:
        names = [view.populations[code] for code in enough]
        scores[enough] = side_by_side(score, [cells[code] for code in enough], names)
    return scores
