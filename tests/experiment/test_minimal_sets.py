"""The smallest sets of genes of a whole experiment, chosen in replicates and scored in unseen cells."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scballast
from scballast.api import RunResult
from scballast.config.compose import compose_config
from scballast.data import load_dataset
from scballast.experiment.setup import replicates_of

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Write three populations: A has gene 0 alone; B has 1 and 2, of which C has 1 and A has 2."""
    rng = np.random.default_rng(9)
    population = np.repeat([0, 1, 2], [150, 120, 90])
    rates = np.tile(rng.uniform(0.3, 1.5, 60), (population.size, 1))
    rates[:, :3] = 0.02
    rates[population == 0, 0] = rates[population == 0, 2] = 9
    rates[np.isin(population, (1, 2)), 1] = 9
    rates[population == 1, 2] = 9
    adata = anndata.AnnData(
        sparse.csr_matrix(rng.poisson(rates), dtype=np.float32),
        obs=pd.DataFrame({"cell_type": np.array(["A", "B", "C"])[population]}, index=[f"c{i}" for i in range(360)]),
        var=pd.DataFrame(index=[f"gene{i}" for i in range(60)]),
    )
    path = tmp_path_factory.mktemp("data") / "three.h5ad"
    adata.write_h5ad(path)
    return [
        "data=h5ad", f"data.path={path}", "data.population_key=cell_type", "model=pca", "model.n_latent=3",
        "resample.n_replicates=4", "rank.top_k=10", "programs.find=false", "association.n_permutations=0",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def result(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    runs = tmp_path_factory.mktemp("runs")
    return scballast.run([*words, "methods=[contrast,min_rank_auc]", f"runs_dir={runs}"])


def test_the_planted_sets_are_found(result: RunResult) -> None:
    table = result.tables["minimal_sets"].set_index("population")
    sets = table.groupby("population")["gene"].agg(list).to_dict()
    assert sets["A"] == ["gene0"]
    assert sets["B"] == ["gene1", "gene2"]
    assert (table.loc[["A", "B"], "heldout_f"] > 0.97).all()
    assert (table.loc[["A", "B"], "recurrence"] == 1.0).all()
    assert (table.loc[["A", "B"], "n_replicates"] == 4).all()
    # C is known by a gene that it lacks, and sets hold what is seen: gene 1 takes the cells of B too.
    assert (table.loc["C", "precision"] < 0.6).all()


def test_the_scores_are_those_of_unseen_cells(result: RunResult, words: list[str]) -> None:
    config = compose_config([*words, "methods=[contrast,min_rank_auc]"])
    dataset = load_dataset(config.data)
    levels = dataset.adata.X.toarray() / dataset.total_counts[:, None] * 1e4
    table = result.tables["minimal_sets"]
    own = table[table["population"] == "B"]
    columns = [dataset.adata.var_names.get_loc(gene) for gene in own["gene"]]
    precision = []
    for replicate in replicates_of(config, dataset):
        # Thresholds differ between replicates; between the two levels of these genes all do the same.
        taken = (levels[replicate.heldout][:, columns] > own["threshold"].to_numpy()).all(axis=1)
        inside = dataset.population_codes[replicate.heldout] == 1
        precision.append(inside[taken].mean())
    assert own["precision"].iloc[0] == pytest.approx(np.mean(precision), abs=0.02)
    assert own["precision"].iloc[0] > 0.97


@pytest.mark.usefixtures("spared_work")
def test_the_report_shows_them_and_without_candidates_there_are_none(
    result: RunResult, words: list[str], tmp_path: Path
) -> None:
    assert "Which few genes tell a population apart?" in (result.folder / "report.html").read_text(encoding="utf-8")
    without = scballast.run([*words, "methods=[contrast,wilcoxon]", f"runs_dir={tmp_path}"])
    assert "minimal_sets" not in without.tables
    assert "Which few genes" not in (without.folder / "report.html").read_text(encoding="utf-8")
