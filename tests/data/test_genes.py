"""Gene selection: scanpy's, by batch, and what is said where it cannot be done so."""

from __future__ import annotations

from importlib.metadata import version

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from scballast.data.blocks import CountBlocks, row_sums, take
from scballast.data.columns import Column
from scballast.data.genes import select_genes as planned
from scballast.data.genes import selection_groups
from scballast.data.moments import Survey
from scballast.errors import DataError

N_CELLS, N_GENES = 240, 400


def counts(n_cells: int = N_CELLS, n_genes: int = N_GENES, seed: int = 0) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.6, 2.0, n_genes) * rng.lognormal(0, rng.uniform(0, 1, n_genes), (n_cells, n_genes))
    return sp.csr_matrix(rng.poisson(rates).astype(np.float32))


def batches(sizes: list[int]) -> Column:
    codes = np.repeat(np.arange(len(sizes)), sizes)
    np.random.default_rng(1).shuffle(codes)
    return Column("batch", tuple(f"b{i}" for i in range(len(sizes))), codes)


def select_genes(
    matrix: sp.csr_matrix, n_top_genes: int | None, column: Column | None, *, source: str
) -> tuple[np.ndarray, list[str]]:
    """Select genes of a matrix in memory, in the two passes over its parts."""
    everything = np.ones(matrix.shape[0], dtype=bool)
    survey = Survey(everything, matrix.shape[1], selection_groups(column, matrix.shape[0]))
    survey.add(0, matrix)
    selection = planned(survey, everything, np.ones(matrix.shape[1], dtype=bool), n_top_genes, column, source=source)
    for _, part in CountBlocks.of(matrix).parts(""):
        selection.watch(part)
    return selection.selected(), list(selection.warnings)


def scanpy_selection(matrix: sp.csr_matrix, n_top_genes: int, column: Column | None) -> set[int]:
    expressed = np.flatnonzero((matrix > 0).sum(axis=0).A1 >= 3)
    obs = pd.DataFrame(index=[f"c{i}" for i in range(matrix.shape[0])])
    if column is not None:
        obs["batch"] = [column.names[code] for code in column.codes]
    adata = ad.AnnData(X=matrix[:, expressed], obs=obs, var=pd.DataFrame(index=[str(i) for i in expressed]))
    sc.pp.highly_variable_genes(
        adata, flavor="seurat_v3", n_top_genes=n_top_genes, batch_key="batch" if column is not None else None
    )
    return {int(name) for name in adata.var_names[adata.var["highly_variable"]]}


def assert_is_scanpys(selected: np.ndarray, matrix: sp.csr_matrix, n_top_genes: int, column: Column | None) -> None:
    """From 1.12 on, scanpy's means within batches differ in the last digit, by which loess jumps in the third."""
    found, expected = set(np.flatnonzero(selected).tolist()), scanpy_selection(matrix, n_top_genes, column)
    same_arithmetic = column is None or tuple(int(part) for part in version("scanpy").split(".")[:2]) < (1, 12)
    assert len(found) == n_top_genes
    assert len(found & expected) >= (1.0 if same_arithmetic else 0.9) * n_top_genes


@pytest.mark.parametrize("sizes", [None, [120, 120], [60, 70, 110]])
def test_selection_is_scanpys(sizes: list[int] | None) -> None:
    column = batches(sizes) if sizes else None
    matrix = counts()
    selected, notes = select_genes(matrix, 100, column, source="x")
    assert notes == []
    assert_is_scanpys(selected, matrix, 100, column)


@pytest.mark.parametrize("seed", range(6))
def test_selection_from_small_parts_is_scanpys(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scballast.data.blocks.PART_VALUES", 3 * N_GENES)
    rng = np.random.default_rng(seed)
    dense = counts(seed=seed).toarray()
    # Rare and large: their squares are not exact in float32, and the sums of clipped counts not in float64.
    for gene in rng.choice(N_GENES, 40, replace=False):
        dense[:, gene] = np.where(rng.random(N_CELLS) < 0.03, rng.integers(1, 2**20, N_CELLS), 0)
    column = batches([55, 65, 120]) if seed % 2 else None
    matrix = sp.csr_matrix(dense)
    selected, notes = select_genes(matrix, 60 + 20 * seed, column, source="x")
    assert notes == []
    assert_is_scanpys(selected, matrix, 60 + 20 * seed, column)


def test_selection_follows_the_genes_when_they_are_permuted() -> None:
    matrix = counts()
    order = np.random.default_rng(2).permutation(N_GENES)
    selected, _ = select_genes(matrix, 100, None, source="x")
    permuted, _ = select_genes(matrix[:, order], 100, None, source="x")
    assert np.array_equal(permuted, selected[order])


def test_all_genes_are_kept_when_there_are_no_more_than_wanted() -> None:
    for n_top_genes in (None, N_GENES, N_GENES + 1):
        selected, notes = select_genes(counts(), n_top_genes, None, source="x")
        assert selected.all()
        assert notes == []


def test_genes_in_fewer_than_three_cells_are_never_selected() -> None:
    dense = counts().toarray()
    dense[:, :300] = 0
    dense[:2, :300] = 50  # the most variable of all
    matrix = sp.csr_matrix(dense)
    assert not select_genes(matrix, 60, None, source="x")[0][:300].any()
    selected, _ = select_genes(matrix, 200, None, source="x")
    assert np.array_equal(selected, (dense > 0).sum(axis=0) >= 3)


def test_a_small_batch_has_no_say_and_this_is_said() -> None:
    column = batches([120, 110, 10])
    matrix = counts()
    selected, notes = select_genes(matrix, 100, column, source="x")
    assert notes == ["x: batches with fewer than 50 cells have no say in the selection of genes: 'b2'."]
    kept = column.codes < 2
    without = Column("batch", column.names[:2], column.codes[kept])
    eligible = matrix.getnnz(axis=0) >= 3
    expected, _ = select_genes(matrix[kept][:, eligible], 100, without, source="x")
    assert np.array_equal(np.flatnonzero(selected), np.flatnonzero(eligible)[expected])


def test_without_a_large_batch_all_cells_are_taken_together() -> None:
    selected, notes = select_genes(counts(), 100, batches([40] * 6), source="x")
    assert "genes were selected over all cells together, without regard to batches" in notes[-1]
    assert np.array_equal(selected, select_genes(counts(), 100, None, source="x")[0])


def test_a_batch_whose_trend_is_singular_has_no_say() -> None:
    dense = counts().toarray()
    column = batches([120, 120])
    dense[column.codes == 1] = np.minimum(dense[column.codes == 1], 0)
    dense[np.flatnonzero(column.codes == 1)[0]] = 1  # every gene has the same mean and variance there
    selected, notes = select_genes(sp.csr_matrix(dense), 100, column, source="x")
    assert "cannot be fitted in batches 'b1'" in notes[0]
    assert selected.sum() == 100


def test_data_too_poor_for_a_trend_say_how_to_go_on() -> None:
    poor = sp.csr_matrix(np.tile(np.eye(4, dtype=np.float32), (15, 30)))
    with pytest.raises(DataError, match=r"Set data\.n_top_genes=null to keep all genes"):
        select_genes(poor, 50, None, source="x")
    lonely = sp.csr_matrix(np.eye(60, dtype=np.float32))
    with pytest.raises(DataError, match=r"none of 60 genes has counts in 3 cells or more"):
        select_genes(lonely, 50, None, source="x")


def test_few_distinct_means_widen_the_trend_and_this_is_said() -> None:
    rng = np.random.default_rng(0)
    shallow = sp.csr_matrix(rng.binomial(1, np.repeat(np.linspace(0.05, 0.6, 12), 10), (60, 120)).astype(np.float32))
    selected, notes = select_genes(shallow, 40, None, source="x")
    assert selected.sum() == 40
    assert len(notes) <= 1
    assert all("with a wider trend of variance with mean" in note for note in notes)


def test_sums_are_exact_and_skip_no_row() -> None:
    matrix = sp.csr_matrix(np.array([[2**24, 1, 1], [0, 0, 0], [0, 0, 3], [0, 0, 0]], dtype=np.float32))
    assert row_sums(matrix).tolist() == [2**24 + 2, 0, 3, 0]
    assert row_sums(matrix[[1, 3]]).tolist() == [0, 0]
    assert take(matrix, np.array([True, False, True, True])).toarray().tolist() == [[2**24, 1, 1], [0, 0, 3], [0, 0, 0]]
