"""Populations that disappear, empty droplets, columns nobody needs, and reasons that belong to an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.helpers.data_examples import N_CELLS, N_GENES, file_config, small_adata, written

from scballast.config.schema import DataConfig, build_config
from scballast.data import dataset_from_anndata, load_dataset
from scballast.errors import ConfigError, DataError, noticed_before
from scballast.experiment.run import prepare_dataset

CONFIG = DataConfig(kind="file", population_key="cell_type", n_top_genes=None, min_cells=5)
LABELS = np.array(["T", "B", "F"] * (N_CELLS // 3))


def failing(counts: dict[int, float], n_cells: int = 20) -> ad.AnnData:
    """Return three populations of 20 cells; the first ``n_cells`` of F have these counts (by gene) and no others."""
    adata = small_adata()
    adata.obs["cell_type"] = LABELS
    dense = adata.X.toarray()
    chosen = np.flatnonzero(LABELS == "F")[:n_cells]
    dense[chosen] = 0
    for gene, count in counts.items():
        dense[chosen, gene] = count
    adata.X = sp.csr_matrix(dense)
    return adata


def test_a_population_without_any_count_is_named() -> None:
    dataset = dataset_from_anndata(failing({}), CONFIG)
    assert dataset.labels == ("B", "T")
    assert (
        "adata: populations of obs['cell_type'] that disappear, because none of their cells has usable counts: "
        "'F' (20)." in dataset.warnings
    )


@pytest.mark.parametrize("n_genes", [None, 45])
def test_batches_and_samples_without_usable_counts_are_named(n_genes: int | None) -> None:
    adata = failing({} if n_genes is None else {7: 1})
    adata.obs["lane"] = np.where(LABELS == "F", "l3", np.where(np.arange(N_CELLS) % 2, "l1", "l2"))
    adata.obs["donor"] = np.where(LABELS == "F", "d3 ", adata.obs["lane"])
    if n_genes is not None:  # the one gene of F is not selected: the same in every cell
        dense = adata.X.toarray()
        dense[:, 7] = 1
        adata.X = sp.csr_matrix(dense)
    keys = {"batch_key": "lane", "sample_key": "donor", "n_top_genes": n_genes}
    warnings = dataset_from_anndata(adata, replace(CONFIG, **keys)).warnings
    end = "that disappear, because none of their cells has usable counts:"
    assert f"adata: populations of obs['cell_type'] {end} 'F' (20)." in warnings
    assert f"adata: batches of obs['lane'] {end} 'l3' (20)." in warnings
    assert f"adata: samples of obs['donor'] {end} 'd3' (20)." in warnings


def test_batches_of_cells_without_a_label_are_named_where_these_are_left_out() -> None:
    adata = small_adata()
    adata.obs["cell_type"] = pd.Categorical(np.where(LABELS == "F", None, LABELS))
    adata.obs["lane"] = np.where(LABELS == "F", 3, np.arange(N_CELLS) % 2)
    adata.obs["donor"] = np.where(LABELS == "F", None, np.where(np.arange(N_CELLS) % 2, "d1", "d2"))
    config = replace(CONFIG, batch_key="lane", sample_key="donor", unlabelled="drop")
    assert [w for w in dataset_from_anndata(adata, config).warnings if "disappear" in w] == [
        "adata: batches of obs['lane'] that disappear, because none of their cells has a label "
        "(data.unlabelled=drop): '3' (20)."
    ]


def test_a_population_whose_genes_are_not_selected_is_named() -> None:
    adata = failing({})
    extra = sp.csr_matrix((LABELS == "F").astype(np.float32)[:, None])  # a gene of the same count in F alone
    adata = ad.AnnData(sp.hstack([adata.X, extra]).tocsr(), obs=adata.obs)
    adata.var_names = [f"g{i}x" for i in range(N_GENES + 1)]
    dataset = dataset_from_anndata(adata, replace(CONFIG, n_top_genes=45))
    assert "g50x" not in dataset.adata.var_names
    assert any("that disappear" in w and "'F' (20)" in w for w in dataset.warnings)


def test_a_population_that_falls_below_the_smallest_size_is_named() -> None:
    dataset = dataset_from_anndata(failing({}, n_cells=17), CONFIG)
    assert [p.name for p in dataset.populations] == ["B", "T"]
    assert any("fall below data.min_cells=5" in w and "'F' (from 20 to 3)" in w for w in dataset.warnings)


def test_a_population_with_counts_in_next_to_no_gene_is_named() -> None:
    dataset = dataset_from_anndata(failing({7: 3}), CONFIG)
    assert any("'F' (20 cells, median 1). Did their sample fail?" in w for w in dataset.warnings)
    enough = failing({gene: 1 for gene in range(30)})
    counts = enough.X.toarray()
    counts[:, 0] += np.arange(N_CELLS)  # no cell is another's copy
    enough.X = sp.csr_matrix(counts)
    assert dataset_from_anndata(enough, CONFIG).warnings == ()


def test_when_one_population_is_left_the_error_says_which_were_lost() -> None:
    adata = failing({})
    adata.obs["cell_type"] = np.where(LABELS == "F", "F", "T")
    with pytest.raises(DataError, match=r"obs\['cell_type'\] has one value, 'T'.*Noticed before: .*'F' \(20\)"):
        dataset_from_anndata(adata, CONFIG)


def unfiltered(folder: Path, n_empty: int, depth: float) -> tuple[Path, Path]:
    """Write the small data among barcodes without a row in the table of labels."""
    adata = small_adata()
    rng = np.random.default_rng(0)
    droplets = sp.csr_matrix(rng.poisson(depth, (n_empty, N_GENES)).astype(np.float32))
    names = [*adata.obs_names, *(f"empty{i}" for i in range(n_empty))]
    whole = ad.AnnData(sp.vstack([adata.X, droplets]).tocsr(), obs=pd.DataFrame(index=names), var=adata.var)
    whole.write_h5ad(folder / "raw.h5ad")
    adata.obs.to_csv(folder / "labels.csv")
    return folder / "raw.h5ad", folder / "labels.csv"


@pytest.mark.parametrize(
    ("n_empty", "depth", "warned"), [(600, 0.04, True), (30, 0.1, True), (600, 2.0, False), (9, 0.1, False)]
)
def test_empty_droplets_are_warned_of_first(n_empty: int, depth: float, warned: bool, tmp_path: Path) -> None:
    path, labels = unfiltered(tmp_path, n_empty, depth)
    dataset = load_dataset(file_config(path, labels=str(labels)))
    assert ("UNFILTERED MATRIX?" in dataset.warnings[0]) == warned
    assert ("Set data.unlabelled=drop to keep labelled cells only" in dataset.warnings[0]) == warned


@pytest.mark.parametrize("label", ["unassigned", "Empty"])
def test_empty_droplets_under_a_label_are_warned_of_as_well(label: str, tmp_path: Path) -> None:
    path, _ = unfiltered(tmp_path, 600, 0.04)
    whole = ad.read_h5ad(path)
    whole.obs["cell_type"] = [*small_adata().obs["cell_type"].astype(str), *[label] * 600]
    dataset = dataset_from_anndata(whole, CONFIG)
    assert "UNFILTERED MATRIX?" in dataset.warnings[0]
    assert f"have the label {label!r} and next to no counts" in dataset.warnings[0]
    assert f"Leave the label of these cells empty (it is analysed as a population: {label!r})" in dataset.warnings[0]
    assert any("next to no gene" in w and f"{label!r} (" in w for w in dataset.warnings)


def test_cells_without_a_label_can_be_left_out(tmp_path: Path) -> None:
    path, labels = unfiltered(tmp_path, 600, 0.04)
    config = file_config(path, labels=str(labels), batch_key="batch", sample_key="sample")
    with pytest.raises(
        DataError, match=r"obs\['batch'\] is missing for 600 .* no label either, with data\.unlabelled=drop"
    ):
        load_dataset(config)
    dataset = load_dataset(replace(config, unlabelled="drop"))
    assert "600 of 660 cells have no value in obs['cell_type'] and are left out (data.unlabelled=drop)." in " ".join(
        dataset.warnings
    )
    expected = load_dataset(file_config(written(tmp_path), batch_key="batch", sample_key="sample"))
    assert dataset.digest == expected.digest
    assert np.array_equal(dataset.adata.X.toarray(), expected.adata.X.toarray())
    assert dataset.adata.obs["sample"].tolist() == expected.adata.obs["sample"].tolist()


def undecodable(path: Path, *keys: str) -> Path:
    """Mark elements of a file as written by a newer anndata."""
    with h5py.File(path, "r+") as file:
        for key in keys:
            file[key].attrs["encoding-type"] = "future-array"
            file[key].attrs["encoding-version"] = "9.0.0"
    return path


@pytest.mark.parametrize("keys", [("obs/score",), ("obs/batch", "obs/sample"), ("var/extra",)])
def test_columns_that_are_not_needed_cannot_stop_a_run(keys: tuple[str, ...], tmp_path: Path) -> None:
    path = written(tmp_path, lambda adata: adata.var.__setitem__("extra", 1.5))
    digest = load_dataset(file_config(path)).digest
    dataset = load_dataset(file_config(undecodable(path, *keys)))
    assert dataset.digest == digest
    assert [w for w in dataset.warnings if "var['extra']" in w] == list(dataset.warnings)


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("cell_type", {}),
        ("batch", {"batch_key": "batch"}),
        ("sample", {"sample_key": "sample"}),
    ],
)
def test_a_column_that_is_needed_and_cannot_be_read_is_named(
    key: str, settings: dict[str, str], tmp_path: Path
) -> None:
    path = undecodable(written(tmp_path), f"obs/{key}")
    option = next(iter(settings), "population_key")
    with pytest.raises(DataError) as caught:
        load_dataset(file_config(path, **settings))
    assert f"obs[{key!r}]: it is stored in a way that anndata" in str(caught.value)
    assert f"It is needed for data.{option}: set that to another column" in str(caught.value)


def test_a_misspelt_key_is_answered_although_another_column_cannot_be_read(tmp_path: Path) -> None:
    path = undecodable(written(tmp_path), "obs/batch")
    with pytest.raises(
        DataError, match=r"no column 'celltype'\. Nearest: 'cell_type'\. .*categories: 'cell_type', 'sample'"
    ):
        load_dataset(file_config(path, population_key="celltype"))


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    dataset = load_dataset(file_config(written(tmp_path)), obs_keys=["score"])
    assert sorted(dataset.adata.obs) == ["cell_type", "score"]
    with pytest.raises(DataError, match=r"no column 'scores'\. Nearest: 'score'.* Set association\.keys"):
        load_dataset(file_config(written(tmp_path)), obs_keys=["scores"])


def test_reasons_known_before_an_error_belong_to_it(tmp_path: Path) -> None:
    def change(adata: ad.AnnData) -> None:
        adata.var["feature_types"] = ["Gene Expression"] * 10 + ["Peaks"] * 40

    data = {"kind": "file", "path": str(written(tmp_path, change)), "population_key": "cell_type", "min_cells": 5}
    config = build_config({"data": data, "model": {"name": "pca", "n_latent": 2}, "device": "cpu"})
    with pytest.raises(ConfigError, match=r"rank\.top_k: 50 is not below .* 10.*Noticed before: .*'Peaks' \(40\)"):
        prepare_dataset(config)


def fail_after(notes: list[str]) -> None:
    with noticed_before(notes):
        msg = "Bad."
        raise DataError(msg)


def test_many_or_long_reasons_are_cut() -> None:
    with pytest.raises(DataError, match=r"^Bad\. Noticed before: note 5\. .* note 8\. \(5 more before that\.\)$"):
        fail_after([f"note {i}." for i in range(9)])
    with pytest.raises(DataError) as caught:
        fail_after(["x" * 5000])
    assert len(str(caught.value)) < 700
    with pytest.raises(DataError, match=r"^Bad\.$"):
        fail_after([])
