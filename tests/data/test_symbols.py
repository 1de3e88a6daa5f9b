"""Names that people read: symbols are found beside identifiers of any kind, and kept apart where they are shared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from tests.helpers.data_examples import N_GENES, file_config, small_adata, written

from scballast.config.schema import DataConfig
from scballast.data import dataset_from_anndata, load_dataset
from scballast.errors import DataError
from scballast.experiment.gene_table import genes_table, with_symbols

CONFIG = DataConfig(kind="file", population_key="cell_type", n_top_genes=None, min_cells=5)
SYMBOLS = [f"SYM{chr(65 + i % 26)}{i}" for i in range(N_GENES)]
INDEXES = {
    "Ensembl": [f"ENSG{i:011d}" for i in range(N_GENES)],
    "mouse with version": [f"ENSMUSG{i:011d}.{i}" for i in range(N_GENES)],
    "running numbers": [str(i) for i in range(N_GENES)],
    "Entrez": [str(7000 + 13 * i) for i in range(N_GENES)],
    "Affymetrix": [f"{200000 + i}_s_at" for i in range(N_GENES)],
    "Illumina": [f"ILMN_{1650000 + i}" for i in range(N_GENES)],
    "Agilent": [f"A_23_P{100000 + i}" for i in range(N_GENES)],
    "FlyBase": [f"FBgn{i:07d}" for i in range(N_GENES)],
    "own numbers": [f"probe_{i}" for i in range(N_GENES)],
    "of no known form": [f"TX{'abcdefghij'[i % 10]}/{i}/q" for i in range(N_GENES)],
}


def data(index: list[str], **columns: Any) -> Any:
    adata = small_adata()
    adata.var = pd.DataFrame(columns, index=index)
    return adata


@pytest.mark.parametrize("column", ["feature_name", "gene_symbols", "Symbol", "gene_short_name", "Gene.name"])
@pytest.mark.parametrize("kind", INDEXES)
def test_symbols_under_a_usual_name_are_found(kind: str, column: str) -> None:
    adata = data(INDEXES[kind], gene_ids=INDEXES["Ensembl"], **{column: pd.Categorical(SYMBOLS)}, n_counts=1.0)
    dataset = dataset_from_anndata(adata, CONFIG)
    assert dataset.gene_symbols == tuple(SYMBOLS)
    assert dataset.adata.var_names.tolist() == INDEXES[kind]
    what = "genes have two names" if kind == "of no known form" else "the gene names look like identifiers"
    (warning,) = dataset.warnings
    assert warning.startswith(f"adata: {what}, first {INDEXES[kind][0]!r}; var[{column!r}] is shown beside")


def test_a_single_column_of_another_name_is_found_beside_identifiers() -> None:
    columns = {"label": SYMBOLS, "chromosome": ["chr1", "chr2"] * 25, "description": ["a long text about it"] * N_GENES}
    assert dataset_from_anndata(data(INDEXES["Ensembl"], **columns), CONFIG).gene_symbols == tuple(SYMBOLS)
    names = [f"{symbol}x" for symbol in SYMBOLS]
    assert dataset_from_anndata(data(names, **columns), CONFIG).gene_symbols is None


def test_several_possible_columns_are_asked_about() -> None:
    other = [symbol.lower() for symbol in SYMBOLS]
    dataset = dataset_from_anndata(data(INDEXES["Ensembl"], human=SYMBOLS, mouse=other), CONFIG)
    assert dataset.gene_symbols is None
    assert "several columns of var may hold symbols: 'human', 'mouse'. Set data.gene_symbols" in dataset.warnings[0]
    chosen = dataset_from_anndata(
        data(INDEXES["Ensembl"], human=SYMBOLS, mouse=other), replace(CONFIG, gene_symbols="mouse")
    )
    assert chosen.gene_symbols == tuple(other)


def test_words_for_missing_are_no_symbols_but_one_gene_of_the_fly_is_called_nan() -> None:
    words = ["nan", "nan", "<NA>", "<NA>", *SYMBOLS[4:]]
    dataset = dataset_from_anndata(data(INDEXES["Ensembl"], gene_name=words), CONFIG)
    assert dataset.gene_symbols == ("", "", "", "", *SYMBOLS[4:])
    dataset = dataset_from_anndata(data(INDEXES["FlyBase"], gene_name=["nan", *SYMBOLS[1:]]), CONFIG)
    assert dataset.gene_symbols is not None
    assert dataset.gene_symbols[0] == "nan"


def test_none_is_said_to_mean_no_symbols_where_a_column_has_that_name() -> None:
    dataset = dataset_from_anndata(data(INDEXES["Ensembl"], none=SYMBOLS), replace(CONFIG, gene_symbols="none"))
    assert dataset.gene_symbols is None
    assert "the column of var of that name is not used" in dataset.warnings[0]


def test_none_leaves_symbols_out() -> None:
    adata = data(INDEXES["Ensembl"], feature_name=SYMBOLS)
    dataset = dataset_from_anndata(adata, replace(CONFIG, gene_symbols="none"))
    assert (dataset.gene_symbols, dataset.warnings) == (None, ())


@pytest.mark.parametrize("wanted", ["symbols", "n_counts"])
def test_a_column_that_cannot_be_shown_is_refused(wanted: str) -> None:
    adata = data(INDEXES["Ensembl"], feature_name=SYMBOLS, n_counts=1.0, blank="")
    with pytest.raises(DataError, match=r"var has no column .* of text\. Columns of text: 'feature_name', 'blank'"):
        dataset_from_anndata(adata, replace(CONFIG, gene_symbols=wanted))
    with pytest.raises(DataError, match=r"var\['blank'\] is empty"):
        dataset_from_anndata(adata, replace(CONFIG, gene_symbols="blank"))


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"gene_symbols": INDEXES["mouse with version"]},  # identifiers again
        {"name": ["T cell receptor alpha chain, constant part"] * N_GENES},
        {"symbol": [""] * 40 + SYMBOLS[:10]},
    ],
)
def test_what_is_no_symbol_is_not_taken_for_one(columns: dict[str, Any]) -> None:
    assert dataset_from_anndata(data(INDEXES["Ensembl"], **columns), CONFIG).gene_symbols is None


@pytest.mark.parametrize("index", ["running numbers", "Entrez"])
def test_plain_numbers_as_names_are_warned_of(index: str) -> None:
    dataset = dataset_from_anndata(data(INDEXES[index]), CONFIG)
    assert dataset.warnings[0].startswith(f"adata: the gene names are plain numbers, first {INDEXES[index][0]!r}")
    beside = dataset_from_anndata(data(INDEXES[index], gene_ids=INDEXES["Ensembl"]), CONFIG)
    assert beside.gene_symbols == tuple(INDEXES["Ensembl"])


def test_raw_takes_symbols_from_var_by_name(tmp_path: Path) -> None:
    adata = data(INDEXES["Ensembl"], feature_name=SYMBOLS)
    adata.raw = adata.copy()
    adata.raw.var.drop(columns="feature_name", inplace=True)
    kept = adata[:, 10:40].copy()
    kept.X = np.log1p(kept.X.toarray())
    kept.write_h5ad(tmp_path / "a.h5ad")
    dataset = load_dataset(file_config(tmp_path / "a.h5ad", layer="raw"))
    assert dataset.gene_symbols == ("",) * 10 + tuple(SYMBOLS[10:40]) + ("",) * 10


def test_symbols_follow_the_selected_genes_and_blanks_around_them_go() -> None:
    adata = data(INDEXES["Ensembl"], feature_name=[f" {symbol} " for symbol in SYMBOLS])
    adata.X[:, 3] = 0
    dataset = dataset_from_anndata(adata, replace(CONFIG, n_top_genes=20))
    assert dataset.gene_symbols is not None
    expected = dict(zip(INDEXES["Ensembl"], SYMBOLS, strict=True))
    assert dataset.gene_symbols == tuple(expected[gene] for gene in dataset.adata.var_names)
    assert dataset.adata.n_vars == 20


def test_tables_have_the_symbol_after_the_gene_and_shared_symbols_stay_apart() -> None:
    shared = ["HLA", "HLA", "", *SYMBOLS[3:]]
    dataset = dataset_from_anndata(data(INDEXES["Ensembl"], feature_name=shared), CONFIG)
    ids = INDEXES["Ensembl"]
    plain = pd.DataFrame({"population": "T", "gene": [ids[1], ids[2], ids[0]], "rank": [1, 2, 3]})
    coded = plain.assign(gene=pd.Categorical(plain["gene"], categories=ids))
    other = pd.DataFrame({"population": ["T"]})
    tables = with_symbols(
        {"consensus": plain, "rankings": coded, "populations": other, "genes": genes_table(dataset)}, dataset
    )
    for name in ("consensus", "rankings"):
        assert tables[name].columns.tolist() == ["population", "gene", "symbol", "rank"]
        assert tables[name]["symbol"].tolist() == ["HLA", "", "HLA"]
        assert tables[name]["gene"].tolist() == [ids[1], ids[2], ids[0]]
    assert tables["rankings"]["symbol"].dtype == "category"
    assert tables["populations"] is other
    assert "symbol" not in plain
    genes = tables["genes"]
    assert genes.columns.tolist() == ["gene", "symbol", "feature_type", "n_cells", "mean_count"]
    assert genes["symbol"].tolist() == shared
    counts = small_adata().X.toarray()
    assert genes["n_cells"].tolist() == (counts > 0).sum(axis=0).tolist()
    np.testing.assert_allclose(genes["mean_count"], counts.mean(axis=0, dtype=float))
    assert with_symbols({"consensus": plain}, dataset_from_anndata(small_adata(), CONFIG))["consensus"] is plain


NAMED: dict[str, tuple[list[str], list[str], str]] = {
    "blank": (["", *SYMBOLS[1:]], ["ENSG00000000000", *SYMBOLS[1:]], "1 genes have no name and go by their id"),
    "shared": (
        ["HLA", "HLA", *SYMBOLS[2:]],
        ["HLA (ENSG00000000000)", "HLA (ENSG00000000001)", *SYMBOLS[2:]],
        "2 genes share their name with another and have their id beside it, first 'HLA (ENSG00000000000)'.",
    ),
    "as the ids": (
        [INDEXES["Ensembl"][0], "HLA", "HLA", *SYMBOLS[3:]],
        [INDEXES["Ensembl"][0], "HLA (ENSG00000000001)", "HLA (ENSG00000000002)", *SYMBOLS[3:]],
        "2 genes share their name with another",
    ),
}


@pytest.mark.filterwarnings("ignore:Variable names are not unique:UserWarning")
@pytest.mark.parametrize("column", ["gene_ids", "Ensembl.ID", "feature_id", "Accession"])
@pytest.mark.parametrize("name", NAMED)
def test_genes_without_a_name_of_their_own_are_told_apart_by_id(name: str, column: str) -> None:
    index, expected, said = NAMED[name]
    dataset = dataset_from_anndata(data(index, **{column: INDEXES["Ensembl"]}), CONFIG)
    assert dataset.adata.var_names.tolist() == expected
    assert [said in warning for warning in dataset.warnings] == [True]


@pytest.mark.filterwarnings("ignore:Variable names are not unique:UserWarning")
def test_without_ids_of_their_own_shared_names_get_numbers() -> None:
    index = ["HLA", "HLA", *SYMBOLS[2:]]
    for ids in ({}, {"gene_ids": "the same"}):
        dataset = dataset_from_anndata(data(index, **ids), CONFIG)
        assert dataset.adata.var_names[:2].tolist() == ["HLA", "HLA-1"]


def test_names_that_a_spreadsheet_made_dates_of_are_warned_of() -> None:
    dates = ["1-Mar", "2-Sep", "Dec-01", "2023-03-02", "7-Sep-24"]
    names = [*dates, "sep-1", "oct-1", "MARCH1", "DEC1", "H2-Ab1", *SYMBOLS[10:]]
    (warning,) = dataset_from_anndata(data(names), CONFIG).warnings
    assert warning.startswith("adata: 5 gene names are dates, first '1-Mar': a spreadsheet makes them of symbols")


def test_a_column_of_symbols_that_is_needed_and_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = written(tmp_path)
    with h5py.File(path, "r+") as file:
        column = file["var"].create_dataset("odd", data=np.arange(N_GENES))
        column.attrs.update({"encoding-type": "future", "encoding-version": "9"})
        file["var"].attrs["column-order"] = ["odd"]
    assert load_dataset(file_config(path)).gene_symbols is None
    with pytest.raises(DataError, match=r"var\['odd'\]: it is stored in a way.*It is needed for data\.gene_symbols"):
        load_dataset(file_config(path, gene_symbols="odd"))
