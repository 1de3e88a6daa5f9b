"""Raw counts from any matrix: every value is checked, then kept as CSR float32."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from scballast.arrays import BoolArray, FloatArray, IntArray
from scballast.data.fractions import FractionSample
from scballast.data.names import quote
from scballast.errors import DataError

ROUNDING_TOLERANCE = 1e-6
"""And eight spacings of float32, as far as counts drift that were scaled or logged and brought back."""
LARGEST_TOLERANCE = 1e-3
MAX_COUNT = 2**24
"""Above this float32 no longer holds every integer."""
LARGEST_EXACT_FLOAT16 = 2**11
BLOCK_VALUES = 2**22
"""Values looked at together: temporary arrays stay at some tens of MB whatever the data's size."""

ROUNDABLE = ("corrected", "unknown")
"""Fractional values that ``data.round=true`` makes counts of."""
PROBLEMS = {
    "missing": "NaN",
    "infinite": "infinite",
    "negative": "negative",
    "fractional": "not integers",
    "huge": f"above {MAX_COUNT:,}",
}
"""In the order in which they are reported."""


@dataclass
class ValueCensus:
    """What every stored value of a matrix was found to be; filled block by block.

    Attributes
    ----------
    n_values
        Stored values looked at (non-zero ones, unless the file stores zeros).
    n_rounded
        Values that differ from an integer by no more than ``ROUNDING_TOLERANCE``, or float32 can tell.
    n_vanishing
        Fractional values that become 0 when rounded.
    largest
        Largest finite value.
    counts
        Values of each kind in ``PROBLEMS``.
    first
        (row, column, value) of the first value of each kind.
    """

    n_values: int = 0
    n_rounded: int = 0
    n_vanishing: int = 0
    largest: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    fractions: FractionSample = field(default_factory=FractionSample)

    @property
    def problem(self) -> str | None:
        """The kind of problem that is reported; None: all values are counts."""
        return next((kind for kind in PROBLEMS if kind in self.counts), None)

    def add(self, values: FloatArray, locate: Callable[[int], tuple[int, int]]) -> None:
        """Count the ``values`` (n,); ``locate`` gives the row and column of one of them."""
        self.n_values += values.size
        if not values.size:
            return
        finite = np.isfinite(values)
        kinds = {"negative": values < 0, "huge": values > MAX_COUNT}
        if not finite.all():
            kinds["missing"] = np.isnan(values)
            kinds["infinite"] = np.isinf(values)
            kinds["negative"] &= finite
            kinds["huge"] &= finite
        if values.dtype.kind == "f":
            clean = values if finite.all() else np.where(finite, values, 0)
            distance = np.abs(clean - np.rint(clean))
            odd = distance > ROUNDING_TOLERANCE
            if odd.any():
                drift = 8 * np.finfo(np.float32).eps * np.abs(clean[odd])
                odd[odd] = distance[odd] > np.minimum(drift, LARGEST_TOLERANCE)
            kinds["fractional"] = odd
            self.n_rounded += int(np.count_nonzero(distance)) - int(np.count_nonzero(kinds["fractional"]))
            self.n_vanishing += int(np.count_nonzero(kinds["fractional"] & (clean > 0) & (clean <= 0.5)))
        self.largest = max(self.largest, float(values.max(where=finite, initial=0)))
        for kind, mask in kinds.items():
            n_found = int(np.count_nonzero(mask))
            if n_found:
                self.counts[kind] = self.counts.get(kind, 0) + n_found
                if kind not in self.first:
                    position = int(np.argmax(mask))
                    self.first[kind] = (*locate(position), float(values[position]))


@dataclass(frozen=True)
class Counts:
    """A checked matrix: (n_cells, n_genes) CSR float32 with sorted indices and no stored zero."""

    matrix: sp.csr_matrix
    warnings: tuple[str, ...]


def holds_counts(stored: Any, genes: BoolArray | None = None) -> bool:
    """Tell whether every value of these genes is a raw count; reads no further than the first block that is not."""
    try:
        census = ValueCensus()
        for _ in _checked_blocks(stored, census, where="", genes=genes):
            if census.problem:
                return False
    except DataError:
        return False
    return census.n_values > 0


def read_counts(
    stored: Any,
    *,
    where: str,
    shape: tuple[int, int],
    cell_names: Sequence[str],
    gene_names: Sequence[str],
    remedy: Callable[[], str],
    owned: bool,
    genes: BoolArray | None = None,
    rounded: bool = False,
) -> Counts:
    """Check every value of a matrix and return it as CSR float32.

    Parameters
    ----------
    stored
        (n_cells, n_genes) dense or sparse, in memory, backed by a file, or a dask array.
    where
        File and matrix, as they stand at the beginning of messages.
    shape
        Cells and genes that the annotation has.
    cell_names, gene_names : (n_cells,), (n_genes,)
        For messages.
    remedy
        Called only when the values are not counts: says where the counts are.
    owned
        The matrix belongs to the caller alone and its memory may be reused.
    genes : (n_genes,)
        Columns to read: the others are neither checked nor returned; None: all.
    rounded
        Counts after a correction (ambient RNA, shared reads) are rounded; values that are normalised or logged are
        refused all the same.

    Raises
    ------
    DataError
        The shape differs from the annotation's, the storage is damaged, or some value is not a count.
    """
    found = tuple(int(n) for n in getattr(stored, "shape", ()))
    if found != tuple(shape):
        msg = (
            f"{where}: the matrix has shape {found}, but obs has {shape[0]:,} cells and var {shape[1]:,} genes. "
            "The file is damaged or was written in parts; write it again."
        )
        raise DataError(msg)
    census = ValueCensus()
    warnings: list[str] = []
    blocks = list(_checked_blocks(stored, census, where, warnings, genes))
    if genes is not None:
        gene_names = [name for name, kept in zip(gene_names, genes, strict=True) if kept]
    if census.problem == "fractional" and rounded and census.fractions.kind() in ROUNDABLE:
        warnings.append(_rounded(census, where))
    elif census.problem:
        raise DataError(_not_counts(census, where, cell_names, gene_names, remedy, rounded=rounded))
    matrix = _canonical(blocks, (shape[0], len(gene_names)), owned=owned)
    warnings += _oddities(census, getattr(stored, "dtype", None), where)
    return Counts(matrix, tuple(warnings))


def _not_counts(
    census: ValueCensus,
    where: str,
    cells: Sequence[str],
    genes: Sequence[str],
    remedy: Callable[[], str],
    *,
    rounded: bool,
) -> str:
    kind = census.problem
    assert kind is not None
    row, column, value = census.first[kind]
    looks, advice = {"negative": " (scaled or centred values?)"}.get(kind, ""), remedy()
    if kind == "fractional":
        looked = census.fractions.kind()
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


def _rounded(census: ValueCensus, where: str) -> str:
    n_fractional = census.counts["fractional"]
    looked = census.fractions.kind()
    doubt = " Their distribution does not say what they are." if looked == "unknown" else ""
    return (
        f"{where}: {n_fractional:,} of {census.n_values:,} stored values were not integers and were rounded "
        f"(data.round=true), {census.n_vanishing:,} of them to 0.{doubt}"
    )


def _oddities(census: ValueCensus, dtype: Any, where: str) -> list[str]:
    notes = []
    if census.n_rounded:
        notes.append(
            f"{where}: {census.n_rounded:,} of {census.n_values:,} values differed from an integer by no more than the "
            "precision of their storage and were rounded."
        )
    if dtype == np.float16:
        exact = "; some are above 2,048, where float16 is no longer exact"
        notes.append(f"{where}: counts are stored as float16{exact if census.largest > LARGEST_EXACT_FLOAT16 else ''}.")
    if census.n_values and census.largest == 1:
        notes.append(f"{where}: no count is above 1: were the counts made binary?")
    return notes


def _checked_blocks(
    stored: Any,
    census: ValueCensus,
    where: str,
    notes: list[str] | None = None,
    genes: BoolArray | None = None,
) -> Iterator[sp.csr_matrix]:
    """Yield a matrix as CSR blocks of rows, top to bottom, with their values entered in the census."""
    shape = _two_dimensions(stored, where)
    columns = None if genes is None or genes.all() or genes.size != shape[1] else np.flatnonzero(genes)
    if _is_sparse(stored):
        matrix = _sound_csr(stored, where)
        yield _counted(matrix if columns is None else matrix[:, columns], census, where, first_row=0)
        return
    any_text = False
    for start, stop in _row_blocks(stored, shape):
        block = stored[start:stop]
        if hasattr(block, "compute"):
            block = block.compute()
        if columns is not None:
            block = (block if _is_sparse(block) else np.asarray(block))[:, columns]
        if not _is_sparse(block):
            dense, is_text = _numbers(np.asarray(block), where)
            any_text |= is_text
            block = sp.csr_matrix(dense)
        yield _counted(_sound_csr(block, where), census, where, first_row=start)
    if any_text and notes is not None:
        notes.append(f"{where}: the values are stored as text and were read as numbers.")


def _row_blocks(stored: Any, shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    chunks = getattr(stored, "chunks", None)
    if hasattr(stored, "compute") and chunks:
        # Any other boundaries would make dask compute a chunk once for every block that touches it.
        bounds = np.concatenate([[0], np.cumsum(chunks[0])]).tolist()
    else:
        bounds = [*range(0, shape[0], max(1, BLOCK_VALUES // max(1, shape[1]))), shape[0]]
    yield from itertools.pairwise(bounds)


def _two_dimensions(stored: Any, where: str) -> tuple[int, int]:
    shape = getattr(stored, "shape", None)
    if shape is None or len(shape) != 2:
        shown = f"shape {tuple(shape)}" if shape is not None else f"storage {type(stored).__name__}"
        msg = f"{where}: {shown} is not a matrix of cells by genes. Write the counts as a dense, CSR or CSC matrix."
        raise DataError(msg)
    return int(shape[0]), int(shape[1])


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
        msg = f"{where}: values of type {block.dtype} are not counts. Allowed: integers, stored as any number."
        raise DataError(msg)
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


def _counted(matrix: sp.csr_matrix, census: ValueCensus, where: str, first_row: int) -> sp.csr_matrix:
    """Enter the values of a CSR matrix in the census; return it with a type that holds them exactly."""
    values = matrix.data
    if values.dtype.kind not in "iuf" or values.dtype.itemsize not in (1, 4, 8):
        values = _numbers(values, where)[0].astype(np.float64)
    matrix = sp.csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape, copy=False)

    for start in range(0, values.size, BLOCK_VALUES):

        def locate(position: int, start: int = start) -> tuple[int, int]:
            row = int(np.searchsorted(matrix.indptr, start + position, side="right")) - 1
            return first_row + row, int(matrix.indices[start + position])

        census.add(values[start : start + BLOCK_VALUES], locate)
    if census.problem == "fractional":
        census.fractions.add(matrix)
    return matrix


def _canonical(blocks: list[sp.csr_matrix], shape: tuple[int, int], *, owned: bool) -> sp.csr_matrix:
    """Join blocks of rows into one matrix of whole numbers: sorted indices, no duplicate, no stored zero."""
    parts = []
    while blocks:
        block = blocks.pop(0)
        values = block.data.astype(np.float32, copy=not owned)
        np.rint(values, out=values)
        indices = block.indices if owned else block.indices.copy()
        indptr = block.indptr if owned else block.indptr.copy()
        parts.append(sp.csr_matrix((values, indices, indptr), shape=block.shape, copy=False))
    matrix = sp.vstack(parts, format="csr") if len(parts) > 1 else parts[0]
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if max(matrix.nnz, *shape) <= np.iinfo(np.int32).max:
        matrix.indices = matrix.indices.astype(np.int32, copy=False)
        matrix.indptr = matrix.indptr.astype(np.int32, copy=False)
    return matrix


def row_sums(matrix: sp.csr_matrix) -> FloatArray:
    """Return the (n_cells,) float64 sums of the rows, without a float64 copy of the values."""
    sums = np.zeros(matrix.shape[0], dtype=np.float64)
    filled = np.flatnonzero(np.diff(matrix.indptr))
    starts = matrix.indptr[filled].astype(np.int64)
    ends = matrix.indptr[filled + 1].astype(np.int64)
    first = 0
    while first < filled.size:
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + BLOCK_VALUES, side="right")))
        values = matrix.data[starts[first] : ends[last - 1]].astype(np.float64)
        sums[filled[first:last]] = np.add.reduceat(values, starts[first:last] - starts[first])
        first = last
    return sums


def cells_expressing(matrix: sp.csr_matrix) -> IntArray:
    """Return in how many cells each gene has a count, (n_genes,), for a matrix without stored zeros."""
    total = np.zeros(matrix.shape[1], dtype=np.int64)
    for start in range(0, matrix.nnz, BLOCK_VALUES):
        total += np.bincount(matrix.indices[start : start + BLOCK_VALUES], minlength=matrix.shape[1])
    return total


def take(matrix: sp.csr_matrix, cells: BoolArray | None = None, genes: BoolArray | None = None) -> sp.csr_matrix:
    """Return the rows and columns where the masks are true, with sorted indices; the matrix itself if all are."""
    if cells is not None and not cells.all():
        matrix = matrix[np.flatnonzero(cells)]
    if genes is not None and not genes.all():
        matrix = matrix[:, np.flatnonzero(genes)]
    matrix.sort_indices()
    return matrix
