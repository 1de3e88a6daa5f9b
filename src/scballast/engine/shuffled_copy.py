"""A copy of counts on disk in the random order of training, written once beside them.

Read in the file's own order, windows of cells sorted by population would each hold other populations, and what is
learnt last would weigh most. Rows are dealt to buckets in one pass, and each bucket is put in order in memory: the
counts are read and written twice.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import time
from contextlib import ExitStack, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scballast.arrays import IntArray
from scballast.engine.stored_counts import Rows, StoredArray, StoredCounts, ranges, read_rows
from scballast.engine.windows import Windows
from scballast.errors import ScballastError
from scballast.results import whole

logger = logging.getLogger(__name__)

MOST_VALUES = 2**31 - 1
"""Counts that can be left on disk: for more scipy makes column numbers of 8 bytes, in memory."""
ABANDONED_SECONDS = 6 * 3600
"""Of what has not been written to for so long the process is gone."""
_BUCKET = 1 << 16  # rows
_TYPES = {"genes": np.dtype(np.int32), "values": np.dtype(np.float32)}


class ShuffledRows:
    """Rows of counts by their place in the order of training.

    Counts in a file get a copy in this order beside them, unless there is one; from memory any order is read.

    Raises
    ------
    ScballastError
        The copy cannot be written.
    """

    def __init__(self, counts: StoredCounts, windows: Windows) -> None:
        self._counts, self._windows = counts, windows
        self._copy: tuple[StoredArray, StoredArray] | None = None
        folder = counts.stored_values.path
        if (folder is None) != (counts.stored_genes.path is None):
            message = (
                f"train.data=stream: the {counts.stored_values.size:,} counts of the analysed genes are more than "
                f"{MOST_VALUES:,}, of which column numbers lie on disk. Lower data.n_top_genes."
            )
            raise ScballastError(message)
        if not windows.shuffled or windows.n_windows == 1 or folder is None:
            return
        sizes = np.diff(counts.row_starts)[windows.cell_at]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        name = _copy_name(counts, windows)
        paths = {kind: folder.with_name(f"{name}.{kind}.npy") for kind in _TYPES}
        if not all(path.exists() for path in paths.values()):
            try:
                self._write(paths)
            except OSError as error:
                size = 8 * int(self._starts[-1]) / 1e9
                message = (
                    f"{folder.parent}: the copy of the counts in random order, {size:.1f} GB, which train.data=stream "
                    f"reads, cannot be written ({error.strerror or error}). Make room, or use train.data=memory."
                )
                raise ScballastError(message) from error
        genes, values = (np.load(path, mmap_mode="r", allow_pickle=False) for path in paths.values())
        self._copy = StoredArray(genes, np.int32), StoredArray(values, np.float32)

    def read(self, cells: IntArray, gap: int) -> Rows:
        """Read the rows of cells, each given once; rows in gaps of up to so many on disk are read along."""
        if self._copy is None:
            # In memory the rows lie in their own order, where gaps are of no use.
            return self._counts.read(np.sort(cells), 0 if self._windows.shuffled else gap)
        places = np.sort(self._windows.place[cells])
        there, starts, genes, values = read_rows(*self._copy, self._starts, places, gap)
        read = self._windows.cell_at[there]
        return Rows(read, self._counts.of_cells(read, starts, genes, values))

    def _write(self, paths: dict[str, Path]) -> None:
        logger.info("train.data=stream: the counts are copied in random order, once (%d cells).", self._counts.n_cells)
        for part in paths["genes"].parent.glob(".shuffled-*.part"):
            with suppress(OSError):  # another process removes it too
                if part.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                    part.unlink()
        with ExitStack() as stack:
            files = {}
            for kind, path in paths.items():
                part = stack.enter_context(whole(path))
                shape = (int(self._starts[-1]),)
                offset = np.lib.format.open_memmap(part, mode="w+", dtype=_TYPES[kind], shape=shape).offset
                files[kind] = stack.enter_context(FileIO(part, "r+")), offset
            cursor = self._deal(files)
            self._settle(files, cursor)
            for file, _ in files.values():
                os.fsync(file.fileno())  # or a machine that dies leaves its name before its content

    def _deal(self, files: dict[str, tuple[FileIO, int]]) -> IntArray:
        """Write each row into the bucket that it belongs to; returns where each bucket ends."""
        counts, n_cells = self._counts, self._counts.n_cells
        bounds = np.append(np.arange(0, n_cells, _BUCKET), n_cells)
        cursor: IntArray = self._starts[bounds[:-1]].copy()
        for first, stop in itertools.pairwise(bounds):
            cells, starts, genes, values = read_rows(
                counts.stored_genes, counts.stored_values, counts.row_starts, np.arange(first, stop), 0
            )
            bucket = self._windows.place[cells] // _BUCKET
            order = np.argsort(bucket, kind="stable")
            sizes = np.diff(starts)[order]
            taken = ranges(starts[:-1][order], sizes)
            ends = np.cumsum(np.bincount(bucket[order], weights=sizes, minlength=len(cursor))).astype(np.int64)
            begins = np.concatenate([[0], ends[:-1]])
            for kind, array in (("genes", genes[taken]), ("values", values[taken])):
                for k in np.flatnonzero(ends > begins):
                    _put(files[kind], int(cursor[k]), array[begins[k] : ends[k]])
            cursor += ends - begins
        return cursor

    def _settle(self, files: dict[str, tuple[FileIO, int]], ends: IntArray) -> None:
        """Put the rows of each bucket, which lie as they came, in order."""
        for k, end in enumerate(ends):
            cells = self._windows.cell_at[k * _BUCKET : (k + 1) * _BUCKET]
            came = np.argsort(cells, kind="stable")  # rows came by their number
            sizes = self._sizes(cells[came])
            starts = np.empty(len(cells), np.int64)
            starts[came] = np.cumsum(sizes) - sizes
            taken = ranges(starts, self._sizes(cells))
            first = int(self._starts[k * _BUCKET])
            assert end - first == len(taken)
            for kind, dtype in _TYPES.items():
                file, offset = files[kind]
                array = np.empty(len(taken), dtype)
                file.seek(offset + first * dtype.itemsize)
                rest = array.view(np.uint8).data
                while rest:
                    rest = rest[file.readinto(rest) :]
                _put(files[kind], first, array[taken])

    def _sizes(self, cells: IntArray) -> IntArray:
        starts = self._counts.row_starts
        return np.asarray(starts[cells + 1] - starts[cells])


def _put(file: tuple[FileIO, int], first: int, array: npt.NDArray[Any]) -> None:
    file[0].seek(file[1] + first * array.itemsize)
    rest = array.view(np.uint8).data
    while rest:
        rest = rest[file[0].write(rest) :]


def _copy_name(counts: StoredCounts, windows: Windows) -> str:
    """Return a name that says what is copied and in which order."""
    told = [windows.n_cells, *counts.stored_genes.identity, *counts.stored_values.identity]
    digest = hashlib.sha256(json.dumps(told).encode())
    digest.update(counts.row_starts.data)
    return f"shuffled-{digest.hexdigest()[:16]}"
