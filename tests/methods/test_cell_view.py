"""What all methods see: logs and means made a part at a time, and samples of populations too large to be dense."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from tests.helpers.baseline_examples import of_cells, planted_view

from scballast.agreement import residuals
from scballast.agreement.residuals import pearson_residuals, products_with_residuals
from scballast.methods import cell_view
from scballast.methods.cell_view import evenly_over_depth, log_of, mean_log_counts
from scballast.methods.registry import METHODS
from scballast.threads import at_once


class Cells:
    """Evidence of cells alone."""

    def __init__(self, view: cell_view.CellView) -> None:
        self.cells = view


def test_a_sample_has_the_depths_of_all_and_the_order_of_cells_has_no_part() -> None:
    rng = np.random.default_rng(0)
    # As real depths many are equal.
    counts = csr_matrix(rng.poisson(0.4, (5000, 30)))
    depth = rng.lognormal(5.0, 0.6, 5000).round()
    assert np.unique(depth).size < 1000
    cells = np.sort(rng.choice(5000, 3001, replace=False))
    sample = evenly_over_depth(cells, depth, counts, 300)
    assert sample.size == np.unique(sample).size == 300
    assert set(sample) <= set(cells)
    quantiles = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(np.quantile(depth[sample], quantiles), np.quantile(depth[cells], quantiles), rtol=0.02)
    order = rng.permutation(5000)
    moved = np.flatnonzero(np.isin(order, cells))
    again = evenly_over_depth(moved, depth[order], counts[order], 300)
    # Cells that hold the same may stand for each other.
    held = [np.column_stack([depth[of], counts[of].toarray()]) for of in (sample, order[again])]
    np.testing.assert_array_equal(*(rows[np.lexsort(rows.T)] for rows in held))


def test_small_populations_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_view, "MOST_CELLS", 115)  # of 130, 120 and 110
    view = planted_view()
    assert [view.of_population(code).size for code in range(3)] == [115, 115, 110]
    np.testing.assert_array_equal(view.of_population(2), np.flatnonzero(view.codes == 2))


@pytest.mark.parametrize("name", ["within_pca", "residual_pca", "within_dispersion", "cross_covariance"])
def test_methods_of_dense_cells_score_a_sample_as_these_cells_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_view, "MOST_CELLS", 60)
    view = planted_view()
    found = METHODS[name].score(Cells(view))  # type: ignore[arg-type]  # these look at cells alone
    sample = np.sort(np.concatenate([view.of_population(code) for code in range(3)]))
    alone = METHODS[name].score(Cells(of_cells(view, sample)))  # type: ignore[arg-type]
    np.testing.assert_allclose(found, alone, rtol=1e-9)
    monkeypatch.undo()
    assert not np.allclose(found, METHODS[name].score(Cells(view)))  # type: ignore[arg-type]


def test_sparse_factors_look_at_samples_for_dispersions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_view, "MOST_CELLS", 60)
    view = planted_view()
    found = METHODS["sparse_factors"].score(Cells(view))  # type: ignore[arg-type]
    sample = np.sort(np.concatenate([view.of_population(code) for code in range(3)]))
    alone = METHODS["sparse_factors"].score(Cells(of_cells(view, sample)))  # type: ignore[arg-type]
    np.testing.assert_allclose(found, alone, rtol=1e-6)


def test_means_of_logs_a_part_at_a_time_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    view = planted_view()
    logs = np.log1p(view.counts.toarray().astype(float) / view.total_counts[:, None] * 1e4)
    np.testing.assert_allclose(log_of(view.counts, view.total_counts).toarray(), logs, rtol=1e-12)
    monkeypatch.setattr(cell_view, "_CELLS_AT_ONCE", 7)
    means = mean_log_counts(view.counts, view.total_counts, view.codes, 4)
    for code in range(3):
        np.testing.assert_allclose(means[code], logs[view.codes == code].mean(axis=0), rtol=1e-12)
    assert not means[3].any()  # a population without cells


def test_products_with_residuals_a_part_at_a_time_are_those_of_the_dense_matrix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    dense = rng.poisson(rng.gamma(0.5, 2.0, (90, 12))).astype(np.float32)
    dense[3], dense[:, 4] = 0, 0
    counts = csr_matrix(dense)
    left = rng.standard_normal((90, 5))
    monkeypatch.setattr(residuals, "_CELLS_AT_ONCE", 11)
    np.testing.assert_allclose(products_with_residuals(left, counts), left.T @ pearson_residuals(counts), atol=1e-10)
    nothing = csr_matrix((90, 12), dtype=np.float32)
    assert not products_with_residuals(left, nothing).any()


@pytest.mark.parametrize("name", ["within_pca", "sparse_factors", "cross_covariance"])
def test_populations_side_by_side_have_the_scores_of_one_after_the_other(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for n_threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", n_threads)
        assert at_once() == int(n_threads)
        found.append(METHODS[name].score(Cells(planted_view())))  # type: ignore[arg-type]
    np.testing.assert_array_equal(*found)
