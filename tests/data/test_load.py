"""Data sets from every storage: the same counts, the same digest, and what the data set promises."""

from __future__ import annotations

import gzip
import os
import socket
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp
from tests.helpers.data_examples import N_CELLS, N_GENES, file_config, small_adata, written

from scballast.config.schema import DataConfig
from scballast.data import Dataset, dataset_from_anndata, load_dataset
from scballast.errors import ConfigError, DataError

pytestmark = [
    # anndata, on writing the files below
    pytest.mark.filterwarnings("ignore:(Variable|Observation) names are not unique:UserWarning"),
    pytest.mark.filterwarnings("ignore:zarr v3 autosharding:UserWarning"),
    pytest.mark.filterwarnings("ignore:Writing zarr v2 data will no longer be the default:UserWarning"),
]
MEMORY = DataConfig(kind="file", population_key="cell_type", batch_key="batch", n_top_genes=None, min_cells=5)


def with_x(convert: Callable[[sp.csr_matrix], object]) -> ad.AnnData:
    adata = small_adata()
    adata.X = convert(adata.X)
    return adata


def wide_indices(matrix: sp.csr_matrix) -> sp.csr_matrix:
    matrix = matrix.copy()
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


def with_duplicates(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return the same counts with each entry as ones, in falling order of column, and with a stored zero."""
    coo = matrix.tocoo()
    repeats = coo.data.astype(int)
    order = np.lexsort((-np.repeat(coo.col, repeats), np.repeat(coo.row, repeats)))
    columns = np.repeat(coo.col, repeats)[order]
    indptr = np.concatenate([[0], np.cumsum(np.asarray(matrix.sum(axis=1)).ravel())]).astype(np.int64)
    data = np.append(np.ones(columns.size, dtype=np.uint8), np.uint8(0))
    indptr[-1] += 1
    return sp.csr_matrix((data, np.append(columns, 0), indptr), shape=matrix.shape)


STORAGES = {
    "csr": lambda x: x,
    "csr array": sp.csr_array,
    "csc": sp.csc_matrix,
    "csc array": sp.csc_array,
    "coo": sp.coo_matrix,
    "dense": lambda x: x.toarray(),
    "fortran": lambda x: np.asfortranarray(x.toarray()),
    "float64": lambda x: x.astype(np.float64),
    "int64": lambda x: x.astype(np.int64),
    "uint8": lambda x: x.astype(np.uint8),
    "64-bit indices": wide_indices,
    "duplicates, unsorted, zeros": with_duplicates,
    "rounding noise": lambda x: x.toarray() + 1e-9,
}


def expected() -> sp.csr_matrix:
    return small_adata().X


def same_counts(dataset: Dataset) -> bool:
    x = dataset.adata.X
    return (
        isinstance(x, sp.csr_matrix)
        and x.dtype == np.float32
        and x.indices.dtype == np.int32
        and bool(x.has_sorted_indices)
        and bool((x.data > 0).all())
        and np.array_equal(x.toarray(), expected().toarray())
    )


@pytest.mark.parametrize("storage", STORAGES, ids=str)
def test_every_matrix_type_gives_the_same_counts_and_digest(storage: str) -> None:
    adata = with_x(STORAGES[storage]) if storage != "coo" else small_adata()
    if storage == "coo":
        adata.layers["counts"] = sp.csr_matrix(adata.X)
    dataset = dataset_from_anndata(adata, MEMORY)
    assert same_counts(dataset)
    assert dataset.digest == dataset_from_anndata(small_adata(), MEMORY).digest


def test_the_users_object_is_not_changed() -> None:
    adata = with_x(with_duplicates)
    before = [adata.X.data.copy(), adata.X.indices.copy(), adata.X.indptr.copy()]
    dataset = dataset_from_anndata(adata, MEMORY)
    dataset.adata.X.data[:] = 0
    dataset.adata.obs["cell_type"] = "none"
    assert all(
        np.array_equal(a, b) for a, b in zip(before, (adata.X.data, adata.X.indices, adata.X.indptr), strict=True)
    )
    assert set(adata.obs["cell_type"]) == {"T", "B"}


def h5ad(folder: Path) -> Path:
    return written(folder)


def h5ad_dense(folder: Path) -> Path:
    return written(folder, lambda a: setattr(a, "X", a.X.toarray()))


def h5ad_csc(folder: Path) -> Path:
    return written(folder, lambda a: setattr(a, "X", a.X.tocsc()))


def h5ad_layer(folder: Path) -> Path:
    def change(adata: ad.AnnData) -> None:
        adata.layers["umi"] = adata.X.copy()
        adata.X = np.log1p(adata.X.toarray())

    return written(folder, change)


def h5ad_raw(folder: Path) -> Path:
    def change(adata: ad.AnnData) -> ad.AnnData:
        adata.raw = adata.copy()
        kept = adata[:, :20].copy()
        kept.X = np.log1p(kept.X.toarray())
        return kept

    return written(folder, change)


def zarr_store(folder: Path) -> Path:
    path = folder / "counts.zarr"
    small_adata().write_zarr(path)
    return path


def zarr_dense(folder: Path) -> Path:
    path = folder / "counts.zarr"
    with_x(lambda x: x.toarray()).write_zarr(path)
    return path


FILES = {
    "h5ad": (h5ad, None),
    "dense h5ad": (h5ad_dense, None),
    "csc h5ad": (h5ad_csc, None),
    "layer": (h5ad_layer, "umi"),
    "raw with more genes than X": (h5ad_raw, "raw"),
    "zarr": (zarr_store, None),
    "dense zarr": (zarr_dense, None),
}


@pytest.mark.parametrize("kind", FILES, ids=str)
def test_every_file_type_gives_the_same_counts_and_digest(kind: str, tmp_path: Path) -> None:
    make, layer = FILES[kind]
    dataset = load_dataset(file_config(make(tmp_path), layer=layer, batch_key="batch"))
    assert same_counts(dataset)
    assert dataset.digest == dataset_from_anndata(small_adata(), MEMORY).digest
    assert dataset.warnings == ()


def test_a_backed_object_and_one_with_dask_arrays(tmp_path: Path) -> None:
    digest = dataset_from_anndata(small_adata(), MEMORY).digest
    for make in (h5ad, h5ad_dense, h5ad_csc):
        backed = ad.read_h5ad(make(tmp_path), backed="r")
        assert dataset_from_anndata(backed, MEMORY).digest == digest
        backed.file.close()
    dask = pytest.importorskip("dask.array", reason="dask is not installed")
    for convert in (lambda x: x.toarray(), lambda x: x):
        lazy = with_x(lambda x, convert=convert: dask.from_array(convert(x), chunks=(17, N_GENES)))
        dataset = dataset_from_anndata(lazy, MEMORY)
        assert same_counts(dataset)
        assert dataset.digest == digest


def test_large_dense_matrices_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("scballast.data.blocks.BLOCK_VALUES", 7 * N_GENES)
    config = file_config(h5ad_dense(tmp_path), batch_key="batch")
    assert same_counts(load_dataset(config))
    with h5py.File(config.path, "r+") as file:
        file["X"][33, 5] = 0.25
    with pytest.raises(DataError, match=r"first 0.25 at cell 'cell33', gene 'gene5'"):
        load_dataset(config)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.X.data.__setitem__(0, 40),
        lambda a: setattr(a, "obs_names", ["other", *a.obs_names[1:]]),
        lambda a: setattr(a, "var_names", ["other", *a.var_names[1:]]),
        lambda a: a.obs.__setitem__("cell_type", ["B", "T"] * 30),
        lambda a: a.obs.__setitem__("cell_type", ["T", "C"] * 30),
        lambda a: a.obs.__setitem__("batch", ["b1", "b2"] * 30),
    ],
)
def test_the_digest_changes_with_anything_that_matters(change: Callable[[ad.AnnData], object]) -> None:
    adata = small_adata()
    change(adata)
    assert dataset_from_anndata(adata, MEMORY).digest != dataset_from_anndata(small_adata(), MEMORY).digest


def test_the_digest_ignores_settings_of_the_analysis_and_other_columns() -> None:
    adata = small_adata()
    del adata.obs["score"]
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str)
    config = replace(MEMORY, min_cells=2, n_top_genes=45)
    assert dataset_from_anndata(adata, config).digest == dataset_from_anndata(small_adata(), MEMORY).digest


def test_codes_totals_and_names_of_an_awkward_data_set() -> None:
    adata = small_adata()
    labels = ["T"] * 25 + ["b/b"] * 20 + ["rare"] * 3 + [None] * 12
    adata.obs["cell_type"] = pd.Categorical(labels, categories=["unused", "rare", "T", "b/b"])
    dense = adata.X.toarray()
    dense[0] = 0  # a T cell
    adata.X = dense
    dataset = dataset_from_anndata(adata, MEMORY)
    assert [(p.name, p.safe_name, p.n_cells) for p in dataset.populations] == [("T", "T", 24), ("b/b", "b_b", 20)]
    assert dataset.labels == ("T", "b/b", "rare")
    assert dataset.label_codes.tolist() == [0] * 24 + [1] * 20 + [2] * 3 + [-1] * 12
    assert dataset.population_codes.tolist() == [0] * 24 + [1] * 20 + [-1] * 15
    assert dataset.total_counts.tolist() == dense.sum(axis=1)[1:].tolist()
    assert dataset.adata.obs_names.tolist() == [f"cell{i}" for i in range(1, N_CELLS)]
    assert dataset.adata.obs["cell_type"].tolist()[:24] == ["T"] * 24
    assert dataset.adata.obs["score"].tolist() == adata.obs["score"].tolist()[1:]


def test_one_population_among_unranked_cells_is_enough() -> None:
    adata = small_adata()
    adata.obs["cell_type"] = ["T"] * 40 + ["x1", "x2", "x3", "x4"] * 5
    dataset = dataset_from_anndata(adata, replace(MEMORY, min_cells=6))
    assert [p.name for p in dataset.populations] == ["T"]


def test_cells_without_counts_in_the_selected_genes_are_left_out() -> None:
    rng = np.random.default_rng(0)
    counts = np.hstack([rng.poisson(rng.gamma(2, 2, 100), (N_CELLS, 100)), np.zeros((N_CELLS, 1), int)])
    counts[5] = 0
    counts[5, 100] = 4  # counts only in a gene of one cell, which is never selected
    adata = ad.AnnData(X=counts.astype(np.float32), obs=small_adata().obs)
    dataset = dataset_from_anndata(adata, replace(MEMORY, n_top_genes=60, batch_key=None))
    assert dataset.adata.shape == (N_CELLS - 1, 60)
    assert "cell5" not in dataset.adata.obs_names
    assert dataset.total_counts.tolist() == np.delete(counts, 5, axis=0).sum(axis=1).tolist()
    assert any("1 cells without counts in any selected gene are left out" in w for w in dataset.warnings)


def matrix_folder(folder: Path, prefix: str, features: str, *, compress: bool) -> Path:
    adata = small_adata()
    folder.mkdir()
    scipy.io.mmwrite(folder / "matrix.mtx", adata.X.T.astype(int))
    texts = {
        "matrix.mtx": (folder / "matrix.mtx").read_text(encoding="utf-8"),
        features: "\n".join(f"ENSG{i}\tgene{i}\tGene Expression" for i in range(N_GENES)) + "\n",
        "barcodes.tsv": "\n".join(adata.obs_names) + "\n",
    }
    (folder / "matrix.mtx").unlink()
    for name, text in texts.items():
        if compress:
            (folder / f"{prefix}{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / f"{prefix}{name}").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("prefix", "features", "compress"),
    [
        ("", "features.tsv", True),
        ("", "genes.tsv", False),
        ("", "features.tsv", False),
        ("GSM1_", "features.tsv", True),
    ],
)
def test_matrix_folders_are_read_whatever_is_compressed(
    prefix: str, features: str, compress: bool, tmp_path: Path
) -> None:
    from scballast.data.files import open_source

    with open_source(str(matrix_folder(tmp_path / "mtx", prefix, features, compress=compress))) as source:
        matrix = source.choose(None)
        assert np.array_equal(matrix.read().toarray(), expected().toarray())
        assert matrix.var().index.tolist() == small_adata().var_names.tolist()
        assert source.obs.index.tolist() == small_adata().obs_names.tolist()


def test_10x_hdf5_keeps_genes_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "filtered.h5"
    adata = small_adata()
    matrix = adata.X.astype(np.int32)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(matrix, name)
        group["shape"] = np.array([N_GENES, N_CELLS], dtype=np.int32)
        group["barcodes"] = adata.obs_names.to_numpy().astype("S")
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i}" for i in range(N_GENES)], dtype="S")
        features["name"] = adata.var_names.to_numpy().astype("S")
        features["genome"] = np.array(["GRCh38"] * N_GENES, dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * (N_GENES - 2) + ["Antibody Capture"] * 2, dtype="S")
    adata.obs.to_csv(tmp_path / "labels.csv")
    dataset = load_dataset(file_config(path, labels=str(tmp_path / "labels.csv")))
    assert np.array_equal(dataset.adata.X.toarray(), expected().toarray()[:, :-2])
    assert dataset.warnings == (
        "filtered.h5: 2 features that are not gene expression are left out: 'Antibody Capture' (2), first 'gene48'.",
    )
    with pytest.raises(DataError, match=r"filtered.h5: obs has no column 'cell_type', and no column at all"):
        load_dataset(file_config(path))


def test_embedded_counts_are_whole_and_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        msg = "the network was used"
        raise AssertionError(msg)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    dataset = load_dataset(DataConfig())
    assert dataset.adata.shape == (700, 765)
    assert [(p.name, p.n_cells) for p in dataset.populations[:3]] == [
        ("CD14+ Monocyte", 129),
        ("CD19+ B", 95),
        ("CD4+/CD25 T Reg", 68),
    ]
    assert len(dataset.populations) == 7
    assert len(dataset.labels) == 10
    assert (dataset.population_codes < 0).sum() == 13 + 19 + 8
    assert dataset.total_counts[:3].tolist() == [628, 608, 566]
    assert dataset.name == "pbmc68k"
    # From scanpy's own reader and the formula of the documentation.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        import scanpy as sc

        stored = sc.datasets.pbmc68k_reduced()
    recovered = np.round(np.expm1(stored.raw.X.toarray()) * stored.obs["n_counts"].to_numpy()[:, None] / 10_000)
    assert np.array_equal(dataset.adata.X.toarray(), recovered)


def test_damaged_embedded_counts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scballast.data.embedded.SCALE", 9_000)
    with pytest.raises(DataError, match=r"pbmc68k: the counts embedded in scanpy cannot be recovered"):
        load_dataset(DataConfig())


def test_contradicting_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.kind=embedded reads no file"):
        load_dataset(DataConfig(path="x.h5ad"))
    with pytest.raises(ConfigError, match=r"data\.kind='cloud' is not known"):
        load_dataset(replace(DataConfig(), kind="cloud"))


def test_simulated_data_carry_their_truth_for_the_genes_kept() -> None:
    simulation = replace(DataConfig().simulation, n_genes=300, population_sizes=(120, 80, 60))
    dataset = load_dataset(DataConfig(kind="simulated", simulation=simulation, n_top_genes=200), seed=3)
    assert dataset.adata.n_vars == 200
    assert dataset.truth is not None
    assert dataset.truth.populations == tuple(p.name for p in dataset.populations)
    assert dataset.truth.marker_effect.shape == (3, 200)
    assert dataset.digest == load_dataset(DataConfig(kind="simulated", simulation=simulation), seed=3).digest
    assert dataset.digest != load_dataset(DataConfig(kind="simulated", simulation=simulation), seed=4).digest


def test_importing_the_data_layer_imports_nothing_heavy() -> None:
    import subprocess

    code = "import scballast.data, sys; print(sorted({'anndata','scanpy','torch','pandas','h5py'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"


def test_wide_and_long_data_are_never_dense(tmp_path: Path) -> None:
    n_cells, n_genes, per_cell = 4_000, 60_000, 200
    rng = np.random.default_rng(0)
    indices = np.sort(rng.integers(0, n_genes, (n_cells, per_cell)), axis=1).ravel()
    data = rng.integers(1, 6, indices.size).astype(np.float32)
    adata = ad.AnnData(
        X=sp.csr_matrix((data, indices, np.arange(n_cells + 1) * per_cell), shape=(n_cells, n_genes)),
        obs=pd.DataFrame({"cell_type": ["T", "B"] * (n_cells // 2)}, index=[f"c{i}" for i in range(n_cells)]),
        var=pd.DataFrame(index=[f"g{i}" for i in range(n_genes)]),
    )
    path = tmp_path / "wide.h5ad"
    adata.write_h5ad(path)
    load_dataset(DataConfig())  # so that imports are not measured
    tracemalloc.start()
    dataset = load_dataset(file_config(path, n_top_genes=2000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert dataset.adata.n_vars == 2000
    kept = [int(name[1:]) for name in dataset.adata.obs_names]
    assert dataset.total_counts.tolist() == data.reshape(n_cells, per_cell).sum(axis=1)[kept].tolist()
    assert peak < n_cells * n_genes * 4 / 8, "an eighth of what the matrix would take as dense float32"
