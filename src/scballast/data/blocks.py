"""Checked counts in blocks of cells: in memory where they are few, read from their file again where they are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from scballast.arrays import BoolArray, FloatArray
from scballast.errors import DataError

BLOCK_VALUES = 2**22
"""Values read and looked at together: temporary arrays stay at some tens of MB whatever the data's size."""
PART_VALUES = 2**19
"""Values summed together: what is made on the way fits a processor's cache."""
MOST_KEPT = 2**26
"""Values that are kept in memory, half a GiB, so that they need not be read again."""


@dataclass(frozen=True)
class CountBlocks:
    """Counts as CSR float32 blocks of cells, top to bottom, as often as they are asked for.

    Attributes
    ----------
    shape
        Cells and genes of all blocks together.
    read
        Returns the first row of each block and the block: sorted indices, no duplicate, no stored zero. It is told
        what for, as a progress bar says it.
    """

    shape: tuple[int, int]
    read: Callable[[str], Iterator[tuple[int, sp.csr_matrix]]]

    @classmethod
    def of(cls, *blocks: sp.csr_matrix) -> CountBlocks:
        """Return blocks in memory as they are."""
        starts = np.concatenate([[0], np.cumsum([block.shape[0] for block in blocks])]).tolist()

        def read(_: str) -> Iterator[tuple[int, sp.csr_matrix]]:
            yield from zip(starts, blocks, strict=False)

        return cls((starts[-1], blocks[0].shape[1]), read)

    def parts(self, purpose: str, cells: BoolArray | None = None) -> Iterator[tuple[int, sp.csr_matrix]]:
        """Yield small parts of the blocks.

        Parameters
        ----------
        purpose
            What the counts are read for.
        cells : (n_cells,)
            Rows to yield; None: all.

        Yields
        ------
        int, (n_rows, n_genes)
            Where the part begins among the cells that are yielded, and the part.
        """
        before = 0
        for first, block in self.read(purpose):
            for start, part in row_parts(block, PART_VALUES):
                if cells is not None:
                    part = take(part, cells[first + start : first + start + part.shape[0]])
                yield before, part
                before += part.shape[0]


def canonical_csr(data: Any, indices: Any, starts: Any, shape: tuple[int, int]) -> sp.csr_matrix:
    """Return a matrix of arrays as they are, whose indices are known to be sorted and each once."""
    matrix = sp.csr_matrix((data, indices, starts), shape=shape, copy=False)
    matrix.has_sorted_indices = matrix.has_canonical_format = True
    return matrix


def row_parts(matrix: sp.csr_matrix, most_values: int) -> Iterator[tuple[int, sp.csr_matrix]]:
    """Yield the first row and a view of the rows of each part with no more values than ``most_values``, or one row."""
    starts = matrix.indptr
    first, n_rows = 0, matrix.shape[0]
    while first < n_rows:
        last = int(np.searchsorted(starts, int(starts[first]) + most_values, side="right")) - 1
        last = min(n_rows, max(first + 1, last))
        if first == 0 and last == n_rows:
            yield 0, matrix
            return
        held = slice(int(starts[first]), int(starts[last]))
        arrays = (matrix.data[held], matrix.indices[held], starts[first : last + 1] - starts[first])
        yield first, canonical_csr(*arrays, (last - first, matrix.shape[1]))
        first = last


class GrowingArray(Protocol):
    """Numbers whose number is known and that come one part after another."""

    def append(self, values: npt.NDArray[Any]) -> None:
        """Take the next ones."""

    def end(self) -> npt.NDArray[Any]:
        """Return all of them."""


NewArray = Callable[[str, int, type[np.number]], GrowingArray]
"""From a name, how many numbers there will be, and their type, to what takes them."""


class FilledArray:
    """Numbers that come one part after another, in memory; parameters as of `NewArray`."""

    def __init__(self, name: str, number: int, dtype: type[np.number]) -> None:
        self._array, self._filled = np.empty(number, dtype=dtype), 0

    def append(self, values: npt.NDArray[Any]) -> None:
        """Take the next ones."""
        self._array[self._filled : self._filled + len(values)] = values
        self._filled += len(values)

    def end(self) -> npt.NDArray[Any]:
        """Return all of them."""
        return self._array


def gather(
    blocks: CountBlocks,
    cells: BoolArray,
    choices: list[BoolArray],
    n_values: list[int],
    *,
    watch: Callable[[sp.csr_matrix], None],
    source: str,
    new_array: NewArray | None = None,
) -> list[sp.csr_matrix]:
    """Cut counts to some cells and, one matrix for each choice, to some genes, in one pass.

    Parameters
    ----------
    cells : (n_cells,)
        Rows to keep.
    choices : (n_genes,) each
        Columns to keep.
    n_values
        How many values each matrix will have.
    watch
        Called with every part, all its genes in it.
    source
        The file, for messages.
    new_array
        Where the first matrix is put; None: in memory, as the others are.

    Returns
    -------
    list of (n_kept_cells, n_chosen_genes)
        CSR float32 with sorted indices, int32 where they fit.

    Raises
    ------
    DataError
        The matrices do not get as many values: another process has changed the file.
    """
    n_rows = int(np.count_nonzero(cells))
    columns = [np.where(chosen, np.cumsum(chosen) - 1, -1).astype(np.int32) for chosen in choices]
    places = [new_array or FilledArray] + [FilledArray] * (len(choices) - 1)
    data = [new("data", number, np.float32) for new, number in zip(places, n_values, strict=True)]
    indices = [new("indices", number, np.int32) for new, number in zip(places, n_values, strict=True)]
    starts = [np.zeros(n_rows + 1, dtype=np.int64) for _ in choices]
    filled = [0 for _ in choices]
    for row, part in blocks.parts("cutting to the analysed genes", cells):
        watch(part)
        for k, column in enumerate(columns):
            new_columns = column[part.indices]
            kept = new_columns >= 0
            before = np.concatenate([[0], np.cumsum(kept)])
            held = slice(filled[k], filled[k] + int(before[-1]))
            if held.stop > n_values[k]:
                raise DataError(changed(source))
            indices[k].append(new_columns[kept])
            data[k].append(part.data[kept])
            starts[k][row + 1 : row + 1 + part.shape[0]] = filled[k] + before[part.indptr[1:]]
            filled[k] = held.stop
    if filled != n_values:
        raise DataError(changed(source))
    result = []
    for k, chosen in enumerate(choices):
        shape = (n_rows, int(np.count_nonzero(chosen)))
        if max(n_values[k], *shape) <= np.iinfo(np.int32).max:
            starts[k] = starts[k].astype(np.int32)
        result.append(canonical_csr(data[k].end(), indices[k].end(), starts[k], shape))
    return result


def changed(source: str) -> str:
    """Return the message for a file that is not the one that was looked at first."""
    return (
        f"{source}: the counts changed while they were read: another process writes the file. Wait until it is "
        "finished, or copy the file and use the copy."
    )


def without_empty_rows(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return the rows that hold values: the same arrays with fewer row starts."""
    starts = np.concatenate([matrix.indptr[:1], matrix.indptr[1:][np.diff(matrix.indptr) > 0]])
    shape = (starts.size - 1, matrix.shape[1])
    return canonical_csr(matrix.data, matrix.indices, starts, shape)


def row_sums(matrix: sp.csr_matrix) -> FloatArray:
    """Return the (n_cells,) float64 sums of the rows of a part."""
    sums = np.zeros(matrix.shape[0], dtype=np.float64)
    filled = np.flatnonzero(np.diff(matrix.indptr))
    sums[filled] = np.add.reduceat(matrix.data.astype(np.float64), matrix.indptr[filled])
    return sums


def take(matrix: sp.csr_matrix, cells: BoolArray) -> sp.csr_matrix:
    """Return the rows where the mask is true, with sorted indices; the matrix itself if all are."""
    if not cells.all():
        matrix = matrix[np.flatnonzero(cells)]
    matrix.sort_indices()
    return matrix
