"""Cells that stand in the data twice: found, left out, and said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from tests.helpers.data_examples import small_adata

from scballast.config.schema import DataConfig
from scballast.data.counts_cache import CountsCache
from scballast.data.load import dataset_from_anndata, load_dataset
from scballast.data.moments import FEWEST_GENES, Survey, first_alike

CONFIG = DataConfig(kind="file", population_key="cell_type", n_top_genes=None, min_cells=5)


def of_all_pairs(counts: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Compare every cell with every other one: the first labelled cell with its counts, or else the first."""
    firsts = np.arange(len(counts))
    for cell in range(len(counts)):
        if (counts[cell] > 0).sum() >= FEWEST_GENES:
            same = np.flatnonzero((counts == counts[cell]).all(axis=1))
            firsts[cell] = next((other for other in same if labelled[other]), same[0])
    return firsts


@pytest.mark.parametrize("seed", range(5))
def test_the_cell_that_is_repeated_is_that_of_a_comparison_of_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = rng.poisson(rng.choice([0.0, 0.3, 0.7, 2.0], (25, 1)), (25, 40))
    kinds[0], kinds[1] = 1, 2  # multiples of each other
    kinds[2], kinds[3] = np.roll(kinds[4], 1), np.arange(40)
    counts = kinds[rng.integers(0, 25, 200)]
    counts[:, 0] += rng.integers(0, 2, 200)
    survey = Survey(np.ones(200, dtype=bool), 40, None)
    matrix = sp.csr_matrix(counts.astype(np.float32))
    for first in (0, 70):
        survey.add(first, matrix[first : 70 if first == 0 else 200])
    labelled = rng.random(200) < 0.5
    repeated = first_alike(survey.fingerprints, survey.n_values, labelled)
    np.testing.assert_array_equal(repeated, of_all_pairs(counts, labelled))
    assert (repeated != np.arange(200)).sum() > 20


def test_no_cells_are_no_copies() -> None:
    assert first_alike(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, bool)).size == 0


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
    assert dataset.digest == alone.digest
    names = small_adata().obs_names
    assert dataset.warnings == (
        f"adata: 7 of {len(names) + 7} cells have exactly the counts of another cell, as where overlapping files "
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


@pytest.mark.parametrize("batch_key", [None, "lane"])
def test_genes_are_selected_from_the_cells_that_stay(batch_key: str | None) -> None:
    adata = joined(slice(0, 25))
    adata.obs["lane"] = [*np.where(np.arange(60) % 2, "first", "second"), *["third"] * 25]
    config = replace(CONFIG, n_top_genes=20, batch_key=batch_key)
    dataset = dataset_from_anndata(adata, config)
    alone = dataset_from_anndata(adata[:60].copy(), config)
    assert dataset.adata.var_names.equals(alone.adata.var_names)
    assert dataset.digest == alone.digest


def test_of_copies_the_one_with_a_label_stays() -> None:
    adata = joined(slice(0, 12))
    adata.obs["cell_type"] = [*[None] * 6, *adata.obs["cell_type"][6:]]
    dataset = dataset_from_anndata(adata, CONFIG)
    assert (dataset.label_codes >= 0).all()
    assert sorted(dataset.adata.obs_names[-6:]) == sorted(f"{name}-again" for name in small_adata().obs_names[:6])
    assert "another label" not in dataset.warnings[0], "no label is not another one"


def test_counts_on_disk_stay_there_and_the_next_process_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "joined.h5ad"
    joined(slice(0, 5)).write_h5ad(path)
    monkeypatch.setattr("scballast.data.prepared.LARGE_BYTES", 0)
    config = replace(CONFIG, path=str(path))
    cache = CountsCache(tmp_path / "counts", 2**30, is_disk=True)
    first, second = (load_dataset(config, cache=cache) for _ in range(2))
    for dataset in (first, second):
        assert dataset.adata.n_obs == 60
        base = dataset.adata.X.data
        while base is not None and not isinstance(base, np.memmap):
            base = base.base
        assert base is not None, "in memory"
        assert "5 of 65 cells have exactly" in dataset.warnings[0]
    assert load_dataset(replace(config, duplicates="keep"), cache=cache).adata.n_obs == 65
