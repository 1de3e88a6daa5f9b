"""Labels and names that only look different: odd blanks are removed, the rest is asked about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.data_examples import N_CELLS, file_config, small_adata, written

from scballast.config.schema import DataConfig
from scballast.data import dataset_from_anndata, load_dataset
from scballast.data.load import _build, _Wishes
from scballast.data.name_forms import _all_common, _common, _forms, alike, lookalikes
from scballast.data.names import all_without_blanks, folded, without_blanks
from scballast.data.source import source_of
from scballast.errors import DataError

CONFIG = DataConfig(kind="file", population_key="cell_type", n_top_genes=None, min_cells=5)
BLANKS = ["B cell ", " B cell", "B  cell", "B cell\t", "B cell\u00a0", "\u200bB cell", "B \u00a0cell", "\ufeffB cell\n"]
ALIKE = ["b cell", "B\u00a0cell", "B\u2009cell", "B\tcell", "\uff22 cell", "B ce\u200dll"]


@pytest.mark.parametrize("odd", BLANKS, ids=ascii)
@pytest.mark.parametrize("key", ["cell_type", "batch", "sample"])
def test_blanks_do_not_split_a_label(key: str, odd: str) -> None:
    adata = small_adata()
    adata.obs[key] = ["B cell", "T", odd, "T"] * (N_CELLS // 4)
    dataset = dataset_from_anndata(adata, replace(CONFIG, **({} if key == "cell_type" else {f"{key}_key": key})))
    assert dataset.adata.obs[key].tolist() == ["B cell", "T"] * (N_CELLS // 2)
    notes = [w for w in dataset.warnings if "blanks" in w]
    assert notes == [
        f"adata: blanks at the ends or repeated were removed from 1 labels of obs[{key!r}] in 15 cells, first "
        f"{odd!a}, by which 1 became one with another label."
    ]


@pytest.mark.parametrize("odd", [*ALIKE, "B\u2010cell", "B\u2212cell", "B-CELL"], ids=ascii)
def test_labels_that_look_alike_are_kept_apart_and_asked_about(odd: str) -> None:
    plain = "B-cell" if "B" in odd and not any(c.isspace() for c in odd) and "\u200d" not in odd else "B cell"
    adata = small_adata()
    adata.obs["cell_type"] = [plain, "T", odd] * (N_CELLS // 3)
    dataset = dataset_from_anndata(adata, CONFIG)
    assert set(dataset.labels) == {plain, "T", odd}
    (warning,) = [w for w in dataset.warnings if "differ only in case, blanks, hyphens or other separators" in w]
    assert " and ".join(f"{name!a} (20 cells)" for name in sorted([plain, odd])) in warning


@pytest.mark.parametrize(
    ("one", "other"), [("Müller", "Mu\u0308ller"), ("µm", "μm"), ("T\u200bh", "Th"), ("CD4⁺", "CD4+")]
)
def test_unicode_forms_are_asked_about(one: str, other: str) -> None:
    assert lookalikes([one, other, "x"]) == [sorted([one, other])]


@pytest.mark.parametrize(
    "names",
    [
        ["B cell", "B-cell", "B.cell", "B_cell"],
        ["CD16+ NK cell", "CD16+_NK_cell", "CD16+_NK cell"],
        ["Mono 1", "Mono_1", "mono-1"],
        ["细胞 A", "细胞_A"],
    ],
)
def test_labels_that_differ_in_what_separates_words_are_asked_about(names: list[str]) -> None:
    assert lookalikes([*names, "x"]) == [sorted(names)]


@pytest.mark.parametrize(
    "names",
    [
        ["CD8+ T", "CD8 + T", "CD8+T"],
        ["NK/T", "NK / T", "NK/ T"],
        ["T - cell", "T-cell", "T cell"],
        ["CD4- T", "CD4 - T"],
        ["B (naive)", "B(naive)", "B  (Naive)"],
        ["T0_", "T0", "T0.", "T0,", "T0;"],
        ["B__cell", "B_cell"],
        ["1", "1.0", "1.00"],
        ["batch_2", "batch_2.0", "batch 2"],
        ["T0", "\u04220", "\u03a40"],
        ["Mono", "M\u043eno", "\u041cono_"],
        ["T0", "T\u200b0", "T\u00ad0", "T\ufe0f0", "T\x080"],
        ["B cell", "B cells", "b-cells"],
        ["monocyte", "Monocytes"],
        ["Naive CD4 T", "Naïve CD4 T", "Nai\u0308ve CD4 T"],
        ["Schwann", "'Schwann'", '"Schwann"', "b'Schwann'", "\u201cSchwann\u201d"],
    ],
    ids=ascii,
)
def test_names_that_only_look_different_are_one_group(names: list[str]) -> None:
    assert lookalikes([*names, "x", "CD4+ T", "T1", "10"]) == [sorted(names)]


@pytest.mark.parametrize(
    "names",
    [
        ["CD4+", "CD4-", "CD4", "CD4+ T", "CD4- T", "CD4 T", "CD4+ CD8- T", "CD4- CD8+ T"],
        ["CD8+", "γδ T", "αβ T", "ab T", "细胞"],
        ["T1", "T2", "T 1", "T10", "T1.1", "T1.10", "T11"],
        ["1", "2", "10", "01", "1.2", "1-2", "1_2", "12", "1.20", "100", "1.0.1", "1.1.0", "1.1"],
        ["B", "B-", "-B", "B*", "B1", "B+"],
        ["Th1", "Th17", "Th-1-17", "ILC1", "ILC2", "ILC3"],
        ["virus", "viru", "mast", "mass", "Mus", "Mu", "basal", "A/B", "A B", "A+B"],
        ["Тест", "Text", "Νευρ", "Neur"],
        [f"{i}-{j}" for i in range(12) for j in range(12)],
        [f"cell{i}" for i in range(1200)],
    ],
    ids=lambda names: names[0],
)
def test_names_that_differ_in_more_are_not_asked_about(names: list[str]) -> None:
    assert lookalikes(names) == []


def test_groups_say_no_more_than_they_must() -> None:
    # CD4-T may be either of the others, which are not each other.
    assert lookalikes(["CD4- T", "CD4-T", "CD4 T"]) == [["CD4 T", "CD4-T"], ["CD4- T", "CD4-T"]]


@given(st.lists(st.text("T0s.1 -_+Ττ\u200b\u0422Α", max_size=5), max_size=12))
def test_the_quick_look_misses_no_group(names: list[str]) -> None:
    pairs = {(a, b) for a in set(names) for b in set(names) if a < b and set(alike([a], [b])) == {(a, b)}}
    found = {(a, b) for group in lookalikes(names) for a in group for b in group if a < b}
    assert found <= pairs
    assert all(any(f == g for f, g in zip(_forms(a), _forms(b), strict=True)) == ((a, b) in found) for a, b in (
        (a, b) for a in set(names) for b in set(names) if a < b
    ))  # fmt: skip


def test_other_columns_lose_their_blanks_and_numbers_stay_numbers() -> None:
    adata = small_adata()
    adata.obs["treatment"] = ["ctrl ", "stim", "ctrl", "\u00a0stim"] * (N_CELLS // 4)
    adata.obs["age"] = np.arange(N_CELLS) % 3
    source = source_of(adata, "adata")
    dataset = _build(source, CONFIG, _Wishes(("treatment", "age", "score")))
    assert dataset.adata.obs["treatment"].tolist() == ["ctrl", "stim"] * (N_CELLS // 2)
    assert dataset.adata.obs["treatment"].cat.categories.tolist() == ["ctrl", "stim"]
    assert dataset.adata.obs["age"].tolist() == adata.obs["age"].tolist()
    assert dataset.adata.obs["score"].tolist() == adata.obs["score"].tolist()
    assert [w for w in dataset.warnings if "blanks" in w] == [
        "adata: blanks at the ends or repeated were removed from 2 labels of obs['treatment'] in 30 cells, first "
        "'ctrl ', by which 2 became one with another label."
    ]


@pytest.mark.parametrize("key", ["batch", "sample", "treatment"])
def test_groupings_are_asked_about_with_their_cells(key: str) -> None:
    adata = small_adata()
    adata.obs[key] = ["1"] * 20 + ["1.0"] * 30 + ["2"] * 10
    settings = {"batch": {"batch_key": key}, "sample": {"sample_key": key}, "treatment": {}}[key]
    wanted = (key,) if key == "treatment" else ()
    dataset = _build(source_of(adata, "adata"), replace(CONFIG, **settings), _Wishes(wanted))
    (warning,) = [w for w in dataset.warnings if "differ only in" in w]
    assert f"labels of obs[{key!r}]" in warning
    assert "'1' (20 cells) and '1.0' (30 cells). If they mean the same" in warning


def test_a_label_of_blanks_alone_is_missing() -> None:
    adata = small_adata()
    adata.obs["cell_type"] = ["\u00a0", "T", "B"] * (N_CELLS // 3)
    dataset = dataset_from_anndata(adata, CONFIG)
    assert dataset.labels == ("B", "T")
    assert any("20 cells have an empty text or a word for 'missing'" in w for w in dataset.warnings)


@given(st.text(max_size=12))
def test_cleaning_is_done_once_and_for_all(text: str) -> None:
    clean = without_blanks(text)
    assert without_blanks(clean) == clean
    assert clean == clean.strip()
    assert "  " not in clean
    assert folded(text) == folded(clean)


def test_cell_names_lose_their_blanks_and_join_a_table_by_that(tmp_path: Path) -> None:
    names = [f" cell{i}" if i % 2 else f"cell{i}\u00a0" for i in range(N_CELLS)]
    path = written(tmp_path, lambda adata: setattr(adata, "obs_names", names))
    rows = pd.DataFrame({"type": ["T", "B "] * (N_CELLS // 2)}, index=[f"cell{i}  " for i in range(N_CELLS)])
    rows.to_csv(tmp_path / "labels.csv")
    dataset = load_dataset(file_config(path, labels=str(tmp_path / "labels.csv"), population_key="type"))
    assert dataset.adata.obs_names.tolist() == [f"cell{i}" for i in range(N_CELLS)]
    assert [(p.name, p.n_cells) for p in dataset.populations] == [("B", 30), ("T", 30)]
    assert sum("were removed from 60 cell names" in w for w in dataset.warnings) == 2
    assert any("labels of obs['type'] in 30 cells, first 'B '." in w for w in dataset.warnings)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda name: name.upper(), "'CELL1-1' and 'cell1-1'"),
        (lambda name: name.replace("-", "."), "'cell1.1' and 'cell1-1'"),
        (lambda name: name.replace("-", "\u2011"), "'cell1\\u20111' and 'cell1-1'"),
        (lambda name: name.replace("c", "\u0441"), "'\\u0441ell1-1' and 'cell1-1'"),
        (lambda name: f"{name}_", "'cell1-1_' and 'cell1-1'"),
    ],
)
def test_rows_of_a_table_that_nearly_match_are_named(change: object, shown: str, tmp_path: Path) -> None:
    assert callable(change)
    names = [f"cell{i}-1" for i in range(N_CELLS)]
    path = written(tmp_path, lambda adata: setattr(adata, "obs_names", names))
    rows = [change(name) if i in {1, 2, 3} else name for i, name in enumerate(names)]
    pd.DataFrame({"type": ["T", "B"] * (N_CELLS // 2)}, index=rows).to_csv(tmp_path / "labels.csv")
    dataset = load_dataset(file_config(path, labels=str(tmp_path / "labels.csv"), population_key="type"))
    assert np.flatnonzero(dataset.label_codes < 0).tolist() == [1, 2, 3]
    hint = "hyphens, dots, blanks, look-alike letters or Unicode form, as "
    assert any("3 of them differ from a cell's name only in case" in w and hint + shown in w for w in dataset.warnings)


@pytest.mark.filterwarnings("ignore:Observation names are not unique:UserWarning")
def test_cell_names_that_become_the_same_stay_unique() -> None:
    adata = small_adata()
    adata.obs_names = ["a", "a ", "A", *adata.obs_names[3:]]
    dataset = dataset_from_anndata(adata, CONFIG)
    assert dataset.adata.obs_names[:3].tolist() == ["a", "a-1", "A"]
    assert any("cell names that differ only in case" in w and "'A' and 'a'" in w for w in dataset.warnings)


def test_cell_names_that_blanks_told_apart_are_explained() -> None:
    adata = small_adata()
    adata.obs_names = [f"c{i // 2}{' ' * (i % 2)}" for i in range(N_CELLS)]
    (note,) = [w for w in dataset_from_anndata(adata, CONFIG).warnings if "more than once" in w]
    assert note == (
        "adata: 30 cell names occur more than once, first 'c0'; the later ones got -1, -2, … appended. 30 of them "
        "differ from another only in blanks, as 'c0' and 'c0 '."
    )
    adata.obs_names = [f"c{i // 2}" for i in range(N_CELLS)]
    (note,) = [w for w in dataset_from_anndata(adata, CONFIG).warnings if "more than once" in w]
    assert note.endswith("appended.")


def test_gene_names_lose_their_blanks_and_what_becomes_equal_by_that_is_explained() -> None:
    adata = small_adata()
    adata.var_names = ["CD3D", "CD3D ", " CD4", *adata.var_names[3:]]
    dataset = dataset_from_anndata(adata, CONFIG)
    assert dataset.adata.var_names[:3].tolist() == ["CD3D", "CD3D-1", "CD4"]
    assert dataset.warnings == (
        "adata: blanks at the ends or repeated were removed from 2 gene names, first 'CD3D '.",
        "adata: 1 gene names occur more than once, first 'CD3D'; the later ones got -1, -2, … appended. 1 of them "
        "differ from another only in blanks, as 'CD3D' and 'CD3D '.",
    )
    adata.var["gene_ids"] = [f"ENSG{i:011d}" for i in range(adata.n_vars)]
    dataset = dataset_from_anndata(adata, CONFIG)
    assert dataset.adata.var_names[1] == "CD3D (ENSG00000000001)"
    assert dataset.warnings[-1].endswith("1 of them differ from another only in blanks, as 'CD3D' and 'CD3D '.")


def test_rows_and_cells_that_blanks_told_apart_are_explained(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "twice.csv").write_text("cell,x\ncell0,T\ncell0 ,B\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"line 3\. 1 of them differ from another only in blanks, as 'cell0' and 'cell0 '"
    ):
        load_dataset(file_config(path, labels=str(tmp_path / "twice.csv")))
    adata = small_adata()
    adata.obs_names = ["cell0", "cell0 ", *adata.obs_names[2:]]
    adata.write_h5ad(path)
    (tmp_path / "once.csv").write_text("cell,x\ncell0,T\ncell5,B\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"which cell it labels\. 1 of them differ from another only in blanks, as 'cell0'"
    ):
        load_dataset(file_config(path, labels=str(tmp_path / "once.csv")))


@given(st.lists(st.text(st.sampled_from("aBs0 1.-_\n\x1cé/"), max_size=6), max_size=8))
def test_many_names_in_one_go_are_levelled_as_one_by_one(names: list[str]) -> None:
    assert _all_common(names) == [_common(name) for name in names]
    assert all_without_blanks(names) == [without_blanks(name) for name in names]
