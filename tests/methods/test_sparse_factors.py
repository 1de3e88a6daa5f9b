"""Sparse count factors of a population against independent implementations and planted truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.sparse import csr_matrix
from scipy.special import expit
from tests.helpers.baseline_examples import score_of

from scballast.agreement.residuals import pearson_residuals
from scballast.config.simulation import SimulationConfig
from scballast.data.simulate import simulate, truth_from_adata
from scballast.data.simulation_fit import dispersions_within
from scballast.methods.cell_view import CellView
from scballast.methods.registry import METHODS
from scballast.methods.sparse_factors import SparseFactors, _Fit, fit_sparse_factors, initial_activities
from scballast.verdict.truth import average_precision

N_IN = 12  # genes of the planted factor


def planted_counts(
    n_cells: int, n_genes: int, seed: int, *, strength: float = 1.0
) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    """Counts with one factor in the first genes, their dispersions, and the activity of each cell."""
    rng = np.random.default_rng(seed)
    log_rate = rng.normal(-1.0, 1.0, n_genes)
    dispersions = rng.uniform(0.05, 1.0, n_genes)
    loadings = np.zeros(n_genes)
    loadings[:N_IN] = strength * rng.choice([-1, 1], N_IN)
    activity = rng.normal(size=n_cells)
    mean = np.exp(log_rate + np.outer(activity, loadings) + rng.normal(0.5, 0.2, (n_cells, 1)))
    counts = rng.poisson(mean * rng.gamma(1 / dispersions, dispersions, size=mean.shape))
    return csr_matrix(counts.astype(np.float64)), dispersions, activity


def small_fit(seed: int = 0) -> _Fit:
    counts, dispersions, activity = planted_counts(25, 15, seed)
    dense = counts.toarray()
    seen = dense.sum(axis=0) > 0
    start = np.column_stack([activity, np.random.default_rng(seed).normal(size=25)])
    start = (start - start.mean(axis=0)) / start.std(axis=0)
    return _Fit(dense[:, seen], dense[:, seen].sum(axis=0) / dense.sum(), dispersions[seen], start)


class TestUpdates:
    def test_quadratic_has_the_gradient_and_the_expected_curvature_of_the_likelihood(self) -> None:
        fit = small_fit()
        fit.loadings = np.random.default_rng(1).normal(0, 0.3, fit.loadings.shape)
        fit.linearise()
        shift = fit.activities @ fit.loadings.T + fit.intercepts
        base = np.outer(fit.depths, fit.shares)
        np.testing.assert_allclose((base * np.exp(shift)).sum(axis=0), fit.counts.sum(axis=0), rtol=1e-9)

        def log_likelihood(change: float) -> np.ndarray:
            mean, size = base * np.exp(shift + change), 1 / fit.dispersions
            return stats.nbinom.logpmf(fit.counts, size, size / (size + mean))

        step = 1e-4
        slope = (log_likelihood(step) - log_likelihood(-step)) / (2 * step)
        np.testing.assert_allclose(fit.weighted_response - fit.information * shift, slope, rtol=1e-4, atol=1e-6)
        mean = base * np.exp(shift)
        np.testing.assert_allclose(fit.information, mean**2 / (mean + fit.dispersions * mean**2))

    def test_loadings_are_the_posterior_of_one_gene_at_a_time(self) -> None:
        """With one factor and fixed activities the update is exact: compare with integrals on a grid."""
        fit = small_fit(2)
        fit.activities, fit.activity_squares = fit.activities[:, :1], fit.activities[:, :1] ** 2
        for name in ("loadings", "loading_squares", "log_odds"):
            setattr(fit, name, getattr(fit, name)[:, :1])
        fit.share, fit.slab = np.array([0.2]), np.array([0.7])
        fit.linearise()
        fit.update_loadings()
        grid = np.linspace(-8, 8, 40_001)
        width = grid[1] - grid[0]
        activity = fit.activities[:, 0]
        for gene in range(fit.counts.shape[1]):
            weight = fit.information[:, gene]
            target = fit.weighted_response[:, gene] - weight * fit.intercepts[gene]
            log_ratio = grid * (target @ activity) - 0.5 * grid**2 * (weight @ activity**2)
            slab = np.exp(log_ratio) * stats.norm.pdf(grid, 0, np.sqrt(0.7))
            evidence = slab.sum() * width
            inclusion = 0.2 * evidence / (0.2 * evidence + 0.8)
            assert expit(fit.log_odds[gene, 0]) == pytest.approx(inclusion, rel=1e-5)
            mean = inclusion * (grid * slab).sum() / slab.sum()
            assert fit.loadings[gene, 0] == pytest.approx(mean, rel=1e-5, abs=1e-8)
            square = inclusion * (grid**2 * slab).sum() / slab.sum()
            assert fit.loading_squares[gene, 0] == pytest.approx(square, rel=1e-5)

    def test_activities_are_the_posterior_of_a_cell(self) -> None:
        fit = small_fit(3)
        fit.linearise()
        fit.update_loadings()
        loadings, squares = fit.loadings.copy(), fit.loading_squares.copy()
        means = np.empty_like(fit.activities)
        seconds = np.empty_like(fit.activities)
        for cell in range(fit.counts.shape[0]):
            weight = fit.information[cell]
            precision = np.eye(2) + (weight[:, None, None] * loadings[:, :, None] * loadings[:, None, :]).sum(axis=0)
            precision += np.diag(weight @ (squares - loadings**2))
            covariance = np.linalg.inv(precision)
            means[cell] = covariance @ (loadings.T @ (fit.weighted_response[cell] - weight * fit.intercepts))
            seconds[cell] = means[cell] ** 2 + np.diag(covariance)
        fit.update_activities()
        scale = np.sqrt(seconds.mean(axis=0))
        np.testing.assert_allclose(fit.activities, (means - means.mean(axis=0)) / scale, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(fit.activity_squares, seconds / scale**2, rtol=1e-8)
        np.testing.assert_allclose(fit.loadings, loadings * scale, rtol=1e-8)
        np.testing.assert_allclose(fit.activity_squares.mean(axis=0), 1.0)


class TestFit:
    def test_finds_the_factor_and_its_activities(self) -> None:
        counts, dispersions, activity = planted_counts(300, 120, 4)
        fit = fit_sparse_factors(counts, dispersions, initial_activities(counts, dispersions, None))
        evidence = fit.evidence()
        assert set(np.argsort(-evidence)[:N_IN]) == set(range(N_IN))
        best = np.abs(np.corrcoef(fit.activities.T, activity)[-1, :-1])
        assert best.max() > 0.9
        factor = int(best.argmax())
        assert expit(fit.log_odds[:N_IN, factor]).min() > 0.9
        assert np.abs(np.abs(fit.loadings[:N_IN, factor]) - 1.0).max() < 0.35

    def test_spare_factors_are_left_empty(self) -> None:
        counts, dispersions, _ = planted_counts(300, 120, 5)
        fit = fit_sparse_factors(counts, dispersions, initial_activities(counts, dispersions, 4))
        sizes = np.sort(np.sqrt((fit.loadings**2).sum(axis=0)))
        assert sizes[-1] > 2.5
        assert sizes[-2] < 0.4 * sizes[-1]

    def test_evidence_is_the_probability_of_no_factor(self) -> None:
        log_odds = np.array([[0.0, np.log(1 / 3)], [-np.inf, -np.inf], [800.0, np.log(1 / 9)], [45.0, 45.0]])
        found = SparseFactors(np.zeros((4, 2)), log_odds, np.zeros((3, 2)))
        np.testing.assert_allclose(expit(found.log_odds[:3]), [[0.5, 0.25], [0.0, 0.0], [1.0, 0.1]])
        expected = [-np.log(0.5 * 0.75), 0.0, 800 - np.log(0.9), 90.0]
        np.testing.assert_allclose(found.evidence(), expected, rtol=1e-12)

    def test_many_cells_do_not_tie_the_genes_of_a_program(self) -> None:
        """The more cells, the surer: probabilities that round to 1 still have an order."""
        counts, dispersions, _ = planted_counts(2500, 40, 11, strength=1.0)
        evidence = fit_sparse_factors(counts, dispersions, initial_activities(counts, dispersions, 3)).evidence()
        first = np.argsort(-evidence)[:N_IN]
        assert set(first) == set(range(N_IN))
        assert np.unique(evidence[first].round(3)).size == N_IN
        assert evidence[first].min() > 45, "of each the probability is 1 in double precision"

    def test_cells_and_genes_without_counts(self) -> None:
        counts, dispersions, _ = planted_counts(60, 40, 6)
        dense = counts.toarray()
        dense[3], dense[:, 7] = 0, 0
        fit = fit_sparse_factors(csr_matrix(dense), dispersions, initial_activities(csr_matrix(dense), dispersions, 2))
        assert fit.evidence()[7] == 0
        assert np.isfinite(fit.evidence()).all()
        nothing = csr_matrix((5, 4))
        empty = fit_sparse_factors(nothing, np.ones(4), initial_activities(nothing, np.ones(4), 1))
        assert (empty.evidence() == 0).all()

    @pytest.mark.parametrize("n_factors", [None, 1, 3])
    def test_start_is_standardised_scores_on_components(self, n_factors: int | None) -> None:
        counts, dispersions, activity = planted_counts(200, 80, 7)
        start = initial_activities(counts, dispersions, n_factors)
        np.testing.assert_allclose(start.mean(axis=0), 0.0, atol=1e-9)
        np.testing.assert_allclose(start.std(axis=0), 1.0)
        assert start.shape[1] == (n_factors or 3), "one component stands out, and two are spare"
        assert abs(np.corrcoef(start[:, 0], activity)[0, 1]) > 0.8


class TestDispersions:
    def test_within_populations_only(self) -> None:
        rng = np.random.default_rng(8)
        codes = np.repeat([0, 1, -1], [300, 300, 100])
        rates = np.exp(rng.normal(1.0, 0.5, 50) + np.array([0.0, 1.5])[np.minimum(np.abs(codes), 1)][:, None])
        rates[:, 25:] = rates[0, 25:]
        dispersions = np.repeat([0.1, 0.8], 25)[rng.permutation(50)]
        counts = rng.poisson(rates * rng.gamma(1 / dispersions, dispersions, size=rates.shape)).astype(float)
        counts[codes < 0] *= 7  # of no population, with no part in the estimate
        found = dispersions_within(csr_matrix(counts), codes)
        assert (np.abs(np.log(found / dispersions)) < 0.5).all()

    def test_scarce_genes_get_the_prior_and_unseen_ones_too(self) -> None:
        rng = np.random.default_rng(9)
        counts = rng.poisson(2.0 * rng.gamma(2.0, 0.5, size=(200, 20))).astype(float)
        counts[:, 0] = 0
        found = dispersions_within(csr_matrix(counts), np.zeros(200, dtype=int))
        assert np.isfinite(found).all()
        assert 0.2 < found[0] < 1.0

    def test_residuals_take_a_dispersion_of_each_gene(self) -> None:
        counts, dispersions, _ = planted_counts(30, 14, 10)
        found = pearson_residuals(counts, 1 / dispersions)
        for gene, dispersion in enumerate(dispersions):
            np.testing.assert_array_equal(found[:, gene], pearson_residuals(counts, 1 / dispersion)[:, gene])
        with pytest.raises(ValueError, match="positive, got -1"):
            pearson_residuals(counts, np.r_[-1.0, dispersions[1:]])


@pytest.mark.parametrize("programs", ["additive", "switch"])
def test_finds_more_planted_genes_than_the_other_methods_of_cells(programs: str) -> None:
    """Data sets that no choice was made on; gene levels and dispersions are those of real cells."""
    config = SimulationConfig(n_genes=500, population_sizes=(150, 80), programs=programs, n_program_genes=25)
    precision = {name: [] for name in ("sparse_factors", "residual_pca", "cross_covariance", "within_pca")}
    for seed in (901, 902):
        adata = simulate(config, seed)
        view = CellView(
            counts=csr_matrix(adata.X),
            total_counts=np.asarray(adata.X.sum(axis=1)).ravel(),
            codes=adata.obs["population"].cat.codes.to_numpy().astype(int),
            n_populations=2,
            populations=("a", "b"),
            samples=None,
            seed=seed,
        )
        planted = truth_from_adata(adata).program_sets
        for name in precision:
            scores = score_of(METHODS[name], view)
            precision[name] += [float(average_precision(*pair)) for pair in zip(scores, planted, strict=True)]
    means = {name: np.mean(values) for name, values in precision.items()}
    for other in itertools.islice(means, 1, None):
        assert means["sparse_factors"] > means[other] + 0.03
