"""What is known of each analysed gene, against the dense matrix."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from scballast.experiment import gene_table


def test_counts_of_genes_are_those_of_the_dense_matrix_however_many_values_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).poisson(0.4, (60, 9)).astype(np.float32)
    values[:, 8] = 0.0  # the last gene has no count
    values[0, 0] = 2.0**24 + 2  # which float32 holds, and cannot add 1 to
    dataset: Any = SimpleNamespace(adata=ad.AnnData(sp.csr_matrix(values)), gene_symbols=None, feature_types=None)
    tables = [gene_table.genes_table(dataset)]
    monkeypatch.setattr(gene_table, "VALUES_AT_ONCE", 7)
    tables.append(gene_table.genes_table(dataset))
    for table in tables:
        np.testing.assert_array_equal(table["n_cells"], (values > 0).sum(axis=0))
        np.testing.assert_array_equal(table["mean_count"], values.sum(axis=0, dtype=np.float64) / 60)
