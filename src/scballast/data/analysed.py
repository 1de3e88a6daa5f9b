"""From a stored matrix to the counts that are analysed: three passes over blocks of cells, none of which stays.

The first checks every value and adds up the sums that the selection of genes begins with; the second clips counts at
the limits that follow from these; the third keeps the counts of the selected genes. The digest of the content is added
up on the way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from scballast.arrays import BoolArray, FloatArray, IntArray
from scballast.data.blocks import NewArray, gather
from scballast.data.columns import Column, taken
from scballast.data.genes import has_a_choice, select_genes, selection_groups
from scballast.data.moments import Survey, first_alike
from scballast.data.raw_counts import read_counts
from scballast.data.remarks import Remarks
from scballast.data.source import StoredMatrix
from scballast.errors import DataError


@dataclass(frozen=True)
class CountsRequest:
    """Which counts are wanted.

    Attributes
    ----------
    source
        The file, for messages.
    matrix
        Cells by features.
    kept
        (n_cells,) cells whose counts are analysed; those of the others are checked alone.
    genes
        (n_features,) features that are genes; the others are not read.
    cell_names, gene_names
        (n_cells,), (n_features,) unique names.
    labels, batches, samples
        Of the kept cells.
    rounded, remedy, owned
        As for `read_counts`.
    duplicates
        ``drop``: cells with exactly the counts of another are left out; ``keep``: they are told alone.
    n_top_genes
        As for `select_genes`.
    beside
        (n_genes,) genes whose counts are wanted besides; None: none are.
    """

    source: str
    matrix: StoredMatrix
    kept: BoolArray
    genes: BoolArray
    cell_names: list[str]
    gene_names: list[str]
    labels: Column
    batches: Column | None
    samples: Column | None
    remedy: Callable[[], str]
    owned: bool = False
    rounded: bool = False
    duplicates: str = "drop"
    n_top_genes: int | None = None
    beside: BoolArray | None = None


@dataclass(frozen=True)
class AnalysedCounts:
    """What a stored matrix was found to hold.

    Attributes
    ----------
    n_values, totals
        (n_kept,) genes with a count in each kept cell, and its counts over all genes, float64.
    duplicate_of
        (n_kept,) the cell whose counts each kept cell repeats, itself where it repeats none.
    counted, selected
        (n_genes,) genes with counts in some kept cell, and those that are analysed.
    counts
        (n_cells, n_selected) of the cells with counts that are not left out as duplicates: CSR float32.
    beside
        (n_cells, n) counts of the genes that were wanted besides, and are counted but not selected; None: none were.
    digest
        Of the counts in all genes, the names and the columns.
    read_warnings, selection_warnings
        What was noticed.
    """

    n_values: IntArray
    totals: FloatArray
    duplicate_of: IntArray
    counted: BoolArray
    selected: BoolArray
    counts: sp.csr_matrix
    beside: sp.csr_matrix | None = None
    digest: str = ""
    read_warnings: tuple[str, ...] = ()
    selection_warnings: tuple[str, ...] = ()


def analysed_counts(of: CountsRequest, new_array: NewArray | None = None) -> AnalysedCounts:
    """Check a matrix, choose its genes and cut it to them.

    Parameters
    ----------
    of
        Which counts.
    new_array
        Where the counts are put; None: in memory.

    Raises
    ------
    DataError
        Some value is not a count, there is none, or genes cannot be selected.
    """
    source, matrix = of.source, of.matrix
    whole = survey = _survey(of)
    checked = read_counts(
        matrix.read(),
        where=f"{source}: {matrix.title}",
        cell_names=of.cell_names,
        gene_names=of.gene_names,
        remedy=of.remedy,
        owned=of.owned,
        genes=of.genes,
        rounded=of.rounded,
        watch=survey.add,
    )
    duplicate_of = first_alike(whole.fingerprints, whole.n_values, of.labels.codes >= 0)
    once = duplicate_of == np.arange(duplicate_of.size)
    if of.duplicates == "drop" and not once.all():
        of = _only(of, once)
        survey = _survey(of)
        for first, block in checked.blocks.read("leaving out duplicates"):
            survey.add(first, block)
    cells, counted = survey.n_values > 0, survey.expressing.sum(axis=0) > 0
    if not cells.any():
        msg = (
            f"{source}: {matrix.title} is empty: all {cells.size:,} × {counted.size:,} counts are 0. "
            "Check how the file was made, or point data.layer at the counts."
        )
        raise DataError(msg)
    labels, batches, samples = taken(of.labels, of.batches, of.samples, cells, Remarks(source))
    selection = select_genes(survey, cells, counted, of.n_top_genes, batches, source=source)
    rows = of.kept.copy()
    rows[of.kept] = cells
    digest = ContentDigest(int(np.count_nonzero(counted)), survey.n_values[cells])
    number = np.cumsum(counted) - 1
    for _, part in checked.blocks.parts("selecting genes", rows):
        digest.add_genes(number[part.indices])
        selection.watch(part)
    selected = selection.selected()
    choices = [selected] if of.beside is None else [selected, of.beside & counted & ~selected]
    cut = gather(
        checked.blocks,
        rows,
        choices,
        [int(survey.expressing[:, chosen].sum()) for chosen in choices],
        watch=lambda part: digest.add_values(part.data),
        source=source,
        new_array=new_array,
    )
    genes_read = np.flatnonzero(of.genes)
    return AnalysedCounts(
        n_values=whole.n_values,
        totals=whole.totals,
        duplicate_of=duplicate_of,
        counted=counted,
        selected=selected,
        counts=cut[0],
        beside=None if of.beside is None else cut[1],
        digest=digest.end(
            (of.cell_names[i] for i in np.flatnonzero(rows)),
            (of.gene_names[i] for i in genes_read[counted]),
            (labels, batches, samples),
        ),
        read_warnings=checked.warnings,
        selection_warnings=selection.warnings,
    )


def _survey(of: CountsRequest) -> Survey:
    n_genes = int(np.count_nonzero(of.genes))
    chooses = has_a_choice(n_genes, of.n_top_genes)
    return Survey(of.kept, n_genes, selection_groups(of.batches, int(np.count_nonzero(of.kept))) if chooses else None)


def _only(of: CountsRequest, cells: BoolArray) -> CountsRequest:
    """Return the request for some of the kept cells alone."""
    kept = of.kept.copy()
    kept[of.kept] = cells
    labels, batches, samples = taken(of.labels, of.batches, of.samples, cells, Remarks(of.source))
    return replace(of, kept=kept, labels=labels, batches=batches, samples=samples)


class ContentDigest:
    """The sha256 of counts, names and columns, from counts that come in parts.

    Of the matrix, CSR with sorted indices, no duplicates and no stored zeros, so that equal counts are equal bytes,
    first all row starts are added, then all gene numbers, then all values: of counts that are not in memory as a whole,
    in two passes.

    Parameters
    ----------
    n_genes
        Genes with counts.
    n_values
        (n_cells,) genes with a count in each cell.
    """

    def __init__(self, n_genes: int, n_values: IntArray) -> None:
        self._digest = hashlib.sha256(b"scballast data 1")
        self._digest.update(np.asarray((n_values.size, n_genes), dtype="<i8").tobytes())
        _update(self._digest, np.concatenate([[0], np.cumsum(n_values)]), "<i8")

    def add_genes(self, numbers: IntArray) -> None:
        """Add the gene numbers of the next cells."""
        _update(self._digest, numbers, "<i4")

    def add_values(self, values: np.ndarray[Any, Any]) -> None:
        """Add the counts of the next cells, after all gene numbers."""
        _update(self._digest, values, "<f4")

    def end(self, cells: Iterable[str], genes: Iterable[str], columns: Iterable[Column | None]) -> str:
        """Add names and columns, and return 64 hexadecimal digits.

        Parameters
        ----------
        cells, genes
            Names.
        columns
            Labels, batches and samples; None where there are none.
        """
        digest = self._digest
        _update_texts(digest, cells)
        _update_texts(digest, genes)
        for column in columns:
            digest.update(b"0" if column is None else b"1")
            if column is not None:
                _update_texts(digest, column.names)
                _update(digest, column.codes, "<i8")
        return digest.hexdigest()


def _update(digest: Any, values: np.ndarray[Any, Any], dtype: str) -> None:
    digest.update(np.ascontiguousarray(values, dtype=dtype).data)


def _update_texts(digest: Any, texts: Iterable[str]) -> None:
    encoded = [text.encode() for text in texts]
    _update(digest, np.asarray([len(encoded), *map(len, encoded)], dtype=np.int64), "<i8")
    digest.update(b"".join(encoded))
