"""Cells that stand in the data twice: found, left out, and said."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from tests.helpers.data_examples import small_adata

from scballast.config.schema import DataConfig
from scballast.data.duplicates import FEWEST_GENES, duplicate_of
from scballast.data.load import dataset_from_anndata

CONFIG = DataConfig(kind="file", population_key="cell_type", n_top_genes=None, min_cells=5)


def first_alike(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Compare every cell with every one before it."""
    firsts = np.arange(len(counts))
    for cell in range(len(counts)):
        for before in range(cell):
            same = (counts[before] == counts[cell]).all() and totals[before] == totals[cell]
            if same and (counts[cell] > 0).sum() >= FEWEST_GENES:
                firsts[cell] = before
                break
    return firsts


@pytest.mark.parametrize("seed", range(5))
def test_the_first_cell_with_the_same_counts_is_that_of_a_comparison_of_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = rng.poisson(rng.choice([0.0, 0.3, 0.7, 2.0], (25, 1)), (25, 40))
    kinds[0], kinds[1] = 1, 2  # multiples of each other
    kinds[2], kinds[3] = np.roll(kinds[4], 1), np.arange(40)
    counts = kinds[rng.integers(0, 25, 200)]
    totals = counts.sum(axis=1) + rng.integers(0, 2, 200)  # counts in genes that are not analysed
    matrix = sp.csr_matrix(counts.astype(np.float32))
    firsts = duplicate_of(matrix, totals.astype(np.float64))
    np.testing.assert_array_equal(firsts, first_alike(counts, totals))
    assert (firsts != np.arange(200)).sum() > 20


def test_neither_no_cell_nor_a_cell_without_counts_is_a_copy() -> None:
    assert duplicate_of(sp.csr_matrix((0, 30), dtype=np.float32), np.zeros(0)).size == 0
    empty = sp.csr_matrix((3, 30), dtype=np.float32)
    assert duplicate_of(empty, np.zeros(3)).tolist() == [0, 1, 2]


def joined(copied: slice) -> ad.AnnData:
    """Return the small data with some of its cells once more at the end, under names of their own."""
    adata = small_adata()
    copy = adata[copied].copy()
    copy.obs_names = [f"{name}-again" for name in copy.obs_names]
    copy.obs["cell_type"] = copy.obs["cell_type"].astype(str)
    return ad.concat([adata, copy], merge="same")


def test_copies_are_left_out_and_named_and_the_data_are_those_without_them() -> None:
    adata = joined(slice(3, 10))
    adata.obs["cell_type"] = [*adata.obs["cell_type"][:-1], "B" if adata.obs["cell_type"].iloc[9] != "B" else "T"]
    dataset = dataset_from_anndata(adata, CONFIG)
    alone = dataset_from_anndata(small_adata(), CONFIG)
    assert dataset.adata.obs_names.equals(alone.adata.obs_names)
    assert (dataset.adata.X != alone.adata.X).nnz == 0
    np.testing.assert_array_equal(dataset.total_counts, alone.total_counts)
    np.testing.assert_array_equal(dataset.population_codes, alone.population_codes)
    names = small_adata().obs_names
    assert dataset.warnings == (
        f"adata: 7 of {len(names) + 7} cells have exactly the counts of an earlier cell, as where overlapping files "
        f"were joined (first '{names[3]}-again', those of '{names[3]}'; 1 under another label). They are left out, for "
        "as unseen cells they would confirm what they suggested (data.duplicates=keep keeps them).",
    )


def test_copies_that_are_wanted_are_kept_and_said_and_are_other_data() -> None:
    adata = joined(slice(0, 4))
    kept = dataset_from_anndata(adata, replace(CONFIG, duplicates="keep"))
    assert kept.adata.n_obs == adata.n_obs
    (warning,) = kept.warnings
    assert "4 of" in warning
    assert "data.duplicates=keep: genes may be confirmed by the very cells that suggested them." in warning
    assert kept.digest != dataset_from_anndata(adata, CONFIG).digest, "scores of both must not be taken for each other"


def test_populations_batches_and_samples_of_copies_alone_are_named() -> None:
    adata = joined(slice(0, 12))
    n_copies = 12
    new = np.arange(adata.n_obs) >= adata.n_obs - n_copies
    adata.obs["cell_type"] = np.where(new, "copied", adata.obs["cell_type"].astype(str))
    adata.obs["lane"] = np.where(new, "third", np.where(np.arange(adata.n_obs) % 2, "first", "second"))
    adata.obs["donor"] = np.where(new, "new", np.where(np.arange(adata.n_obs) % 4 < 2, "old", "older"))
    dataset = dataset_from_anndata(adata, replace(CONFIG, batch_key="lane", sample_key="donor"))
    end = "that disappear, because all of their cells are duplicates of others:"
    for words in ("populations of obs['cell_type']", "batches of obs['lane']", "samples of obs['donor']"):
        assert any(f"{words} {end}" in warning and "(12)" in warning for warning in dataset.warnings), words


def test_a_population_that_falls_below_the_smallest_size_without_its_copies_is_named() -> None:
    adata = joined(slice(0, 3))
    first = np.arange(adata.n_obs) < 3
    last = np.arange(adata.n_obs) >= adata.n_obs - 3
    adata.obs["cell_type"] = np.where(first | last, "few", adata.obs["cell_type"].astype(str))
    dataset = dataset_from_anndata(adata, CONFIG)
    text = "because duplicates of other cells are left out: 'few' (from 6 to 3)"
    assert any(text in warning for warning in dataset.warnings)
