"""The genes of the answer: those that are confirmed, with figures that follow from the counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scballast.verdict.answer_genes import (
    COLUMNS,
    LEVELS,
    answer_genes_table,
    expression_levels,
    level_sums,
    with_levels,
)
from scballast.verdict.unseen import Cells

COUNTS = np.array([[4, 0, 6], [0, 1, 9], [1, 1, 2], [0, 0, 5]], dtype=np.float32)
CELLS = Cells(sparse.csr_matrix(COUNTS), np.array([20.0, 10.0, 40.0, 5.0]), np.array([0, 0, 1, -1]))
SUMS = level_sums(CELLS, CELLS.codes, 2)


def test_levels_are_those_of_the_counts() -> None:
    levels = expression_levels(SUMS, 0)
    shares = COUNTS / CELLS.total_counts[:, None] * 1e4
    np.testing.assert_allclose(levels["mean_in"], shares[:2].mean(axis=0))
    np.testing.assert_allclose(levels["mean_out"], shares[2:].mean(axis=0))
    np.testing.assert_allclose(levels["pct_in"], [50.0, 50.0, 100.0])
    np.testing.assert_allclose(levels["pct_out"], [50.0, 50.0, 100.0])
    expected = np.log2((shares[:2].mean(axis=0) + 1) / (shares[2:].mean(axis=0) + 1))
    np.testing.assert_allclose(levels["log2_fold_change"], expected)


def test_sums_are_those_of_some_cells_at_a_time_and_of_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scballast.verdict.answer_genes._CELLS_AT_ONCE", 3)
    sums = level_sums(CELLS, CELLS.codes, 2)
    groups = np.array([0, 0, 1, 2])  # the last in no population
    for group in range(3):
        own = COUNTS[groups == group]
        np.testing.assert_allclose(
            sums.scaled[group], (own / CELLS.total_counts[groups == group][:, None]).sum(axis=0) * 1e4
        )
        np.testing.assert_array_equal(sums.seen[group], (own > 0).sum(axis=0))
    np.testing.assert_array_equal(sums.n_cells, [2, 1, 1])


GENES = ["g0", "g1", "g2"]
CONSENSUS = pd.DataFrame(
    {
        "population": ["A", "A", "B", "A", "A"],
        "method": ["t", "t", "t", "t", "pca"],
        "estimand": "marker",
        "gene": ["g2", "g0", "g0", "g1", "g1"],
        "rank": [1, 3, 1, 2, 1],
        "selection_frequency": [1.0, 0.5, 1.0, 0.75, 1.0],
        "q_value": [0.001, 0.04, 0.3, 0.2, 0.001],
        "confirmed": [True, True, False, False, True],
    }
)


def test_every_row_of_a_table_has_the_levels_of_its_own_population() -> None:
    table = with_levels(CONSENSUS, CELLS, SUMS, ["A", "B"], GENES, {"g0": "CD3D", "g1": "", "g2": "LYZ"})
    assert table.drop(columns=["symbol", *LEVELS]).equals(CONSENSUS)
    assert list(table["symbol"]) == ["LYZ", "CD3D", "CD3D", "g1", "g1"]
    for row in table.itertuples():
        levels = expression_levels(SUMS, "AB".index(row.population))
        assert [getattr(row, name) for name in LEVELS] == [levels[name][GENES.index(row.gene)] for name in LEVELS]
    assert table["log2_fold_change"].nunique() == 4  # of A's three genes and B's one


def test_all_confirmed_genes_of_the_named_method_and_no_others() -> None:
    consensus = with_levels(CONSENSUS, CELLS, SUMS, ["A", "B"], GENES, {"g0": "CD3D", "g2": "LYZ"})
    answer = pd.DataFrame(
        {"population": ["A", "A", "B"], "estimand": ["marker", "program", "marker"], "method": ["t", "none", "t"]}
    )
    table = answer_genes_table(answer, consensus)
    assert tuple(table.columns) == COLUMNS
    assert table["gene"].tolist() == ["g2", "g0"]
    assert table["symbol"].tolist() == ["LYZ", "CD3D"]
    assert table["confirmed"].all()
    assert table["mean_in"].tolist() == pytest.approx([6000.0, 1000.0])
    nothing = answer_genes_table(answer.iloc[1:2], consensus)
    assert tuple(nothing.columns) == COLUMNS
    assert nothing.empty
