"""Simulated programs of other forms than an LDVAE's, doublets and ambient counts."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from scballast.config.simulation import PROGRAMS, SimulationConfig
from scballast.data.planting import plant
from scballast.data.program_families import PROGRAM_FAMILIES
from scballast.data.simulate import simulate, truth_from_adata
from scballast.data.simulation_fit import SimulationParameters
from scballast.data.simulation_model import ambient_rates
from scballast.errors import ConfigError

SMALL = SimulationConfig(
    n_genes=120,
    population_sizes=(60, 40, 30),
    mean_counts=800,
    n_markers=12,
    n_programs=2,
    n_program_genes=8,
)
PARAMETERS = SimulationParameters(np.linspace(-8.0, -3.5, 80), np.full(80, -2.0), 0.2, {"source": "made up"})
OTHERS = [name for name in PROGRAMS if name != "latent"]
CLEAN = {"doublet_share": 0.0, "ambient_share": 0.0}


def simulated(seed: int = 0, **changes):
    return simulate(dataclasses.replace(SMALL, **changes), seed, parameters=PARAMETERS)


def same_counts(first, second) -> bool:
    other = second[first.obs_names]
    return (first.X != other.X).nnz == 0 and first.obs["expected_counts"].equals(other.obs["expected_counts"])


def test_the_families_are_those_of_the_configuration():
    assert tuple(PROGRAM_FAMILIES) == PROGRAMS


def test_latent_programs_give_the_numbers_they_always_gave():
    adata = simulated(3, shared_program=True, n_donors=2, null_split=True, overlap=0.5)
    assert adata.X.sum() == 103788
    digest = hashlib.sha256(adata.X.toarray().astype("<u2").tobytes()).hexdigest()
    assert digest.startswith("3b1677dd3591a2d5")
    assert "doublet_with" not in adata.obs


class TestForms:
    """Each family against its definition, by formulas of their own."""

    def test_additive_activities_are_sparse_gamma_and_add_to_rates(self):
        family = PROGRAM_FAMILIES["additive"]
        activity = family.activities(np.random.default_rng(0), 20_000)
        on = activity > 0
        assert on.mean() == pytest.approx(0.4, abs=0.015)
        deviation = np.sqrt(stats.gamma(2.0).moment(2) * 0.4 - 0.8**2)
        assert stats.kstest(activity[on] * deviation, stats.gamma(2.0).cdf).pvalue > 1e-3
        assert activity.std() == pytest.approx(1.0, abs=0.03)
        factor = np.exp(family.effects(activity, np.array([0.5, 2.0]), np.zeros(2)))
        np.testing.assert_allclose(factor.mean(axis=0), 1.0, atol=0.03)
        silent = factor[~on][0]
        np.testing.assert_allclose(factor, silent + np.outer(activity, [0.5, 2.0] * silent))

    def test_switch_has_a_third_on_and_half_of_the_genes_down(self):
        adata = simulated(population_sizes=(3000, 30), programs="switch", **CLEAN)
        activity = adata.obsm["program_activity"][:3000]
        for column in activity.T:
            low, high = np.unique(column)
            assert (column == high).mean() == pytest.approx(1 / 3, abs=0.03)
            assert low < 0 < high
        np.testing.assert_allclose(activity.var(axis=0), 1.0, atol=0.05)
        for program in plant(dataclasses.replace(SMALL, programs="switch"), 0)[1]:
            assert (program.loadings < 0).sum() == SMALL.n_program_genes // 2

    def test_path_genes_switch_at_their_own_points(self):
        family = PROGRAM_FAMILIES["path"]
        position = family.activities(np.random.default_rng(1), 20_000)
        assert stats.kstest(position, "uniform").pvalue > 1e-3
        points, loadings = np.array([0.2, 0.5, 0.8]), np.array([1.0, -0.7, 0.4])
        effects = family.effects(position, loadings, points)
        np.testing.assert_allclose(effects.mean(axis=0), 0.0, atol=0.02)
        ends = family.effects(np.array([0.0, 1.0]), loadings, points)
        step = expit((1 - points) / 0.05) - expit(-points / 0.05)
        np.testing.assert_allclose(ends[1] - ends[0], 2 * loadings * step)
        halfway = family.effects(points, loadings, points).diagonal()
        np.testing.assert_allclose(halfway, ends.mean(axis=0), atol=0.04)
        assert effects[:, 1].std() == pytest.approx(0.7, rel=0.12)
        own_points = [p.points for p in plant(dataclasses.replace(SMALL, programs="path"), 0)[1]]
        assert len(np.unique(own_points)) == len(own_points) * SMALL.n_program_genes

    def test_shared_is_everywhere_and_every_other_population_has_its_own(self):
        sets = truth_from_adata(simulated(programs="shared")).program_sets
        everywhere = sets.all(axis=0)
        assert everywhere.sum() == SMALL.n_program_genes
        assert sets.sum(axis=1).tolist() == [24, 8, 24]

    def test_none_plants_no_program(self):
        adata = simulated(programs="none", shared_program=True)
        truth = truth_from_adata(adata)
        assert not truth.program_sets.any()
        assert truth.program_variance.max() < 1e-12
        assert truth.marker_sets.sum(axis=1).tolist() == [12] * 3

    @pytest.mark.parametrize("programs", ["latent", "additive", "shared"])
    def test_populations_without_program_have_no_variance(self, programs):
        truth = truth_from_adata(simulated(programs=programs, shared_program=True, without_program=(2,)))
        assert not truth.program_sets[1].any()
        assert truth.program_variance[1].max() < 1e-12
        assert truth.program_sets[[0, 2]].any(axis=1).all()


@pytest.mark.parametrize("programs", [name for name in OTHERS if name != "none"])
class TestTruth:
    def test_truth_is_that_of_the_realised_rates(self, programs):
        config = dataclasses.replace(SMALL, programs=programs, shared_program=True)
        adata = simulate(config, 5, parameters=PARAMETERS)
        shifts, own = plant(config, 5)
        parents = np.repeat([0, 1, 2], config.population_sizes)
        eta = adata.var["log_rate"].to_numpy() + shifts[parents]
        for cell, parent in enumerate(parents):
            for program in own:
                if program.population in (parent, -1):
                    column = 2 if program.population == -1 else program.number
                    activity = adata.obsm["program_activity"][cell, [column]]
                    eta[cell, program.genes] += program.effects(activity)[0]
        log_rho = np.log(np.exp(eta) / np.exp(eta).sum(axis=1, keepdims=True))
        truth = truth_from_adata(adata)
        for row in range(3):
            inside = parents == row
            effect = log_rho[inside].mean(axis=0) - log_rho[~inside].mean(axis=0)
            np.testing.assert_allclose(truth.marker_effect[row], effect, atol=1e-10)
            np.testing.assert_allclose(truth.program_variance[row], log_rho[inside].var(axis=0), atol=1e-10)

    def test_planted_genes_lead_the_realised_variance(self, programs):
        truth = truth_from_adata(simulated(programs=programs, population_sizes=(400, 400, 400), n_programs=1))
        for variance, planted in zip(truth.program_variance, truth.program_sets, strict=True):
            assert variance[planted].min() > variance[~planted].max()

    def test_the_counts_show_the_program(self, programs):
        """Planted genes vary more than they do without programs, and the other genes do not."""
        from scballast.agreement.residuals import pearson_residuals

        changes = {"population_sizes": (600, 30), "mean_counts": 3000, "n_programs": 1}
        adata, quiet = (simulated(programs=name, **changes) for name in (programs, "none"))
        planted = truth_from_adata(adata).program_sets[0]
        gain = pearson_residuals(adata.X[:600]).var(axis=0) / pearson_residuals(quiet.X[:600]).var(axis=0)
        assert np.median(gain[planted]) > 1.3
        assert np.median(gain[~planted]) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("programs", OTHERS)
class TestIdentity:
    def test_one_more_population_changes_no_other_cell(self, programs):
        before = simulated(programs=programs, **CLEAN)
        after = simulated(programs=programs, population_sizes=(60, 40, 30, 25), **CLEAN)
        assert same_counts(before, after)
        for key in ("truth_marker_set", "truth_program_set"):
            np.testing.assert_array_equal(before.varm[key], after.varm[key][:, :3])

    def test_more_cells_leave_the_first_ones_as_they_are(self, programs):
        before = simulated(programs=programs, n_donors=2, null_split=True)
        after = simulated(programs=programs, n_donors=2, null_split=True, population_sizes=(75, 41, 30))
        assert same_counts(before, after)


class TestContamination:
    def test_shares_are_the_usual_ones_unless_programs_are_latent(self):
        assert (SMALL.doublets, SMALL.ambient) == (0.0, 0.0)
        other = dataclasses.replace(SMALL, programs="path")
        assert (other.doublets, other.ambient) == (0.03, 0.05)
        assert dataclasses.replace(SMALL, doublet_share=0.2).doublets == 0.2
        recorded = simulated(programs="path").uns["simulation"]["config"]
        assert (recorded["doublet_share"], recorded["ambient_share"]) == (0.03, 0.05)

    def test_a_doublet_holds_its_own_cell_and_a_second_one(self):
        clean = simulated(population_sizes=(500, 400, 300))
        adata = simulated(population_sizes=(500, 400, 300), doublet_share=0.3)
        with_second = adata.obs["doublet_with"].to_numpy() > 0
        assert with_second.mean() == pytest.approx(0.3, abs=0.05)
        added = adata.X - clean.X
        assert added[~with_second].nnz == 0
        assert added.min() >= 0
        gained = (adata.obs["expected_counts"] - clean.obs["expected_counts"])[with_second]
        totals = np.asarray(added[with_second].sum(axis=1)).ravel()
        assert totals.mean() == pytest.approx(gained.mean(), rel=0.03)
        assert np.corrcoef(totals, gained)[0, 1] > 0.5
        # The second cell has the markers of its own population.
        markers = truth_from_adata(adata).marker_sets
        for population in (1, 2, 3):
            of_it = (adata.obs["doublet_with"] == population).to_numpy()
            assert of_it.sum() > 60
            share = np.asarray(added[of_it].sum(axis=0)).ravel() / added[of_it].sum()
            others = np.asarray(added[with_second & ~of_it].sum(axis=0)).ravel() / added[with_second & ~of_it].sum()
            assert share[markers[population - 1]].sum() > 1.5 * others[markers[population - 1]].sum()

    def test_an_appended_population_only_takes_second_cells_over(self):
        before = simulated(doublet_share=0.4)
        after = simulated(doublet_share=0.4, population_sizes=(60, 40, 30, 25))[before.obs_names]
        taken = (after.obs["doublet_with"] == 4).to_numpy()
        assert 0 < taken.sum() < 40
        assert same_counts(before[~taken], after[~taken])
        assert ((before.obs["doublet_with"] > 0) == (after.obs["doublet_with"] > 0)).all()

    def test_ambient_counts_are_a_share_of_the_cell_and_have_the_mean_rates(self):
        sizes = (3000, 2000)
        adata = simulated(population_sizes=sizes, ambient_share=0.3, n_programs=0, mean_counts=3000)
        shares = adata.obs["ambient_share"].to_numpy()
        assert shares.mean() == pytest.approx(0.3, rel=0.03)
        assert stats.kstest(shares[shares < 0.9] * 4 / 0.3, stats.gamma(4.0).cdf).pvalue > 1e-3
        expected = adata.obs["expected_counts"].to_numpy()
        assert adata.X.sum() == pytest.approx(expected.sum(), rel=0.01)
        log_rate = adata.var["log_rate"].to_numpy()
        shifts, _ = plant(dataclasses.replace(SMALL, population_sizes=sizes), 0)
        soup = ambient_rates(log_rate, shifts)
        own = np.exp(log_rate + shifts[0])
        own /= own.sum()
        assert soup.sum() == pytest.approx(1.0)
        weight = (expected * shares)[:3000].sum() / expected[:3000].sum()
        observed = np.asarray(adata.X[:3000].sum(axis=0)).ravel() / adata.X[:3000].sum()
        np.testing.assert_allclose(observed, weight * soup + (1 - weight) * own, rtol=0.05, atol=1e-4)

    def test_the_truth_is_of_the_cells_own_rates(self):
        clean, adata = simulated(programs="path", **CLEAN), simulated(programs="path", doublet_share=0.4)
        assert (clean.X != adata.X).nnz > 0
        for key in ("truth_marker_effect", "truth_program_variance"):
            np.testing.assert_array_equal(clean.varm[key], adata.varm[key])

    def test_round_trip_through_h5ad(self, tmp_path):
        import anndata

        adata = simulated(programs="shared", without_program=(2,))
        adata.write_h5ad(tmp_path / "simulated.h5ad")
        back = anndata.read_h5ad(tmp_path / "simulated.h5ad")
        assert back.uns["simulation"]["config"]["without_program"].tolist() == [2]
        assert back.uns["simulation"]["config"]["programs"] == "shared"
        assert same_counts(adata, back)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"programs": "linear"}, "programs"),
        ({"without_program": (7,)}, "without_program"),
        ({"without_program": (0,)}, "without_program"),
        ({"doublet_share": 0.6}, "doublet_share"),
        ({"ambient_share": -0.1}, "ambient_share"),
        ({"ambient_share": float("nan")}, "ambient_share"),
        ({"programs": "shared", "n_genes": 180}, "n_genes"),
    ],
)
def test_config_refuses_what_cannot_be_simulated(changes, key):
    with pytest.raises(ConfigError, match=rf"^data\.simulation\.{key} is .*Allowed: "):
        SimulationConfig(**changes)


def test_the_command_line_names_the_families():
    from scballast.config.compose import compose_config

    words = ["data=simulated", "data.simulation.programs=path", "data.simulation.without_program=[2]"]
    simulation = compose_config(words).data.simulation
    assert (simulation.programs, simulation.without_program) == ("path", (2,))
    with pytest.raises(ConfigError, match="latent, additive, switch, path, shared, none"):
        compose_config(["data=simulated", "data.simulation.programs=paths"])
