"""The cells that are analysed, with all that is known of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from scballast.arrays import BoolArray, FloatArray
from scballast.data.blocks import take, without_empty_rows
from scballast.data.columns import Column, taken
from scballast.data.dataset import GenesBeside
from scballast.data.remarks import Remarks


@dataclass(frozen=True)
class AnalysedCells:
    """Counts and columns of the cells that are left.

    Attributes
    ----------
    counts
        (n_cells, n_genes) of the analysed genes.
    totals
        (n_cells,) counts over all genes.
    beside
        Counts of genes that were asked for besides.
    labels, batches, samples
        (n_cells,) each.
    rows
        (n_stored,) which of the stored cells these are.
    """

    counts: sp.csr_matrix
    totals: FloatArray
    beside: GenesBeside | None
    labels: Column
    batches: Column | None
    samples: Column | None
    rows: BoolArray

    def take(self, mask: BoolArray, remarks: Remarks) -> AnalysedCells:
        """Return those of them where the mask is true."""
        labels, batches, samples, notes = taken(self.labels, self.batches, self.samples, mask, remarks.label)
        remarks.notes.extend(notes)
        beside = None if self.beside is None else replace(self.beside, counts=take(self.beside.counts, mask))
        rows = self.rows.copy()
        rows[np.flatnonzero(rows)[~mask]] = False
        # Without its empty rows a matrix keeps its arrays, which may be mapped from disk.
        empty = not np.diff(self.counts.indptr)[~mask].any()
        counts = without_empty_rows(self.counts) if empty else take(self.counts, mask)
        return AnalysedCells(counts, self.totals[mask], beside, labels, batches, samples, rows)
