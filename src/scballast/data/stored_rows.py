"""Matrices in a file, read by rows where they are stored so: then they are never in memory as a whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
import scipy.sparse as sp

from scballast.arrays import BoolArray, IntArray
from scballast.data import blocks
from scballast.data.remarks import reading, refuse

LARGEST_CHUNK = 4
"""Blocks are made so many times larger, and no more, where the file is stored in larger pieces."""


class DenseRows:
    """A dense matrix in a file."""

    def __init__(self, element: Any, label: str) -> None:
        self.shape = tuple(element.shape)
        self.dtype = element.dtype
        self.n_values = math.prod(self.shape)
        self._element = element
        self._label = label

    def __getitem__(self, rows: slice) -> Any:
        with reading(self._label):
            return self._element[rows]


class WholeMatrix:
    """A sparse matrix in a file that has no rows to read it by (CSC): read as a whole, when asked for.

    Parameters
    ----------
    group, shape, label
        As for `SparseRows`.
    read
        Returns the matrix.
    """

    def __init__(self, group: Any, shape: tuple[int, int], label: str, read: Callable[[], Any]) -> None:
        self.shape = shape
        with reading(label):
            self.dtype = group["data"].dtype
            self._starts = np.asarray(group["indptr"][:])
        self._read = read

    @property
    def n_values(self) -> int:
        """Stored values."""
        return int(self._starts[-1])

    def values_by_gene(self, genes: BoolArray) -> IntArray:
        """Return how many values are stored for each of these genes."""
        return np.asarray(np.diff(self._starts)[genes])

    def to_memory(self) -> Any:
        """Read the matrix."""
        return self._read()


class SparseRows:
    """A matrix in a file whose rows are compressed (CSR): arrays ``data``, ``indices`` and ``indptr``.

    Parameters
    ----------
    group
        Of HDF5 or zarr.
    shape
        Rows and columns.
    label
        File and matrix, for messages.

    Raises
    ------
    DataError
        The arrays do not fit each other: the file is damaged.
    """

    def __init__(self, group: Any, shape: tuple[int, int], label: str) -> None:
        self.shape = shape
        self._label = label
        with reading(label):
            self._data, self._indices = group["data"], group["indices"]
            starts = np.asarray(group["indptr"][:])
        self.dtype = self._data.dtype
        self.indptr: IntArray = self._sound(starts)
        self.n_values = int(self.indptr[-1])

    def _sound(self, starts: np.ndarray[Any, Any]) -> IntArray:
        """Return the row starts after checking that they stay within the arrays."""
        n_values, n_indices = (array.shape[0] if len(array.shape) == 1 else -1 for array in (self._data, self._indices))
        if starts.dtype.kind not in "iu" or starts.shape != (self.shape[0] + 1,):
            fault = f"{starts.size} row starts of type {starts.dtype} for {self.shape[0]:,} rows"
        elif n_values < 0 or n_values != n_indices:
            fault = f"{n_values:,} values, but {n_indices:,} column numbers"
        elif starts[0] != 0 or (starts[1:] < starts[:-1]).any():
            fault = "the row starts do not rise from 0"
        elif int(starts[-1]) > n_values:
            fault = f"the rows end at {int(starts[-1]):,}, but there are {n_values:,} values"
        elif self._indices.dtype.kind not in "iu":
            fault = f"column numbers of type {self._indices.dtype}"
        else:
            return starts.astype(np.int64)
        self._refuse(fault)

    def _refuse(self, fault: str) -> NoReturn:
        refuse(self._label, f"the sparse matrix is damaged: {fault}. Write the file again from its source.")

    def row_blocks(self) -> Iterator[tuple[int, int]]:
        """Yield the bounds of blocks of rows that are read together."""
        chunk = max(max(getattr(array, "chunks", None) or (0,)) for array in (self._data, self._indices))
        most = max(blocks.BLOCK_VALUES, min(chunk, LARGEST_CHUNK * blocks.BLOCK_VALUES))
        bounds = [0]
        while bounds[-1] < self.shape[0]:
            last = int(np.searchsorted(self.indptr, self.indptr[bounds[-1]] + most, side="right")) - 1
            bounds.append(min(self.shape[0], max(bounds[-1] + 1, last)))
        yield from itertools.pairwise(bounds)

    def __getitem__(self, rows: slice) -> sp.csr_matrix:
        starts = self.indptr[rows.start : rows.stop + 1]
        held = slice(int(starts[0]), int(starts[-1]))
        with reading(self._label):
            values, columns = np.asarray(self._data[held]), np.asarray(self._indices[held])
        if columns.size and not 0 <= int(columns.min()) <= int(columns.max()) < self.shape[1]:
            span = f"{int(columns.min())} to {int(columns.max())}"
            self._refuse(f"column numbers from {span} for {self.shape[1]:,} columns")
        if columns.dtype != np.int32 and self.shape[1] <= np.iinfo(np.int32).max:
            columns = columns.astype(np.int32)
        return sp.csr_matrix((values, columns, starts - starts[0]), shape=(len(starts) - 1, self.shape[1]), copy=False)
