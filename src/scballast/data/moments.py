"""Sums over cells that the selection of genes rests on, added up block by block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from scballast.arrays import BoolArray, FloatArray, IntArray
from scballast.data import blocks as limits
from scballast.data.blocks import row_parts, row_sums, take

FEWEST_GENES = 20
"""Cells with counts in fewer genes may be alike by chance and are not compared."""


class Survey:
    """What is known of cells and genes after one pass over the counts.

    Parameters
    ----------
    kept : (n_read,)
        The cells that are looked at, of all that are read.
    n_genes
        Genes that are read.
    groups : (n_kept,)
        Group of each cell whose sums are wanted apart; -1: in none. None: sums of squares are not wanted.

    Attributes
    ----------
    groups
        (n_kept,) as given.
    n_values
        (n_kept,) genes with a count in each cell.
    totals
        (n_kept,) float64 counts of each cell.
    fingerprints
        (n_kept,) uint64, the same for cells with the same counts and no others but by chance: counts times a random
        word of their gene, summed modulo 2^64.
    expressing
        (n_groups + 1, n_genes) cells with a count, in each group and in none; without groups one row of all cells.
    sums, squares
        (n_groups + 1, n_genes) float64 sums of counts, and of their squares rounded to float32, as scanpy adds them.
        Whole numbers: the order in which cells come changes nothing.
    """

    def __init__(self, kept: BoolArray, n_genes: int, groups: IntArray | None) -> None:
        n_kept = int(np.count_nonzero(kept))
        n_groups = 1 + (int(groups.max(initial=-1)) + 1 if groups is not None else 0)
        self._kept = kept
        self._before = np.concatenate([[0], np.cumsum(kept)])
        self.groups = np.full(n_kept, -1) if groups is None else groups
        self._squared = groups is not None
        self.n_values: IntArray = np.zeros(n_kept, dtype=np.int64)
        self.totals: FloatArray = np.zeros(n_kept)
        self.fingerprints: npt.NDArray[np.uint64] = np.zeros(n_kept, dtype=np.uint64)
        self._words = np.random.default_rng(0).integers(0, 2**64, n_genes, dtype=np.uint64)
        self.expressing: IntArray = np.zeros((n_groups, n_genes), dtype=np.int64)
        shape = (n_groups, n_genes if groups is not None else 0)
        self.sums: FloatArray = np.zeros(shape)
        self.squares: FloatArray = np.zeros(shape)

    def add(self, first: int, block: sp.csr_matrix) -> None:
        """Add the counts of a block of cells of which the first is the ``first`` of all that are read."""
        for start, part in row_parts(block, limits.PART_VALUES):
            rows = slice(first + start, first + start + part.shape[0])
            part = take(part, self._kept[rows])
            self._add(slice(int(self._before[rows.start]), int(self._before[rows.stop])), part)

    def _add(self, cells: slice, part: sp.csr_matrix) -> None:
        n_values = np.diff(part.indptr)
        self.n_values[cells] = n_values
        self.totals[cells] = row_sums(part)
        filled = np.flatnonzero(n_values)
        if filled.size:
            products = part.data.astype(np.uint64) * self._words[part.indices]
            self.fingerprints[cells.start + filled] = np.add.reduceat(products, part.indptr[filled])
        if not self._squared:
            self.expressing[0] += part.getnnz(axis=0)
            return
        places = places_of(part, self.groups[cells] % len(self.expressing), n_values)
        values = part.data.astype(np.float64)
        np.add.at(self.expressing.ravel(), places, 1)
        np.add.at(self.sums.ravel(), places, values)
        np.add.at(self.squares.ravel(), places, np.square(part.data).astype(np.float64))


def first_alike(fingerprints: npt.NDArray[np.uint64], n_genes: IntArray, labelled: BoolArray) -> IntArray:
    """Return for each cell the one whose counts it repeats.

    Parameters
    ----------
    fingerprints : (n_cells,)
        The same for cells with the same counts.
    n_genes : (n_cells,)
        Genes with a count; cells with fewer than ``FEWEST_GENES`` repeat none.
    labelled : (n_cells,)
        Cells with a label: of copies the first of these stays, or where there is none the first.

    Returns
    -------
    (n_cells,) int64
        Positions; a cell's own where it repeats none.
    """
    firsts = np.arange(fingerprints.size)
    order = np.lexsort((firsts, ~labelled, fingerprints))
    order = order[n_genes[order] >= FEWEST_GENES]
    begins = np.diff(fingerprints[order], prepend=~fingerprints[order[:1]]) != 0
    firsts[order] = order[np.maximum.accumulate(np.where(begins, np.arange(order.size), 0))]
    return firsts


def places_of(part: sp.csr_matrix, groups: IntArray, n_values: IntArray) -> IntArray:
    """Return where in a flat (n_groups, n_genes) array each value of a part belongs."""
    if not groups.any():
        return np.asarray(part.indices)
    places: IntArray = np.repeat(groups.astype(np.int64) * part.shape[1], n_values) + part.indices
    return places


@dataclass
class ClippedSums:
    """Sums of counts and of their squares, counts above a limit taken as the limit, in the order of the cells.

    Attributes
    ----------
    groups
        (n_cells,) group of each cell; -1: in none.
    limits
        (n_groups, n_genes) largest value of a count.
    sums, squares
        (n_groups, n_genes) float64.
    """

    groups: IntArray
    limits: FloatArray

    def __post_init__(self) -> None:
        """Begin with nothing added."""
        self.sums: FloatArray = np.zeros_like(self.limits)
        self.squares: FloatArray = np.zeros_like(self.limits)
        self._row = 0

    def add(self, part: sp.csr_matrix) -> None:
        """Add the next cells."""
        groups = self.groups[self._row : self._row + part.shape[0]]
        self._row += part.shape[0]
        if (groups < 0).any():
            part, groups = take(part, groups >= 0), groups[groups >= 0]
        places = places_of(part, groups, np.diff(part.indptr))
        values = np.minimum(part.data.astype(np.float64), self.limits.ravel()[places])
        np.add.at(self.sums.ravel(), places, values)
        np.add.at(self.squares.ravel(), places, np.square(values))
