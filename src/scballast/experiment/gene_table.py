"""Genes under the names that people read: the table of genes, and symbols beside the ids of every other table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from scballast.data.dataset import Dataset

VALUES_AT_ONCE = 2**24
"""Of a sparse matrix: numpy counts copies of the genes and values, in twice their bytes."""


def genes_table(dataset: Dataset) -> pd.DataFrame:
    """Return what is known of each analysed gene.

    Returns
    -------
    DataFrame
        gene (its name everywhere else), symbol (what people call it; empty: as ``gene``), feature_type (as the file
        has it; empty: it does not say), n_cells (with a count), mean_count (per cell); in the order of the data.
    """
    counts, (n_cells, n_genes) = dataset.adata.X, dataset.adata.shape
    n_expressing, total = np.zeros(n_genes, dtype=np.int64), np.zeros(n_genes)
    for start in range(0, counts.nnz, VALUES_AT_ONCE):
        part = slice(start, start + VALUES_AT_ONCE)
        n_expressing += np.bincount(counts.indices[part], minlength=n_genes)
        # scipy adds float32 values in float32, whatever type is asked for.
        total += np.bincount(counts.indices[part], weights=counts.data[part], minlength=n_genes)
    return pd.DataFrame(
        {
            "gene": dataset.adata.var_names.to_numpy(dtype=object),
            "symbol": list(dataset.gene_symbols or [""] * n_genes),
            "feature_type": list(dataset.feature_types or [""] * n_genes),
            "n_cells": n_expressing,
            "mean_count": total / n_cells,
        }
    )


def with_symbols(tables: Mapping[str, pd.DataFrame], dataset: Dataset) -> dict[str, pd.DataFrame]:
    """Return the tables with the symbol of each gene after its id, where the data have symbols."""
    symbols = symbols_of(dataset)
    if symbols is None:
        return dict(tables)
    return {name: _with_symbol(table, symbols) for name, table in tables.items()}


def symbols_of(dataset: Dataset) -> dict[str, str] | None:
    """Return the symbol of each gene by its id, or None where the data have none."""
    if dataset.gene_symbols is None:
        return None
    return dict(zip(map(str, dataset.adata.var_names), dataset.gene_symbols, strict=True))


def _with_symbol(table: pd.DataFrame, symbols: Mapping[str, str]) -> pd.DataFrame:
    if "gene" not in table or "symbol" in table:
        return table
    table = table.copy(deep=False)
    table.insert(table.columns.get_loc("gene") + 1, "symbol", _symbols_of(table["gene"], symbols))
    return table


def _symbols_of(genes: pd.Series[Any], symbols: Mapping[str, str]) -> Any:
    if not isinstance(genes.dtype, pd.CategoricalDtype):
        return [symbols[str(gene)] for gene in genes]
    # By codes: the rankings have a row for each gene of each list, and two genes may share a symbol.
    names, of_category = np.unique([symbols[str(gene)] for gene in genes.cat.categories], return_inverse=True)
    codes = of_category.astype(genes.cat.codes.dtype)[genes.cat.codes]
    return pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=object))
