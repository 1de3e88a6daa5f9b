"""A sample of the rows of a matrix that is read in blocks: enough to tell what its values are."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from scballast.arrays import BoolArray, FloatArray, IntArray

ROWS_PER_BLOCK = 100
FEWEST_ROWS = 100
MAX_ROWS = 400
MAX_VALUES = 2**17
"""Beyond it, of wide matrices only ``FEWEST_ROWS`` are kept."""


@dataclass
class RowSample:
    """Rows from all over a matrix, evenly from each block, and thinned out as there are more blocks.

    Attributes
    ----------
    rows
        Columns and values of each row, those above 0.
    """

    rows: list[tuple[IntArray, FloatArray | IntArray]] = field(default_factory=list)
    _step: int = 1

    def add(self, matrix: sp.csr_matrix, wanted: BoolArray | None = None) -> None:
        """Take up to ``ROWS_PER_BLOCK`` rows, evenly from the ``wanted`` ones of a CSR block without NaN."""
        rows = np.arange(matrix.shape[0]) if wanted is None else np.flatnonzero(wanted)
        if rows.size:
            n_rows = max(1, ROWS_PER_BLOCK // self._step)
            rows = rows[np.unique(np.linspace(0, rows.size - 1, n_rows).astype(np.int64))]
        for row in rows:
            inside = slice(matrix.indptr[row], matrix.indptr[row + 1])
            values = matrix.data[inside]
            self.rows.append((matrix.indices[inside][values > 0], values[values > 0]))
        while len(self.rows) > MAX_ROWS or (
            len(self.rows) >= 2 * FEWEST_ROWS and sum(values.size for _, values in self.rows) > MAX_VALUES
        ):
            self.rows = self.rows[::2]
            self._step *= 2

    @property
    def values(self) -> list[FloatArray]:
        """Values of each row, float64."""
        return [values.astype(np.float64) for _, values in self.rows]

    def matrix(self) -> sp.csr_matrix:
        """Return the rows as (n_rows, n_columns) CSR, with the columns that occur."""
        lengths = [columns.size for columns, _ in self.rows]
        columns = np.concatenate([columns for columns, _ in self.rows] or [np.zeros(0, dtype=np.int64)])
        present, places = np.unique(columns, return_inverse=True)
        values = np.concatenate([*(values for _, values in self.rows), np.zeros(0)])
        shape = (len(lengths), present.size)
        return sp.csr_matrix((values, places, np.concatenate([[0], np.cumsum(lengths)])), shape=shape)
