"""Matrix folders of Cell Ranger, STARsolo, kallisto|bustools, alevin-fry and Parse: their layout and contents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scballast.data import foreign_layouts
from scballast.data.features import are_types
from scballast.data.names import quote, quoted
from scballast.data.remarks import Remarks
from scballast.data.source import Source, quiet_anndata, source_of
from scballast.data.symbols import mostly
from scballast.data.text_table import ENSEMBL, is_csv, list_rows, list_text

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp

_HEADER = re.compile(
    r"(x|v\d+|0|#.*|(.*[_ .-])?(genes?|features?|symbols?|ensembl|barcodes?|cells?|names?|ids?|bc_wells)([_ .-].*)?)",
    re.IGNORECASE,
)
_HEADER_KINDS = {
    "type": re.compile("type|class"),
    "symbol": re.compile("symbol|name"),
    "id": re.compile(r"\bids?\b|_ids?\b|ensembl|accession"),
}
_MATRIX = re.compile(r".*\.mtx(\.gz)?")
_BARCODE = re.compile(r"[ACGTN]{8,}([-_.].*)?")
_CELL = re.compile(
    r"(.*[-_.:#])?[ACGTN]{8,}([-_.:].*)?|.*\w-\d{1,2}|(cell|barcode|bc|spot|well)s?[-_. ]?\d+.*", re.IGNORECASE
)
"""What most cells of a list are called: barcodes, with a sample before and a lane after them, or numbered."""
LARGER_SPREAD = 1.5
"""Totals of genes differ more than those of cells: where it is this much the other way round, which are which?"""


@dataclass(frozen=True)
class Layout:
    """How a tool names its three files; ``{p}`` stands for what comes before the matrix's own name.

    Attributes
    ----------
    tool
        For messages.
    matrix
        The matrix's name without ``.gz``; the group ``p`` is the prefix.
    genes, cells
        Names that the other two may have, in this order of preference.
    symbols
        A further file with a symbol for each gene, in their order or after their id.
    genes_first
        The matrix's rows are genes.
    symbols_as_names
        Symbols become the names of the genes and ids a column, as scanpy reads 10x; otherwise the reverse.
    """

    tool: str
    matrix: re.Pattern[str]
    genes: tuple[str, ...]
    cells: tuple[str, ...]
    symbols: str = ""
    genes_first: bool = False
    symbols_as_names: bool = False


LAYOUTS = (
    Layout(
        "Cell Ranger or STARsolo", re.compile(r"(?P<p>.*)matrix\.mtx"), ("{p}features.tsv", "{p}genes.tsv"),
        ("{p}barcodes.tsv",), genes_first=True, symbols_as_names=True,
    ),
    Layout(
        "kallisto|bustools", re.compile(r"(?P<p>.+)\.mtx"), ("{p}.genes.txt",), ("{p}.barcodes.txt",),
        symbols="{p}.genes.names.txt",
    ),
    Layout(
        "alevin-fry", re.compile(r"(?P<p>.*)quants_mat\.mtx"), ("{p}quants_mat_cols.txt",), ("{p}quants_mat_rows.txt",),
        symbols="../gene_id_to_name.tsv",  # of simpleaf
    ),
    Layout(
        "Parse", re.compile(r"(?P<p>.*)(DGE|count_matrix)\.mtx"), ("{p}all_genes.csv", "{p}genes.csv"),
        ("{p}cell_metadata.csv",),
    ),
    Layout(
        "Expression Atlas", re.compile(r"(?P<p>.+\.mtx)"), ("{p}_rows",), ("{p}_cols",), genes_first=True,
    ),
    Layout(
        "tables beside a matrix", re.compile(r"(?P<p>.*?)((raw_)?counts|matrix|expression|data)\.mtx"),
        tuple(f"{{p}}{name}.{kind}" for kind in ("tsv", "csv", "txt") for name in ("features", "genes", "gene_names")),
        tuple(f"{{p}}{name}.{kind}" for kind in ("tsv", "csv", "txt") for name in ("barcodes", "cells", "cell_names")),
        genes_first=True, symbols_as_names=True,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class MatrixFiles:
    """The files of one matrix, the layout that they have, and empty lists, each with what is read in its place."""

    layout: Layout
    matrix: Path
    genes: Path
    cells: Path
    symbols: Path | None
    empty: tuple[tuple[Path, Path], ...] = ()


def read_matrix_folder(folder: Path, label: str) -> Source | None:
    """Read the one matrix of a folder, in any layout that is known; files may be compressed (``.gz``) or not.

    The matrix may lie the other way round, and lists of genes and cells may have a header: both are seen from the
    numbers of rows, and said.

    Returns
    -------
    Source or None
        None: neither the folder nor one below it holds a matrix.

    Raises
    ------
    DataError
        There are several matrices, a file is missing, the numbers of genes or cells differ, or the layout is one
        that is not read: then the message has the two lines that write an ``.h5ad``.
    """
    remarks = Remarks(label)
    if foreign := foreign_layouts.foreign_layout(folder):
        remarks.refuse(foreign)
    files = _find(folder, remarks)
    if files is None:
        return None
    import anndata as ad
    import scipy.io
    import scipy.sparse as sp

    inside = files.matrix.parent.relative_to(folder).as_posix()
    if inside != ".":
        remarks.note(f"the matrix in {quote(inside)} is read.")
    for name, path in files.empty:
        remarks.note(f"{name.name} is empty; {path.name} is read in its place.")
    matrix = sp.coo_matrix(scipy.io.mmread(files.matrix, spmatrix=True))
    stored = matrix.shape[::-1] if files.layout.genes_first else matrix.shape
    genes = list_rows(files.genes)
    if genes and (reason := foreign_layouts.splice_junctions(genes)):
        remarks.refuse(reason)
    fit = _fitted(stored, genes, list_rows(files.cells), files, remarks)
    var = _var(fit, files)
    if files.layout.tool == "alevin-fry" and (reason := foreign_layouts.spliced_and_unspliced(list(var.index), folder)):
        remarks.refuse(reason)
    with quiet_anndata():
        counts = sp.csr_matrix(matrix if fit.transposed == files.layout.genes_first else matrix.T)
        adata = ad.AnnData(X=counts, obs=_obs(fit), var=var)
    _note_square(counts, files, remarks)
    source = source_of(adata, label, owned=True, warnings=tuple(remarks.notes))
    read = (files.matrix, files.genes, files.cells, files.symbols)
    return replace(source, files=tuple(path for path in read if path is not None))


def _find(folder: Path, remarks: Remarks) -> MatrixFiles | None:
    """Return the one matrix of the folder, or else of the folders below it."""
    missing, below = "", []
    for depth in range(1, foreign_layouts.DEEPEST + 2):
        paths = [path for path in sorted(folder.glob("/".join(["*"] * depth))) if _MATRIX.fullmatch(path.name)]
        for path in filter(Path.is_file, paths):
            # In a folder that is not read, one matrix of several (spliced) may have lists under known names.
            foreign = foreign_layouts.foreign_layout(path.parent)
            if foreign and path.parent != folder:
                foreign = f"in {quote(path.parent.relative_to(folder).as_posix())}: {foreign}"
            files_or_reason = foreign or _complete(path)
            if isinstance(files_or_reason, MatrixFiles):
                below.append(files_or_reason)
            else:
                missing = missing or files_or_reason
        if depth == 1 and below:
            break
    if len(below) == 1:
        return below[0]
    if below:
        names = [files.matrix.relative_to(folder).as_posix() for files in below]
        remarks.refuse(
            f"there are {len(below)} matrices in this folder: {quoted(names)}. Keep one, or set data.path "
            "to the folder of the one that is meant."
        )
    if missing:
        remarks.refuse(missing)
    return None


def _complete(matrix: Path) -> MatrixFiles | str:
    """Return a matrix with its two other files; where these are not there, which are missing."""
    name = matrix.name.removesuffix(".gz")
    missing = ""
    for layout in LAYOUTS:
        match = layout.matrix.fullmatch(name)
        if match is None:
            continue
        genes, cells, symbols = (
            _list_file(matrix.parent, match["p"], templates)
            for templates in (layout.genes, layout.cells, (layout.symbols,) if layout.symbols else ())
        )
        if genes and cells:
            empty = tuple(pair for pair in (genes, cells) if pair[0] != pair[1])
            return MatrixFiles(layout, matrix, genes[1], cells[1], symbols[0] if symbols else None, empty)
        if genes or cells or layout is LAYOUTS[0]:
            wanted = layout.cells if genes else layout.genes
            names = " or ".join(f"{template.format(p=match['p'])}[.gz]" for template in wanted)
            missing = missing or f"{names} is missing beside {name}. Copy it into the folder."
    advice = foreign_layouts.two_lines_of_mtx(name)
    return missing or f"beside {name} there are no lists of genes and cells under a known name. {advice}"


def _list_file(folder: Path, prefix: str, templates: Sequence[str]) -> tuple[Path, Path] | None:
    """Return the list under the first name that is there, and what is read: where it is empty, another one."""
    paths = (folder / f"{template.format(p=prefix)}{gz}" for template in templates for gz in (".gz", ""))
    present = [path for path in paths if path.is_file()]
    if len(present) < 2:
        return (present[0], present[0]) if present else None
    return present[0], next((path for path in present if list_text(path).strip()), present[0])


@dataclass(frozen=True)
class _Fit:
    """How matrix, genes and cells belong together.

    Attributes
    ----------
    genes, cells
        Rows of the lists, without a header.
    gene_header, cell_header
        The headers; empty: none.
    transposed
        The matrix lies the other way round than its layout has it.
    """

    genes: list[list[str]]
    cells: list[list[str]]
    gene_header: list[str]
    cell_header: list[str]
    transposed: bool


def _fitted(
    stored: tuple[int, int], genes: list[list[str]], cells: list[list[str]], files: MatrixFiles, remarks: Remarks
) -> _Fit:
    """Find how lists and matrix fit; ``stored``: its cells and genes if it lies as the layout has it."""
    for path, rows in ((files.genes, genes), (files.cells, cells)):
        if not rows:
            remarks.refuse(f"{path.name} is empty. Copy or write it again.")
    if _are_swapped(genes, cells):
        remarks.refuse(
            f"{files.genes.name} lists barcodes ({quoted([genes[-1][0]])}) and {files.cells.name} what should "
            f"be genes ({quoted([cells[-1][0]])}): the two are swapped. Exchange their names."
        )
    headers = list(product(*([False, True] if _is_header(rows) else [False] for rows in (genes, cells))))
    for transposed, (gene_header, cell_header) in product((False, True), sorted(headers, key=sum)):
        shape = stored[::-1] if transposed else stored
        if shape != (len(cells) - cell_header, len(genes) - gene_header):
            continue
        for rows, has, path in ((genes, gene_header, files.genes), (cells, cell_header, files.cells)):
            if has and not is_csv(path):  # tables with commas always have one
                remarks.note(f"the first line of {path.name} is a header and was read as such: {quoted(rows[0], 4)}.")
        if transposed:
            now = "cells × genes" if files.layout.genes_first else "genes × cells"
            remarks.note(f"{files.matrix.name} is transposed ({now}), and was read as such.")
        return _Fit(
            genes=genes[gene_header:],
            cells=cells[cell_header:],
            gene_header=genes[0] if gene_header else [],
            cell_header=cells[0] if cell_header else [],
            transposed=transposed,
        )
    remarks.refuse(
        f"the matrix has {stored[1]:,} genes and {stored[0]:,} cells, but there are {len(genes):,} features "
        f"and {len(cells):,} barcodes. {_header_hint(stored, genes, cells) or 'The files belong to different data.'}"
    )


def _header_hint(stored: tuple[int, int], genes: list[list[str]], cells: list[list[str]]) -> str:
    """Ask whether first lines are headers in words that are not known, where each list is as long or a line longer."""
    for n_cells, n_genes in (stored, stored[::-1]):
        if {len(genes) - n_genes, len(cells) - n_cells} <= {0, 1}:
            longer = [rows for rows, n in ((genes, n_genes), (cells, n_cells)) if len(rows) > n]
            if all(_is_of_its_own(rows) for rows in longer):
                asked = " and ".join(quoted(rows[0], 4) for rows in longer)
                return f"Is the first line of the longer list a header ({asked})? Then remove it."
    return ""


def _is_of_its_own(rows: list[list[str]]) -> bool:
    """Tell whether no line has the form of the first, numbers apart: to remove a gene would move all others."""
    first, *rest = (re.sub(r"\d+", "0", row[0]) for row in rows)
    return first not in rest


def _are_swapped(genes: list[list[str]], cells: list[list[str]]) -> bool:
    """Tell whether cells stand in the list of genes and genes in that of cells, by what either is mostly called."""
    cells_first, genes_second = (mostly(_CELL, [row[0] for row in rows]) for rows in (genes, cells))
    if cells_first and not genes_second:
        return True
    ids_first, ids_second = (
        any(mostly(ENSEMBL, column) or are_types(column) for column in zip_longest(*rows, fillvalue=""))
        for rows in (genes, cells)
    )
    return ids_second and not ids_first


def _note_square(counts: sp.csr_matrix, files: MatrixFiles, remarks: Remarks) -> None:
    """Say of as many cells as genes that numbers do not tell which are which, and whether their totals do."""
    if counts.shape[0] != counts.shape[1]:
        return
    of_cells, of_genes = (float(np.log1p(np.asarray(counts.sum(axis=axis)).ravel()).std()) for axis in (1, 0))
    way = "genes × cells" if files.layout.genes_first else "cells × genes"
    note = (
        f"there are as many cells as genes, so that their numbers do not tell whether {files.matrix.name} is "
        f"transposed; it was read as {way}, as {files.layout.tool} writes it."
    )
    if of_cells > LARGER_SPREAD * of_genes:
        note += (
            " But totals of genes differ more than those of cells, and here it is the other way round: is it "
            "transposed? Then write it the other way round."
        )
    remarks.note(note)


def _is_header(rows: list[list[str]]) -> bool:
    """Tell whether the first line can be a header: by its words, or as the only one that is no id and no barcode."""
    if not rows:
        return False
    first, *rest = (row[0].strip() for row in rows)
    return _HEADER.fullmatch(first) is not None or any(
        bool(rest) and pattern.fullmatch(first) is None and all(map(pattern.fullmatch, rest))
        for pattern in (ENSEMBL, _BARCODE)
    )


def _var(fit: _Fit, files: MatrixFiles) -> pd.DataFrame:
    """Return the annotation of the genes: ids, symbols and types from wherever the list has them."""
    import pandas as pd

    columns = list(zip_longest(*fit.genes, fillvalue="")) or [()]
    place = {"id": 0, "symbol": 1, "type": 2} if len(columns) != 1 else {"id": 0}
    if len(columns) == 2 and are_types(columns[1]):
        place = {"id": 0, "type": 1}
    for position, name in enumerate(fit.gene_header):
        kind = next((kind for kind, pattern in _HEADER_KINDS.items() if pattern.search(name.lower())), None)
        if kind is not None:
            place[kind] = position
    if "symbol" in place and not mostly(ENSEMBL, columns[place["id"]]) and mostly(ENSEMBL, columns[place["symbol"]]):
        place["id"], place["symbol"] = place["symbol"], place["id"]
    ids = list(columns[place["id"]])
    symbols = list(columns[place["symbol"]]) if place.get("symbol", len(columns)) < len(columns) else None
    if files.symbols is not None:
        listed = list_rows(files.symbols)
        by_id = {row[0]: row[1] for row in listed if len(row) > 1}
        if by_id:
            symbols = [by_id.get(identifier, "") for identifier in ids]
        elif len(listed) == len(ids):
            symbols = [row[0] for row in listed]
    var = pd.DataFrame(index=pd.Index(ids, dtype=object))
    if symbols is not None and files.layout.symbols_as_names:
        var = pd.DataFrame({"gene_ids": ids}, index=pd.Index(symbols, dtype=object))
    elif symbols is not None:
        var["gene_symbols"] = symbols
    if place.get("type", len(columns)) < len(columns):
        var["feature_types"] = list(columns[place["type"]])
    return var


def _obs(fit: _Fit) -> pd.DataFrame:
    import pandas as pd

    obs = pd.DataFrame(index=pd.Index([row[0] for row in fit.cells], dtype=object))
    for column, name in enumerate(fit.cell_header[1:], start=1):
        obs[name] = [row[column] if column < len(row) else "" for row in fit.cells]
    return obs
