"""The one count matrix that all members share, and what is known of each cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scballast.arrays import FloatArray, IntArray
from scballast.errors import ConfigError, DataError

if TYPE_CHECKING:
    from anndata import AnnData

_CHUNK_ROWS = 1 << 14
_CHUNK = 1 << 22  # values checked at a time, so that the check of a large matrix needs no copy of it


@dataclass(frozen=True)
class CountMatrix:
    """Counts (cells × genes) as CSR, with categories as codes.

    Attributes
    ----------
    row_starts, genes, values
        (n_cells + 1,) int64, (n_nonzero,) int32 and float32: the CSR arrays; those of the AnnData where they
        already have these types.
    batch, label
        (n_cells,) int32 codes; all 0 without a key.
    batch_categories, label_categories
        What the codes stand for.
    """

    row_starts: IntArray
    genes: IntArray
    values: FloatArray
    n_genes: int
    batch: IntArray
    label: IntArray
    batch_categories: tuple[Any, ...]
    label_categories: tuple[Any, ...]

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.row_starts) - 1

    def totals(self) -> FloatArray:
        """(n_cells,) float64 total count of each cell."""
        sums = np.empty(self.n_cells)
        for start in range(0, self.n_cells, _CHUNK_ROWS):
            bounds = self.row_starts[start : start + _CHUNK_ROWS + 1]
            row = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
            values = self.values[bounds[0] : bounds[-1]]
            sums[start : start + len(bounds) - 1] = np.bincount(row, weights=values, minlength=len(bounds) - 1)
        return sums

    def content(self) -> tuple[Any, ...]:
        """Return arrays that tell these counts and categories from any others."""
        return self.row_starts, self.genes, self.values, self.batch, self.label


def count_matrix(adata: AnnData, layer: str | None, batch_key: str | None, labels_key: str | None) -> CountMatrix:
    """Take counts and categories from an AnnData, without a copy where its arrays can be used as they are.

    Raises
    ------
    ConfigError
        ``layer``, ``batch_key`` or ``labels_key`` does not exist.
    DataError
        A count is negative or not finite, or a cell has no batch or label.
    """
    csr = csr_of(adata, layer)
    values = np.ascontiguousarray(csr.data, dtype=np.float32)
    for start in range(0, len(values), _CHUNK):
        check_counts(values[start : start + _CHUNK], layer)
    return CountMatrix(
        row_starts=np.ascontiguousarray(csr.indptr, dtype=np.int64),
        genes=np.ascontiguousarray(csr.indices, dtype=np.int32),
        values=values,
        n_genes=csr.shape[1],
        **categories_of(adata, batch_key, labels_key),
    )


def csr_of(adata: AnnData, layer: str | None) -> sp.csr_matrix:
    """Return the counts of an AnnData, without a copy where they are CSR.

    Raises
    ------
    ConfigError
        There is no such layer.
    """
    if layer is not None and layer not in adata.layers:
        message = f"layer={layer!r} does not exist. Layers here: {sorted(adata.layers)}."
        raise ConfigError(message)
    matrix = adata.X if layer is None else adata.layers[layer]
    return matrix if sp.issparse(matrix) and matrix.format == "csr" else sp.csr_matrix(matrix)


def check_counts(values: FloatArray, layer: str | None) -> None:
    """Raise a DataError where some value is negative or not finite."""
    if len(values) and not (np.isfinite(values).all() and values.min() >= 0):
        where = "X" if layer is None else f"layer {layer!r}"
        message = f"{where} is not counts: it has negative or non-finite values. Point layer at the counts."
        raise DataError(message)


def categories_of(adata: AnnData, batch_key: str | None, labels_key: str | None) -> dict[str, Any]:
    """Return codes and categories of batch and label, by the names of `CountMatrix`'s fields.

    Raises
    ------
    ConfigError
        There is no such column of ``obs``.
    DataError
        A cell has no value in it.
    """
    batch, batch_categories = _codes_of(adata, batch_key, "batch_key")
    label, label_categories = _codes_of(adata, labels_key, "labels_key")
    return {"batch": batch, "label": label, "batch_categories": batch_categories, "label_categories": label_categories}


def _codes_of(adata: AnnData, key: str | None, name: str) -> tuple[IntArray, tuple[Any, ...]]:
    """Return (n_cells,) int32 codes of a column of ``obs``, and what they stand for; all 0 without a key."""
    if key is None:
        return np.zeros(adata.n_obs, dtype=np.int32), (0,)
    if key not in adata.obs:
        message = f"{name}={key!r} is not a column of obs. Columns: {sorted(map(str, adata.obs.columns))}."
        raise ConfigError(message)
    column = adata.obs[key].astype("category").cat
    codes = column.codes.to_numpy().astype(np.int32)
    if (codes < 0).any():
        message = f"{int((codes < 0).sum())} cells have no value in obs[{key!r}] ({name}). Name it or drop them."
        raise DataError(message)
    return codes, tuple(column.categories)
