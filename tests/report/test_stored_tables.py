from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from tests.helpers import report_fixture as made

from scballast.methods.registry import method_order
from scballast.report.answer_section import answers
from scballast.report.stored_tables import ResultFolder, read_table

if TYPE_CHECKING:
    from pathlib import Path


def change(folder: Path, name: str, **values: object) -> None:
    path = folder / "tables" / f"{name}.csv"
    pd.read_csv(path, keep_default_na=False).assign(**values).to_csv(path, index=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made.write_trial(tmp_path / "trial")


def test_text_stays_text_and_numbers_become_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('population,phi,k\nNA,0.1,50\n1,,50\n"a\nb",nan,50\n', encoding="utf-8")
    table = read_table(path)
    assert list(table["population"]) == ["NA", "1", "a\nb"]
    assert table["phi"][0] == 0.1
    assert table["phi"][1:].isna().all()
    assert table["k"].sum() == 150


def test_parquet_and_csv_read_alike(tmp_path: Path) -> None:
    table = pd.DataFrame({"population": pd.Categorical(["1", "NA"]), "phi": [0.25, math.nan]})
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet", index=False)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), read_table(tmp_path / "t.parquet"))


def test_populations_are_ordered_by_size_and_methods_as_in_the_contract(folder: Path) -> None:
    results = ResultFolder(folder)
    sizes = [results.n_cells[name] for name in results.populations]
    assert sizes == sorted(sizes, reverse=True)
    assert "tiny" not in results.populations
    assert results.methods("marker") == ["axis", "contrast", "wilcoxon", "random"]
    unknown_last = ["contrast", "wilcoxon", "random", "contrast_pca"]
    assert sorted(["random", "wilcoxon", "contrast_pca", "contrast"], key=method_order) == unknown_last


def test_headline_uses_the_configured_k(tmp_path: Path) -> None:
    results = ResultFolder(made.write_trial(tmp_path, rank__top_k=20))
    assert results.top_k == 20
    assert set(results.headline["k"]) == {20}


def test_mean_ranks_equal_a_plain_loop(folder: Path) -> None:
    stored = pd.read_parquet(folder / "tables" / "rankings.parquet")
    found = ResultFolder(folder).mean_ranks(["contrast", "wilcoxon"])
    assert found is not None
    assert set(found["method"]) == {"contrast", "wilcoxon"}
    row = found.iloc[17]
    same = (stored["method"] == row["method"]) & (stored["gene"] == row["gene"])
    assert row["rank"] == stored.loc[same & (stored["population"] == row["population"]), "rank"].mean()


def test_answers_join_sizes_and_genes(folder: Path) -> None:
    results = ResultFolder(folder)
    listed = pd.read_csv(folder / "tables" / "answer_genes.csv", float_precision="round_trip")
    found = answers(results)
    assert len(found) == 8
    for answer in found:
        own = listed[(listed["population"] == answer["population"]) & (listed["estimand"] == answer["estimand"])]
        own = own.sort_values("rank").head(10)
        assert [gene for gene, _ in answer["genes"]] == list(own["gene"])
        assert [change for _, change in answer["genes"]] == list(own["log2_fold_change"])
        assert answer["n_cells"] == results.n_cells[answer["population"]]


def test_an_answer_of_none_has_no_method_and_no_genes(folder: Path) -> None:
    change(folder, "answer", method="none", reason="nothing above its floor")
    assert not any(answer["trusted"] or answer["genes"] for answer in answers(ResultFolder(folder)))


def test_a_folder_without_stability_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"stability\.csv"):
        _ = ResultFolder(tmp_path).stability


def test_genes_are_named_by_symbol_and_id_wherever_there_is_a_symbol(folder: Path) -> None:
    results = ResultFolder(folder)
    plain = [gene for answer in answers(results) for gene, _ in answer["genes"]]
    assert results.gene_label("GENE1") == "GENE1"
    symbols = {"GENE1": "CD3D", "GENE2": "CD3D", "GENE3": "", "GENE4": "GENE4"}
    genes = sorted(set(plain) | set(symbols))
    table = pd.DataFrame({"gene": genes, "symbol": [symbols.get(gene, f"S{gene}") for gene in genes]})
    table.to_csv(folder / "tables" / "genes.csv", index=False)
    results = ResultFolder(folder)
    labels = [results.gene_label(gene) for gene in symbols]
    assert labels == ["CD3D (GENE1)", "CD3D (GENE2)", "GENE3", "GENE4"]
    named = [gene for answer in answers(results) for gene, _ in answer["genes"]]
    assert named == [results.gene_label(gene) for gene in plain]
    assert any("(" in name for name in named)
