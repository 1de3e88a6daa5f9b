"""Pearson residuals and the program baselines against independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_matrix, csr_matrix
from tests.helpers.baseline_examples import planted_view, score_of

from scballast.methods.registry import METHODS
from scballast.methods.residuals import pearson_residuals
from scballast.methods.within import component_strength


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
