"""The marker baselines against independent implementations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import stats
from scipy.sparse import csr_matrix
from tests.helpers.baseline_examples import MARKERS, planted_view, score_of

from scballast.methods.cell_view import CellView
from scballast.methods.registry import METHODS


def of(name: str, view: CellView) -> np.ndarray:
    return score_of(METHODS[name], view)


def dense_log_counts(view: CellView) -> np.ndarray:
    return np.log1p(view.counts.toarray().astype(float) / np.asarray(view.total_counts)[:, None] * 1e4)


def brute_force_z(values: np.ndarray, inside: np.ndarray) -> float:
    """The normal approximation of the rank sum, textbook form: ties get midranks and shrink the variance."""
    n, n_in = values.size, inside.sum()
    ranks = stats.rankdata(values)
    _, ties = np.unique(values, return_counts=True)
    variance = n_in * (n - n_in) / 12 * ((n + 1) - (ties**3 - ties).sum() / (n * (n - 1)))
    return 0.0 if variance == 0 else (ranks[inside].sum() - n_in * (n + 1) / 2) / np.sqrt(variance)


class TestLogCounts:
    def test_equals_the_formula_with_counts_over_all_genes(self) -> None:
        view = planted_view()
        np.testing.assert_allclose(view.log_counts.toarray(), dense_log_counts(view), rtol=1e-12)

    def test_equal_fractions_are_ties(self) -> None:
        total = np.arange(1.0, 2_000.0)
        counts = csr_matrix(np.column_stack([np.ones(total.size), 3 * np.ones(total.size)]))
        codes = np.zeros(total.size, int)
        once = CellView(counts, total, codes, 1, ("a",), None, 0).log_counts.toarray()
        thrice = CellView(counts, 3 * total, codes, 1, ("a",), None, 0).log_counts.toarray()
        np.testing.assert_array_equal(once[:, 0], thrice[:, 1])

    def test_cell_without_counts_stays_zero(self) -> None:
        view = planted_view()
        counts = view.counts.toarray()
        counts[3] = 0
        stored_zero = csr_matrix(counts + np.eye(*counts.shape))
        stored_zero.data[stored_zero.indptr[3]] = 0
        totals = np.where(np.arange(view.codes.size) == 3, 0, view.total_counts + 1)
        logs = replace(view, counts=stored_zero, total_counts=totals).log_counts.toarray()
        assert (logs[3] == 0).all()
        assert np.isfinite(logs).all()


class TestWilcoxon:
    def test_equals_brute_force(self) -> None:
        view = planted_view()
        values = dense_log_counts(view)
        expected = [[brute_force_z(column, view.codes == code) for column in values.T] for code in range(3)]
        np.testing.assert_allclose(of("wilcoxon", view), expected, rtol=1e-9, atol=1e-9)

    def test_equals_scipy_p_values(self) -> None:
        view = planted_view()
        values = dense_log_counts(view)
        z = of("wilcoxon", view)
        inside = view.codes == 1
        test = stats.mannwhitneyu(values[inside], values[~inside], use_continuity=False, method="asymptotic", axis=0)
        informative = values.any(axis=0)
        np.testing.assert_allclose(2 * stats.norm.sf(np.abs(z[1]))[informative], test.pvalue[informative])

    @pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
    def test_equals_scanpy_with_tie_correction(self) -> None:
        import scanpy as sc

        whole = planted_view()
        view = replace(whole, counts=whole.counts[:, :-1])  # scanpy divides by zero for a gene without counts
        labels = np.array([*view.populations, "unlabelled"])[view.codes]
        obs = pd.DataFrame({"label": pd.Categorical(labels)}, index=np.arange(labels.size).astype(str))
        adata = AnnData(dense_log_counts(view), obs=obs)
        sc.tl.rank_genes_groups(adata, "label", method="wilcoxon", tie_correct=True)
        z = of("wilcoxon", view)
        for code, name in enumerate(view.populations):
            table = sc.get.rank_genes_groups_df(adata, name).set_index("names")["scores"]
            expected = table.loc[[str(gene) for gene in range(z.shape[1])]].to_numpy()
            np.testing.assert_allclose(z[code], expected, rtol=1e-5)

    def test_orders_genes_whose_p_values_underflow(self) -> None:
        # 6,000 cells; in gene g the first 3,000 are all higher, but for 40·g of them.
        n, n_genes = 6_000, 4
        codes = np.repeat([0, 1], n // 2)
        counts = np.tile(np.where(codes == 0, 2.0, 1.0)[:, None], (1, n_genes))
        for gene in range(n_genes):
            counts[: 40 * gene, gene] = 0
        view = CellView(csr_matrix(counts), np.full(n, 10.0), codes, 2, ("a", "b"), None, 0)
        z = of("wilcoxon", view)[0]
        assert (2 * stats.norm.sf(z) == 0).all()
        assert (np.diff(z) < 0).all()


class TestTTest:
    def test_equals_scipy(self) -> None:
        view = planted_view()
        values = dense_log_counts(view)
        informative = values.any(axis=0)
        scores = of("t_test", view)
        for code in range(3):
            inside = view.codes == code
            expected = stats.ttest_ind(
                values[inside][:, informative], values[~inside][:, informative], equal_var=False
            ).statistic
            np.testing.assert_allclose(scores[code][informative], expected, rtol=1e-9)

    def test_gene_constant_on_both_sides(self) -> None:
        rng = np.random.default_rng(0)
        n = 3_000
        codes = rng.integers(2, size=n)
        same = np.full(n, 7.0)
        apart = np.where(codes == 0, 5.0, 3.0)
        counts = np.column_stack([same, apart, rng.poisson(4.0, n)])
        view = CellView(csr_matrix(counts), np.full(n, 30.0), codes, 2, ("a", "b"), None, 0)
        scores = of("t_test", view)
        assert (scores[:, 0] == 0).all()
        assert scores[0, 1] > abs(scores[0, 2])
        assert scores[1, 1] == pytest.approx(-scores[0, 1])
        assert np.isfinite(scores).all()


class TestLogreg:
    @pytest.mark.parametrize("most_dense", [2**27, 0], ids=["dense", "sparse"])
    def test_equals_another_solver_on_scaled_genes(self, most_dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        monkeypatch.setattr("scballast.methods.logreg.MOST_DENSE", most_dense)
        # Where lbfgs stops short of the solution depends on how a processor rounds: here both are to reach it.
        monkeypatch.setattr("scballast.methods.logreg.GRADIENT_TOLERANCE", 1e-10)
        view = planted_view()
        scaled = StandardScaler().fit_transform(dense_log_counts(view))
        other = LogisticRegression(C=1.0, solver="newton-cg", tol=1e-9, max_iter=1_000).fit(scaled, view.codes)
        assert other.classes_.tolist() == [-1, 0, 1, 2]
        np.testing.assert_allclose(of("logreg", view), other.coef_[1:], atol=1e-4)

    def test_many_cells_are_not_made_dense(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("scballast.methods.logreg.MOST_DENSE", 0)
        monkeypatch.setattr(csr_matrix, "toarray", lambda _: pytest.fail("cells x genes were made dense"))
        assert np.isfinite(of("logreg", planted_view())).all()

    def test_two_populations_get_opposite_signs(self) -> None:
        view = planted_view()
        two = replace(view, codes=(view.codes == 0).astype(int), n_populations=2, populations=("rest", "B"))
        scores = of("logreg", two)
        np.testing.assert_array_equal(scores[0], -scores[1])
        assert set(np.argsort(scores[1])[-3:]) == set(MARKERS[0])

    def test_one_population_and_unlabelled_cells(self) -> None:
        view = planted_view()
        one = replace(view, codes=np.where(view.codes == 0, 0, -1), n_populations=1, populations=("B",))
        assert set(np.argsort(of("logreg", one)[0])[-3:]) == set(MARKERS[0])

    def test_says_when_it_has_not_converged(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("scballast.methods.logreg.MAX_ITERATIONS", 3)
        of("logreg", planted_view())
        assert "had not converged after 3 iterations" in caplog.text
