"""What a baseline receives, and what a baseline is: arrays in, one score per population and gene out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix

from scballast.arrays import FloatArray, IntArray

logger = logging.getLogger(__name__)

CELL_TARGET_COUNTS = 1e4


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
        """(n_cells, n_genes) float64 natural log of 1 + counts per 10,000, sorted indices; a zero stays zero.

        Count over total is divided out first, in float64: equal fractions such as 1/300 and 2/600 then round to
        the same number, so that what is tied stays tied for the rank test.
        """
        shares = csr_matrix(self.counts, dtype=np.float64, copy=True)
        shares.eliminate_zeros()
        totals = np.repeat(np.asarray(self.total_counts, dtype=np.float64), np.diff(shares.indptr))
        shares.data = np.log1p(shares.data / totals * CELL_TARGET_COUNTS)
        shares.sort_indices()
        return shares

    def sizes(self) -> IntArray:
        """(n_populations,) cells of each population in this replicate."""
        return np.bincount(self.codes[self.codes >= 0], minlength=self.n_populations)

    def empty_scores(self) -> FloatArray:
        """(n_populations, n_genes) NaN: what a population that cannot be scored keeps."""
        return np.full((self.n_populations, self.counts.shape[1]), np.nan)


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
    """Score each population by its own cells alone; the log names those with too few.

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
    for code, name in enumerate(view.populations):
        cells = np.flatnonzero(view.codes == code)
        if cells.size < smallest:
            message = "%s: no score for population %r: %d cells, at least %d needed."
            logger.warning(message, method, name, cells.size, smallest)
            continue
        scores[code] = score(cells, name)
    return scores
