"""Raw counts from any matrix: every value is checked, then kept as CSR float32."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from scballast.arrays import BoolArray
from scballast.data import blocks as limits
from scballast.data.blocks import CountBlocks
from scballast.data.fractions import kind_of
from scballast.data.names import quote
from scballast.data.remarks import Remarks, refuse
from scballast.data.stored_rows import SparseRows
from scballast.data.value_census import LARGEST_EXACT_FLOAT16, MAX_COUNT, PROBLEMS, ROUNDING_TOLERANCE, ValueCensus
from scballast.data.whole_values import doubts
from scballast.errors import DataError
from scballast.progress import progress_bar

ROUNDABLE = ("corrected", "unknown")
"""Fractional values that ``data.round=true`` makes counts of."""


@dataclass(frozen=True)
class Counts:
    """Checked counts of all cells, and what was done to them."""

    blocks: CountBlocks
    warnings: tuple[str, ...]


def holds_counts(stored: Any, genes: BoolArray | None = None) -> bool:
    """Tell whether every value of these genes is a raw count; reads no further than the first block that is not."""
    if len(getattr(stored, "shape", ())) != 2:
        return False
    try:
        census = ValueCensus()
        for first, block in _blocks(stored, Remarks(""), genes):
            _count(block, census, first)
            if census.problem:
                return False
    except DataError:
        return False
    return census.n_values > 0


def read_counts(
    stored: Any,
    *,
    where: str,
    cell_names: Sequence[str],
    gene_names: Sequence[str],
    remedy: Callable[[], str],
    owned: bool,
    genes: BoolArray | None = None,
    rounded: bool = False,
    watch: Callable[[int, sp.csr_matrix], None] | None = None,
) -> Counts:
    """Check every value of a matrix and return it as blocks of CSR float32.

    A matrix in a file is read in blocks; where it has more than ``blocks.MOST_KEPT`` values, these are not kept, and
    what is returned reads them again.

    Parameters
    ----------
    stored
        (n_cells, n_genes) dense or sparse, in memory, backed by a file, or a dask array.
    where
        File and matrix, as they stand at the beginning of messages.
    cell_names, gene_names : (n_cells,), (n_genes,)
        Those that the annotation has.
    remedy
        Called only when the values are not counts: says where the counts are.
    owned
        The matrix belongs to the caller alone and its memory may be reused.
    genes : (n_genes,)
        Columns to read: the others are neither checked nor returned; None: all.
    rounded
        Counts after a correction (ambient RNA, shared reads) are rounded; values that are normalised or logged are
        refused all the same.
    watch
        Called with the first row and the counts of each block, as long as all values are counts.

    Raises
    ------
    DataError
        The shape differs from the annotation's, the storage is damaged, or some value is not a count.
    """
    if getattr(stored, "format", None) == "csr" and hasattr(stored, "group"):  # of an AnnData that its file backs
        stored = SparseRows(stored.group, stored.shape, where)
    remarks, shape = Remarks(where), (len(cell_names), len(gene_names))
    stored_shape = tuple(int(n) for n in getattr(stored, "shape", ()))
    if stored_shape != shape:
        remarks.refuse(
            f"the matrix has shape {stored_shape}, but obs has {shape[0]:,} cells and var {shape[1]:,} genes. "
            "The file is damaged or was written in parts; write it again."
        )
    census = ValueCensus()
    again = _can_be_read_again(stored)
    kept: list[sp.csr_matrix] | None = []
    n_kept = 0
    for first, block in _shown(_blocks(stored, remarks, genes), stored, f"{where}: checking counts"):
        _count(block, census, first)
        if census.problem and not (rounded and census.problem == "fractional"):
            kept = None  # the rest is looked at for the message alone
            continue
        counts = _canonical(block, owned=owned)
        if watch is not None:
            watch(first, counts)
        n_kept += counts.nnz
        if kept is not None and (n_kept <= limits.MOST_KEPT or not again):
            kept.append(counts)
        else:
            kept = None
    if genes is not None:
        gene_names = [name for name, kept in zip(gene_names, genes, strict=True) if kept]
    if census.problem == "fractional" and rounded and kind_of(census.fractional) in ROUNDABLE:
        remarks.note(_rounded(census))
    elif census.problem:
        raise DataError(_not_counts(census, where, cell_names, gene_names, remedy(), rounded=rounded))
    _note_oddities(census, getattr(stored, "dtype", None), remarks)
    if kept is not None:
        return Counts(CountBlocks.of(*kept), tuple(remarks.notes))

    def read(purpose: str) -> Iterator[tuple[int, sp.csr_matrix]]:
        blocks = _shown(_blocks(stored, Remarks(where), genes), stored, f"{where}: {purpose}")
        return ((first, _canonical(block, owned=owned)) for first, block in blocks)

    return Counts(CountBlocks((shape[0], len(gene_names)), read), tuple(remarks.notes))


def _can_be_read_again(stored: Any) -> bool:
    """Tell whether blocks can be read as often as they are needed: dask would compute them each time."""
    return not (_is_sparse(stored) or hasattr(stored, "compute"))


def _shown(blocks: Iterator[tuple[int, sp.csr_matrix]], stored: Any, title: str) -> Iterator[tuple[int, sp.csr_matrix]]:
    """Yield blocks, with a bar that says what is read where this takes its time."""
    n_values = getattr(stored, "n_values", math.prod(stored.shape))
    if not _can_be_read_again(stored) or n_values <= limits.MOST_KEPT:
        yield from blocks
        return
    with progress_bar(title, stored.shape[0], unit="cells") as advance:
        for first, block in blocks:
            yield first, block
            advance(block.shape[0])


def _not_counts(
    census: ValueCensus, where: str, cells: Sequence[str], genes: Sequence[str], advice: str, *, rounded: bool
) -> str:
    kind = census.problem
    assert kind is not None
    row, column, value = census.first[kind]
    looks = {"negative": " (scaled or centred values?)"}.get(kind, "")
    if kind == "fractional":
        looked = kind_of(census.fractional)
        if looked == "corrected":
            looks = " (counts after a correction, as SoupX, CellBender, RSEM or alevin give them?)"
            # Where the matrices before the correction are not here, the advice to save them would lead nowhere.
            advice = (
                f"Set data.round=true to round them. {advice if advice.startswith('Counts are in') else ''}".strip()
            )
        elif looked == "unknown":
            advice += " If they are counts after a correction, data.round=true rounds them."
        else:
            looks = f" ({looked} values?)"
            if rounded:
                looks += ", of which data.round=true makes no counts"
    n_bad = census.counts[kind]
    return (
        f"{where} is not raw counts: {n_bad:,} of {census.n_values:,} stored values "
        f"{'is' if n_bad == 1 else 'are'} {PROBLEMS[kind]}{looks}, "
        f"first {value:.6g} at cell {quote(cells[row])}, gene {quote(genes[column])}. "
        f"Allowed: integers from 0 to {MAX_COUNT:,}. {advice}"
    )


def _rounded(census: ValueCensus) -> str:
    n_fractional = census.counts["fractional"]
    looked = kind_of(census.fractional)
    doubt = " Their distribution does not say what they are." if looked == "unknown" else ""
    return (
        f"{n_fractional:,} of {census.n_values:,} stored values were not integers and were rounded "
        f"(data.round=true), {census.n_vanishing:,} of them to 0.{doubt}"
    )


def _note_oddities(census: ValueCensus, dtype: Any, remarks: Remarks) -> None:
    if census.n_rounded:
        remarks.note(
            f"{census.n_rounded:,} of {census.n_values:,} values differed from an integer by no more than the "
            "precision of their storage and were rounded."
        )
    if dtype == np.float16:
        exact = "; some are above 2,048, where float16 is no longer exact"
        remarks.note(f"counts are stored as float16{exact if census.largest > LARGEST_EXACT_FLOAT16 else ''}.")
    if census.n_values and census.largest == 1:
        remarks.note("no count is above 1: were the counts made binary?")
    for doubt in doubts(census.whole) if census.problem is None else ():
        remarks.note(f"the values are whole, but {doubt}")


def _blocks(stored: Any, remarks: Remarks, genes: BoolArray | None) -> Iterator[tuple[int, sp.csr_matrix]]:
    """Yield a matrix as CSR blocks of rows of sound structure, top to bottom, each with its first row."""
    where = remarks.label
    columns = None if genes is None or genes.all() or genes.size != stored.shape[1] else np.flatnonzero(genes)
    if _is_sparse(stored):
        matrix = _sound_csr(stored, where)
        yield 0, _with_exact_type(matrix if columns is None else matrix[:, columns], where)
        return
    any_text = False
    for start, stop in _row_blocks(stored):
        block = stored[start:stop]
        if hasattr(block, "compute"):
            block = block.compute()
        if columns is not None:
            block = (block if _is_sparse(block) else np.asarray(block))[:, columns]
        if not _is_sparse(block):
            dense, is_text = _numbers(np.asarray(block), where)
            any_text |= is_text
            block = sp.csr_matrix(dense)
        yield start, _with_exact_type(_sound_csr(block, where), where)
    if any_text:
        remarks.note("the values are stored as text and were read as numbers.")


def _row_blocks(stored: Any) -> Iterator[tuple[int, int]]:
    chunks = getattr(stored, "chunks", None)
    if hasattr(stored, "row_blocks"):
        yield from stored.row_blocks()
        return
    if hasattr(stored, "compute") and chunks:
        # Any other boundaries would make dask compute a chunk once for every block that touches it.
        bounds = np.concatenate([[0], np.cumsum(chunks[0])]).tolist()
    else:
        n_rows, n_columns = stored.shape
        bounds = [*range(0, n_rows, max(1, limits.BLOCK_VALUES // max(1, n_columns))), n_rows]
    yield from itertools.pairwise(bounds)


def _is_sparse(stored: Any) -> bool:
    return bool(sp.issparse(stored)) or hasattr(stored, "to_memory")


def _sound_csr(stored: Any, where: str) -> sp.csr_matrix:
    """Return a sparse matrix as CSR after checking its structure: scipy's C code trusts the indices."""
    matrix = stored.to_memory() if hasattr(stored, "to_memory") else stored
    try:
        if hasattr(matrix, "indptr"):
            matrix.check_format(full_check=True)
        matrix = matrix.tocsr()
    except (ValueError, IndexError) as error:
        msg = f"{where}: the sparse matrix is damaged: {error}. Write the file again from its source."
        raise DataError(msg) from error
    return sp.csr_matrix(matrix, copy=False)


def _numbers(block: np.ndarray[Any, Any], where: str) -> tuple[np.ndarray[Any, Any], bool]:
    """Return a dense block with a numeric dtype, and whether it was text before."""
    if block.dtype == np.float16:
        return block.astype(np.float32), False  # scipy has no sparse float16
    if block.dtype.kind in "biuf":
        return block, False
    if block.dtype.kind not in "OSUT":
        refuse(where, f"values of type {block.dtype} are not counts. Allowed: integers, stored as any number.")
    try:
        numbers = block.astype(object).astype(np.float64)
    except (TypeError, ValueError) as error:
        bad = next(value for value in block.ravel() if not _reads_as_number(value))
        msg = (
            f"{where}: the values are text, and {quote(bad)} is not a number. "
            "Allowed: integers. Write the counts as numbers, or point data.layer at them."
        )
        raise DataError(msg) from error
    return numbers, any(isinstance(value, (str, bytes)) for value in block.ravel()[:1])


def _reads_as_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _with_exact_type(matrix: sp.csr_matrix, where: str) -> sp.csr_matrix:
    """Return a CSR matrix with a type that holds its values exactly."""
    values = matrix.data
    if values.dtype.kind in "iuf" and values.dtype.itemsize in (1, 4, 8):
        return matrix
    values = _numbers(values, where)[0].astype(np.float64)
    return sp.csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape, copy=False)


def _count(matrix: sp.csr_matrix, census: ValueCensus, first_row: int) -> None:
    """Enter the values of a CSR matrix in the census."""
    values = matrix.data
    for start in range(0, values.size, limits.BLOCK_VALUES):

        def locate(position: int, start: int = start) -> tuple[int, int]:
            row = int(np.searchsorted(matrix.indptr, start + position, side="right")) - 1
            return first_row + row, int(matrix.indices[start + position])

        census.add(values[start : start + limits.BLOCK_VALUES], locate)
    if census.problem is None:
        census.whole.add(matrix)
    elif census.problem == "fractional":
        census.fractional.add(matrix, _rows_with(np.abs(values - np.rint(values)) > ROUNDING_TOLERANCE, matrix))


def _rows_with(matching: BoolArray, matrix: sp.csr_matrix) -> BoolArray:
    """Return the rows, (n_rows,), of which some value is ``matching`` (n_values,)."""
    return np.asarray(np.diff(np.concatenate([[0], np.cumsum(matching)])[matrix.indptr]) > 0)


def _canonical(block: sp.csr_matrix, *, owned: bool) -> sp.csr_matrix:
    """Return a block as whole numbers in float32: sorted indices, no duplicate, no stored zero."""
    values = block.data.astype(np.float32, copy=not owned)
    np.rint(values, out=values)
    indices = block.indices if owned else block.indices.copy()
    indptr = block.indptr if owned else block.indptr.copy()
    matrix = sp.csr_matrix((values, indices, indptr), shape=block.shape, copy=False)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if max(matrix.nnz, *matrix.shape) <= np.iinfo(np.int32).max:
        matrix.indices = matrix.indices.astype(np.int32, copy=False)
        matrix.indptr = matrix.indptr.astype(np.int32, copy=False)
    return matrix
