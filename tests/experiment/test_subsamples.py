"""Large populations: what is looked at in part says so, in a table and as a caveat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scballast.config.compose import compose_config
from scballast.experiment import marker_effects, programs, subsamples
from scballast.experiment.program_flags import cell_facts
from scballast.experiment.programs import program_tables
from scballast.experiment.run import prepare_dataset, run_experiment
from scballast.experiment.setup import Setup
from scballast.experiment.subsamples import PROGRAMS, TESTS, subsamples_table
from scballast.methods import cell_view
from scballast.verdict.caveats import _subsamples

pytestmark = pytest.mark.filterwarnings("default")
SIZES = (150, 90, 40)


@pytest.fixture(scope="module")
def setup() -> Setup:
    config = compose_config(
        [
            *("data=simulated", f"data.simulation.population_sizes={list(SIZES)}", "data.simulation.n_genes=80"),
            *("data.simulation.n_markers=8", "data.simulation.n_program_genes=12", "model=pca", "model.n_latent=4"),
            *("methods=[residual_pca,wilcoxon,contrast]", "resample.n_replicates=6", "rank.top_k=10"),
            *("data.simulation.programs=latent", "association.n_permutations=0"),
        ]
    )
    return Setup.of(config, prepare_dataset(config))


def test_nothing_is_said_where_all_cells_are_looked_at(setup: Setup) -> None:
    table = subsamples_table(setup)
    assert table.empty
    assert list(_subsamples({"subsamples": table})) == []


def test_each_stage_says_of_which_populations_it_looked_at_a_part(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subsamples, "MOST_CELLS", 30)
    monkeypatch.setattr(subsamples, "MOST_TESTED", 70)
    table = subsamples_table(setup)
    rows = table.set_index(["stage", "population"])
    names = setup.populations
    assert rows.loc[("residual_pca", names[0])].tolist() == [75, 30]
    assert rows.loc[("residual_pca", names[1])].tolist() == [45, 30]
    assert rows.loc[(PROGRAMS, names[0])].tolist() == [150, 60]
    assert rows.loc[(TESTS, names[0])].tolist() == [75, 70]
    assert names[2] not in set(table["population"])  # 40 cells: whole everywhere
    assert "wilcoxon" not in set(table["stage"])
    (caveat,) = _subsamples({"subsamples": table})
    assert "residual_pca at 30 cells of each of 2 populations (the largest has 75)" in caveat.text
    assert caveat.value == 30


def test_programs_of_a_part_are_told_with_their_cells_and_their_models(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "MOST_CELLS", 60)
    monkeypatch.setattr(cell_view, "MOST_CELLS", 60)
    tables = program_tables(setup)
    assert tables["program_counts"][["n_cells", "n_looked_at"]].to_numpy().tolist() == [[150, 120], [90, 90], [40, 40]]
    monkeypatch.setattr(subsamples, "MOST_CELLS", 60)
    results = run_experiment(setup.config, setup.dataset, cache_dir=None).results
    activity, held = results.tables["program_activity"], results.tables["program_models"]
    assert len(activity), "no program to look at"
    sampled = activity[activity["population"] == setup.populations[0]]["cell"].unique()
    assert len(sampled) == 120
    n_seen = [np.isin(setup.dataset.adata.obs_names[r.cells], sampled).sum() for r in setup.replicates]
    of_first = held[held["population"] == setup.populations[0]]
    assert of_first.groupby("replicate")["n_cells"].first().tolist() == n_seen
    assert "A part of the cells" in set(results.tables["caveats"]["title"])


def test_marker_effects_of_some_genes_at_a_time_are_those_of_all(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = marker_effects.marker_effects_table(setup)
    monkeypatch.setattr(marker_effects, "_VALUES_AT_ONCE", 2000)
    pd.testing.assert_frame_equal(marker_effects.marker_effects_table(setup), whole, rtol=1e-12)


@pytest.mark.parametrize("n_donors", [1, 250])
def test_programs_are_compared_with_any_number_of_donors(setup: Setup, n_donors: int) -> None:
    adata = setup.dataset.adata.copy()
    adata.obs["donor"] = [f"donor{i % n_donors}" for i in range(adata.n_obs)]
    facts = cell_facts(Setup(setup.config, replace(setup.dataset, adata=adata, sample_key="donor"), (), ()))
    assert np.unique(facts.groups["donor"]).size == n_donors
