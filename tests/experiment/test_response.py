"""A whole experiment with two conditions, and that nothing changes without them."""

from __future__ import annotations

import re
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scballast
from scballast.api import RunResult

pytestmark = pytest.mark.filterwarnings("default")

# The interferon response of the cells of Kang et al. (2018), Nature Biotechnology 36, 89: what the tutorial of Seurat
# labels as responding in both T cells and monocytes (Butler et al. 2018, Nature Biotechnology 36, 411), and IFIT3.
INTERFERON = ("ISG15", "IFI6", "IFIT1", "IFIT2", "IFIT3", "ISG20", "MX1", "LY6E")
OF_RESPONSE = ("response_contrast", "response_pseudobulk", "response_wilcoxon", "response_permuted")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two populations of four donors under two conditions: genes 20-29 respond in T alone, 30-34 in both."""
    rng = np.random.default_rng(8)
    donor, side, population = (values.ravel() for values in np.indices((4, 2, 100)))
    population = population % 2
    log_rates = rng.normal(1, 0.7, 100) + rng.normal(0, 0.3, (4, 100))[donor]
    log_rates[:, :10] += 1.5 * population[:, None]
    log_rates[:, 20:30] += 1.5 * (side * population)[:, None]
    log_rates[:, 30:35] -= 1.5 * side[:, None]
    obs = {"cell_type": np.array(["B", "T"])[population], "donor": np.array(["d1", "d2", "d3", "d4"])[donor]}
    obs["treatment"] = np.array(["drug", "vehicle"])[1 - side]
    adata = anndata.AnnData(
        sparse.csr_matrix(rng.poisson(np.exp(log_rates)), dtype=np.float32),
        obs=pd.DataFrame(obs, index=[f"cell{i}" for i in range(donor.size)]),
        var=pd.DataFrame(index=[f"gene{i}" for i in range(100)]),
    )
    file = tmp_path_factory.mktemp("data") / "treated.h5ad"
    adata.write_h5ad(file)
    return file


def run(path: Path, runs: Path, *words: str) -> RunResult:
    return scballast.run(
        [
            "data=h5ad", f"data.path={path}", "data.population_key=cell_type", "data.sample_key=donor", "model=pca",
            "model.n_latent=5", "resample.n_replicates=4", "rank.top_k=15", "programs.find=false",
            "baselines.methods=[wilcoxon,random]", "association.n_permutations=99", f"runs_dir={runs}", *words,
        ]
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(path: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(path, tmp_path_factory.mktemp("runs"), "data.condition_key=treatment")


def test_the_genes_that_respond_are_the_answer(result: RunResult) -> None:
    answer = result.answer[result.answer["estimand"] == "response"].set_index("population")
    assert set(answer.index) == {"B", "T"}
    assert answer["method"].isin(OF_RESPONSE[:3]).all()
    in_both, in_t = ({f"gene{i}" for i in numbers} for numbers in (range(30, 35), range(20, 30)))
    for population, planted in (("B", in_both), ("T", in_both | in_t)):
        genes = result.genes(population, "response").set_index("gene")
        assert planted <= set(genes.index)
        assert len(genes) <= len(planted) + 2
        # "in" is the condition, "out" the reference, which is named like a control.
        assert (genes.loc[sorted(planted & in_both), "log2_fold_change"] < -0.5).all()
        assert (genes.loc[sorted(planted & in_t), "log2_fold_change"] > 0.5).all()
        for method in OF_RESPONSE[:3]:
            own = result.consensus[
                (result.consensus["method"] == method) & (result.consensus["population"] == population)
            ]
            assert planted <= set(own[own["rank"] <= len(planted) + 1]["gene"]), method


def test_the_tables_have_the_third_estimand(result: RunResult) -> None:
    assert set(result.rankings.loc[result.rankings["estimand"] == "response", "method"]) == set(OF_RESPONSE)
    for table in ("stability", "consensus", "confirmation"):
        own = result.tables[table]
        assert set(own.loc[own["estimand"] == "response", "method"]) == set(OF_RESPONSE), table
    pairs = result.concordance
    assert (pairs["method_a"].str.startswith("response") == pairs["method_b"].str.startswith("response")).all()
    confirmation = result.confirmation.set_index(["method", "population"])["confirmed"]
    assert confirmation.loc[RESPONSE_T] > 0.9
    assert confirmation.loc[("response_permuted", "T")] < 0.2
    assert {"stability/response_contrast", "confirmed/response_contrast"} <= set(result.metrics)
    assert "confirmed/response_permuted" not in result.metrics
    association = result.tables["association"]
    assert set(association["key"]) == {"cell_type", "treatment"}
    assert association.loc[association["key"] == "treatment", "q_value"].min() < 0.05


RESPONSE_T = ("response_wilcoxon", "T")


def test_the_report_says_what_responds(result: RunResult) -> None:
    page = (result.folder / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", " ", page)
    assert "Genes that respond within it" in text
    assert "response genes compare" in text
    assert "genes differ between the conditions within the population" in " ".join(text.split())
    assert (result.folder / "figures" / "stability_response.png").is_file()
    assert "Response genes:" in (result.folder / "description.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("spared_work")
def test_nothing_changes_for_the_other_estimands(result: RunResult, path: Path, tmp_path: Path) -> None:
    without = run(path, tmp_path)
    page = (without.folder / "report.html").read_text(encoding="utf-8").partition("<body")[2]
    assert "response" not in page.partition("Resolved configuration")[0].lower()
    assert not without.rankings["method"].str.startswith("response").any()
    for name in ("rankings", "stability", "consensus", "confirmation", "confirmation_genes", "answer", "concordance"):
        table = result.tables[name]
        others = table[table["estimand"] != "response"].reset_index(drop=True)
        pd.testing.assert_frame_equal(others, without.tables[name], check_categorical=False)


def test_methods_of_response_need_conditions(path: Path, tmp_path: Path) -> None:
    with pytest.raises(
        scballast.errors.ConfigError, match=r"'response_wilcoxon' cannot run: it needs data\.condition_key"
    ):
        run(path, tmp_path, "methods=[response_wilcoxon]")


@pytest.mark.slow
def test_interferon_genes_lead_on_real_cells(real_data: Path, tmp_path: Path) -> None:
    result = scballast.run(
        [
            "data=h5ad", f"data.path={real_data / 'kang18_subset.h5ad'}", "data.population_key=cell_type",
            "data.sample_key=donor", "data.condition_key=condition", "train=scvi_tools", "train.max_epochs=150",
            "model.n_latent=10", "resample.n_replicates=2", "fit.n_mc_samples=0", "association.n_permutations=0",
            "programs.find=false", f"runs_dir={tmp_path}",
            "methods=[response_contrast,response_ldvae_de,response_pseudobulk,response_wilcoxon,response_permuted]",
        ]
    )  # fmt: skip
    consensus = result.consensus.set_index(["method", "population", "gene"])["rank"]
    for (method, population), own in consensus.groupby(["method", "population"]):
        if method == "response_permuted":
            continue
        ranks = own.loc[method, population].reindex(INTERFERON)
        # Of 1,267 genes. Monocytes have stronger responses still (CXCL10, CCL8, APOBEC3A), which push these down, and
        # pseudobulk has two donors, whose agreement by chance orders what is far from 0 anyway.
        assert ranks.median() <= 16, (method, population, ranks)
        assert (ranks <= 100).all(), (method, population, ranks)
    answer = result.answer.set_index("population")
    assert (answer["confirmed"] > 0.9).all()
