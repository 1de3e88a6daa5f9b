"""Somebody's lists as files: any spelling of the columns, every oddity said; genes under other names."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.helpers.data_examples import file_config, small_adata

from scballast.data import load_dataset
from scballast.data.gene_match import match_genes, why_none_matches
from scballast.data.published_lists import (
    PublishedLists,
    match_populations,
    published_lists_of,
    read_published_lists,
)
from scballast.errors import DataError

LONG = "population,gene,rank\nB,MS4A1,2\nB,CD79A,1\nT,CD3D,1\n"


def read(tmp_path: Path, text: str, name: str = "lists.csv") -> PublishedLists:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return read_published_lists(str(path))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (LONG, "lists.csv"),
        (LONG.replace(",", "\t"), "lists.tsv"),
        (LONG.replace(",", ";"), "lists.csv"),
        (LONG, "lists.csv.gz"),
        ("\ufeff" + LONG.replace("\n", "\r\n"), "lists.csv"),
        (LONG.replace("population,gene", "Cell_Type,Gene symbol"), "lists.txt"),
        ("rank,population,gene\n2,B,MS4A1\n1,B,CD79A\n1,T,CD3D\n", "lists.csv"),
        ("population,gene\n1,B,CD79A\n2,B,MS4A1\n3,T,CD3D\n", "r.csv"),
    ],
)
def test_lists_are_read_however_they_are_written(tmp_path: Path, text: str, name: str) -> None:
    assert read(tmp_path, text, name).lists == {"B": ("CD79A", "MS4A1"), "T": ("CD3D",)}


def test_without_ranks_the_order_counts_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    found = read(tmp_path, "population,gene\nB,MS4A1\nB,CD79A\nB,MS4A1\n,X\nT,\nT, CD3D \n")
    assert found.lists == {"B": ("MS4A1", "CD79A"), "T": ("CD3D",)}
    assert found.warnings == (
        "lists.csv: 2 rows without a population or a gene are left out, first line 5.",
        "lists.csv: 'B' has 'MS4A1' more than once (1 rows too many); each gene is taken once, at its best rank.",
    )
    ranked = read(tmp_path, "population,gene,rank\nB,X,\nB,Y,3\nB,Z,1.5\nB,X,9\n")
    assert ranked.lists == {"B": ("Z", "Y", "X")}


def test_a_table_in_memory_is_read_like_a_file() -> None:
    table = pd.DataFrame(
        {
            "group": pd.Categorical(["B", "B", "T", None, "T"]),
            "names": ["MS4A1", "CD79A", "CD3D", "X", float("nan")],
            "rank": [2, 1.0, None, 1, 1],
        },
        index=["one", "one", "two", "two", "two"],
    )
    found = published_lists_of(table, "mine")
    assert found.lists == {"B": ("CD79A", "MS4A1"), "T": ("CD3D",)}
    assert found.warnings == ("mine: 2 rows without a population or a gene are left out, first row 4.",)
    assert published_lists_of(table.drop(columns="rank")).lists["B"] == ("MS4A1", "CD79A")
    with pytest.raises(DataError, match=r"mine: there is no column 'gene'.*Columns: 'group', 'rank'\. Allowed: col"):
        published_lists_of(table[["group", "rank"]], "mine")
    with pytest.raises(DataError, match="mine: row 1: the rank 'best' is no number"):
        published_lists_of(table.assign(rank="best"), "mine")
    with pytest.raises(DataError, match="mine: there is no row"):
        published_lists_of(table[:0], "mine")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the table of gene lists is empty"),
        ("population,gene\n", "no row with a population and a gene"),
        ("populatio,gene\nB,X\n", r"no column 'population'\. Did you mean 'population' by 'populatio'\?"),
        ("B cells,T cells\nCD79A,CD3D\n", r"no column 'population'\. Columns: 'B cells', 'T cells'"),
        ("population,gene,gene\nB,X,Y\n", "2 columns are called 'gene'"),
        ("population,gene,rank\nB,X,first\n", "line 2: the rank 'first' is no number"),
        ("population,gene\nB,X,Y\nB,X\n", "line 2 has 3 values where the header has 2"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(tmp_path, text)


def test_a_file_that_is_not_there_or_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file of gene lists\. Check the path after `scballast check`"):
        read_published_lists(str(tmp_path / "none.csv"))
    with pytest.raises(DataError, match=r"gene lists in files of type '\.xlsx' are not read"):
        read(tmp_path, LONG, "lists.xlsx")


def test_populations_are_found_under_names_that_only_look_different() -> None:
    ranked = ["CD14+ Monocyte", "B cell", "T cell"]
    names = ("CD14+  monocyte", "B_cell", "T-Cell", "b cell", "Monocyt", "rare")
    lists = PublishedLists("l.csv", {name: ("X",) for name in names})
    matched, notes = match_populations(lists, ranked, {"rare": 3}, 20)
    assert matched == {"CD14+  monocyte": "CD14+ Monocyte", "B_cell": "B cell", "T-Cell": "T cell"}
    said = {note.split("'")[1]: note for note in notes}
    assert said["b cell"].endswith("means 'B cell', as another name of the file does; its genes are left out.")
    assert said["Monocyt"].endswith("is left out. Did you mean 'CD14+ Monocyte'?")
    assert said["rare"].endswith("has 3 cells in the data, fewer than data.min_cells=20, and is left out.")
    only = PublishedLists("l.csv", {"T cell": ("X",)})
    assert match_populations(only, ranked, {}, 20)[1] == ["l.csv: has no list for 'CD14+ Monocyte', 'B cell'."]
    nk = PublishedLists("l.csv", {"NK cell": ("X",), "T cell": ("X",)})
    assert match_populations(nk, ranked, {}, 20)[1][0].endswith(
        "'NK cell' is no population of the data and is left out."
    )
    with pytest.raises(DataError, match=r"none of its 1 populations is one of the data.*Did you mean 'B cell'"):
        match_populations(PublishedLists("l.csv", {"B cel": ("X",)}), ranked, {}, 20)


KNOWN = {
    "name": ["ENSG00000153563.15", "ENSG00000010610.9", "ENSG00000206503.1", "ENSG00000227715.2", "ENSG00000164283.1"],
    "symbol": ["CD8A", "CD4", "HLA-A", "HLA-A", "ESM1"],
}


@pytest.mark.parametrize(
    ("name", "gene", "how"),
    [
        ("ENSG00000153563.15", 0, ""),
        ("CD8A", 0, ""),
        ("Cd8a", 0, "another case: ENSG00000153563.15"),
        ("ENSG00000010610", 1, "another version of the id: ENSG00000010610.9"),
        ("ENSG00000010610.3", 1, "another version of the id: ENSG00000010610.9"),
        ("CD4 (ENSG00000010610.9)", 1, "symbol and id in one: ENSG00000010610.9"),
        ("ENSG00000206503_HLA-A", 2, "symbol and id in one: ENSG00000206503.1"),
        ("HLA-A", None, "the name of 2 genes of the data ('ENSG00000206503.1', 'ENSG00000227715.2'): give the id"),
        ("ESMM1", None, "not in the data. Did you mean ESM1?"),
        ("EMS1", None, "not in the data. Did you mean ESM1?"),
        ("ESM2", None, "not in the data"),
        ("2-Sep", None, "not in the data: a date or a number"),
        ("44256", None, "not in the data: a date or a number"),
        ("ENSG00000999999", None, "not in the data"),
        ("XYZZY12", None, "not in the data"),
    ],
)
def test_genes_are_found_under_other_names(name: str, gene: int | None, how: str) -> None:
    match = match_genes([name], KNOWN)[0]
    assert match.gene == gene
    assert match.how.startswith(how)
    assert bool(match.how) == bool(how)
    assert ("Did you" in match.how) == ("Did you" in how)


def test_symbols_of_data_that_have_both_in_one() -> None:
    known = {"name": ["CD79A_ENSG00000105369", "CD74", "HBA1 (ENSG00000206172.8)"]}
    found = match_genes(["CD79A", "ENSG00000105369", "CD74", "HBA1", "cd79a"], known)
    assert [match.gene for match in found] == [0, 0, 1, 2, 0]


def test_signs_that_r_changes() -> None:
    assert [match.gene for match in match_genes(["HLA.DRA", "NKX2_1"], {"name": ["HLA-DRA", "NKX2-1"]})] == [0, 1]


def test_lists_of_other_kinds_of_names_say_so() -> None:
    assert "The list has ids, and the data have none" in why_none_matches(["ENSG00000010610"], {"name": ["CD4"]})
    assert "of different species" in why_none_matches(["ENSMUSG00000023274"], KNOWN)
    assert "set data.gene_symbols" in why_none_matches(["CD4"], {"name": KNOWN["name"]})


def test_genes_that_are_asked_for_are_kept_beside_the_analysed_ones(tmp_path: Path) -> None:
    adata = small_adata()
    counts = adata.X.toarray()
    counts[:, 7] = 0
    adata.X = sp.csr_matrix(counts)
    adata.var["gene_ids"] = [f"ENSG{i:011d}" for i in range(adata.n_vars)]
    path = tmp_path / "counts.h5ad"
    adata.write_h5ad(path)
    seen = {}

    def also(known: dict[str, list[str]]) -> np.ndarray:
        seen.update(known)
        return np.ones(len(known["name"]), dtype=bool)

    config = file_config(path, n_top_genes=45)
    dataset = load_dataset(config, also=also)  # type: ignore[arg-type]  # a plain function
    assert list(seen["gene_ids"]) == list(adata.var["gene_ids"])
    beside = dataset.beside
    assert beside is not None
    assert {*beside.names, *dataset.adata.var_names, "gene7"} == set(adata.var_names)
    assert not set(beside.names) & set(dataset.adata.var_names)
    np.testing.assert_array_equal(
        beside.counts.toarray(), adata[dataset.adata.obs_names, list(beside.names)].X.toarray()
    )
    plain = load_dataset(config)
    assert plain.beside is None
    assert plain.digest == dataset.digest
    assert list(plain.adata.var_names) == list(dataset.adata.var_names)
