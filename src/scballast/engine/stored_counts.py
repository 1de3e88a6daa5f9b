"""Counts that stay in their files: rows are read when they are asked for, and nothing is kept of them.

The files are numpy's own (``.npy``), as the cache of prepared counts has them: ``numpy.memmap`` says where they lie,
and they are read by position. Reading through the map would count the pages as this process's memory.
"""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scballast.arrays import BoolArray, FloatArray, IntArray
from scballast.engine.counts import CountMatrix, categories_of, check_counts, csr_of
from scballast.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

_CHUNK = 1 << 22  # values read at a time by what looks at all of them
_GAP = 32  # rows
_OPEN: dict[int, tuple[FileIO, threading.Lock]] = {}


class StoredArray:
    """One-dimensional numbers that may lie in a file; those that do are read from there.

    Parameters
    ----------
    array
        Mapped (``numpy.memmap``, or what was made of one without a copy), or in memory.
    dtype
        As which they are read.

    Raises
    ------
    DataError
        The file cannot be opened any more.
    """

    def __init__(self, array: npt.NDArray[Any], dtype: type[np.number]) -> None:
        self.size, self.dtype = array.size, np.dtype(dtype)
        self._array = array
        self._file: FileIO | None = None
        root: Any = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        if isinstance(root, np.memmap) and root.filename is not None and array.flags.c_contiguous:
            self._first = root.offset + array.ctypes.data - root.ctypes.data
            try:
                self._file, self._lock = _held_open(root)
            except OSError as error:
                message = f"{root.filename}: the counts cannot be read again ({error.strerror}). Run it again."
                raise DataError(message) from error

    @property
    def path(self) -> Path | None:
        """The file that they lie in; None: they are in memory."""
        return None if self._file is None else Path(str(self._file.name))

    @property
    def identity(self) -> tuple[int, ...]:
        """What tells this file's content from that of an earlier or later one: size, time and place."""
        status = os.fstat(-1 if self._file is None else self._file.fileno())
        return status.st_size, status.st_mtime_ns, status.st_ino, self._first, self.size

    def read(self, start: int, stop: int, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Read numbers from ``start`` to ``stop``, into ``out`` where it is given.

        Raises
        ------
        DataError
            The file has become shorter.
        """
        out = np.empty(stop - start, dtype=self.dtype) if out is None else out
        if self._file is None:
            out[:] = self._array[start:stop]
            return out
        stored = self._array.dtype
        raw = out if stored == self.dtype else np.empty(stop - start, dtype=stored)
        rest = raw.view(np.uint8).data
        with self._lock:
            self._file.seek(self._first + start * stored.itemsize)
            while rest:
                n_bytes = self._file.readinto(rest)
                if not n_bytes:
                    message = f"{self._file.name}: it ends early: another process changed it. Run it again."
                    raise DataError(message)
                rest = rest[n_bytes:]
        if raw is not out:
            out[:] = raw
        return out

    def chunks(self) -> Iterator[npt.NDArray[Any]]:
        """Yield all of them, some at a time."""
        for start in range(0, self.size, _CHUNK):
            yield self.read(start, min(self.size, start + _CHUNK))


def _held_open(mapped: np.memmap[Any, Any]) -> tuple[FileIO, threading.Lock]:
    """Return the file of mapped numbers and its lock, open as long as they are there, should the cache remove it."""
    if id(mapped) not in _OPEN:
        file = FileIO(str(mapped.filename))
        _OPEN[id(mapped)] = file, threading.Lock()
        weakref.finalize(mapped, _close, id(mapped))
    return _OPEN[id(mapped)]


def _close(mapped: int) -> None:
    _OPEN.pop(mapped)[0].close()


def read_rows(
    genes: StoredArray, values: StoredArray, row_starts: IntArray, rows: IntArray, gap: int
) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """Read ascending rows of a CSR matrix and those in gaps of up to so many between them.

    Returns
    -------
    tuple
        The rows that were read, int32, and their row starts, genes and values.
    """
    if not len(rows):
        return np.empty(0, np.int32), np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
    breaks = np.flatnonzero(np.diff(rows) > gap + 1)
    firsts, lasts = rows[np.concatenate([[0], breaks + 1])], rows[np.concatenate([breaks, [len(rows) - 1]])]
    lengths = lasts - firsts + 1
    rows_read = ranges(firsts, lengths).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(row_starts[rows_read + 1] - row_starts[rows_read])])
    some_genes, some_values = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    at = 0
    for first, last in zip(firsts, lasts, strict=True):
        bounds = int(row_starts[first]), int(row_starts[last + 1])
        held = slice(at, at + bounds[1] - bounds[0])
        genes.read(*bounds, out=some_genes[held])
        values.read(*bounds, out=some_values[held])
        at = held.stop
    return rows_read, starts, some_genes, some_values


def ranges(firsts: IntArray, lengths: IntArray) -> IntArray:
    """Return the numbers from each first on, as many as its length, one range after another."""
    ends = np.cumsum(lengths)
    return np.repeat(firsts - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0)


@dataclass(frozen=True)
class StoredCounts(CountMatrix):
    """Counts whose ``genes`` and ``values`` are looked at through `read` alone.

    Attributes
    ----------
    stored_genes, stored_values
        The arrays where they lie.
    cell_totals
        (n_cells,) float64 total count of each cell.
    """

    stored_genes: StoredArray
    stored_values: StoredArray
    cell_totals: FloatArray

    def totals(self) -> FloatArray:
        """(n_cells,) float64 total count of each cell."""
        return self.cell_totals

    def content(self) -> tuple[Any, ...]:
        """Return arrays that tell these counts and categories from any others."""
        digest = hashlib.sha256()
        for array in (self.stored_genes, self.stored_values):
            for chunk in array.chunks():
                digest.update(chunk.data)
        return self.row_starts, np.frombuffer(digest.digest(), np.uint8), self.batch, self.label

    def read(self, rows: IntArray, gap: int = _GAP) -> Rows:
        """Read rows.

        Parameters
        ----------
        rows
            (n,) ascending, each once.
        gap
            As many rows between two that are wanted are read along, to read both at once.

        Returns
        -------
        Rows
            With these rows, and those of the gaps.
        """
        cells, starts, genes, values = read_rows(self.stored_genes, self.stored_values, self.row_starts, rows, gap)
        return Rows(cells, self.of_cells(cells, starts, genes, values))

    def of_cells(self, cells: IntArray, row_starts: IntArray, genes: IntArray, values: FloatArray) -> CountMatrix:
        """Return counts of some cells with their categories."""
        categories = self.batch_categories, self.label_categories
        return CountMatrix(row_starts, genes, values, self.n_genes, self.batch[cells], self.label[cells], *categories)


@dataclass(frozen=True)
class Rows:
    """Some rows of the counts, in memory.

    Attributes
    ----------
    cells
        (n,) which rows of all.
    counts
        Those.
    """

    cells: IntArray
    counts: CountMatrix

    def places(self, cells: IntArray) -> IntArray:
        """Return where cells lie among these rows; each must."""
        return self._ascending[np.searchsorted(self.cells, cells, sorter=self._ascending)].astype(np.int32)

    def hold(self, cells: IntArray) -> BoolArray:
        """Return which of these cells are among the rows."""
        # Sorted once, and looked up by every member: np.isin would sort the rows anew for each.
        held = np.zeros(len(cells), dtype=bool)
        if len(self.cells):
            at = np.searchsorted(self.cells, cells, sorter=self._ascending)
            held = self.cells[self._ascending[np.minimum(at, len(self.cells) - 1)]] == cells
        return held

    @cached_property
    def _ascending(self) -> IntArray:
        return np.argsort(self.cells, kind="stable")

    def and_of(self, other: Rows, cells: IntArray, stored: StoredCounts) -> Rows:
        """Return these rows and, behind them, some of the other's."""
        if not len(cells):
            return self
        places, (mine, its) = other.places(cells), (self.counts, other.counts)
        sizes = its.row_starts[places + 1] - its.row_starts[places]
        taken = ranges(its.row_starts[places], sizes)
        all_cells = np.concatenate([self.cells, cells])
        starts = np.concatenate([mine.row_starts, mine.row_starts[-1] + np.cumsum(sizes)])
        genes = np.concatenate([mine.genes, its.genes[taken]])
        values = np.concatenate([mine.values, its.values[taken]])
        return Rows(all_cells, stored.of_cells(all_cells, starts, genes, values))


def stored_counts(adata: AnnData, layer: str | None, batch_key: str | None, labels_key: str | None) -> StoredCounts:
    """Take counts and categories from an AnnData whose matrix may be mapped, looking at each value once.

    Raises
    ------
    ConfigError
        ``layer``, ``batch_key`` or ``labels_key`` does not exist.
    DataError
        A count is negative or not finite, or a cell has no batch or label.
    """
    csr = csr_of(adata, layer)
    genes, values = StoredArray(csr.indices, np.int32), StoredArray(csr.data, np.float32)
    row_starts = np.ascontiguousarray(csr.indptr, dtype=np.int64)
    categories = categories_of(adata, batch_key, labels_key)
    totals, done = np.zeros(csr.shape[0]), 0
    for chunk in values.chunks():
        check_counts(chunk, layer)
        end = done + len(chunk)
        # Rows that have values here; the first and the last may have others before and after.
        first, last = (int(np.searchsorted(row_starts, at, side="right")) - 1 for at in (done, end - 1))
        bounds = np.clip(row_starts[first : last + 2], done, end) - done
        of_row = np.repeat(np.arange(last - first + 1), np.diff(bounds))
        totals[first : last + 1] += np.bincount(of_row, weights=chunk, minlength=last - first + 1)
        done = end
    return StoredCounts(
        row_starts=row_starts,
        genes=csr.indices,
        values=csr.data,
        n_genes=csr.shape[1],
        **categories,
        stored_genes=genes,
        stored_values=values,
        cell_totals=totals,
    )
