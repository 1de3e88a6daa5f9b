from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.sparse import csr_matrix
from scipy.special import gammaln, logsumexp

from scballast.config.simulation import SimulationConfig
from scballast.data import simulation_fit
from scballast.data.planting import plant
from scballast.data.simulate import simulate, truth_from_adata
from scballast.data.simulation_fit import SimulationParameters, fit_simulation_parameters
from scballast.errors import ConfigError, DataError

N_GENES = 120
SMALL = SimulationConfig(
    n_genes=N_GENES,
    population_sizes=(60, 40, 30),
    mean_counts=800,
    n_markers=12,
    n_programs=2,
    n_program_genes=8,
)


def parameters(log_dispersion: float = -2.0, sd: float = 0.2) -> SimulationParameters:
    log_rate = np.linspace(-8.0, -3.5, 80)
    return SimulationParameters(log_rate, np.full(80, log_dispersion), sd, {"source": "made up", "n_cells": 5})


def simulated(seed: int = 0, **changes):
    return simulate(dataclasses.replace(SMALL, **changes), seed, parameters=parameters())


def same_cells(first, second) -> bool:
    """Whether every cell of ``first`` is in ``second`` with equal counts, donor and library size."""
    other = second[first.obs_names]
    columns = ["donor", "expected_counts"]
    equal = first.obs[columns].astype(str).equals(other.obs[columns].astype(str))
    return equal and (first.X != other.X).nnz == 0


class TestDeterminism:
    def test_equal_seeds_give_equal_data_and_others_do_not(self):
        first, second, other = simulated(3), simulated(3), simulated(4)
        assert same_cells(first, second)
        np.testing.assert_array_equal(first.varm["truth_marker_effect"], second.varm["truth_marker_effect"])
        assert (first.X != other.X).nnz > 0

    def test_one_more_population_changes_no_other_cell_and_no_other_planted_set(self):
        before = simulated()
        after = simulated(population_sizes=(60, 40, 30, 25))
        assert same_cells(before, after)
        np.testing.assert_array_equal(before.varm["truth_marker_set"], after.varm["truth_marker_set"][:, :3])
        np.testing.assert_array_equal(before.varm["truth_program_set"], after.varm["truth_program_set"][:, :3])

    def test_more_cells_leave_the_first_ones_as_they_are(self):
        changes = {"n_donors": 3, "null_split": True}
        before, after = simulated(**changes), simulated(population_sizes=(71, 45, 30), **changes)
        assert same_cells(before, after)
        labels = after[before.obs_names].obs["population"]
        assert (labels.astype(str) == before.obs["population"].astype(str)).all()

    def test_one_more_donor_only_takes_cells_over(self):
        before, after = simulated(n_donors=3), simulated(n_donors=4)
        stayed = after.obs["donor"].astype(str) != "donor_4"
        assert 0 < (~stayed).sum() < 100
        assert same_cells(before[stayed.to_numpy()], after)

    def test_chunks_do_not_show(self, monkeypatch):
        whole = simulated(n_donors=3)
        monkeypatch.setattr("scballast.data.simulate._CHUNK_CELLS", 7)
        chunked = simulated(n_donors=3)
        assert same_cells(whole, chunked)
        for key in ("truth_marker_effect", "truth_program_variance"):
            np.testing.assert_allclose(whole.varm[key], chunked.varm[key], rtol=1e-9, atol=1e-12)


class TestModel:
    def test_counts_have_the_moments_of_the_negative_binomial(self):
        # Without markers and programs all cells share one ρ: mean ℓρ, variance ℓρ + φ E[(ℓρ)²] + Var(ℓρ).
        config = dataclasses.replace(
            SMALL, population_sizes=(3000, 3000), n_markers=0, n_programs=0, library_log_sd=0.3, mean_counts=1500
        )
        adata = simulate(config, 1, parameters=parameters(log_dispersion=np.log(0.4)))
        counts = adata.X.toarray().astype(np.float64)
        rate = np.exp(adata.var["log_rate"].to_numpy())
        assert rate.sum() == pytest.approx(1.0)
        assert adata.obs["expected_counts"].mean() == pytest.approx(1500, rel=0.02)
        assert np.log(adata.obs["expected_counts"]).std() == pytest.approx(0.3, rel=0.05)
        mean = 1500 * rate
        variance = mean + mean**2 * (np.exp(0.3**2) * 1.4 - 1)
        np.testing.assert_allclose(counts.mean(axis=0), mean, rtol=0.12)
        ratio = counts.var(axis=0) / variance
        assert np.median(ratio) == pytest.approx(1.0, abs=0.05)

    def test_truth_is_that_of_the_realised_rates(self):
        # An independent pass over the model, from the settings and the stored activities alone.
        config = dataclasses.replace(SMALL, shared_program=True, null_split=True)
        adata = simulate(config, 5, parameters=parameters())
        shifts, programs = plant(config, 5)
        parents = np.repeat([0, 1, 2], config.population_sizes)
        eta = adata.var["log_rate"].to_numpy() + shifts[parents]
        for cell, parent in enumerate(parents):
            active = [program for program in programs if program.population in (parent, -1)]
            for activity, program in zip(adata.obsm["program_activity"][cell], active, strict=True):
                eta[cell, program.genes] += activity * program.loadings
        log_rho = np.log(np.exp(eta) / np.exp(eta).sum(axis=1, keepdims=True))
        truth = truth_from_adata(adata)
        for row, name in enumerate(truth.populations):
            inside = (adata.obs["population"] == name).to_numpy()
            effect = log_rho[inside].mean(axis=0) - log_rho[~inside].mean(axis=0)
            np.testing.assert_allclose(truth.marker_effect[row], effect, atol=1e-10)
            np.testing.assert_allclose(truth.program_variance[row], log_rho[inside].var(axis=0), atol=1e-10)

    def test_planted_genes_lead_their_truth(self):
        truth = truth_from_adata(simulated(population_sizes=(400, 400, 400), n_programs=1))
        for row in range(3):
            markers, programs = truth.marker_sets[row], truth.program_sets[row]
            effect = stats.rankdata(truth.marker_effect[row])
            assert effect[markers].mean() > effect[~markers].mean() + 40
            assert truth.program_variance[row][programs].min() > truth.program_variance[row][~programs].max()

    def test_activities_are_standard_normal(self):
        adata = simulated(population_sizes=(2000, 2000))
        activity = adata.obsm["program_activity"]
        assert stats.kstest(activity.ravel(), "norm").pvalue > 1e-3
        assert abs(np.corrcoef(activity.T)[0, 1]) < 0.1

    def test_first_programs_are_the_stronger_unless_strength_is_equal(self):
        def strengths(equal: bool) -> list[float]:
            config = SimulationConfig(n_programs=3, n_program_genes=100, n_markers=0, equal_strength=equal)
            return [float(np.sqrt(np.mean(p.loadings**2))) for p in plant(config, 0)[1][:3]]

        np.testing.assert_allclose(strengths(equal=False), [1.0, 0.75, 0.75**2], rtol=0.08)
        np.testing.assert_allclose(strengths(equal=True), [1.0, 1.0, 1.0], rtol=0.08)


class TestArms:
    @pytest.mark.parametrize(("overlap", "expected"), [(0.0, 0), (0.5, 8), (0.75, 12)])
    def test_overlap_of_markers_and_programs(self, overlap, expected):
        truth = truth_from_adata(simulated(overlap=overlap))
        shared = (truth.marker_sets & truth.program_sets).sum(axis=1)
        assert shared.tolist() == [expected] * 3
        assert truth.marker_sets.sum(axis=1).tolist() == [12] * 3
        assert truth.program_sets.sum(axis=1).tolist() == [16] * 3

    def test_shared_program_is_in_every_program_truth_and_in_no_marker_truth(self):
        without = truth_from_adata(simulated())
        truth = truth_from_adata(simulated(shared_program=True))
        everywhere = truth.program_sets.all(axis=0)
        assert everywhere.sum() == SMALL.n_program_genes
        assert not without.program_sets.all(axis=0).any()
        assert not truth.marker_sets[:, everywhere].any()
        quiet = ~truth.program_sets.any(axis=0)
        assert truth.program_variance[:, everywhere].min() > truth.program_variance[:, quiet].max()

    def test_null_split_gives_two_equal_halves_that_nothing_sets_apart(self):
        adata = simulated(null_split=True, population_sizes=(2001,), n_programs=1)
        assert adata.uns["simulation"]["null_split"].tolist() == ["population_1_a", "population_1_b"]
        assert abs(np.diff(adata.obs["population"].value_counts())) == 1
        truth = truth_from_adata(adata)
        assert not truth.marker_sets.any()
        assert np.abs(truth.marker_effect).max() < 0.2
        np.testing.assert_array_equal(truth.program_sets[0], truth.program_sets[1])
        # The labels carry nothing: p-values of a t test by gene are uniform.
        half = (adata.obs["population"] == "population_1_a").to_numpy()
        counts = np.log1p(adata.X.toarray())
        p_values = stats.ttest_ind(counts[half], counts[~half]).pvalue
        assert stats.kstest(p_values[~truth.program_sets[0]], "uniform").pvalue > 1e-3

    def test_null_split_beside_other_populations_keeps_the_parent_markers(self):
        truth = truth_from_adata(simulated(null_split=True))
        assert truth.populations == ("population_1_a", "population_1_b", "population_2", "population_3")
        np.testing.assert_array_equal(truth.marker_sets[0], truth.marker_sets[1])
        assert truth.marker_sets[0].sum() == SMALL.n_markers
        np.testing.assert_array_equal(truth.marker_sets[2], truth_from_adata(simulated()).marker_sets[1])

    def test_donor_only_plants_nothing_but_donors_differ(self):
        adata = simulated(donor_only=True, n_donors=4, population_sizes=(300, 300), donor_effect=0.8)
        truth = truth_from_adata(adata)
        assert not truth.marker_sets.any()
        assert not truth.program_sets.any()
        assert "program_activity" not in adata.obsm
        # One rate for all cells of a donor in a population, so their variance is the donors' alone.
        quiet = simulated(donor_only=True, n_donors=4, donor_effect=0.0, donor_population_effect=0.0)
        assert np.abs(truth_from_adata(quiet).program_variance).max() < 1e-12
        assert np.median(np.sqrt(truth.program_variance)) > 0.3

    def test_default_sizes_end_with_a_population_of_two_percent(self):
        sizes = SimulationConfig().population_sizes
        assert sizes[-1] / sum(sizes) == pytest.approx(0.02, abs=5e-4)


class TestAnnData:
    def test_truth_follows_the_genes_and_the_populations_asked_for(self):
        adata = simulated()
        whole = truth_from_adata(adata)
        genes = np.array([5, 3, 99])
        part = truth_from_adata(adata[:, genes].copy(), ["population_3", "population_1"])
        assert part.populations == ("population_3", "population_1")
        np.testing.assert_array_equal(part.marker_effect, whole.marker_effect[[2, 0]][:, genes])
        np.testing.assert_array_equal(part.program_sets, whole.program_sets[[2, 0]][:, genes])

    def test_round_trip_through_h5ad(self, tmp_path):
        import anndata

        adata = simulated(null_split=True, n_donors=2)
        adata.write_h5ad(tmp_path / "simulated.h5ad")
        back = anndata.read_h5ad(tmp_path / "simulated.h5ad")
        assert same_cells(adata, back)
        expected, truth = truth_from_adata(adata), truth_from_adata(back)
        assert truth.populations == expected.populations
        np.testing.assert_array_equal(truth.marker_sets, expected.marker_sets)
        assert back.uns["simulation"]["fitted_from"]["source"] == "made up"
        assert back.uns["simulation"]["config"]["n_genes"] == N_GENES

    def test_real_data_hold_no_truth(self):
        import anndata

        with pytest.raises(DataError, match=r"data\.kind=simulated"):
            truth_from_adata(anndata.AnnData(np.ones((3, 2), dtype=np.float32)))
        with pytest.raises(DataError, match="population_9"):
            truth_from_adata(simulated(), ["population_9"])


class TestFit:
    def test_likelihood_of_each_dispersion_is_that_of_scipy(self):
        rng = np.random.default_rng(7)
        library = rng.lognormal(6.0, 0.8, 70).round()
        rate = np.exp(rng.normal(-5.0, 3.0, 40))
        counts = rng.poisson(np.outer(library, rate / rate.sum()) * rng.gamma(0.5, 2.0, (70, 40)))
        counts[:, 3] = 0
        library = counts.sum(axis=1).astype(float)
        found = simulation_fit._population_log_likelihood(csr_matrix(counts, dtype=float), library)
        mean = np.outer(library, counts.sum(axis=0) / library.sum())
        for likelihoods, log_dispersion in zip(found, simulation_fit._LOG_DISPERSIONS, strict=True):
            size = np.exp(-log_dispersion)
            expected = stats.nbinom.logpmf(counts, size, size / (size + mean)).sum(axis=0)
            constant = -gammaln(counts + 1.0).sum(axis=0)
            np.testing.assert_allclose(likelihoods, expected - constant, atol=1e-8)
        assert (found[:, 3] == 0).all(), "a gene without counts says nothing"

    def test_recovers_levels_dispersions_and_library_spread(self):
        rng = np.random.default_rng(0)
        n_genes, n_cells = 300, 800
        log_rate = rng.normal(-6.5, 1.0, n_genes)
        log_rate -= np.log(np.exp(log_rate).sum())
        dispersion = np.exp(rng.normal(np.log(0.3), 0.6, n_genes))
        codes = np.repeat([0, 1], n_cells // 2)
        # Strong differences between the populations, which must not count as dispersion.
        rho = np.exp(log_rate + np.vstack([np.zeros(n_genes), rng.normal(0, 1.5, n_genes)]))
        rho /= rho.sum(axis=1, keepdims=True)
        library = np.exp(rng.normal(np.log(1500), 0.3, n_cells))
        mean = library[:, None] * rho[codes]
        counts = rng.poisson(mean * rng.gamma(1 / dispersion, dispersion, size=mean.shape))
        fit = fit_simulation_parameters(counts, codes, source="here")
        clear = mean.mean(axis=0) > 2
        error = (fit.log_dispersion - np.log(dispersion))[clear]
        assert abs(error.mean()) < 0.06
        assert error.std() < 0.2
        assert fit.library_log_sd == pytest.approx(0.3, abs=0.03)
        np.testing.assert_allclose(np.exp(fit.log_rate[clear]), mean.sum(0)[clear] / library.sum(), rtol=0.15)
        assert fit.provenance == {
            "source": "here",
            "n_cells": n_cells,
            "n_genes": n_genes,
            "n_populations": 2,
            "median_counts": float(np.median(counts.sum(axis=1))),
            "min_cells": 20,
        }

    def test_likelihood_agrees_with_scipy(self):
        from scipy import sparse

        from scballast.data.simulation_fit import _LOG_DISPERSIONS, _population_log_likelihood

        rng = np.random.default_rng(1)
        counts = rng.poisson(2.0, size=(15, 6)).astype(float)
        library = counts.sum(axis=1)
        mean = np.outer(library, counts.sum(axis=0) / library.sum())
        size = np.exp(-_LOG_DISPERSIONS)[:, None, None]
        expected = stats.nbinom.logpmf(counts, size, size / (size + mean)).sum(axis=1)
        found = _population_log_likelihood(sparse.csr_matrix(counts), library)
        # Equal up to a constant by gene (the factorials and the means' powers do not depend on φ).
        np.testing.assert_allclose(found - found[:1], expected - expected[:1], atol=1e-8)

    def test_small_populations_and_missing_labels_take_no_part(self):
        rng = np.random.default_rng(2)
        counts = rng.poisson(3.0, size=(60, 20))
        codes = np.repeat([0, 1, -1], [40, 10, 10])
        fit = fit_simulation_parameters(counts, codes)
        alone = fit_simulation_parameters(counts[:40], codes[:40])
        np.testing.assert_allclose(fit.log_rate, alone.log_rate)
        np.testing.assert_allclose(fit.log_dispersion, alone.log_dispersion)
        with pytest.raises(ValueError, match="no population has 50 cells"):
            fit_simulation_parameters(counts, codes, min_cells=50)
        with pytest.raises(ValueError, match="60 cells"):
            fit_simulation_parameters(counts, codes[:5])


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"n_genes": 9}, "n_genes"),
        ({"n_genes": 100}, "n_genes"),
        ({"population_sizes": (50,)}, "population_sizes"),
        ({"population_sizes": ()}, "population_sizes"),
        ({"population_sizes": (50, 1)}, "population_sizes"),
        ({"population_sizes": (3,), "null_split": True}, "population_sizes"),
        ({"mean_counts": 0.0}, "mean_counts"),
        ({"mean_counts": float("nan")}, "mean_counts"),
        ({"library_log_sd": -0.1}, "library_log_sd"),
        ({"program_strength": 6.0}, "program_strength"),
        ({"overlap": 1.5}, "overlap"),
        ({"overlap": 1.0, "n_markers": 10}, "overlap"),
        ({"donor_only": True}, "n_donors"),
        ({"n_program_genes": 0}, "n_program_genes"),
    ],
)
def test_config_refuses_what_cannot_be_simulated(changes, key):
    with pytest.raises(ConfigError, match=rf"^data\.simulation\.{key} is .*Allowed: "):
        SimulationConfig(**changes)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(4, 12), min_size=1, max_size=4),
    overlap=st.sampled_from([0.0, 0.3, 1.0]),
    n_donors=st.integers(1, 4),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_every_arm_gives_counts_and_a_finite_truth(seed, sizes, overlap, n_donors, flags):
    null_split, shared_program, donor_only = flags
    config = SimulationConfig(
        n_genes=70,
        population_sizes=tuple(sizes) if null_split or len(sizes) > 1 else (*sizes, 5),
        mean_counts=300,
        n_markers=16,
        n_programs=2,
        n_program_genes=8,
        overlap=overlap,
        shared_program=shared_program,
        null_split=null_split,
        n_donors=n_donors,
        donor_only=donor_only and n_donors > 1,
    )
    adata = simulate(config, seed, parameters=parameters())
    assert adata.n_obs == sum(config.population_sizes)
    assert adata.X.has_sorted_indices
    assert (adata.X.data == np.rint(adata.X.data)).all()
    assert adata.X.data.min() >= 1
    truth = truth_from_adata(adata)
    assert np.isfinite(truth.marker_effect).all()
    assert (truth.program_variance >= 0).all()
    assert set(adata.obs["population"].cat.categories) == set(truth.populations)


@pytest.fixture(scope="module")
def fitted():
    from scballast.data.simulate import default_parameters

    return default_parameters()


class TestDefaults:
    def test_are_fitted_from_the_embedded_cells(self, fitted):
        assert fitted.provenance["source"].startswith("pbmc68k")
        assert fitted.provenance["n_genes"] == 765
        assert fitted.log_rate.shape == fitted.log_dispersion.shape == (765,)
        assert 0.1 < fitted.library_log_sd < 0.3
        assert 0.05 < np.exp(np.median(fitted.log_dispersion)) < 0.5

    def test_planted_genes_can_be_found(self, fitted):
        from sklearn.metrics import average_precision_score

        from scballast.agreement.residuals import pearson_residuals
        from scballast.methods.within import component_strength

        config = SimulationConfig(population_sizes=(900, 250))
        adata = simulate(config, 0, parameters=fitted)
        truth = truth_from_adata(adata)
        codes = adata.obs["population"].cat.codes.to_numpy()
        log_counts = np.log1p(adata.X.toarray() / adata.obs["expected_counts"].to_numpy()[:, None] * 1e4)
        t_statistic = stats.ttest_ind(log_counts[codes == 0], log_counts[codes == 1], equal_var=False).statistic
        assert average_precision_score(truth.marker_sets[0], t_statistic) > 0.85
        for code in (0, 1):
            strength = component_strength(pearson_residuals(adata.X[codes == code]), config.n_programs)
            assert truth.program_sets[code].mean() == 0.08
            assert average_precision_score(truth.program_sets[code], strength) > 0.85


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 800.0])
def test_the_sum_of_exponentials_is_scipys_to_the_last_bit(scale: float, axis: int) -> None:
    generator = np.random.default_rng(0)
    for values in (generator.normal(size=(25, 60)) * scale, generator.integers(-3, 3, (25, 60)) * scale):
        expected = logsumexp(values, axis=axis, keepdims=True)
        np.testing.assert_array_equal(simulation_fit._log_sum_exp(values, axis), expected)
