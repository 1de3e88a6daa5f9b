from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from tests.helpers import report_fixture as made

from scballast.methods.registry import method_order
from scballast.report.answer_section import answers
from scballast.report.caveats import caveats
from scballast.report.stored_tables import ResultFolder, read_table

if TYPE_CHECKING:
    from pathlib import Path


def titles(folder: Path) -> dict[str, float]:
    return {caveat.title: caveat.value for caveat in caveats(ResultFolder(folder))}


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
    consensus = pd.read_csv(folder / "tables" / "consensus.csv")
    found = answers(results)
    assert len(found) == 8
    for answer in found:
        own = consensus[(consensus["population"] == answer.population) & (consensus["method"] == answer.method)]
        own = own.sort_values("rank").head(10)
        assert [gene.name for gene in answer.genes] == list(own["gene"])
        assert [gene.frequency for gene in answer.genes] == list(own["selection_frequency"])
        assert answer.n_cells == results.n_cells[answer.population]


def test_an_answer_of_none_has_no_method_and_no_genes(folder: Path) -> None:
    change(folder, "answer", method="none", reason="nothing above its floor")
    assert not any(answer.trusted or answer.genes for answer in answers(ResultFolder(folder)))
    assert titles(folder)["No list to trust"] == 8


def test_variance_as_the_answer_is_said_to_be_no_program(folder: Path) -> None:
    assert "Variable, but not together" not in titles(folder)
    change(folder, "answer", method="within_dispersion")
    assert titles(folder)["Variable, but not together"] == 8


def test_each_caveat_names_the_number_that_triggered_it(folder: Path) -> None:
    found = titles(folder)
    training = pd.read_csv(folder / "tables" / "training.csv")
    assert found["Too few steps"] == training["n_steps"].min() < 500
    assert found["KL weight below 1"] == 0.25
    assert found["Populations left out"] == 1
    assert found["Labels from the same counts"] == 4
    assert "No intervals" not in found
    assert "Failed models" not in found


def test_well_trained_models_on_large_populations_raise_no_such_caveat(folder: Path) -> None:
    change(folder, "training", n_steps=5000, final_kl_weight=1.0)
    change(folder, "populations", n_cells=4000, ranked=True)
    assert not {"Too few steps", "KL weight below 1", "Small populations", "Populations left out"} & set(titles(folder))


def test_models_without_gradient_steps_are_not_counted_as_short(folder: Path) -> None:
    change(folder, "training", n_steps=0, final_kl_weight="")
    assert not {"Too few steps", "KL weight below 1"} & set(titles(folder))


def test_failed_models_are_counted(folder: Path) -> None:
    rows = len(pd.read_csv(folder / "tables" / "training.csv"))
    change(folder, "training", failure=["loss became NaN at epoch 3"] + [""] * (rows - 1))
    assert titles(folder)["Failed models"] == 1


def test_two_replicates_and_the_kind_of_resampling_are_named(tmp_path: Path) -> None:
    assert titles(made.write_trial(tmp_path / "a", made.Shape(n_replicates=2)))["No intervals"] == 2
    assert "Bootstrap" in titles(made.write_trial(tmp_path / "b", resample__kind="bootstrap"))
    assert "Same cells in every replicate" in titles(made.write_trial(tmp_path / "c", resample__kind="seed"))


def test_a_stable_control_and_batches_in_the_latent_space_are_named(tmp_path: Path) -> None:
    folder = made.write_trial(tmp_path, data__batch_key="donor")
    association = pd.read_csv(folder / "tables" / "association.csv")
    strongest = association.loc[association["key"] == "donor", "eta2"].max()
    assert titles(folder)["Batch in the latent space"] == strongest
    assert "A control is stable" not in titles(folder)
    change(folder, "stability", lower=0.4, floor=0.3)
    assert titles(folder)["A control is stable"] == 4


def test_a_warm_up_that_ends_with_the_training_has_reached_its_weight(folder: Path) -> None:
    change(folder, "training", final_kl_weight=0.9975)
    assert "KL weight below 1" not in titles(folder)


def test_lists_at_the_floor_are_counted(folder: Path) -> None:
    change(folder, "stability", lower=0.1, floor=0.3)
    results = ResultFolder(folder)
    lists = results.headline[results.headline["method"] != "random"]
    assert titles(folder)["Stability at or below the floor"] == len(lists)


def test_a_folder_without_stability_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"stability\.csv"):
        _ = ResultFolder(tmp_path).stability


def test_genes_are_named_by_symbol_and_id_wherever_there_is_a_symbol(folder: Path) -> None:
    results = ResultFolder(folder)
    plain = [gene.name for answer in answers(results) for gene in answer.genes]
    assert results.gene_label("GENE1") == "GENE1"
    symbols = {"GENE1": "CD3D", "GENE2": "CD3D", "GENE3": "", "GENE4": "GENE4"}
    genes = sorted(set(plain) | set(symbols))
    table = pd.DataFrame({"gene": genes, "symbol": [symbols.get(gene, f"S{gene}") for gene in genes]})
    table.to_csv(folder / "tables" / "genes.csv", index=False)
    results = ResultFolder(folder)
    labels = [results.gene_label(gene) for gene in symbols]
    assert labels == ["CD3D (GENE1)", "CD3D (GENE2)", "GENE3", "GENE4"]
    named = [gene.name for answer in answers(results) for gene in answer.genes]
    assert named == [results.gene_label(gene) for gene in plain]
    assert any("(" in name for name in named)
