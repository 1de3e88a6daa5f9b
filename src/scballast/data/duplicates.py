"""Cells that stand in the data twice, as where overlapping files were joined.

In complementary halves a copy of a cell that suggested a gene is among the unseen cells that are to confirm it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from scballast.arrays import FloatArray, IntArray
from scballast.data.analysed_cells import AnalysedCells
from scballast.data.blocks import PART_VALUES, row_parts
from scballast.data.names import quote
from scballast.data.populations import DUPLICATES, note_disappearance, note_lost
from scballast.data.remarks import Remarks

if TYPE_CHECKING:
    from scballast.config.schema import DataConfig

FEWEST_GENES = 20
"""Cells with counts in fewer genes may be alike by chance and are not compared."""


def without_duplicates(
    cells: AnalysedCells, names: Sequence[str], config: DataConfig, remarks: Remarks
) -> AnalysedCells:
    """Return the cells without copies of earlier ones, unless ``data.duplicates=keep``; say so in either case.

    Parameters
    ----------
    cells
        All that have counts.
    names
        (n_stored,) of all stored cells.
    config, remarks
        What is wished, and where it is said what was found.
    """
    firsts = duplicate_of(cells.counts, cells.totals)
    once = firsts == np.arange(firsts.size)
    if once.all():
        return cells
    copies, stored = np.flatnonzero(~once), np.flatnonzero(cells.rows)
    copy, first = (quote(names[stored[cell]]) for cell in (copies[0], firsts[copies[0]]))
    relabelled = int(np.count_nonzero(cells.labels.codes[copies] != cells.labels.codes[firsts[copies]]))
    other_label = f"; {relabelled:,} under another label" if relabelled else ""
    found = (
        f"{copies.size:,} of {once.size:,} cells have exactly the counts of an earlier cell, as where overlapping "
        f"files were joined (first {copy}, those of {first}{other_label})"
    )
    if config.duplicates == "keep":
        remarks.note(f"{found}. data.duplicates=keep: genes may be confirmed by the very cells that suggested them.")
        return cells
    remarks.note(
        f"{found}. They are left out, for as unseen cells they would confirm what they suggested "
        "(data.duplicates=keep keeps them)."
    )
    left = cells.take(once, remarks)
    note_disappearance(cells.labels, left.labels, config.min_cells, DUPLICATES, remarks)
    for what, before, after in (("batches", cells.batches, left.batches), ("samples", cells.samples, left.samples)):
        if before is not None and after is not None:
            note_lost(before, after, what, DUPLICATES, remarks)
    return left


def duplicate_of(counts: sp.csr_matrix, totals: FloatArray) -> IntArray:
    """Return for each cell the first one with exactly its counts.

    Parameters
    ----------
    counts : (n_cells, n_genes)
        Sorted indices, no stored zero; may be mapped from disk.
    totals : (n_cells,)
        Counts over all genes, those included that are not analysed.

    Returns
    -------
    (n_cells,) int64
        Position of the first cell with the same counts; its own where there is none, or where the cell has counts in
        fewer than ``FEWEST_GENES`` genes.
    """
    firsts = np.arange(counts.shape[0])
    sums = _row_hashes(counts) + totals.astype(np.uint64)
    order = np.lexsort((firsts, sums))
    order = order[np.diff(counts.indptr)[order] >= FEWEST_GENES]
    begins = np.diff(sums[order], prepend=~sums[order[:1]]) != 0
    first_alike = order[np.maximum.accumulate(np.where(begins, np.arange(order.size), 0))]
    for cell, first in zip(order[~begins], first_alike[~begins], strict=True):
        if totals[cell] == totals[first] and _same(counts, int(cell), int(first)):
            firsts[cell] = first
    return firsts


def _row_hashes(counts: sp.csr_matrix) -> npt.NDArray[np.uint64]:
    """Return the sum of each row's counts times a random word of their gene, modulo 2^64; other rows differ."""
    words = np.random.default_rng(0).integers(0, 2**64, counts.shape[1], dtype=np.uint64)
    hashes = np.zeros(counts.shape[0], dtype=np.uint64)
    for first, part in row_parts(counts, PART_VALUES):
        filled = np.flatnonzero(np.diff(part.indptr))
        if filled.size:
            products = part.data.astype(np.uint64) * words[part.indices]
            hashes[first + filled] = np.add.reduceat(products, part.indptr[filled])
    return hashes


def _same(counts: sp.csr_matrix, first: int, second: int) -> bool:
    a, b = (slice(*counts.indptr[cell : cell + 2]) for cell in (first, second))
    return np.array_equal(counts.indices[a], counts.indices[b]) and np.array_equal(counts.data[a], counts.data[b])
