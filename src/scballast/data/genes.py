"""Selection of the most variable genes from raw counts, batch by batch."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from scballast.arrays import BoolArray, IntArray
from scballast.data.columns import Column
from scballast.data.names import quoted
from scballast.data.raw_counts import cells_expressing, take
from scballast.errors import DataError

if TYPE_CHECKING:
    import scipy.sparse as sp

MIN_CELLS_EXPRESSING = 3
MIN_BATCH_CELLS = 50
"""A batch with fewer cells has no say: its variances are mostly noise."""
MIN_VARIABLE_GENES = 40
"""The loess library crashes the process where its local neighbourhood (0.3 of the genes) is all but empty."""
SPANS = (0.3, 0.6, 1.0)
"""Share of the genes in each local fit: scanpy's, then wider where so few distinct means make it singular."""


def select_genes(
    counts: sp.csr_matrix, n_top_genes: int | None, batches: Column | None, *, source: str
) -> tuple[BoolArray, list[str]]:
    """Choose the genes to analyse.

    All genes are kept when there are no more than ``n_top_genes``. Otherwise genes expressed in fewer than 3
    cells are left out, and of the others the ``n_top_genes`` with the highest variance standardised by its
    trend with the mean are kept (scanpy's ``highly_variable_genes(flavor="seurat_v3")`` on counts, ranked
    within each batch and combined by the median rank).

    Parameters
    ----------
    counts : (n_cells, n_genes)
        Raw counts without stored zeros.
    n_top_genes
        How many genes to keep; None: all.
    batches
        Batch of each cell, or None.
    source
        The file, for messages.

    Returns
    -------
    (n_genes,) bool, list of str
        The genes kept, and what was done differently from the above.

    Raises
    ------
    DataError
        The trend of variance with mean cannot be fitted, with or without batches.

    References
    ----------
    Stuart et al. (2019), Comprehensive integration of single-cell data.
    """
    n_genes = counts.shape[1]
    if n_top_genes is None or n_genes <= n_top_genes:
        return np.ones(n_genes, dtype=np.bool_), []
    eligible = cells_expressing(counts) >= MIN_CELLS_EXPRESSING
    n_eligible = int(np.count_nonzero(eligible))
    if n_eligible == 0:
        msg = (
            f"{source}: none of {n_genes:,} genes has counts in {MIN_CELLS_EXPRESSING} cells or more, so genes cannot "
            "be selected. Set data.n_top_genes=null to keep all genes, or use deeper data."
        )
        raise DataError(msg)
    if n_eligible <= n_top_genes:
        return eligible, []
    candidates = take(counts, genes=eligible)
    chosen, notes = _most_variable(candidates, n_top_genes, batches, source)
    selected = np.zeros(n_genes, dtype=np.bool_)
    selected[np.flatnonzero(eligible)[chosen]] = True
    return selected, notes


def _most_variable(
    counts: sp.csr_matrix, n_top_genes: int, batches: Column | None, source: str
) -> tuple[BoolArray, list[str]]:
    notes: list[str] = []
    if batches is not None:
        sizes = batches.sizes()
        fits = sizes >= MIN_BATCH_CELLS
        if not fits.all():
            small = [batches.names[i] for i in np.flatnonzero(~fits)]
            notes.append(
                f"{source}: batches with fewer than {MIN_BATCH_CELLS} cells have no say in the selection of genes: "
                f"{quoted(small)}."
            )
        if fits.any():
            chosen = _seurat_v3(counts, n_top_genes, SPANS[0], batches.codes, fits)
            if chosen is None:
                works = fits.copy()
                for code in np.flatnonzero(fits):
                    alone = np.arange(fits.size) == code
                    works[code] = _seurat_v3(counts, n_top_genes, SPANS[0], batches.codes, alone) is not None
                failing = [batches.names[i] for i in np.flatnonzero(fits & ~works)]
                if works.any() and failing:
                    chosen = _seurat_v3(counts, n_top_genes, SPANS[0], batches.codes, works)
                    notes.append(
                        f"{source}: the trend of variance with mean cannot be fitted in batches {quoted(failing)}, "
                        "which have no say in the selection of genes."
                    )
            if chosen is not None:
                return chosen, notes
        notes.append(f"{source}: genes were selected over all cells together, without regard to batches.")
    everything = np.zeros(counts.shape[0], dtype=np.int64)
    for span in SPANS:
        chosen = _seurat_v3(counts, n_top_genes, span, everything, np.ones(1, dtype=np.bool_))
        if chosen is not None:
            if span != SPANS[0]:
                notes.append(
                    f"{source}: genes were selected with a wider trend of variance with mean (span {span} instead "
                    f"of {SPANS[0]}): too few genes have distinct means."
                )
            return chosen, notes
    msg = (
        f"{source}: {n_top_genes:,} of {counts.shape[1]:,} genes cannot be selected: the trend of variance with mean "
        f"cannot be fitted to {counts.shape[0]:,} cells with so few distinct values. Set data.n_top_genes=null to keep "
        "all genes, or use more cells or deeper data."
    )
    raise DataError(msg)


def _seurat_v3(
    counts: sp.csr_matrix, n_top_genes: int, span: float, codes: IntArray, use: BoolArray
) -> BoolArray | None:
    """Return scanpy's selection from the batches in ``use``; None where its loess fit is singular."""
    import anndata as ad
    import pandas as pd
    import scanpy as sc

    cells = use[codes]
    part = take(counts, cells=cells)
    batch = pd.Categorical.from_codes(codes[cells], categories=[f"{i:09d}" for i in range(use.size)])
    obs = pd.DataFrame({"batch": np.asarray(batch.astype(str), dtype=object)}, index=_numbered(part.shape[0]))
    adata = ad.AnnData(X=part, obs=obs, var=pd.DataFrame(index=_numbered(part.shape[1])))
    for code in np.flatnonzero(use):
        if not _enough_varying(take(part, cells=codes[cells] == code)):
            return None
    arguments: dict[str, Any] = {"batch_key": "batch"} if np.count_nonzero(use) > 1 else {}
    try:
        with warnings.catch_warnings():
            # A gene that is constant in a batch has a zero variance there and is not selected.
            warnings.filterwarnings("ignore", "(divide by zero|invalid value)", RuntimeWarning)
            table = sc.pp.highly_variable_genes(
                adata, flavor="seurat_v3", n_top_genes=n_top_genes, span=span, inplace=False, check_values=False,
                **arguments,
            )  # fmt: skip
    except ValueError:  # how the loess library reports a singular fit; all other input was checked
        return None
    return np.asarray(table["highly_variable"], dtype=np.bool_)


def _numbered(n: int) -> Any:
    import pandas as pd

    return pd.Index([str(i) for i in range(n)], dtype=object)


def _enough_varying(counts: sp.csr_matrix) -> bool:
    """Tell whether enough genes vary over the cells for a trend of variance with mean."""
    expressing = cells_expressing(counts)
    n_varying = int(np.count_nonzero((expressing > 0) & (expressing < counts.shape[0])))
    if n_varying < MIN_VARIABLE_GENES:
        everywhere = take(counts, genes=expressing == counts.shape[0])
        n_varying += int(np.count_nonzero((everywhere.max(axis=0) != everywhere.min(axis=0)).toarray()))
    return n_varying >= MIN_VARIABLE_GENES
