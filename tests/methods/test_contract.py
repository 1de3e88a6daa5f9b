"""What every baseline owes the experiment."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from tests.helpers.baseline_examples import (
    MARKERS,
    N_GENES,
    POPULATIONS,
    PROGRAM,
    WITHOUT_COUNTS,
    of_cells,
    planted_view,
    ranked,
    score_of,
)

from scballast.methods.cell_view import CellView
from scballast.methods.method import SAMPLES, Method
from scballast.methods.registry import METHODS

# The other populations are what a population is compared with: another one changes the scores, and should.
OF_THE_OTHER_POPULATIONS = ("logreg", "min_auc", "min_rank_auc")
BASELINES = {name: method for name, method in METHODS.items() if not method.roles}


@pytest.fixture(scope="session")
def view() -> CellView:
    return planted_view()


@pytest.fixture(scope="session", params=sorted(BASELINES))
def baseline(request: pytest.FixtureRequest) -> Method:
    return BASELINES[request.param]


@pytest.fixture(scope="session")
def scores(baseline: Method, view: CellView) -> np.ndarray:
    return score_of(baseline, view)


def assert_same(first: np.ndarray, second: np.ndarray, baseline: Method) -> None:
    # The fits stop at a tolerance; everything else is a sum in another order.
    tolerance = {"logreg": 2e-4, "pseudobulk": 1e-4, "response_pseudobulk": 1e-4}.get(baseline.name, 1e-7)
    np.testing.assert_allclose(first, second, rtol=tolerance, atol=tolerance)


def assert_same_population(first: np.ndarray, second: np.ndarray, baseline: Method) -> None:
    """Other populations have no part in the scores; where they have a part in the dispersions, hardly any."""
    if baseline.name != "sparse_factors":
        assert_same(first, second, baseline)
        return
    assert not np.array_equal(first, second)
    for row, other in zip(first, second, strict=True):
        assert spearmanr(row, other).statistic > 0.95


class TestContract:
    def test_one_finite_number_per_population_and_gene(self, baseline: Method, scores: np.ndarray) -> None:
        assert scores.shape == (3, N_GENES)
        missing = np.isnan(scores)
        if baseline.name in ("pseudobulk", "response_pseudobulk"):
            assert missing[:, WITHOUT_COUNTS].all(), "no counts, no statistic"
            missing = np.delete(missing, WITHOUT_COUNTS, axis=1)
        assert not missing.any()
        assert np.isfinite(scores[~np.isnan(scores)]).all()

    def test_gene_without_counts_says_nothing(self, baseline: Method, scores: np.ndarray) -> None:
        if baseline.name == "random":
            pytest.skip("noise does not look at the counts")
        assert (np.nan_to_num(scores[:, WITHOUT_COUNTS]) == 0).all()

    def test_permuting_genes_permutes_scores(self, baseline: Method, view: CellView, scores: np.ndarray) -> None:
        if baseline.name == "random":
            pytest.skip("noise knows genes by position only")
        order = np.random.default_rng(1).permutation(N_GENES)
        assert_same(score_of(baseline, replace(view, counts=view.counts[:, order])), scores[:, order], baseline)

    def test_order_of_cells_does_not_matter(self, baseline: Method, view: CellView, scores: np.ndarray) -> None:
        order = np.random.default_rng(2).permutation(view.codes.size)
        assert_same(score_of(baseline, of_cells(view, order)), scores, baseline)

    def test_same_view_same_bytes(self, baseline: Method, scores: np.ndarray) -> None:
        again = planted_view()
        before = again.counts.toarray()
        assert score_of(baseline, again).tobytes() == scores.tobytes()
        np.testing.assert_array_equal(again.counts.toarray(), before)

    def test_only_the_seeded_ones_use_the_seed(self, baseline: Method, view: CellView, scores: np.ndarray) -> None:
        other = score_of(baseline, replace(view, seed=view.seed + 1))
        assert np.array_equal(other, scores, equal_nan=True) == baseline.deterministic

    def test_naming_the_unlabelled_cells_changes_no_other_population(
        self, baseline: Method, view: CellView, scores: np.ndarray
    ) -> None:
        if baseline.name in ("min_auc", "min_rank_auc"):
            pytest.skip("the cells named are one more population to compare with")
        codes = np.where(view.codes < 0, 0, view.codes + 1)
        named = replace(view, codes=codes, n_populations=4, populations=("another", *POPULATIONS))
        assert_same_population(score_of(baseline, named)[1:], scores, baseline)

    def test_finds_what_was_planted(self, baseline: Method, scores: np.ndarray) -> None:
        planted = MARKERS if baseline.estimand == "marker" else PROGRAM
        n_planted = len(planted[0])
        found = [len(set(planted[code]) & set(ranked(scores[code])[: n_planted + 2])) for code in planted]
        if baseline.name == "random":
            assert sum(found) <= 2
        else:
            assert found == [n_planted] * 3

    def test_population_without_cells_gets_nan_and_a_reason(
        self, baseline: Method, view: CellView, scores: np.ndarray, caplog: pytest.LogCaptureFixture
    ) -> None:
        if baseline.name == "random":
            pytest.skip("noise does not look at the cells")
        emptied = replace(view, codes=np.where(view.codes == 1, -1, view.codes))
        with caplog.at_level(logging.WARNING):
            result = score_of(baseline, emptied)
        assert np.isnan(result[1]).all()
        assert any(baseline.name in message and "'T/NK +'" in message for message in caplog.messages)
        if baseline.name not in OF_THE_OTHER_POPULATIONS:
            assert_same_population(result[[0, 2]], scores[[0, 2]], baseline)

    def test_nothing_is_printed(self, baseline: Method, view: CellView, capfd: pytest.CaptureFixture[str]) -> None:
        score_of(baseline, view)
        printed = capfd.readouterr()
        assert printed.out + printed.err == ""


def test_needs_samples_is_true_of_those_that_fail_without(view: CellView) -> None:
    without = replace(view, samples=None)
    for baseline in BASELINES.values():
        if SAMPLES in baseline.needs:
            with pytest.raises(AssertionError, match=r"data\.sample_key"):
                score_of(baseline, without)
        else:
            assert np.isfinite(score_of(baseline, without)).all()
