"""What a large file will become, told from a sample of its cells: before minutes of reading, and for plans."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from scballast.arrays import BoolArray
from scballast.data.analysed import AnalysedCounts, CountsRequest, analysed_counts
from scballast.data.stored_rows import DenseRows, SparseRows, WholeMatrix
from scballast.errors import DataError

READING_BYTES = 3 * 2**29
"""Beside the analysed counts: blocks, names and the sums that the selection of genes needs."""
SAMPLED_BLOCKS = 12
SAMPLED_VALUES = 2**21
"""Values of each block of the sample; of a million cells, a quarter of them selected genes with 15 % fewer counts."""


@dataclass(frozen=True)
class Outline:
    """What is expected of a file.

    Attributes
    ----------
    n_cells, n_genes
        That will be analysed.
    n_values
        Counts above 0 of these cells in these genes.
    n_largest
        Cells of the largest population.
    reading_bytes
        Memory that reading takes beside them.
    seconds
        That reading takes; NaN: not known.
    by_genes
        The file stores its matrix by genes (CSC), so that it is read as a whole.
    """

    n_cells: int
    n_genes: int
    n_values: int
    n_largest: int
    reading_bytes: int
    seconds: float
    by_genes: bool = False


def outline_of(of: CountsRequest) -> Outline | None:
    """Return what is expected of a matrix in a file; None: it is in memory already.

    Genes are selected from the sample as they will be from all cells.

    Raises
    ------
    DataError
        The sample holds values that are not counts, or no counts.
    """
    stored = of.matrix.read()
    if not isinstance(stored, (DenseRows, SparseRows, WholeMatrix)):
        return None
    n_kept = int(np.count_nonzero(of.kept))
    n_largest = int(of.labels.sizes().max(initial=0))
    n_genes = int(np.count_nonzero(of.genes))
    n_genes = n_genes if of.n_top_genes is None else min(n_genes, of.n_top_genes)
    if isinstance(stored, WholeMatrix):
        largest = np.sort(stored.values_by_gene(of.genes))[::-1][:n_genes]
        n_values = round(largest.sum() * n_kept / of.kept.size)
        # As it is stored and by cells.
        return Outline(n_kept, n_genes, n_values, n_largest, 2 * 8 * stored.n_values, math.nan, by_genes=True)
    start = time.perf_counter()
    sample, cells = _sample(stored, of.kept)
    read = time.perf_counter()
    among_kept = cells[of.kept]
    part = replace(
        of,
        matrix=replace(of.matrix, read=lambda: sample),
        kept=of.kept[cells],
        cell_names=[of.cell_names[i] for i in np.flatnonzero(cells)],
        labels=of.labels.take(among_kept),
        batches=of.batches.take(among_kept) if of.batches is not None else None,
        samples=of.samples.take(among_kept) if of.samples is not None else None,
        owned=False,
        beside=None,
    )
    try:
        in_sample = analysed_counts(part).counts.nnz
    except DataError:  # of so few cells genes cannot be selected, or these are no counts, which is met again
        per_gene = analysed_counts(replace(part, n_top_genes=None)).counts.getnnz(axis=0)
        in_sample = int(np.sort(per_gene)[::-1][:n_genes].sum())
    seconds = 3 * (read - start) + time.perf_counter() - read
    return Outline(
        n_cells=n_kept,
        n_genes=n_genes,
        n_values=round(in_sample * n_kept / np.count_nonzero(part.kept)),
        n_largest=n_largest,
        reading_bytes=READING_BYTES,
        seconds=seconds * of.kept.size / np.count_nonzero(cells),
    )


def _sample(stored: Any, kept: BoolArray) -> tuple[Any, BoolArray]:
    """Return rows of blocks all over the matrix, each beginning with a kept cell, and which rows these are."""
    n_cells = kept.size
    first = np.flatnonzero(kept)
    cells = np.zeros(n_cells, dtype=np.bool_)
    for start in first[np.linspace(0, first.size - 1, SAMPLED_BLOCKS).astype(np.int64)].tolist():
        n_rows = max(1, SAMPLED_VALUES * n_cells // max(1, stored.n_values))
        cells[start : start + n_rows] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[False], cells, [False]]).astype(np.int8))).reshape(-1, 2)
    parts = [stored[int(start) : int(stop)] for start, stop in edges]
    return (sp.vstack(parts, format="csr") if sp.issparse(parts[0]) else np.concatenate(parts)), cells


def placeholder(of: CountsRequest, outline: Outline) -> AnalysedCounts:
    """Return counts to plan with: one in every cell, all in the first gene, and as many genes as there will be."""
    ones = np.ones(outline.n_cells, dtype=np.float32)
    arrays = (ones, np.zeros(ones.size, dtype=np.int32), np.arange(ones.size + 1, dtype=np.int32))
    selected = np.arange(np.count_nonzero(of.genes)) < outline.n_genes
    return AnalysedCounts(
        n_values=np.ones(ones.size, dtype=np.int64),
        totals=ones.astype(np.float64),
        duplicate_of=np.arange(ones.size),
        counted=np.ones(selected.size, dtype=np.bool_),
        selected=selected,
        counts=sp.csr_matrix(arrays, shape=(ones.size, outline.n_genes)),
    )
