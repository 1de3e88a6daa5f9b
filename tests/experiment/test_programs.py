"""Programs of real blood cells, and what is left out together where the cells come from donors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from scballast.agreement.programs import PopulationPrograms
from scballast.config.compose import compose_config
from scballast.experiment import programs
from scballast.experiment.gene_sets import program_genes
from scballast.experiment.program_flags import cell_facts, flags_of
from scballast.experiment.run import prepare_dataset
from scballast.experiment.setup import Setup
from scballast.report.program_section import write_gmt
from scballast.report.stored_tables import read_table

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def blood() -> Setup:
    config = compose_config(["data=pbmc68k", "methods=[residual_pca]", "model=pca"])
    return Setup.of(config, prepare_dataset(config))


def found_in(setup: Setup, population: str) -> tuple[PopulationPrograms, list[set[str]], list[list[str]]]:
    """Return a population's programs, the 15 genes of the largest weight of each, and its flags."""
    code = setup.populations.index(population)
    cells = np.flatnonzero(setup.dataset.population_codes == code)
    found = programs._of_population(setup, population, cells)
    genes = np.array(setup.dataset.gene_symbols or setup.dataset.adata.var_names)
    order = np.argsort(-np.abs(found.weights), axis=0)[:15]
    return found, [set(genes[rows]) for rows in order.T], flags_of(found, cell_facts(setup), cells, code).words


def test_known_programs_of_blood_cells_are_found_and_foreign_cells_are_flagged(blood: Setup) -> None:
    _, tops, flags = found_in(blood, "CD14+ Monocyte")
    (complement,) = (k for k, top in enumerate(tops) if {"C1QA", "C1QB"} <= top)
    assert not flags[complement]
    (t_cells,) = (k for k, top in enumerate(tops) if {"LTB", "IL32"} <= top)
    assert "T" in flags[t_cells][0]
    assert flags[t_cells][0].startswith("markers of CD")
    _, tops, flags = found_in(blood, "CD19+ B")
    (plasma,) = (k for k, top in enumerate(tops) if {"MZB1", "FKBP11", "PPIB"} <= top)
    assert not flags[plasma]


def test_donors_are_left_out_whole(blood: Setup) -> None:
    adata = blood.dataset.adata.copy()
    cells = np.flatnonzero(blood.dataset.population_codes == 0)
    donors = np.full(adata.n_obs, "other", dtype=object)
    donors[cells] = np.repeat(["a", "b", "c", "d", "e", "f", "g"], [40, 20, 19, 18, 16, 9, 7])
    adata.obs["donor"] = donors
    dataset = replace(blood.dataset, adata=adata, sample_key="donor")
    resample = replace(blood.config.resample, kind="donor")
    setup = replace(blood, dataset=dataset, config=replace(blood.config, resample=resample))
    parts = programs.parts_of(setup, cells, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(cells.size))
    assert sorted("".join(sorted(set(donors[cells[part]]))) for part in parts) == ["a", "b", "c", "dg", "ef"]
    whole = replace(setup, config=blood.config)
    assert [len(part) for part in programs.parts_of(whole, cells, np.random.default_rng(0))] == [26, 26, 26, 26, 25]


def test_a_population_of_one_donor_has_no_program_and_says_why(blood: Setup) -> None:
    adata = blood.dataset.adata.copy()
    adata.obs["donor"] = "a"
    dataset = replace(blood.dataset, adata=adata, sample_key="donor")
    resample = replace(blood.config.resample, kind="donor")
    setup = replace(
        blood, dataset=dataset, config=replace(blood.config, resample=resample), replicates=blood.replicates[:4]
    )
    cells = np.flatnonzero(blood.dataset.population_codes == 0)
    none = programs._of_population(setup, blood.populations[0], cells)
    assert none.n_programs == 0
    assert none.reason == "all of its cells have one donor: none can be left out to confirm a program"


def test_the_stored_genes_that_are_confirmed_are_those_of_the_file_for_enrichment(blood: Setup, tmp_path: Path) -> None:
    tables = programs.program_tables(blood)
    tables["programs"].to_csv(tmp_path / "programs.csv", index=False)
    stored = read_table(tmp_path / "programs.csv")
    assert stored["confirmed"].dtype == bool
    assert (stored.loc[stored["confirmed"], "q_value"] <= 0.05).all()
    n_confirmed = stored.groupby(["population", "program"], sort=False)["confirmed"].sum()
    assert list(n_confirmed) == list(tables["program_summary"]["n_genes"])
    write_gmt(SimpleNamespace(path=tmp_path, symbols={}, dataset="blood"), stored)  # type: ignore[arg-type]
    lines = [line.split("\t") for line in (tmp_path / "programs.gmt").read_text(encoding="utf-8").splitlines()]
    sides = {line[0]: line[2:] for line in lines}
    rows = stored[(stored["population"] == "CD19+ B") & (stored["program"] == "P1")]
    assert {"MZB1", "FKBP11", "PPIB"} <= set(sides["CD19+ B P1 up"]) | set(sides["CD19+ B P1 down"])
    for side, genes in program_genes(rows).items():
        assert sides[f"CD19+ B P1 {side}"] == genes
