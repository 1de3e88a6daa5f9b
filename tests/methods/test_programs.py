"""Pearson residuals and the program baselines against independent implementations."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_matrix, csr_matrix
from tests.helpers.baseline_examples import planted_view, score_of

from scballast.agreement.residuals import pearson_residuals
from scballast.config.simulation import SimulationConfig
from scballast.data.simulate import simulate, truth_from_adata
from scballast.data.simulation_fit import SimulationParameters
from scballast.methods import components
from scballast.methods.cell_view import CellView
from scballast.methods.components import N_PERMUTATIONS, leading_eigenpairs, noise_variance
from scballast.methods.cross_covariance import cross_fitted_covariance
from scballast.methods.registry import METHODS
from scballast.methods.within import component_strength
from scballast.verdict.truth import average_precision


class TestPearsonResiduals:
    def test_equals_the_formula_cell_by_cell(self) -> None:
        counts = np.random.default_rng(0).poisson(1.5, (7, 5)).astype(float)
        residuals = pearson_residuals(csr_matrix(counts), theta=10.0)
        for i in range(7):
            for g in range(5):
                mu = counts[i].sum() * counts[:, g].sum() / counts.sum()
                value = (counts[i, g] - mu) / math.sqrt(mu + mu**2 / 10.0)
                assert residuals[i, g] == pytest.approx(max(-math.sqrt(7), min(math.sqrt(7), value)))

    @pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
    def test_equals_scanpy(self) -> None:
        import scanpy as sc

        counts = planted_view().counts[:, :-1]  # scanpy divides by zero for a gene without counts
        adata = AnnData(counts.copy())
        sc.experimental.pp.normalize_pearson_residuals(adata)
        np.testing.assert_allclose(pearson_residuals(counts), adata.X, rtol=1e-4, atol=1e-4)

    def test_poisson_limit(self) -> None:
        counts = planted_view().counts
        np.testing.assert_allclose(
            pearson_residuals(counts, theta=np.inf), pearson_residuals(counts, theta=1e12), atol=1e-6
        )

    def test_clips_at_the_root_of_the_number_of_cells(self) -> None:
        counts = np.ones((16, 200))
        counts[0, 0] = 500
        residuals = pearson_residuals(csr_matrix(counts))
        assert residuals[0, 0] == 4.0

    def test_zero_for_genes_and_cells_without_counts(self) -> None:
        counts = planted_view().counts.toarray()
        counts[5] = 0
        residuals = pearson_residuals(csr_matrix(counts))
        assert (residuals[5] == 0).all()
        assert (residuals[:, -1] == 0).all()
        assert (pearson_residuals(csr_matrix((4, 3))) == 0).all()

    def test_leaves_the_counts_alone_whatever_their_storage(self) -> None:
        counts = planted_view().counts
        before = counts.toarray()
        first = pearson_residuals(counts)
        np.testing.assert_array_equal(counts.toarray(), before)
        np.testing.assert_array_equal(first, pearson_residuals(csc_matrix(counts)))

    def test_theta_must_be_positive(self) -> None:
        with pytest.raises(ValueError, match="theta must be positive, got 0"):
            pearson_residuals(csr_matrix(np.ones((2, 2))), theta=0)


class TestComponentStrength:
    @pytest.mark.parametrize("shape", [(40, 12), (12, 40), (15, 15)])
    def test_equals_loadings_of_sklearn(self, shape: tuple[int, int]) -> None:
        from sklearn.decomposition import PCA

        values = np.random.default_rng(3).normal(size=shape) @ np.diag(np.linspace(0.5, 3, shape[1]))
        pca = PCA(n_components=5, svd_solver="full").fit(values)
        expected = np.sqrt((pca.explained_variance_[:, None] * pca.components_**2).sum(axis=0))
        np.testing.assert_allclose(component_strength(values, 5), expected, rtol=1e-9)

    @given(n_cells=st.integers(2, 9), n_genes=st.integers(1, 9), seed=st.integers(0, 1_000))
    @settings(max_examples=30, deadline=None)
    def test_all_components_give_the_whole_standard_deviation(self, n_cells: int, n_genes: int, seed: int) -> None:
        values = np.random.default_rng(seed).normal(size=(n_cells, n_genes))
        np.testing.assert_allclose(component_strength(values, 99), values.std(axis=0, ddof=1), atol=1e-7)

    def test_rotating_the_cells_changes_nothing(self) -> None:
        rng = np.random.default_rng(4)
        values = rng.normal(size=(20, 8))
        values -= values.mean(axis=0)
        # A rotation of the cells that keeps their mean at zero, in both branches of the Gram matrix.
        basis = np.linalg.qr(np.column_stack([np.ones(20), rng.normal(size=(20, 19))]))[0]
        turn = np.eye(20)
        turn[1:, 1:] = np.linalg.qr(rng.normal(size=(19, 19)))[0]
        rotated = basis @ turn @ basis.T @ values
        np.testing.assert_allclose(component_strength(rotated, 3), component_strength(values, 3), rtol=1e-8)


class TestLeadingEigenpairs:
    """Against the whole decomposition, at sizes from which the quick one is tried."""

    @staticmethod
    def covariance(strengths: tuple[float, ...]) -> np.ndarray:
        values = with_factors(700, 620, strengths, seed=11)
        return values.T @ values / 699

    @pytest.mark.parametrize("wanted", [1, 3, 9, None])
    def test_equal_those_of_the_whole_decomposition(self, wanted: int | None) -> None:
        matrix = self.covariance((3.0, 2.0, 2.0, 1.5))
        all_values, all_vectors = np.linalg.eigh(matrix)
        limit = all_values[-5] + 0.01
        n = wanted or 4
        values, vectors = leading_eigenpairs(matrix, wanted, limit)
        np.testing.assert_allclose(values, all_values[::-1][:n], rtol=1e-10)
        assert (np.abs((vectors * all_vectors[:, ::-1][:, :n]).sum(axis=0)) > 1 - 1e-9).all()
        assert components._block_lanczos(matrix, 3, 0.0) is not None, "the quick way alone gets there"

    def test_nothing_above_a_limit_close_to_the_largest(self) -> None:
        matrix = self.covariance(())
        largest = np.linalg.eigvalsh(matrix)[-1]
        assert leading_eigenpairs(matrix, None, largest * (1 + 1e-3))[0].size == 0
        assert leading_eigenpairs(matrix, None, largest * (1 - 1e-3))[0].size == 1

    def test_of_low_rank_each_is_found_once(self) -> None:
        factors = np.linalg.qr(np.random.default_rng(12).normal(size=(620, 5)))[0]
        matrix = (factors * np.array([9.0, 4.0, 4.0, 1.0, 0.5])) @ factors.T
        assert components._block_lanczos(matrix, None, 0.1) is None
        np.testing.assert_allclose(leading_eigenpairs(matrix, None, 0.1)[0], [9, 4, 4, 1, 0.5], rtol=1e-9)

    def test_in_the_bulk_the_whole_decomposition_takes_over(self) -> None:
        matrix = self.covariance(())
        assert components._block_lanczos(matrix, 60, 0.0) is None
        np.testing.assert_allclose(
            leading_eigenpairs(matrix, 60, 0.0)[0], np.linalg.eigvalsh(matrix)[::-1][:60], rtol=1e-10
        )


def brute_force_noise(centred: np.ndarray, n_permutations: int, seed: int) -> np.ndarray:
    """Largest variance along a component of genes permuted one by one, from singular values."""
    rng = np.random.default_rng(seed)
    largest = []
    for _ in range(n_permutations):
        permuted = np.column_stack([rng.permutation(gene) for gene in centred.T])
        largest.append(np.linalg.svd(permuted, compute_uv=False)[0] ** 2 / (len(centred) - 1))
    return np.array(largest)


def with_factors(n_cells: int, n_genes: int, strengths: tuple[float, ...], seed: int) -> np.ndarray:
    """Noise of unequal variance over genes, and a factor of ten genes for each strength."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_cells, n_genes)) * rng.uniform(0.5, 2.0, n_genes)
    for number, strength in enumerate(strengths):
        values[:, 10 * number : 10 * number + 10] += strength * rng.normal(size=(n_cells, 1))
    return values - values.mean(axis=0)


class TestNoiseVariance:
    @pytest.mark.parametrize("shape", [(60, 200), (200, 60), (12, 30)])
    def test_is_the_largest_of_permuted_genes(self, shape: tuple[int, int]) -> None:
        centred = with_factors(*shape, (2.0,), seed=1)
        expected = brute_force_noise(centred, 100 * N_PERMUTATIONS, seed=2).reshape(100, N_PERMUTATIONS).max(axis=1)
        assert np.quantile(expected, 0.005) < noise_variance(centred) < np.quantile(expected, 0.995)

    def test_lanczos_and_the_whole_decomposition_agree(self, monkeypatch: pytest.MonkeyPatch) -> None:
        centred = with_factors(50, 90, (2.0,), seed=3)
        quick = noise_variance(centred)
        monkeypatch.setattr("scballast.methods.components._DENSE_SIZE", 1000)
        assert quick == pytest.approx(noise_variance(centred), rel=1e-4)

    def test_order_of_cells_and_genes_does_not_matter(self) -> None:
        centred = with_factors(40, 25, (1.0,), seed=4)
        rng = np.random.default_rng(5)
        other = centred[rng.permutation(40)][:, rng.permutation(25)]
        assert noise_variance(other) == pytest.approx(noise_variance(centred), rel=1e-12)

    def test_nothing_varies_nothing_found(self) -> None:
        assert noise_variance(np.zeros((30, 40))) == 0.0
        assert (component_strength(np.ones((30, 40)), None) == 0).all()


class TestAutomaticComponents:
    @pytest.mark.parametrize("shape", [(80, 150), (150, 80)])
    @pytest.mark.parametrize("strengths", [(1.5,), (2.5, 2.0, 1.5)])
    def test_as_many_as_planted_each_shrunk_by_the_noise(
        self, shape: tuple[int, int], strengths: tuple[float, ...]
    ) -> None:
        values = with_factors(*shape, strengths, seed=6)
        noise = noise_variance(values)
        _, singular, loadings = np.linalg.svd(values, full_matrices=False)
        variances = singular**2 / (shape[0] - 1)
        assert (variances > noise).sum() == len(strengths)
        kept = np.maximum(variances - noise, 0.0)
        expected = np.sqrt((kept[:, None] * loadings**2).sum(axis=0))
        np.testing.assert_allclose(component_strength(values, None), expected, atol=1e-9)

    def test_noise_alone_seldom_has_a_component(self) -> None:
        found = [component_strength(with_factors(40, 60, (), seed), None).any() for seed in range(40)]
        # The genes as they are count as one more permutation: one in four has the largest of four.
        assert sum(found) <= 10 + 8


class TestCrossFittedCovariance:
    @pytest.mark.parametrize("n_components", [2, None])
    @pytest.mark.parametrize("n_cells", [31, 61])  # halves of fewer cells than genes, and of more
    def test_equals_a_loop_over_genes(self, n_components: int | None, n_cells: int) -> None:
        values = with_factors(n_cells, 24, (2.0, 1.5), seed=7)
        found = cross_fitted_covariance(values, np.random.default_rng(8), n_components=n_components, n_splits=2)
        rng = np.random.default_rng(8)
        expected = np.zeros(24)
        noise = None
        for _ in range(2):
            order = rng.permutation(n_cells)
            halves = order[: n_cells // 2], order[n_cells // 2 :]
            for first, second in (halves, halves[::-1]):
                own = values[first] - values[first].mean(axis=0)
                noise = noise_variance(own) if noise is None else noise
                _, singular, loadings = np.linalg.svd(own, full_matrices=False)
                above = int((singular**2 / (len(first) - 1) > noise).sum())
                for weights in loadings[: n_components or max(above, 1)]:
                    for gene in range(24):
                        others = np.delete(values[second], gene, axis=1) @ np.delete(weights, gene)
                        expected[gene] += weights[gene] * np.cov(values[second][:, gene], others)[0, 1] / 4
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)

    def test_a_gene_of_its_own_expects_zero_however_much_it_varies(self) -> None:
        scores = []
        for seed in range(120):
            values = np.random.default_rng(seed).normal(size=(30, 12)) * np.r_[10.0, np.ones(11)]
            scores.append(cross_fitted_covariance(values, np.random.default_rng(seed), n_components=2))
        error = np.std(scores, axis=0) / np.sqrt(len(scores))
        assert (np.abs(np.mean(scores, axis=0)) < 4 * error).all()
        own = component_strength(values, 2)
        assert own[0] > 3 * own[1:].max(), "the same gene leads the components of the same cells"

    def test_of_a_program_it_is_the_variance_that_components_explain(self) -> None:
        rng = np.random.default_rng(9)
        loadings = np.r_[rng.choice([-1, 1], 10) * rng.uniform(1.0, 2.0, 10), np.zeros(20)]
        values = np.outer(rng.normal(size=4000), loadings) + rng.normal(size=(4000, 30))
        scores = cross_fitted_covariance(values, np.random.default_rng(0), n_components=1)
        # The gene itself is left out of the activity: its own share of the loading's length is missing.
        unit = loadings**2 / (loadings**2).sum()
        np.testing.assert_allclose(scores, loadings**2 * (1 - unit), atol=0.15)


class TestPlantedPrograms:
    def test_automatic_components_find_more_than_five_and_cross_fitting_as_much(self) -> None:
        config = SimulationConfig(
            n_genes=600, population_sizes=(250, 120), programs="switch", n_program_genes=30, mean_counts=1000
        )
        levels = np.random.default_rng(0).normal(-7.0, 1.0, 600)
        adata = simulate(config, 0, parameters=SimulationParameters(levels, np.full(600, -3.0), 0.2))
        planted = truth_from_adata(adata).program_sets
        codes = adata.obs["population"].cat.codes.to_numpy()
        view = CellView(
            counts=csr_matrix(adata.X),
            total_counts=np.asarray(adata.X.sum(axis=1)).ravel(),
            codes=codes,
            n_populations=2,
            populations=("a", "b"),
            samples=None,
            seed=0,
        )

        def precision(method: str, n_components: int | None) -> float:
            scores = score_of(METHODS[method], replace(view, n_components=n_components))
            return float(np.mean([float(average_precision(*pair)) for pair in zip(scores, planted, strict=True)]))

        for method in ("residual_pca", "within_pca"):
            assert precision(method, None) > precision(method, 5) + 0.02
        assert precision("cross_covariance", None) > precision("residual_pca", 5) + 0.02


class TestWithin:
    def test_each_population_by_itself(self) -> None:
        """The other cells have no part: neither in the null model of the residuals nor in the components."""
        view = planted_view()
        values = np.log1p(view.counts.toarray() / np.asarray(view.total_counts)[:, None] * 1e4)
        for code in range(3):
            cells = view.codes == code
            residuals = pearson_residuals(csr_matrix(view.counts.toarray()[cells]))
            expected = {
                "within_pca": component_strength(values[cells], view.n_components),
                "residual_pca": component_strength(residuals, view.n_components),
                "within_dispersion": (residuals**2).mean(axis=0) - residuals.mean(axis=0) ** 2,
            }
            for name, score in expected.items():
                np.testing.assert_allclose(score_of(METHODS[name], view)[code], score, rtol=1e-5, atol=1e-7)
