"""Any matrix folder, table of labels or damaged file ends in data or in one message."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.data.test_fuzz import check
from tests.helpers.data_examples import N_CELLS, N_GENES, small_adata, written
from tests.helpers.fuzzing import examples

from scballast.config.schema import DataConfig
from scballast.data import load_dataset
from scballast.errors import ConfigError, DataError

NAMES = ["matrix.mtx", "cells_x_genes.mtx", "quants_mat.mtx", "DGE.mtx", "GSM1_matrix.mtx", "spliced.mtx", "x.mtx"]
LISTS = {
    "matrix.mtx": ("features.tsv", "barcodes.tsv"),
    "GSM1_matrix.mtx": ("GSM1_genes.tsv", "GSM1_barcodes.tsv"),
    "cells_x_genes.mtx": ("cells_x_genes.genes.txt", "cells_x_genes.barcodes.txt"),
    "quants_mat.mtx": ("quants_mat_cols.txt", "quants_mat_rows.txt"),
    "DGE.mtx": ("all_genes.csv", "cell_metadata.csv"),
}
FOLDER_ODDITIES = [
    "turned", "gene header", "cell header", "one short", "numbers", "quotes", "missing", "second", "junk", "types",
    "symbols", "subfolder", "values", "blank lines", "no labels",
]  # fmt: skip
LINES = st.sampled_from(
    ["", "\t", "gene_id\tsymbol", "barcode", '"x"', "a\tb\tc\td", "\x00", "é", "nan", ",,,", "0\t0"]
)


def lines_of(cells: int, odd: set[str], kind: str) -> tuple[list[str], list[str]]:
    """Return the lines of the lists of genes and cells."""
    separator = "," if kind == "DGE.mtx" else "\t"
    symbols = [
        "" if "symbols" in odd and i % 3 == 0 else f"G{i % 7 if 'symbols' in odd else i}" for i in range(N_GENES)
    ]
    types = ["Peaks" if "types" in odd and i % 4 == 0 else "gene expression" for i in range(N_GENES)]
    genes = [separator.join((f"ENSG{i:011d}", symbols[i], types[i])) for i in range(N_GENES)]
    barcodes = [f"cell{i}" for i in range(cells)]
    if kind == "DGE.mtx" or "gene header" in odd:
        genes.insert(0, separator.join(("gene_id", "gene_name", "feature_types")))
    if kind == "DGE.mtx" or "cell header" in odd:
        barcodes.insert(0, "bc_wells")
    if "one short" in odd:
        genes.pop()
    if "numbers" in odd:
        genes = [f"{i}{separator}{line}" for i, line in enumerate(genes)]
    if "quotes" in odd:
        genes = [separator.join(f'"{value}"' for value in line.split(separator)) for line in genes]
        barcodes = [f'"{line}"' for line in barcodes]
    if "blank lines" in odd:
        genes, barcodes = [*genes, "", ""], [*barcodes, ""]
    return genes, barcodes


def matrix_lines(odd: set[str], genes_first: bool) -> list[str]:
    dense = small_adata().X.toarray()
    if genes_first != ("turned" in odd):
        dense = dense.T
    rows, columns = np.nonzero(dense)
    field = "real" if "values" in odd else "integer"
    scale = 0.97 if "values" in odd else 1
    return [
        f"%%MatrixMarket matrix coordinate {field} general",
        f"{dense.shape[0]} {dense.shape[1]} {rows.size}",
        *(f"{r + 1} {c + 1} {scale * dense[r, c]:g}" for r, c in zip(rows, columns, strict=True)),
    ]


@st.composite
def folders(draw: st.DrawFn) -> tuple[dict[str, bytes], set[str]]:
    """Return the files of a matrix folder, with at most three oddities."""
    odd = draw(st.sets(st.sampled_from(FOLDER_ODDITIES), max_size=3))
    kind = draw(st.sampled_from(NAMES))
    genes, barcodes = lines_of(N_CELLS, odd, kind)
    gene_list, cell_list = LISTS.get(kind, ("features.tsv", "barcodes.tsv"))
    contents = {
        kind: matrix_lines(odd, genes_first="matrix" in kind),
        gene_list: genes,
        cell_list: barcodes,
    }
    if "junk" in odd:
        target = draw(st.sampled_from(sorted(contents)))
        place = draw(st.integers(0, 5))
        contents[target][place:place] = draw(st.lists(LINES, min_size=1, max_size=2))
    if "missing" in odd:
        del contents[draw(st.sampled_from(sorted(contents)))]
    files = {}
    for name, lines in contents.items():
        text = ("\n".join(lines) + "\n").encode()
        if draw(st.booleans()):
            files[f"{name}.gz"] = gzip.compress(text)
        else:
            files[name] = text
    if "subfolder" in odd:
        files = {f"sub/{name}": content for name, content in files.items()}
    if "second" in odd:
        files[draw(st.sampled_from(["other/matrix.mtx", "UniqueAndMult-EM.mtx", "b_matrix.mtx", "x.h5ad"]))] = b"%%"
    return files, odd


def assert_ends_well(config: DataConfig, label: str) -> None:
    """Assert that loading ends in a valid data set or in one message."""
    try:
        dataset = load_dataset(config)
    except (DataError, ConfigError) as error:
        message = str(error)
    else:
        event("data set")
        check(dataset, config)
        return
    event("message")
    assert "\n" not in message
    assert len(message) < 2500
    assert label in message
    message.encode()


def config_of(path: Path, **settings_: Any) -> DataConfig:
    values = {"population_key": "cell_type", "n_top_genes": None, "min_cells": 5, **settings_}
    return DataConfig(kind="file", path=str(path), **values)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(case=folders(), rounded=st.booleans(), drop=st.booleans())
def test_any_matrix_folder_ends_in_data_or_a_message(
    case: tuple[dict[str, bytes], set[str]], rounded: bool, drop: bool
) -> None:
    files, odd = case
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "mtx"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        small_adata().obs.to_csv(Path(root) / "labels.csv")
        labels = None if "no labels" in odd else str(Path(root) / "labels.csv")
        unlabelled = "drop" if drop else "keep"
        assert_ends_well(config_of(folder, labels=labels, round=rounded, unlabelled=unlabelled), "mtx")


SOUND = st.sampled_from(["T", "B", "B ", " T", "b", "", "nan", "1", "01", "B\u00a0", "a,b;c"])
ODD = st.one_of(st.sampled_from(["1.5", '"', "'", "\t", "\r", "x\ny"]), st.text(max_size=6))
TABLE_ODDITIES = ["values", "names", "quotes", "lines", "encoding", "header", "ends"]


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Return a table of labels with at most two oddities."""
    odd = draw(st.sets(st.sampled_from(TABLE_ODDITIES), max_size=2))
    separator = draw(st.sampled_from([",", "\t", ";"]))
    pool = ["T", "B", *draw(st.lists(ODD if "values" in odd else SOUND, min_size=1, max_size=3))]
    form = draw(st.sampled_from(["{} ", " {}", "{}-1", "{}.1", "\ufeff{}", "C{}", '"{}"'])) if "names" in odd else "{}"
    every = draw(st.integers(1, 9))
    key = draw(st.sampled_from(["cell_type ", "x", "", '"cell_type"'])) if "header" in odd else "cell_type"
    rows = [separator.join(("cell", key))]
    for i in range(draw(st.integers(0, N_CELLS)) if "ends" in odd else N_CELLS):
        name = form.format(f"cell{i}") if i % every == 0 else f"cell{i}"
        value = pool[i % len(pool)].replace('"', '""')
        rows.append(separator.join((name, value if "quotes" in odd else f'"{value}"')))
    for line in draw(st.lists(st.text(max_size=20), min_size=1, max_size=2)) if "lines" in odd else []:
        rows.insert(draw(st.integers(0, len(rows))), line)
    text = (draw(st.sampled_from(["\r\n", "\r"])) if "ends" in odd else "\n").join(rows)
    encoding = draw(st.sampled_from(["utf-8-sig", "utf-16", "latin-1"])) if "encoding" in odd else "utf-8"
    return text.encode(encoding, "replace")


@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(content=tables(), suffix=st.sampled_from([".csv", ".tsv", ".txt", ".csv.gz"]), drop=st.booleans())
def test_any_table_of_labels_ends_in_data_or_a_message(content: bytes, suffix: str, drop: bool) -> None:
    with tempfile.TemporaryDirectory() as root:
        labels = Path(root) / f"labels{suffix}"
        labels.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
        unlabelled = "drop" if drop else "keep"
        path = written(Path(root), lambda adata: adata.obs.drop(columns="cell_type", inplace=True))
        assert_ends_well(config_of(path, labels=str(labels), unlabelled=unlabelled), "")


@pytest.mark.damaged
# The suite tries the same files each time, one of which crashes the HDF5 library; the benchmark tries others too.
@settings(
    max_examples=examples(30),
    deadline=None,
    derandomize=examples(1) == 1,
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 10**6), n_bytes=st.integers(1, 40), cut=st.booleans())
def test_any_damaged_file_ends_in_data_or_a_message(seed: int, n_bytes: int, cut: bool) -> None:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as root:
        path = written(Path(root))
        content = bytearray(path.read_bytes())
        for position in rng.integers(8, len(content), n_bytes):
            content[position] = int(rng.integers(256))
        path.write_bytes(content[: int(rng.integers(len(content)))] if cut else content)
        assert_ends_well(config_of(path), "counts.h5ad")
