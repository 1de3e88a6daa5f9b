"""Every kind of bad or odd data, one row each: what is said about it, and whether it is used."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr
from tests.helpers.data_examples import N_CELLS, file_config, matrix_folder, small_adata, written

from scballast.config.schema import DataConfig
from scballast.data import load_dataset
from scballast.errors import DataError

pytestmark = [
    # anndata, on writing the odd files below
    pytest.mark.filterwarnings("ignore:(Variable|Observation) names are not unique:UserWarning"),
    pytest.mark.filterwarnings("ignore:zarr v3 autosharding:UserWarning"),
    pytest.mark.filterwarnings("ignore:Writing zarr v2 data will no longer be the default:UserWarning"),
]


@dataclass(frozen=True)
class Case:
    """A file, the settings it is loaded with, and fragments of what is said, in order."""

    name: str
    make: Callable[[Path], Path]
    says: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


def changed(change: Callable[[ad.AnnData], Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        def apply(adata: ad.AnnData) -> ad.AnnData | None:
            result = change(adata)
            return result if isinstance(result, ad.AnnData) else None

        return written(folder, apply)

    return make


def value_at(row: int, column: int, value: float, dtype: Any = np.float32) -> Callable[[Path], Path]:
    def change(adata: ad.AnnData) -> None:
        dense = adata.X.toarray().astype(dtype)
        dense[row, column] = value
        adata.X = sp.csr_matrix(dense)

    return changed(change)


def log_normalised(adata: ad.AnnData) -> None:
    adata.layers["counts"] = adata.X.copy()
    totals = np.asarray(adata.X.sum(axis=1))
    adata.X = sp.csr_matrix(np.log1p(adata.X.toarray() / totals * 1e4))


def scaled(adata: ad.AnnData) -> None:
    dense = adata.X.toarray()
    adata.X = (dense - dense.mean(axis=0)) / dense.std(axis=0)


def with_raw(adata: ad.AnnData) -> None:
    adata.raw = adata.copy()
    log_normalised(adata)
    del adata.layers["counts"]


def column(name: str, values: Any) -> Callable[[Path], Path]:
    def change(adata: ad.AnnData) -> None:
        adata.obs[name] = values

    return changed(change)


def hdf5(edit: Callable[[h5py.File], None]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = written(folder)
        with h5py.File(path, "r+") as file:
            edit(file)
        return path

    return make


def file_of(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    return make


def truncated(folder: Path) -> Path:
    path = written(folder)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def folder_named(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.mkdir()
        return path

    return make


def link_to_itself(folder: Path) -> Path:
    path = folder / "loop.h5ad"
    path.symlink_to(path)
    return path


class RunsOnLoad:
    """What a malicious pickle does: leave a trace when it is opened."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def pickled_zarr(folder: Path) -> Path:
    path = folder / "counts.zarr"
    small_adata().write_zarr(path)
    index = path / "obs" / "_index"
    shutil.rmtree(index)
    index.mkdir()
    metadata = {
        "zarr_format": 2,
        "shape": [1],
        "chunks": [1],
        "dtype": "|O",
        "compressor": None,
        "fill_value": None,
        "order": "C",
        "filters": [{"id": "pickle", "protocol": 5}],
    }
    (index / ".zarray").write_text(json.dumps(metadata), encoding="utf-8")
    (index / "0").write_bytes(pickle.dumps(np.array([RunsOnLoad(folder / "trace")], dtype=object)))
    return path


half = N_CELLS // 2
ERRORS = [
    # Values
    Case(
        "log-normalised",
        changed(log_normalised),
        (
            "counts.h5ad: X is not raw counts: ",
            " stored values are not integers (log-normalised values?), first ",
            " at cell 'cell0', gene 'gene0'. Allowed: integers from 0 to 16,777,216. ",
            "Counts are in layer 'counts': set data.layer=counts.",
        ),
    ),
    Case("counts in raw", changed(with_raw), ("not integers", "Counts are in .raw: set data.layer=raw.")),
    Case(
        "scaled",
        changed(scaled),
        ("X is not raw counts: ", "are negative (scaled or centred values?), first -", "there is no other matrix here"),
    ),
    Case("one negative", value_at(7, 3, -2), ("1 of ", "is negative", "first -2 at cell 'cell7', gene 'gene3'")),
    Case("one NaN", value_at(59, 49, np.nan), ("1 of ", "is NaN, first nan at cell 'cell59', gene 'gene49'")),
    Case("one infinity", value_at(5, 0, np.inf), ("is infinite, first inf at cell 'cell5', gene 'gene0'",)),
    Case(
        "one fraction",
        value_at(30, 20, 2.5),
        (
            "is not integers (counts after a correction",
            "first 2.5 at cell 'cell30'",
            "Set data.round=true to round them",
        ),
    ),
    Case("beyond noise", value_at(0, 1, 3 + 1e-4, np.float64), ("first 3.0001 at cell 'cell0', gene 'gene1'",)),
    Case("huge count", value_at(0, 1, 2**24 + 2, np.int64), ("is above 16,777,216", "gene 'gene1'")),
    Case(
        "text that is no number",
        changed(lambda a: setattr(a, "X", np.where(a.X.toarray() > 99, "", "many").astype(object))),
        ("X: the values are text, and 'many' is not a number", "Allowed: integers."),
    ),
    Case("complex numbers", changed(lambda a: setattr(a, "X", a.X.toarray() + 1j)), ("type complex", "are not counts")),
    Case("no matrix", changed(lambda a: ad.AnnData(obs=a.obs, var=a.var)), ("there is no matrix X",)),
    Case("no cells", changed(lambda a: a[:0].copy()), ("there are no cells",)),
    Case("no genes", changed(lambda a: a[:, :0].copy()), ("X is empty: 60 cells, 0 genes",)),
    Case("all zero", changed(lambda a: setattr(a, "X", a.X * 0)), ("X is empty: all 60 × 50 counts are 0",)),
    Case(
        "unknown layer",
        changed(lambda a: a.layers.update(umi=a.X.copy())),
        ("there is no layer 'umis'", "Counts are in X, layer 'umi': set data.layer=null or data.layer=umi."),
        {"layer": "umis"},
    ),
    # Populations
    Case(
        "population key not set",
        changed(lambda a: None),
        (
            "data.population_key is not set. Set it to the column of obs with the populations.",
            "Columns with categories: 'cell_type', 'batch', 'sample'",
        ),
        {"population_key": None},
    ),
    Case(
        "population key misspelt",
        changed(lambda a: None),
        (
            "counts.h5ad: obs has no column 'Celltype'. Nearest: 'cell_type'.",
            "Columns with categories: 'cell_type', 'batch', 'sample'. Set data.population_key to one of them.",
        ),
        {"population_key": "Celltype"},
    ),
    Case(
        "population continuous",
        changed(lambda a: None),
        ("obs['score'] is numeric: 60 distinct continuous values", "Set data.population_key to a column of labels"),
        {"population_key": "score"},
    ),
    Case(
        "population a number per cell",
        column("cell_type", np.arange(N_CELLS)),
        ("numeric: 60 distinct whole values in 60 cells", "Allowed: text, categories, or at most 100"),
    ),
    Case(
        "one population", column("cell_type", "T"), ("obs['cell_type'] has one value, 'T', in all 60 labelled cells",)
    ),
    Case(
        "a population per cell",
        column("cell_type", [f"cluster {i}" for i in range(N_CELLS)]),
        ("obs['cell_type'] differs in every one of the 60 labelled cells",),
    ),
    Case(
        "no label at all",
        column("cell_type", pd.Categorical([None] * N_CELLS, categories=["T"])),
        ("obs['cell_type'] is missing for all 60 cells",),
    ),
    Case(
        "populations of 1, 2 and 3 cells only",
        column("cell_type", ["x"] + ["y"] * 2 + ["z"] * 3 + [None] * 54),
        ("no population of obs['cell_type'] has 5 cells or more", "'z' (3), 'y' (2), 'x' (1)", "Lower data.min_cells"),
    ),
    Case(
        "one population and too few others",
        column("cell_type", ["x"] * 3 + ["T"] * 57),
        ("has 5 cells or more with as many other cells", "'T' (57), 'x' (3)"),
    ),
    # Batches and samples
    Case(
        "batch key misspelt",
        changed(lambda a: None),
        ("no column 'batches'. Nearest: 'batch'", "Set data.batch_key"),
        {"batch_key": "batches"},
    ),
    Case(
        "batch missing in a cell",
        column("batch", [None] + ["b1"] * 59),
        ("obs['batch'] is missing for 1 of 60 cells, first 'cell0'", "data.batch_key"),
        {"batch_key": "batch"},
    ),
    Case(
        "batch continuous",
        changed(lambda a: None),
        ("obs['score'] is numeric", "data.batch_key"),
        {"batch_key": "score"},
    ),
    Case(
        "batch per cell",
        column("batch", [f"b{i}" for i in range(N_CELLS)]),
        ("obs['batch'] differs in every one of the 60 cells",),
        {"batch_key": "batch"},
    ),
    Case(
        "batch is population",
        changed(lambda a: None),
        ("data.batch_key and data.population_key are both 'cell_type'",),
        {"batch_key": "cell_type"},
    ),
    Case(
        "sample is population",
        changed(lambda a: None),
        ("data.sample_key and data.population_key are both 'cell_type'",),
        {"sample_key": "cell_type"},
    ),
    Case(
        "sample missing in a cell",
        column("sample", ["s"] * 59 + [""]),
        ("obs['sample'] is missing for 1 of 60 cells, first 'cell59'", "data.sample_key"),
        {"sample_key": "sample"},
    ),
    # Files
    Case(
        "missing file",
        lambda folder: written(folder).with_name("count.h5ad"),
        ("there is no such file. Did you mean 'counts.h5ad'? In that folder: 'counts.h5ad'. Check data.path",),
    ),
    Case("missing folder", lambda folder: folder / "nowhere" / "x.h5ad", ("there is no such file, nor the folder",)),
    Case("remote address", lambda folder: Path("https:/example.org/x.h5ad"), ("remote addresses are not read",)),
    Case("truncated", truncated, ("counts.h5ad: the file is truncated",)),
    Case("empty file", file_of("counts.h5ad", b""), ("counts.h5ad: the file is empty (0 bytes)",)),
    Case(
        "not HDF5",
        file_of("counts.h5ad", b"gene,cell\n1,2\n" * 9),
        ("not an HDF5 file, whatever its name says", "Allowed: .h5ad"),
    ),
    Case(
        "compressed h5ad", file_of("counts.h5ad", b"\x1f\x8b" + b"x" * 99), ("It is a gzip archive: unpack it first",)
    ),
    Case(
        "folder named h5ad",
        folder_named("counts.h5ad"),
        ("counts.h5ad: this folder holds neither a zarr store nor matrix.mtx",),
    ),
    Case("a pickle", file_of("counts.pkl", pickle.dumps([1])), ("files of type '.pkl' are not read. Allowed: .h5ad",)),
    Case("a numpy file", file_of("counts.npy", b"\x93NUMPY"), ("files of type '.npy' are not read",)),
    Case("no extension", file_of("counts", b"?"), ("files without an extension that are not HDF5 are not read",)),
    Case("an archive", file_of("counts.h5ad.gz", b"?"), ("It is an archive: unpack it first.",)),
    Case("a lone matrix", file_of("matrix.mtx", b"%%MatrixMarket"), ("Name the folder that it is in",)),
    Case("link to itself", link_to_itself, ("cannot be opened",)),
    Case(
        "not AnnData", hdf5(lambda f: f.__delitem__("obs")), ("obs and var are missing: this is not an AnnData file",)
    ),
    Case(
        "obs of another length", hdf5(lambda f: _shorten(f)), ("the matrix has shape (60, 50), but obs has 59 cells",)
    ),
    Case(
        "index out of range", hdf5(lambda f: f["X/indices"].__setitem__(3, 4000)), ("X: the sparse matrix is damaged",)
    ),
    Case("pointers that fall", hdf5(lambda f: f["X/indptr"].__setitem__(3, 0)), ("X: the sparse matrix is damaged",)),
    Case("half of a sparse matrix", hdf5(lambda f: f["X"].__delitem__("indices")), ("X: the file cannot be read",)),
    Case(
        "unknown encoding",
        hdf5(lambda f: f["X"].attrs.update({"encoding-type": "future"})),
        ("X: it is stored in a way that anndata ", "does not know", "Update anndata, or write it again"),
    ),
    Case("pickles in zarr", pickled_zarr, ("counts.zarr: 'obs/_index' is stored as Python pickles",)),
    Case(
        "a zarr store of something else",
        lambda folder: _other_zarr(folder),
        ("obs and var are missing: this is not an AnnData store",),
    ),
    Case(
        "matrix folder without labels",
        matrix_folder,
        ("no column 'cell_type', and no column at all (10x formats hold no labels)",),
    ),
    Case(
        "matrix folder, wrong barcodes",
        lambda folder: matrix_folder(folder, n_barcodes=3),
        ("50 genes and 60 cells, but there are 50 features and 3 barcodes",),
    ),
    Case(
        "matrix folder without features",
        lambda folder: matrix_folder(folder, leave_out="features.tsv"),
        ("features.tsv[.gz] or genes.tsv[.gz] is missing beside matrix.mtx",),
    ),
    Case(
        "h5 of something else",
        lambda folder: _other_h5(folder),
        ("neither a 10x .h5 with one genome nor an AnnData file. It holds: 'weights'",),
    ),
]


def _shorten(file: h5py.File) -> None:
    for name in list(file["obs"]):
        element = file["obs"][name]
        parts = ("codes", "values", "mask")  # of categories, and of text in newer files
        targets = [element[part] for part in parts if part in element] if isinstance(element, h5py.Group) else [element]
        for target in targets:
            values, attributes, path = target[:-1], dict(target.attrs), target.name
            del file[path]
            file[path] = values
            file[path].attrs.update(attributes)


def _other_zarr(folder: Path) -> Path:
    path = folder / "x.zarr"
    zarr.open_group(str(path), mode="w").create_array("weights", data=np.ones(3))
    return path


def _other_h5(folder: Path) -> Path:
    path = folder / "x.h5"
    with h5py.File(path, "w") as file:
        file["weights"] = [1, 2]
    return path


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case.name)
def test_unusable_data_get_one_clear_message(case: Case, tmp_path: Path) -> None:
    config = file_config(case.make(tmp_path), **case.settings)
    with pytest.raises(DataError) as caught:
        load_dataset(config)
    message = str(caught.value)
    position = 0
    for fragment in case.says:
        assert fragment in message[position:], message
        position = message.index(fragment, position) + len(fragment)
    assert "\n" not in message
    assert len(message) < 900
    assert not (tmp_path / "trace").exists()


def test_the_pickle_of_the_table_would_have_run(tmp_path: Path) -> None:
    pickled_zarr(tmp_path)
    pickle.loads((tmp_path / "counts.zarr" / "obs" / "_index" / "0").read_bytes())
    assert (tmp_path / "trace").exists()


def duplicated_names(adata: ad.AnnData) -> None:
    adata.var_names = ["CD3D", "CD3D", *adata.var_names[2:]]
    adata.obs_names = ["AAAC", *adata.obs_names[1:-1], "AAAC"]


def zero_rows(adata: ad.AnnData) -> None:
    dense = adata.X.toarray()
    dense[[4, 8]] = 0
    dense[:, 6] = 0
    adata.X = sp.csr_matrix(dense)


WARNINGS = [
    Case(
        "rounding noise",
        value_at(0, 1, 3 + 1e-7, np.float64),
        (
            "counts.h5ad: X: 1 of ",
            "differed from an integer by no more than the precision of their storage and were rounded.",
        ),
    ),
    Case(
        "float16",
        changed(lambda a: setattr(a, "X", a.X.toarray().astype(np.float16))),
        ("X: counts are stored as float16.",),
    ),
    Case(
        "large float16",
        changed(lambda a: setattr(a, "X", (a.X.toarray() * 1000).astype(np.float16))),
        ("some are above 2,048, where float16 is no longer exact", "all are multiples of 1000: were counts multiplied"),
    ),
    Case(
        "numbers as text",
        changed(lambda a: setattr(a, "X", a.X.toarray().astype(int).astype(str).astype(object))),
        ("X: the values are stored as text and were read as numbers.",),
    ),
    Case("binary", changed(lambda a: setattr(a, "X", a.X > 0)), ("no count is above 1: were the counts made binary?",)),
    Case(
        "empty cells and genes",
        changed(zero_rows),
        (
            "2 of 60 cells have no counts and are left out, first 'cell4'.",
            "1 of 50 genes have no counts and are left out, first 'gene6'.",
        ),
    ),
    Case(
        "duplicated names",
        changed(duplicated_names),
        ("1 cell names occur more than once, first 'AAAC'", "1 gene names occur more than once, first 'CD3D'"),
    ),
    Case(
        "cluster numbers",
        column("cell_type", np.arange(N_CELLS) % 3),
        ("obs['cell_type'] is numeric; its 3 values are taken as population names.",),
    ),
    Case(
        "labels missing",
        column("cell_type", pd.Categorical([None] * 4 + ["T", "B"] * 28)),
        (
            "4 of 60 cells have no value in obs['cell_type']: they train the global model and belong to no population "
            "(data.unlabelled=drop leaves them out).",
        ),
    ),
    Case(
        "words for missing",
        column("cell_type", ["nan", "", "NA"] + ["T", "B", "C"] * 19),
        (
            "3 cells have an empty text or a word for 'missing' in obs['cell_type'] and count as missing.",
            "3 of 60 cells have no value in obs['cell_type']",
        ),
    ),
    Case(
        "Excel's words for missing",
        column("cell_type", ["#N/A", "n/a", "#REF!"] + ["T", "B", "C"] * 19),
        (
            "3 cells have an empty text or a word for 'missing' in obs['cell_type'] and count as missing.",
            "3 of 60 cells have no value in obs['cell_type']",
        ),
    ),
    Case(
        "unused categories",
        column("cell_type", pd.Categorical(["T", "B"] * half, categories=["T", "B", "C", "D"])),
        ("2 unused categories of obs['cell_type'] are left out.",),
    ),
    Case(
        "populations of 1, 2 and 3 cells",
        column("cell_type", ["x"] + ["y"] * 2 + ["z"] * 3 + ["T", "B"] * 27),
        (
            "populations with fewer than 5 cells (data.min_cells) are not ranked, but their cells train "
            "the global model: 'x' (1), 'y' (2), 'z' (3).",
        ),
    ),
    Case(
        "confounded batch",
        column("batch", ["b1", "b2"] * (half - 5) + ["b1"] * 10),
        ("populations that occur in one batch only: 'T' (all in 'b1').", "Population and batch are confounded"),
        {"batch_key": "batch"},
    ),
    Case(
        "one batch",
        column("batch", "b"),
        ("obs['batch'] has one value, 'b': there is no batch to correct, and data.batch_key is ignored.",),
        {"batch_key": "batch"},
    ),
    Case(
        "a batch of one cell",
        column("batch", ["b1"] + ["b2", "b2", "b3", "b3"] * 14 + ["b2", "b2", "b3"]),
        ("batches with one cell, whose effect cannot be estimated: 'b1'.",),
        {"batch_key": "batch"},
    ),
    Case(
        "one sample",
        column("sample", "s"),
        ("obs['sample'] has one value, 's': pseudobulk and resampling by donor need several samples.",),
        {"sample_key": "sample"},
    ),
    Case(
        "samples across batches",
        column("sample", ["s1", "s1", "s2", "s2"] * 15),
        ("samples of obs['sample'] that occur in several batches of obs['batch']: 's1', 's2'.",),
        {"sample_key": "sample", "batch_key": "batch"},
    ),
    Case(
        "population in one sample",
        column("sample", ["s1", "s2"] * (half - 5) + ["s1"] * 10),
        ("populations that occur in one sample only: 'T' (all in 's1').",),
        {"sample_key": "sample"},
    ),
]


@pytest.mark.parametrize("case", WARNINGS, ids=lambda case: case.name)
def test_odd_but_usable_data_say_what_was_done(case: Case, tmp_path: Path) -> None:
    dataset = load_dataset(file_config(case.make(tmp_path), **case.settings))
    assert len(dataset.warnings) == len([w for w in dataset.warnings if any(fragment in w for fragment in case.says)])
    for fragment in case.says:
        assert any(fragment in warning for warning in dataset.warnings), dataset.warnings
    assert all(warning.startswith("counts.h5ad: ") for warning in dataset.warnings)


def test_plain_data_need_no_warning(tmp_path: Path) -> None:
    dataset = load_dataset(file_config(written(tmp_path), batch_key="batch"))
    assert dataset.warnings == ()
    assert [p.name for p in dataset.populations] == ["B", "T"]


def test_config_without_a_path() -> None:
    with pytest.raises(DataError, match=r"data\.path is not set"):
        load_dataset(DataConfig(kind="file"))
