"""Features that are not genes: antibodies, hashtags, guides, peaks, spike-ins, in any format and spelling."""

from __future__ import annotations

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
    "names", [["ERCC-00002", "ERCC-00171"], ["gSpikein_ERCC-00003"], ["ERCC.00004", "SIRV1"], ["ERCC00012"]]
)
def test_spike_ins_are_left_out_and_named(names: list[str]) -> None:
    adata = small_adata()
    adata.var_names = [*names, *adata.var_names[len(names) :]]
    dataset = dataset_from_anndata(adata, MEMORY)
    assert not set(names) & set(dataset.adata.var_names)
    assert dataset.warnings == (
        f"adata: {len(names)} spike-ins are left out, first {names[0]!r}: they are no genes of the cells.",
    )


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
    ]
    var = Annotation.of(pd.DataFrame(index=names))
    features = gene_features(var, [], "x")
    assert features.genes.all()
    assert features.warnings == ()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("CD3_TotalSeqB", "antibodies or hashtags"),
        ("Hashtag1", "antibodies or hashtags"),
        ("ADT_CD19", "antibodies or hashtags"),
        ("CD3-TotalA", "antibodies or hashtags"),
        ("CD3_prot", "antibodies or hashtags"),
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
    features = gene_features(Annotation.of(pd.DataFrame(index=["CD3D", name])), [], "x")
    assert features.genes.all()
    (warning,) = features.warnings
    assert warning.startswith(f"x: 1 features have names of {kind} and are analysed as genes: {name!r}.")
