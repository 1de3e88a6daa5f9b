"""The modules of a whole experiment: a planted program is one, in every replicate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scballast
from scballast.config.compose import compose_config
from scballast.experiment import hotspot_modules
from scballast.experiment.hotspot_modules import COLUMNS
from scballast.experiment.run import prepare_dataset
from scballast.experiment.setup import Setup
from scballast.experiment.training import train_models
from scballast.report import evidence
from scballast.report.stored_tables import ResultFolder

pytestmark = pytest.mark.filterwarnings("default")

PROGRAM = [f"gene{number}" for number in range(30)]


def example(folder: Path) -> Path:
    """Write two populations, of which A has a program of 30 genes."""
    rng = np.random.default_rng(4)
    population = np.repeat(["A", "B"], [240, 160])
    log_rate = np.tile(rng.normal(-0.5, 0.7, 120), (population.size, 1))
    log_rate[:, 100:110] += 1.5 * (population == "A")[:, None]
    log_rate[:240, :30] += 0.8 * rng.normal(size=(240, 1))
    adata = anndata.AnnData(
        sparse.csr_matrix(rng.poisson(np.exp(log_rate)), dtype=np.float32),
        obs=pd.DataFrame({"cell_type": population}, index=[f"c{number}" for number in range(population.size)]),
        var=pd.DataFrame(index=[f"gene{number}" for number in range(120)]),
    )
    path = folder / "program.h5ad"
    adata.write_h5ad(path)
    return path


def test_of_a_large_population_a_part_is_looked_at_as_by_the_ranking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    real = hotspot_modules.local_modules

    def counted(scores: Any, counts: Any) -> Any:
        sizes.append(counts.shape[0])
        return real(scores, counts)

    monkeypatch.setattr(hotspot_modules, "local_modules", counted)
    monkeypatch.setattr(hotspot_modules, "MOST_CELLS", 90)  # of 120 and 80 in a half
    config = compose_config(
        ["data=h5ad", f"data.path={example(tmp_path)}", "data.population_key=cell_type", "model=factor_analysis",
         "model.n_latent=3", "methods=[hotspot]", "resample.n_replicates=2", "cache=false"]
    )  # fmt: skip
    setup = Setup.of(config, prepare_dataset(config))
    hotspot_modules.hotspot_modules_table(setup, train_models(setup))
    assert sizes == [90, 80, 90, 80]


@pytest.mark.usefixtures("spared_work")
def test_a_planted_program_is_a_module_in_every_replicate_and_the_report_shows_it(tmp_path: Path) -> None:
    words = [
        "data=h5ad", f"data.path={example(tmp_path)}", "data.population_key=cell_type", "model=factor_analysis",
        "model.n_latent=3", "methods=[hotspot]", "resample.n_replicates=4", "rank.top_k=20", "programs.find=false",
        "association.n_permutations=0", f"runs_dir={tmp_path / 'runs'}",
    ]  # fmt: skip
    result = scballast.run(words)
    table = result.tables["hotspot_modules"]
    assert list(table.columns) == list(COLUMNS)
    assert set(table["population"]) == {"A"}
    assert set(table["module"]) == {1}
    assert set(table["gene"]) <= set(PROGRAM)
    assert len(table) >= 20
    assert (table["n_replicates"] == 3).all()
    assert (table["q_value"] < 0.05).all()
    assert table["local_correlation_z"].is_monotonic_decreasing
    assert table["together_again"].mean() > 0.6
    report = " ".join((result.folder / "report.html").read_text(encoding="utf-8").split())
    assert "Which genes go together in cells that the model places near each other?" in report
    assert ", ".join(table["gene"].head(8)) + ", …" in report
    assert "No modules in B." in report
    # Nothing found is a result too; the method's absence is not.
    (result.folder / "tables" / "hotspot_modules.csv").write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    (section,) = evidence._hotspot_modules(ResultFolder(result.folder))
    assert (section.missing, section.grids) == ("No modules in A, B.", ())
