"""Markers of one population against each other one: against brute force, over pairs and blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import mannwhitneyu
from tests.helpers.baseline_examples import planted_view

from scballast.methods import one_vs_each
from scballast.methods.one_vs_each import min_auc_scores, min_rank_auc_scores, pairwise_effects, summarised

N_POPULATIONS, N_GENES = 4, 7


@pytest.fixture(scope="module")
def example() -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    """Log counts with many ties and zeros; the third block has no cells of population 3, the fourth one of each."""
    rng = np.random.default_rng(3)
    codes, blocks = rng.integers(-1, N_POPULATIONS, 90), rng.integers(3, size=90)
    blocks[(codes == 3) & (blocks == 2)] = 0
    codes = np.concatenate([codes, np.arange(N_POPULATIONS)])
    blocks = np.concatenate([blocks, np.full(N_POPULATIONS, 3)])
    counts = rng.poisson(0.8 + 0.5 * np.maximum(codes, 0)[:, None] * rng.random(N_GENES), (codes.size, N_GENES))
    counts[:, 5] = 0
    counts[:, 6] = np.where(codes == 1, 2, 1)  # constant within populations
    return csr_matrix(np.log1p(counts.astype(float))), codes, blocks


def by_hand(values: np.ndarray, codes: np.ndarray, blocks: np.ndarray, first: int, second: int) -> dict[str, float]:
    """One gene and pair, block by block, weighted by pairs of cells."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("auc", "cohens_d", "detection", "fold")}
    for block in np.unique(blocks):
        x, y = (values[(codes == code) & (blocks == block)] for code in (first, second))
        if not x.size or not y.size:
            continue
        weight = float(x.size * y.size)
        found["auc"].append((mannwhitneyu(x, y).statistic / weight, weight))
        found["detection"].append(((x > 0).mean() - (y > 0).mean(), weight))
        found["fold"].append(((x.mean() - y.mean()) / np.log(2), weight))
        if x.size > 1 and y.size > 1:
            pooled = np.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2)
            difference = x.mean() - y.mean()
            constant = np.inf * np.sign(difference) if abs(difference) > 1e-9 else 0.0
            found["cohens_d"].append((difference / pooled if pooled > 1e-9 else constant, weight))
    return {name: _weighted_mean(pairs) for name, pairs in found.items()}


def _weighted_mean(pairs: list[tuple[float, float]]) -> float:
    return sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs) if pairs else np.nan


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize(("most_entries", "few_cells"), [(1, 0), (2**22, 0), (2**22, 32)])
def test_every_effect_of_every_pair_is_what_is_counted_by_hand(
    example: tuple[csr_matrix, np.ndarray, np.ndarray],
    blocked: bool,
    most_entries: int,
    few_cells: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(one_vs_each, "_MOST_ENTRIES", most_entries)
    monkeypatch.setattr(one_vs_each, "_FEW_CELLS", few_cells)
    values, codes, blocks = example
    found = pairwise_effects(values, codes, N_POPULATIONS, blocks if blocked else None)
    dense, used = values.toarray(), blocks if blocked else np.zeros_like(blocks)
    for first in range(N_POPULATIONS):
        for second in range(N_POPULATIONS):
            for gene in range(N_GENES):
                here = (first, second, gene)
                if first == second:
                    assert np.isnan(found.auc[here])
                    assert np.isnan(found.cohens_d[here])
                    continue
                expected = by_hand(dense[:, gene], codes, used, first, second)
                assert found.auc[here] == pytest.approx(expected["auc"], abs=1e-12)
                assert found.cohens_d[here] == pytest.approx(expected["cohens_d"], abs=1e-9)
                assert found.detection_difference[here] == pytest.approx(expected["detection"], abs=1e-12)
                assert found.log2_fold_change[here] == pytest.approx(expected["fold"], abs=1e-12)


def test_summaries_are_over_the_comparisons_that_there_are() -> None:
    nothing = [np.nan] * 3
    effect = np.array(
        [
            [nothing, [0.9, 0.6, 0.9], [0.2, 0.7, 0.1]],
            [[0.1, 0.4, 0.1], nothing, nothing],
            [nothing, nothing, nothing],
        ]
    )
    summary = summarised(effect)
    np.testing.assert_allclose(summary.minimum[:2], [[0.2, 0.6, 0.1], [0.1, 0.4, 0.1]])
    np.testing.assert_allclose(summary.mean[:2], [[0.55, 0.65, 0.5], [0.1, 0.4, 0.1]])
    np.testing.assert_array_equal(summary.min_rank[:2], [[1, 1, 1], [2, 1, 2]])
    assert np.isnan(summary.minimum[2]).all()
    assert np.isnan(summary.min_rank[2]).all()


def test_a_gene_shared_with_one_other_population_has_no_min_auc_and_a_good_rank() -> None:
    # Against the rest, a gene shared by two of many populations looks like a marker of both.
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(6), 40)
    counts = rng.poisson(1.0, (codes.size, 30))
    counts[:, 0] += rng.poisson(6.0, codes.size) * (codes == 0)
    counts[:, 1] += rng.poisson(9.0, codes.size) * np.isin(codes, (0, 1))
    view = replace(
        planted_view(),
        counts=csr_matrix(counts.astype(np.float32)),
        total_counts=counts.sum(axis=1) + 500.0,
        codes=codes,
        n_populations=6,
        populations=tuple("abcdef"),
        samples=None,
    )
    lowest, rank = min_auc_scores(view)[0], min_rank_auc_scores(view)[0]
    assert lowest.argmax() == 0
    assert lowest[0] > 0.4
    assert abs(lowest[1]) < 0.15
    assert set(np.argsort(-rank)[:2]) == {0, 1}


def test_min_rank_scores_keep_the_order_of_ranks_and_within_them_of_mean_auc() -> None:
    view = planted_view()
    summary = summarised(one_vs_each.pairwise_auc(view.log_counts, view.codes, 3))
    for scores, ranks, means in zip(min_rank_auc_scores(view), summary.min_rank, summary.mean, strict=True):
        positive = np.flatnonzero(scores > 0)
        expected = positive[np.lexsort((-means[positive], ranks[positive]))]
        np.testing.assert_array_equal(positive[np.argsort(-scores[positive])], expected)
        assert (ranks[scores <= 0] > 1).all()


def test_a_difference_between_blocks_is_no_marker() -> None:
    view = planted_view()
    batch = np.where(view.codes == 0, np.arange(view.codes.size) % 4 > 0, np.arange(view.codes.size) % 4 == 0)
    counts = view.counts.toarray()
    counts[batch, 30] += 8  # as strong in every population, and most cells of population 0 are of this batch
    shifted = replace(view, counts=csr_matrix(counts))
    assert min_auc_scores(shifted)[0, 30] > 0.15
    assert min_auc_scores(replace(shifted, blocks=batch.astype(int)))[0, 30] < 0.05


def test_populations_that_share_no_block_have_no_score_and_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    view = planted_view()
    scores = min_auc_scores(replace(view, blocks=(view.codes == 2).astype(int)))
    assert np.isnan(scores[2]).all()
    assert np.isfinite(scores[:2]).all()
    assert "min_auc: no score for population 'mono': of its 110 cells none" in caplog.text
