"""Features that are not genes: antibodies, hashtags, guides, peaks, spike-ins, in any format and spelling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.helpers.data_examples import N_GENES, file_config, small_adata

from scballast.config.schema import DataConfig
from scballast.data import dataset_from_anndata, load_dataset
from scballast.data.annotation import Annotation
from scballast.data.features import gene_features
from scballast.data.remarks import Remarks
from scballast.errors import DataError

MEMORY = DataConfig(kind="file", population_key="cell_type", n_top_genes=None, min_cells=5)


def typed(column: str, gene: str, others: dict[str, int]) -> ad.AnnData:
    """Return the small data whose last features are of other types and have counts in the thousands."""
    adata = small_adata()
    kinds = [kind for kind, count in others.items() for _ in range(count)]
    adata.var[column] = pd.Categorical([gene] * (N_GENES - len(kinds)) + kinds)
    dense = adata.X.toarray()
    dense[:, N_GENES - len(kinds) :] += 1000
    adata.X = sp.csr_matrix(dense)
    return adata


@pytest.mark.parametrize(
    ("column", "gene", "others"),
    [
        ("feature_types", "Gene Expression", {"Antibody Capture": 5}),
        ("feature_types", "gene expression", {"antibody_capture": 5}),
        ("feature_type", "GENE_EXPRESSION", {"CRISPR Guide Capture": 2, "Multiplexing Capture": 1}),
        ("Feature.Types", "Gene-Expression", {"Custom": 3}),
        ("modality", "rna", {"atac": 4}),
        ("feature_types", "GEX", {"Peaks": 4, "whatever this is": 1}),
        ("feature_biotype", "gene", {"spike-in": 3}),
        ("feature_types", "GeneExpression", {"AntibodyCapture": 2, "CRISPRGuideCapture": 1}),
        ("feature_type", "mRNA", {"AbSeq": 5}),
        ("kind of feature", "Gene Expression", {"Antibody Capture": 5, "Peaks": 2}),
        ("assay", "RNA", {"ADT": 2, "HTO": 2}),
        ("assay", "SCT", {"HTO": 3}),
        ("feature_type", "transcripts", {"proteins": 3}),
        ("omics", "transcriptomics", {"proteomics": 3}),
    ],
)
def test_only_genes_are_analysed_whatever_the_spelling(column: str, gene: str, others: dict[str, int]) -> None:
    adata = typed(column, gene, others)
    dataset = dataset_from_anndata(adata, MEMORY)
    n_genes = N_GENES - sum(others.values())
    assert dataset.adata.var_names.tolist() == adata.var_names[:n_genes].tolist()
    assert dataset.total_counts.tolist() == adata.X[:, :n_genes].sum(axis=1).A1.tolist()
    assert dataset.feature_types == (gene,) * n_genes
    (warning,) = dataset.warnings
    assert f"{sum(others.values())} features that are not gene expression are left out: " in warning
    assert all(f"{kind!r} ({count})" in warning for kind, count in others.items())


def test_what_is_left_out_is_not_checked_either() -> None:
    adata = typed("feature_types", "Gene Expression", {"Antibody Capture": 5})
    dense = adata.X.toarray()
    dense[:, -5:] = np.random.default_rng(0).normal(size=(adata.n_obs, 5))  # denoised and scaled
    for x in (dense, sp.csr_matrix(dense), sp.csc_matrix(dense)):
        adata.X = x
        assert dataset_from_anndata(adata, MEMORY).adata.n_vars == N_GENES - 5
    dense[3, 7] = 0.5
    adata.X = dense
    with pytest.raises(DataError, match=r"first 0\.5 at cell 'cell3', gene 'gene7'"):
        dataset_from_anndata(adata, MEMORY)


BIOTYPES = ["protein_coding", "lncRNA", "processed_pseudogene", "IG_V_gene", "Mt_tRNA", "TEC"]


@pytest.mark.parametrize("column", ["feature_type", "gene_biotype", "of_mine"])
@pytest.mark.parametrize("other", ["antibody", "ERCC", "Antibody Capture", "spike-in", "ADT"])
def test_biotypes_beside_other_features_are_the_genes(column: str, other: str) -> None:
    adata = typed(column, "protein_coding", {other: 5})
    adata.var[column] = [*BIOTYPES, *adata.var[column][len(BIOTYPES) :]]
    dataset = dataset_from_anndata(adata, MEMORY)
    assert dataset.adata.n_vars == N_GENES - 5
    assert dataset.warnings == (
        f"adata: 5 features that are not gene expression are left out: {other!r} (5), first 'gene45'.",
    )


def test_types_that_are_not_known_beside_known_others_are_taken_for_genes_aloud() -> None:
    dataset = dataset_from_anndata(typed("feature_types", "Expression profile", {"Antibody Capture": 5}), MEMORY)
    assert dataset.adata.n_vars == N_GENES - 5
    assert "'Antibody Capture' (5), first 'gene45'" in dataset.warnings[0]
    assert dataset.warnings[1] == (
        "adata: 45 features of types that are not known are analysed as genes: 'Expression profile' (45). Where they "
        "are genes, call them 'Gene Expression'."
    )


def test_raw_with_types_of_its_own_spelling_is_read_as_x_would_be(tmp_path: Path) -> None:
    adata = typed("feature_types", "Gene exp.", {"Antibody Capture": 5})
    adata.raw = adata.copy()
    adata = adata[:, : N_GENES - 5].copy()
    del adata.var["feature_types"]
    adata.X = np.log1p(adata.X.toarray())
    adata.write_h5ad(tmp_path / "a.h5ad")
    dataset = load_dataset(file_config(tmp_path / "a.h5ad", layer="raw"))
    assert dataset.adata.n_vars == N_GENES - 5
    assert "'Antibody Capture' (5)" in dataset.warnings[0]


@pytest.mark.parametrize(
    ("column", "genes", "n_left"),
    [
        ("is_protein", False, N_GENES - 5),
        ("antibody", False, N_GENES - 5),
        ("is_HTO", False, N_GENES - 5),
        ("ercc", False, N_GENES - 5),
        ("is_gene", True, N_GENES - 5),
        ("gene", True, N_GENES),
        ("mt", False, N_GENES),
        ("is_protein", True, N_GENES),  # most genes code for one
        ("is_protein_coding", False, N_GENES),
    ],
)
@pytest.mark.parametrize("form", [bool, str, int, {False: "no", True: "yes"}.get])
def test_a_column_of_truths_says_which_features_are_genes(column: str, genes: bool, n_left: int, form: Any) -> None:
    adata = small_adata()
    truths = [genes] * (N_GENES - 5) + [not genes] * 5
    adata.var[column] = [form(truth) for truth in truths]
    dataset = dataset_from_anndata(adata, MEMORY)
    assert dataset.adata.n_vars == n_left
    said = [w for w in dataset.warnings if f"'{column}: {str(not genes).lower()}' (5)" in w]
    assert len(said) == (n_left < N_GENES)


@pytest.mark.parametrize("types_in_raw", [True, False])
def test_raw_follows_the_same_rule(types_in_raw: bool, tmp_path: Path) -> None:
    adata = typed("feature_types", "Gene Expression", {"Antibody Capture": 5})
    adata.raw = adata.copy()
    if not types_in_raw:
        adata.raw.var.drop(columns="feature_types", inplace=True)
    adata.X = np.log1p(adata.X.toarray())
    adata.write_h5ad(tmp_path / "a.h5ad")
    dataset = load_dataset(file_config(tmp_path / "a.h5ad", layer="raw"))
    assert dataset.adata.n_vars == N_GENES - 5
    assert "'Antibody Capture' (5)" in dataset.warnings[0]


@pytest.mark.parametrize(
    "values",
    [
        ["protein_coding"] * 40 + ["lncRNA"] * 10,  # CELLxGENE's feature_type
        ["protein_coding"] * 40 + ["artifact"] * 10,
        ["Genes_GRCh38"] * N_GENES,
        [None] * N_GENES,
        [1] * N_GENES,
        [["gene"]] * N_GENES,
    ],
)
def test_a_column_that_does_not_tell_genes_from_others_is_no_reason_to_drop_any(values: list[Any]) -> None:
    adata = small_adata()
    adata.var["feature_type"] = values
    dataset = dataset_from_anndata(adata, MEMORY)
    assert dataset.adata.n_vars == N_GENES
    assert dataset.feature_types is None
    assert dataset.warnings == ()


@pytest.mark.parametrize(
    "values",
    [["gene"] * N_GENES, ["gene"] * 40 + ["TP53"] * 10, ["rna", "scanned"] * (N_GENES // 2), ["peak"] * N_GENES],
)
def test_a_column_of_another_name_counts_only_if_all_it_says_is_known(values: list[str]) -> None:
    adata = small_adata()
    adata.var["of_mine"] = values
    assert dataset_from_anndata(adata, MEMORY).feature_types is None


def test_features_without_a_type_are_analysed_and_named() -> None:
    adata = typed("feature_types", "Gene Expression", {"Antibody Capture": 5})
    adata.var["feature_types"] = [None, *adata.var["feature_types"][1:]]
    dataset = dataset_from_anndata(adata, MEMORY)
    assert dataset.adata.n_vars == N_GENES - 5
    assert dataset.warnings[1] == "adata: 1 features without a type are analysed as genes, first 'gene0'."


def test_data_without_any_gene_say_what_they_hold() -> None:
    adata = typed("feature_types", "Antibody Capture", {"Peaks": 5})
    with pytest.raises(DataError, match=r"none of the 50 features is gene expression: .*'Antibody Capture' \(45\)"):
        dataset_from_anndata(adata, MEMORY)


@pytest.mark.parametrize(
    "names",
    [
        ["ERCC-00002", "ERCC-00171"],
        ["gSpikein_ERCC-00003"],
        ["ERCC.00004", "SIRV1"],
        ["ERCC00012"],
        ["ERCC_00002"],
        ["ercc-00003"],
        ["gSpikein_phiX174"],
        ["ERCC-00002.1", "ERCC-00003_ERCC-00003"],
    ],
)
def test_spike_ins_are_left_out_and_named(names: list[str]) -> None:
    adata = small_adata()
    adata.var_names = [*names, *adata.var_names[len(names) :]]
    dataset = dataset_from_anndata(adata, MEMORY)
    assert not set(names) & set(dataset.adata.var_names)
    assert dataset.warnings == (
        f"adata: {len(names)} spike-ins are left out, first {names[0]!r}: they are no genes of the cells.",
    )


@pytest.mark.parametrize("in_raw", [False, True])
def test_spike_ins_that_only_the_symbols_name_are_left_out(in_raw: bool) -> None:
    adata = small_adata()
    adata.var_names = [f"ENSG{i:011d}" for i in range(N_GENES)]
    symbols = [*(f"SYM{i}" for i in range(N_GENES - 2)), "ERCC-00002", "ERCC-00003"]
    if in_raw:
        adata.raw = adata.copy()
        adata.raw.var["gene_name"] = symbols
    else:
        adata.var["gene_name"] = symbols
    dataset = dataset_from_anndata(adata, MEMORY)
    assert dataset.adata.n_vars == N_GENES - 2
    assert "2 spike-ins are left out, first 'ENSG00000000048'" in dataset.warnings[0]


def test_antibodies_that_only_the_symbols_name_are_asked_about() -> None:
    var = pd.DataFrame({"gene_symbols": ["CD3D", "CD3_TotalSeqB"]}, index=["ENSG00000000001", "F1"])
    gene_features(Annotation.of(var), [], remarks := Remarks("x"))
    (warning,) = remarks.notes
    assert warning.startswith(
        "x: 1 features have names of antibodies or hashtags and are analysed as genes: 'CD3_Total"
    )


def test_spike_ins_alone_are_refused() -> None:
    adata = small_adata()
    adata.var_names = [f"ERCC-{i:05d}" for i in range(N_GENES)]
    with pytest.raises(DataError, match=r"all 50 genes are spike-ins, first 'ERCC-00000'.*Use the file with"):
        dataset_from_anndata(adata, MEMORY)


def test_genes_whose_names_resemble_other_features_stay() -> None:
    names = [
        "ERCC1",
        "ERCC6L2",
        "SIRT1",
        "AB015752.1",
        "CITED2",
        "ADTRP",
        "HTR1A",
        "CMC1",
        "TAGLN",
        "MT-CO1",
        "H1-2",
        "PROTEIN1",
        "ABCA1",
        "ANTXR1",
        "RP11-206L10.2",
        "HLA-A",
        "SGCA",
        "Sgcb",
        "NEGR1",
        "sgg",
        "N4BP1",
    ]
    var = Annotation.of(pd.DataFrame(index=names))
    remarks = Remarks("x")
    assert gene_features(var, [], remarks).genes.all()
    assert remarks.notes == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("CD3_TotalSeqB", "antibodies or hashtags"),
        ("Hashtag1", "antibodies or hashtags"),
        ("ADT_CD19", "antibodies or hashtags"),
        ("CD3-TotalA", "antibodies or hashtags"),
        ("CD3_prot", "antibodies or hashtags"),
        ("AB_CD3", "antibodies or hashtags"),
        ("anti-CD3", "antibodies or hashtags"),
        ("CD3_AB", "antibodies or hashtags"),
        ("CD3-CTCATTGTAACTCCT", "antibodies or hashtags"),  # CITE-seq-Count
        ("prot:CD3", "antibodies or hashtags"),
        ("Hashtag.3", "antibodies or hashtags"),
        ("TotalSeq-B_12", "antibodies or hashtags"),
        ("Lib-ADT-CD3", "antibodies or hashtags"),
        ("GATA1_guide_1", "guides"),
        ("CRISPR_GATA1", "guides"),
        ("sgGATA1", "guides"),
        ("sgGata1-2", "guides"),
        ("safe-targeting_7", "guides"),
        ("chr1_1000_99500", "peaks"),
        ("NegPrb7", "controls or deprecated probes"),
        ("NegControlProbe_00042", "controls or deprecated probes"),
        ("Blank-12", "controls or deprecated probes"),
        ("BLANK_0006", "controls or deprecated probes"),
        ("UnassignedCodeword_0001", "controls or deprecated probes"),
        ("DEPRECATED_ENSG00000000419", "controls or deprecated probes"),
        ("CD103:BER-ACT8|ITGAE|AHS0001|pAbO", "antibodies or hashtags"),
        ("SampleTag01_hs|stAbO", "antibodies or hashtags"),
        ("B0251 anti-human Hashtag 1", "antibodies or hashtags"),
        ("STAT1_sgRNA_2", "guides"),
        ("NonTargeting_3", "guides"),
        ("chr1:10109-10357", "peaks"),
        ("2-500000-500500", "peaks"),
    ],
)
def test_untyped_features_with_telling_names_are_asked_about(name: str, kind: str) -> None:
    var = Annotation.of(pd.DataFrame(index=["CD3D", name]))
    remarks = Remarks("x")
    assert gene_features(var, [], remarks).genes.all()
    (warning,) = remarks.notes
    assert warning.startswith(f"x: 1 features have names of {kind} and are analysed as genes: {name!r}.")


@pytest.mark.parametrize(
    "rows",
    [
        ["__no_feature", "__ambiguous", "__too_low_aQual", "__not_aligned", "__alignment_not_unique"],  # HTSeq
        ["N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous"],  # STAR
        ["unmapped"],  # CITE-seq-Count
    ],
)
def test_rows_of_reads_without_a_gene_are_left_out(rows: list[str]) -> None:
    adata = small_adata()
    adata.var_names = [*adata.var_names[: -len(rows)], *rows]
    dataset = dataset_from_anndata(adata, MEMORY)
    assert dataset.adata.n_vars == N_GENES - len(rows)
    assert dataset.total_counts.tolist() == adata.X[:, : -len(rows)].sum(axis=1).A1.tolist()
    listed = ", ".join(map(repr, rows))
    assert dataset.warnings == (f"adata: {len(rows)} rows that count reads without a gene are left out: {listed}.",)


@pytest.mark.parametrize(
    ("column", "gene", "other"),
    [
        ("feature_types", 0, 1),
        ("assay", "Spatial", "HTO"),
        ("of_mine", "x", "Peaks"),
        ("feature_types", "Genexpression", "Antikörper"),
    ],
)
def test_columns_that_may_tell_genes_from_others_are_asked_about(column: str, gene: object, other: object) -> None:
    adata = small_adata()
    adata.var[column] = [gene] * (N_GENES - 5) + [other] * 5
    dataset = dataset_from_anndata(adata, MEMORY)
    assert dataset.adata.n_vars == N_GENES
    assert dataset.warnings == (
        f"adata: var[{column!r}] may tell genes from other features, but not in words that are known: '{gene}' (45), "
        f"'{other}' (5). All are analysed as genes. If some are none, call genes 'Gene Expression' there.",
    )


@pytest.mark.filterwarnings("ignore:Variable names are not unique:UserWarning")
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("in_raw", [False, True])
@pytest.mark.parametrize("ids", [False, True])
def test_an_antibody_that_is_called_as_its_gene_changes_nothing_of_it(first: bool, in_raw: bool, ids: bool) -> None:
    adata = typed("feature_types", "Gene Expression", {"Antibody Capture": 5})
    adata.var_names = [*adata.var_names[:-5], *adata.var_names[:5]]
    if ids:
        adata.var["gene_ids"] = [f"ENSG{i:011d}" for i in range(N_GENES - 5)] + [f"CD{i}_TotalSeqB" for i in range(5)]
    wanted = adata[:, :-5].to_df()
    adata = adata[:, np.roll(np.arange(N_GENES), 5)].copy() if first else adata
    if in_raw:
        adata.raw = adata.copy()
        adata.raw.var.drop(columns=adata.var.columns, inplace=True)
        adata.X = np.log1p(adata.X.toarray())
    dataset = dataset_from_anndata(adata, replace(MEMORY, layer="raw" if in_raw else None))
    assert dataset.adata.var_names.tolist() == wanted.columns.tolist()
    np.testing.assert_array_equal(dataset.adata.X.toarray(), wanted)
    assert [w for w in dataset.warnings if "symbol" not in w] == [
        "adata: 5 features that are not gene expression are left out: 'Antibody Capture' (5), first 'gene0'."
    ]


def test_of_two_columns_of_types_the_one_that_tells_genes_from_others_counts() -> None:
    adata = typed("modality", "RNA", {"ADT": 5})
    adata.var.insert(0, "feature_types", "Gene Expression")
    assert dataset_from_anndata(adata, MEMORY).adata.n_vars == N_GENES - 5
    adata.var = adata.var.drop(columns="modality").assign(surface_protein=[False] * (N_GENES - 5) + [True] * 5)
    assert dataset_from_anndata(adata, MEMORY).adata.n_vars == N_GENES  # genes of such proteins
