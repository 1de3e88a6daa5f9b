"""Counts read in blocks of cells are those of the whole matrix: same arrays, digest, genes and messages."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from tests.benchmarks.bench_scale import simulate
from tests.helpers.data_examples import file_config, written

from scballast.config.schema import DataConfig
from scballast.data import Dataset, load_dataset
from scballast.data.blocks import CountBlocks, gather, row_parts
from scballast.errors import DataError

N_CELLS, N_GENES = 260, 150

pytestmark = [
    # anndata, on writing the files below
    pytest.mark.filterwarnings("ignore:zarr v3 autosharding:UserWarning"),
    pytest.mark.filterwarnings("ignore:Writing zarr v2 data will no longer be the default:UserWarning"),
]


def example() -> ad.AnnData:
    """Return 3 populations in 3 batches, one small; empty cells and genes, cells without a label, and antibodies."""
    rng = np.random.default_rng(5)
    rates = rng.gamma(0.5, 3.0, N_GENES) * rng.lognormal(0, rng.uniform(0, 1, N_GENES), (N_CELLS, N_GENES))
    counts = rng.poisson(rates).astype(np.float32)
    counts[:, 7] *= rng.random(N_CELLS) < 0.02  # so rare that its largest counts are clipped
    counts[3, 7] = 5000  # its square is not exact in float32
    counts[[0, 100]], counts[:, [20, 21]] = 0, 0
    obs = pd.DataFrame(
        {
            "cell_type": np.where(np.arange(N_CELLS) % 40 == 9, "", np.tile(["T", "B", "NK", "T"], N_CELLS // 4)),
            "batch": np.repeat(["b1", "b2", "b3"], [130, 110, 20]),
        },
        index=[f"cell{i}" for i in range(N_CELLS)],
    )
    types = np.repeat(["Gene Expression", "Antibody Capture"], [N_GENES - 5, 5])
    var = pd.DataFrame({"feature_types": types}, index=[f"gene{i}" for i in range(N_GENES)])
    return ad.AnnData(X=sp.csr_matrix(counts), obs=obs, var=var)


def untidy(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return the same counts with falling columns, every one in two parts, and stored zeros."""
    coo = matrix.tocoo()
    rows, columns = np.tile(coo.row, 3), np.tile(coo.col, 3)
    values = np.concatenate([np.ones(coo.nnz), coo.data - 1, np.zeros(coo.nnz)])
    order = np.lexsort((-columns, rows))
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=matrix.shape[0]))])
    return sp.csr_matrix((values[order], columns[order], starts), shape=matrix.shape)


def h5ad(convert: Callable[[sp.csr_matrix], Any], **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        adata = example()
        adata.X = convert(adata.X)
        adata.write_h5ad(folder / "x.h5ad", **options)
        return folder / "x.h5ad"

    return make


def zarr(convert: Callable[[sp.csr_matrix], Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        adata = example()
        adata.X = convert(adata.X)
        adata.write_zarr(folder / "x.zarr")
        return folder / "x.zarr"

    return make


def cell_ranger(*, old: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        adata = example()
        matrix = adata.X.astype(np.int32)
        with h5py.File(folder / "x.h5", "w") as file:
            group = file.create_group("GRCh38" if old else "matrix")
            for name in ("data", "indices", "indptr"):
                group[name] = getattr(matrix, name)
            group["shape"] = np.array(matrix.shape[::-1], dtype=np.int32)
            group["barcodes"] = adata.obs_names.to_numpy().astype("S")
            ids, names = [f"ENSG{i}" for i in range(N_GENES)], adata.var_names.to_numpy().astype("S")
            if old:
                group["genes"], group["gene_names"] = np.array(ids, dtype="S"), names
            else:
                group["features/id"], group["features/name"] = np.array(ids, dtype="S"), names
                group["features/feature_type"] = adata.var["feature_types"].to_numpy().astype("S")
                group["features/genome"] = np.array(["GRCh38"] * N_GENES, dtype="S")
        adata.obs.to_csv(folder / "labels.csv")
        return folder / "x.h5"

    return make


FILES = {
    "csr": h5ad(lambda x: x),
    "csr, compressed": h5ad(lambda x: x, compression="gzip"),
    "csr, untidy": h5ad(untidy),
    "csr, int64": h5ad(lambda x: x.astype(np.int64)),
    "csc": h5ad(lambda x: x.tocsc()),
    "dense": h5ad(lambda x: x.toarray()),
    "zarr": zarr(lambda x: x),
    "dense zarr": zarr(lambda x: x.toarray()),
    "10x": cell_ranger(old=False),
    "10x, old": cell_ranger(old=True),
}
SETTINGS: list[dict[str, Any]] = [
    {"n_top_genes": 60, "batch_key": "batch"},
    {"n_top_genes": 60, "unlabelled": "drop"},
    {"n_top_genes": None},
]


def in_small_blocks(patch: pytest.MonkeyPatch) -> None:
    """Let blocks hold a few cells, parts of them one or two, and none be kept."""
    patch.setattr("scballast.data.blocks.BLOCK_VALUES", 8 * N_GENES)
    patch.setattr("scballast.data.blocks.PART_VALUES", 2 * N_GENES)
    patch.setattr("scballast.data.blocks.MOST_KEPT", 0)


def content(dataset: Dataset) -> list[Any]:
    """Return everything in a data set in a form that can be compared."""
    assert dataset.beside is not None
    arrays = [dataset.total_counts, dataset.population_codes, dataset.label_codes]
    for matrix in (dataset.adata.X, dataset.beside.counts):
        assert matrix.has_sorted_indices
        arrays += [matrix.data, matrix.indices, matrix.indptr]
    tables = [dataset.adata.obs.to_csv(), dataset.adata.var.to_csv(), *map(str, dataset.adata.obs.dtypes)]
    return [
        *((array.dtype, array.shape, array.tobytes()) for array in arrays),
        *tables,
        dataset.digest,
        dataset.warnings,
        dataset.populations,
        dataset.beside.names,
    ]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", FILES)
def test_small_blocks_give_what_the_whole_gives(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    path = FILES[kind](tmp_path)
    labels = {"labels": str(tmp_path / "labels.csv")} if path.suffix == ".h5" else {}
    config = file_config(path, **labels, **settings)

    def also(names: Any) -> np.ndarray:
        return np.arange(len(names["name"])) % 3 == 0

    whole = load_dataset(config, also=also)
    with pytest.MonkeyPatch.context() as patch:
        in_small_blocks(patch)
        assert content(load_dataset(config, also=also)) == content(whole)
    n_with_counts = np.count_nonzero(example().X[:, : None if kind == "10x, old" else -5].sum(axis=0))
    assert whole.adata.n_vars == (settings["n_top_genes"] or n_with_counts)


def test_counts_that_are_none_are_named_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_small_blocks(monkeypatch)
    adata = example()
    dense = adata.X.toarray()
    dense[201, 3], dense[255, 4], dense[12, 1] = -2, -3, 4.5
    adata.X = sp.csr_matrix(dense)
    adata.layers["umi"] = example().X
    adata.write_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(DataError) as caught:
        load_dataset(file_config(tmp_path / "x.h5ad"))
    assert "2 of " in str(caught.value)
    assert "are negative (scaled or centred values?), first -2 at cell 'cell201', gene 'gene3'" in str(caught.value)
    assert "Counts are in layer 'umi'" in str(caught.value)


def damaged(edit: Callable[[h5py.File], None], folder: Path) -> DataConfig:
    path = written(folder)
    with h5py.File(path, "r+") as file:
        edit(file["X"])
    return file_config(path)


def shorter(name: str) -> Callable[[Any], None]:
    def edit(group: Any) -> None:
        values = group[name][:-9]
        del group[name]
        group[name] = values

    return edit


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda x: x["indices"].__setitem__(3, 50), "column numbers from 0 to 50 for 50 columns"),
        (lambda x: x["indices"].__setitem__(3, -1), "column numbers from -1 to"),
        (lambda x: x["indptr"].__setitem__(3, 0), "the row starts do not rise from 0"),
        (lambda x: x["indptr"].__setitem__(0, 1), "the row starts do not rise from 0"),
        (lambda x: x["indptr"].__setitem__(60, 2**30), "the rows end at 1,073,741,824, but there are"),
        (shorter("indptr"), "52 row starts of type int32 for 60 rows"),
        (shorter("indices"), "values, but"),
        (shorter("data"), "values, but"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_damage(edit: Callable[[Any], None], fault: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"counts.h5ad: X: the sparse matrix is damaged") as caught:
        load_dataset(damaged(edit, tmp_path))
    assert fault in str(caught.value)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_that_changes_while_it_is_read_is_noticed(change: int) -> None:
    matrix = example().X
    everything = [np.ones(n, dtype=bool) for n in matrix.shape]
    with pytest.raises(DataError, match=r"x: the counts changed while they were read: another process writes"):
        gather(
            CountBlocks.of(matrix),
            everything[0],
            [everything[1]],
            [matrix.nnz + change],
            watch=lambda part: None,
            source="x",
        )


def test_parts_are_the_rows_in_order_and_no_larger_than_asked_for() -> None:
    matrix = example().X
    for most in (1, 100, 5_000, matrix.nnz, matrix.nnz + 1):
        parts = list(row_parts(matrix, most))
        assert [first for first, _ in parts] == np.cumsum([0, *(part.shape[0] for _, part in parts[:-1])]).tolist()
        assert all(part.nnz <= most or part.shape[0] == 1 for _, part in parts)
        assert (sp.vstack([part for _, part in parts]) != matrix).nnz == 0


@pytest.mark.parametrize("sparse", [True, False])
def test_a_file_is_never_in_memory_as_a_whole(sparse: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n_cells, n_genes, per_cell = 3_000, 4_000, 1_000
    rng = np.random.default_rng(0)
    indices = np.sort(np.argsort(rng.random((n_cells, n_genes)), axis=1)[:, :per_cell], axis=1).ravel()
    counts = rng.integers(1, 6, indices.size).astype(np.float32)
    matrix = sp.csr_matrix((counts, indices, np.arange(n_cells + 1) * per_cell), shape=(n_cells, n_genes))
    adata = ad.AnnData(
        X=matrix if sparse else matrix.toarray(),
        obs=pd.DataFrame({"cell_type": ["T", "B"] * (n_cells // 2)}, index=[f"c{i}" for i in range(n_cells)]),
        var=pd.DataFrame(index=[f"g{i}" for i in range(n_genes)]),
    )
    adata.write_h5ad(tmp_path / "x.h5ad")
    config = file_config(tmp_path / "x.h5ad", n_top_genes=100)
    monkeypatch.setattr("scballast.data.blocks.BLOCK_VALUES", 2**17)
    monkeypatch.setattr("scballast.data.blocks.PART_VALUES", 2**15)
    monkeypatch.setattr("scballast.data.blocks.MOST_KEPT", 2**17)
    load_dataset(file_config(written(tmp_path)))  # so that imports are not measured
    tracemalloc.start()
    dataset = load_dataset(config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert dataset.adata.n_vars == 100
    assert peak < matrix.nnz * 8 / 2, "half of what the values and their columns take"


@pytest.mark.filterwarnings("ignore:Writing zarr v2 data will no longer be the default:UserWarning")
@pytest.mark.parametrize(("form", "compression"), [("h5ad", "gzip"), ("zarr", None)])
def test_a_simulated_atlas_in_blocks_gives_the_genes_and_counts_of_scanpy(
    form: str, compression: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"atlas.{form}"
    n_values = simulate(path, n_cells=1_500, n_genes=800, density=0.05, n_batches=3, compression=compression)
    adata = ad.read_h5ad(path) if form == "h5ad" else ad.read_zarr(path)
    assert adata.X.nnz == n_values
    in_small_blocks(monkeypatch)
    dataset = load_dataset(file_config(path, n_top_genes=200, batch_key="donor"))
    adata = adata[:, adata.X.getnnz(axis=0) >= 3].copy()
    adata.obs["donor"] = adata.obs["donor"].astype(str)
    sc.pp.highly_variable_genes(adata, flavor="seurat_v3", n_top_genes=200, batch_key="donor")
    expected = adata[dataset.adata.obs_names, adata.var["highly_variable"]]
    assert dataset.adata.var_names.tolist() == expected.var_names.tolist()
    assert (dataset.adata.X != expected.X).nnz == 0
