"""Stability indices against their authors' code, brute force and published numbers."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import friedmanchisquare, rankdata, spearmanr, t
from tests.helpers.agreement_oracles import (
    jaccard_index,
    kendall_w,
    kuncheva_index,
    nogueira_stability,
    nogueira_variance,
    pairwise_rank_biased_overlap,
    rank_biased_overlap,
    rank_biased_overlap_lists,
    selection_frequency,
)

from scballast.agreement.rank_agreement import consensus_ranking
from scballast.agreement.stability import jackknife_interval, mean_interval, pairwise_kuncheva, selection_error_bound

REFERENCE: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "reference" / "stability_authors.json").read_text(encoding="utf-8")
)
Array = npt.NDArray[Any]


@st.composite
def equal_selections(draw: st.DrawFn) -> Array:
    """Selections of one size k, 0 < k < n_genes, by 2 replicates or more."""
    n_genes = draw(st.integers(2, 12))
    k = draw(st.integers(1, n_genes - 1))
    orders = draw(st.lists(st.permutations(range(n_genes)), min_size=2, max_size=6))
    return np.array(orders) < k


def tie_breakings(scores: Array) -> Iterator[list[int]]:
    """Yield every order of the genes that descending scores allow, each as often."""
    values = sorted(set(scores.tolist()), reverse=True)
    groups = [np.flatnonzero(scores == value).tolist() for value in values]
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield [gene for part in parts for gene in part]


class TestNogueira:
    @pytest.mark.parametrize("case", REFERENCE["nogueira"])
    def test_agrees_with_the_authors_code(self, case: dict[str, Any]) -> None:
        assert nogueira_stability(case["selections"]) == pytest.approx(case["stability"], abs=1e-12)
        assert nogueira_variance(case["selections"]) == pytest.approx(case["variance"], abs=1e-12)

    @given(equal_selections())
    def test_is_the_mean_pairwise_kuncheva_index_at_equal_sizes(self, selections: Array) -> None:
        pairs = [float(kuncheva_index(one, other)) for one, other in itertools.combinations(selections, 2)]
        assert nogueira_stability(selections) == pytest.approx(np.mean(pairs), abs=1e-9)

    @given(equal_selections(), st.randoms(use_true_random=False))
    def test_order_of_genes_and_replicates_changes_nothing(self, selections: Array, random: Any) -> None:
        rows, columns = (list(range(n)) for n in selections.shape)
        random.shuffle(rows)
        random.shuffle(columns)
        shuffled = selections[rows][:, columns]
        assert nogueira_stability(shuffled) == pytest.approx(nogueira_stability(selections), abs=1e-9)
        assert nogueira_variance(shuffled) == pytest.approx(nogueira_variance(selections), abs=1e-9)

    def test_identical_selections_are_fully_stable(self) -> None:
        selections = np.tile([True, False, False, True, False], (4, 1))
        assert nogueira_stability(selections) == 1.0
        assert nogueira_variance(selections) == 0.0

    def test_random_selections_have_none(self) -> None:
        rng = np.random.default_rng(0)
        selections = np.stack([rng.permutation(500) < 50 for _ in range(50)])
        assert abs(nogueira_stability(selections)) < 0.01

    @pytest.mark.parametrize(
        ("selections", "reason"),
        [
            (np.eye(1, 5, dtype=bool), "one replicate"),
            (np.ones((3, 5), dtype=bool), "every gene"),
            (np.zeros((3, 5), dtype=bool), "no gene"),
        ],
    )
    def test_undefined(self, selections: Array, reason: str) -> None:
        for index in (nogueira_stability, nogueira_variance):
            value = index(selections)
            assert math.isnan(value)
            assert reason in value.reason

    @pytest.mark.parametrize(
        "wrong", [[True, False], [[0.5, 1.0]], [[2, 0], [1, 0]], [[np.nan, 1.0]], np.zeros((0, 3))]
    )
    def test_wrong_input(self, wrong: Any) -> None:
        for function in (nogueira_stability, nogueira_variance, selection_frequency, pairwise_kuncheva):
            with pytest.raises(ValueError, match="selections must be"):
                function(wrong)


class TestSetIndices:
    def test_kuncheva_by_hand(self) -> None:
        # r = 2, k = 3, G = 10: (2 - 0.9) / (3 - 0.9)
        first = np.isin(np.arange(10), [0, 1, 2])
        second = np.isin(np.arange(10), [1, 2, 3])
        assert kuncheva_index(first, second) == pytest.approx(1.1 / 2.1, abs=1e-12)

    def test_jaccard_by_hand(self) -> None:
        assert jaccard_index([1, 1, 1, 0, 0], [0, 1, 1, 1, 0]) == 0.5
        assert jaccard_index([1, 1, 0, 0], [0, 0, 0, 1]) == 0.0
        assert math.isnan(jaccard_index([0, 0], [0, 0]))

    @given(equal_selections())
    def test_pairwise_is_the_index_of_each_pair(self, selections: Array) -> None:
        pairs = pairwise_kuncheva(selections)
        for i, j in np.ndindex(*pairs.shape):
            assert pairs[i, j] == pytest.approx(kuncheva_index(selections[i], selections[j]), abs=1e-12)

    def test_extremes(self) -> None:
        half = np.arange(10) < 5
        assert kuncheva_index(half, half) == 1.0
        assert kuncheva_index(half, ~half) == -1.0
        assert jaccard_index(half, half) == 1.0

    @pytest.mark.parametrize(("fill", "reason"), [(True, "every gene"), (False, "no gene")])
    def test_undefined(self, fill: bool, reason: str) -> None:
        full = np.full(4, fill)
        assert math.isnan(kuncheva_index(full, full))
        assert reason in kuncheva_index(full, full).reason
        assert np.isnan(pairwise_kuncheva(np.stack([full, full]))).all()

    def test_wrong_input(self) -> None:
        with pytest.raises(ValueError, match="one size, got 1 and 2"):
            kuncheva_index([1, 0, 0], [1, 1, 0])
        with pytest.raises(ValueError, match="one size, got 1 to 2"):
            pairwise_kuncheva([[1, 0, 0], [1, 1, 0]])
        for index in (kuncheva_index, jaccard_index):
            with pytest.raises(ValueError, match="same genes"):
                index([1, 0, 0], [1, 0])
            with pytest.raises(ValueError, match="0 and 1"):
                index([3, 0, 0], [1, 0, 0])


class TestJackknife:
    def test_is_the_jackknife_that_deletes_each_replicate_in_turn(self) -> None:
        rng = np.random.default_rng(0)
        for n_replicates in (3, 4, 10):
            similarities = rng.normal(size=(n_replicates, n_replicates))
            similarities += similarities.T

            def mean_of_pairs(matrix: Array) -> float:
                return float(matrix[np.triu_indices(len(matrix), 1)].mean())

            deleted = np.array(
                [mean_of_pairs(np.delete(np.delete(similarities, i, 0), i, 1)) for i in range(n_replicates)]
            )
            error = math.sqrt((n_replicates - 1) / n_replicates * np.sum((deleted - deleted.mean()) ** 2))
            found = jackknife_interval(similarities, level=0.9)
            assert found.estimate == pytest.approx(mean_of_pairs(similarities), abs=1e-12)
            assert found.standard_error == pytest.approx(error, abs=1e-12)
            half = t.ppf(0.95, n_replicates - 1) * error
            assert (found.lower, found.upper) == pytest.approx((found.estimate - half, found.estimate + half))

    def test_diagonal_and_order_of_replicates_change_nothing(self) -> None:
        rng = np.random.default_rng(1)
        similarities = rng.random((6, 6))
        similarities = (similarities + similarities.T) / 2
        order = rng.permutation(6)
        other = similarities[np.ix_(order, order)]
        np.fill_diagonal(other, np.nan)
        first, second = jackknife_interval(similarities), jackknife_interval(other)
        assert (first.lower, first.upper) == pytest.approx((second.lower, second.upper), abs=1e-12)

    def test_few_replicates(self) -> None:
        two = jackknife_interval([[1.0, 0.4], [0.4, 1.0]])
        assert two.estimate == 0.4
        assert math.isnan(two.lower)
        assert "3 replicates" in two.reason
        one = jackknife_interval([[1.0]])
        assert math.isnan(one.estimate)
        assert "one replicate" in one.reason

    def test_a_similarity_that_is_not_a_number_is_not_passed_over(self) -> None:
        similarities = np.ones((4, 4))
        similarities[1, 2] = similarities[2, 1] = np.nan
        found = jackknife_interval(similarities)
        assert math.isnan(found.estimate)
        assert "not a finite number" in found.reason

    @pytest.mark.parametrize(
        ("similarities", "level", "message"),
        [
            (np.ones((2, 3)), 0.95, "square"),
            (np.ones((0, 0)), 0.95, "square"),
            ([[1.0, 0.2], [0.3, 1.0]], 0.95, "symmetric"),
            (np.ones((3, 3)), 1.0, "level"),
            (np.ones((3, 3)), 95, "level"),
        ],
    )
    def test_wrong_input(self, similarities: Any, level: float, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            jackknife_interval(similarities, level=level)

    def test_interval_of_a_mean_is_students(self) -> None:
        values = np.array([0.2, 0.5, 0.4, 0.9])
        found = mean_interval(values)
        half = t.ppf(0.975, 3) * values.std(ddof=1) / 2
        assert (found.lower, found.upper) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-12)
        assert mean_interval([0.2, 0.4]).estimate == pytest.approx(0.3)
        assert math.isnan(mean_interval([0.2, 0.4]).lower)
        assert math.isnan(mean_interval([]).estimate)
        assert math.isnan(mean_interval([0.2, np.nan, 0.4, 0.1]).estimate)
        with pytest.raises(ValueError, match="one number per replicate"):
            mean_interval([[0.1, 0.2]])


class TestRankBiasedOverlap:
    @pytest.mark.parametrize("case", REFERENCE["rank_biased_overlap"])
    def test_agrees_with_the_authors_code(self, case: dict[str, Any]) -> None:
        value = rank_biased_overlap(case["first"], case["second"], p=case["p"])
        assert value == pytest.approx(case["rbo"], abs=1e-9)

    @given(
        hnp.arrays(np.int64, 4, elements=st.integers(0, 2)),
        hnp.arrays(np.int64, 4, elements=st.integers(0, 2)),
        st.sampled_from([0.3, 0.9, 0.98]),
    )
    def test_is_the_mean_over_all_tie_breakings(self, first: Array, second: Array, p: float) -> None:
        values = [
            float(rank_biased_overlap_lists(one, other, p))
            for one in tie_breakings(first)
            for other in tie_breakings(second)
        ]
        assert rank_biased_overlap(first, second, p) == pytest.approx(np.mean(values), abs=1e-9)

    def test_long_rankings_agree_with_the_sum_over_depths(self) -> None:
        rng = np.random.default_rng(3)
        n_genes, p = 3000, 0.98
        first = rng.integers(0, 700, n_genes)
        second = np.where(rng.random(n_genes) < 0.5, first, rng.integers(0, 700, n_genes))
        second[rng.random(n_genes) < 0.3] = 0
        among = []  # (gene, depth): probability of being among the first d
        for scores in (first, second):
            top, bottom = rankdata(-scores, "min")[:, None], rankdata(-scores, "max")[:, None]
            among.append(np.clip((np.arange(1, n_genes + 1) - top + 1) / (bottom - top + 1), 0, 1))
        depth = np.arange(1, n_genes + 1)
        overlap = (among[0] * among[1]).sum(axis=0)
        expected = (1 - p) / p * np.sum(overlap / depth * p**depth) + p**n_genes
        assert rank_biased_overlap(first, second, p) == pytest.approx(expected, abs=1e-9)

    @given(hnp.arrays(np.float64, (4, 9), elements=st.integers(0, 4).map(float)))
    def test_pairwise_is_the_index_of_each_pair(self, scores: Array) -> None:
        pairs = pairwise_rank_biased_overlap(scores, 0.9)
        for i, j in itertools.product(range(4), repeat=2):
            assert pairs[i, j] == pytest.approx(rank_biased_overlap(scores[i], scores[j], 0.9), abs=1e-9)

    def test_pairwise_without_ties_is_the_index_of_each_pair(self) -> None:
        scores = np.random.default_rng(0).normal(size=(5, 300))
        pairs = pairwise_rank_biased_overlap(scores)
        for i, j in itertools.product(range(5), repeat=2):
            assert pairs[i, j] == pytest.approx(rank_biased_overlap(scores[i], scores[j]), abs=1e-9)

    @given(
        hnp.arrays(np.float64, 20, elements=st.floats(-5, 5)),
        hnp.arrays(np.float64, 20, elements=st.floats(-5, 5)),
        st.randoms(use_true_random=False),
    )
    def test_gene_order_and_argument_order_change_nothing(self, first: Array, second: Array, random: Any) -> None:
        order = list(range(20))
        random.shuffle(order)
        value = rank_biased_overlap(first, second)
        assert rank_biased_overlap(first[order], second[order]) == pytest.approx(value, abs=1e-12)
        assert rank_biased_overlap(second, first) == pytest.approx(value, abs=1e-12)
        assert -1e-12 <= value <= 1 + 1e-12

    @pytest.mark.parametrize("p", [0.01, 0.5, 0.98, 0.9999])
    def test_identical_rankings_agree_fully(self, p: float) -> None:
        scores = np.random.default_rng(0).normal(size=2500)
        assert rank_biased_overlap(scores, 3 * scores, p) == pytest.approx(1.0, abs=1e-12)

    def test_scores_that_tie_all_genes_agree_by_chance_only(self) -> None:
        n_genes, p = 1000, 0.98
        depth = np.arange(1, n_genes + 1)
        chance = (1 - p) / p * np.sum(depth / n_genes * p**depth) + p**n_genes
        assert rank_biased_overlap(np.zeros(n_genes), np.zeros(n_genes), p) == pytest.approx(chance, abs=1e-9)
        assert chance < 0.06

    def test_undefined_and_wrong_input(self) -> None:
        value = rank_biased_overlap([1.0, np.nan], [1.0, 2.0])
        assert math.isnan(value)
        assert value.reason == "a score is NaN"
        with pytest.raises(ValueError, match=r"same genes, got shapes \(2,\) and \(3,\)"):
            rank_biased_overlap([1.0, 2.0], [1.0, 2.0, 3.0])
        with pytest.raises(ValueError, match="same genes"):
            rank_biased_overlap([], [])
        for p in (0.0, 1.0, math.nan):
            with pytest.raises(ValueError, match="p must be in"):
                rank_biased_overlap([1.0], [1.0], p)


class TestRankBiasedOverlapOfLists:
    @pytest.mark.parametrize("case", REFERENCE["rank_biased_overlap_lists"])
    def test_agrees_with_the_authors_code(self, case: dict[str, Any]) -> None:
        value = rank_biased_overlap_lists(case["first"], case["second"], case["p"])
        assert value == pytest.approx(case["rbo"], abs=1e-12)

    @given(st.permutations(range(12)), st.permutations(range(12)), st.integers(1, 12), st.integers(1, 12))
    def test_is_equation_32_term_by_term(
        self, first: list[int], second: list[int], n_first: int, n_second: int
    ) -> None:
        shorter, longer = sorted((first[:n_first], second[:n_second]), key=len)
        s, l, p = len(shorter), len(longer), Fraction(9, 10)  # noqa: E741, the paper's symbols
        overlap = [len(set(shorter[:d]) & set(longer[:d])) for d in range(l + 1)]
        total = sum((Fraction(overlap[d], d) * p**d for d in range(1, l + 1)), Fraction(0))
        total += sum((Fraction(overlap[s] * (d - s), s * d) * p**d for d in range(s + 1, l + 1)), Fraction(0))
        expected = (1 - p) / p * total + (Fraction(overlap[l] - overlap[s], l) + Fraction(overlap[s], s)) * p**l
        value = rank_biased_overlap_lists(first[:n_first], second[:n_second], 0.9)
        assert value == pytest.approx(float(expected), abs=1e-12)

    def test_a_list_and_its_beginning_agree_fully(self) -> None:
        assert rank_biased_overlap_lists("abcdefgh", "abc", 0.9) == pytest.approx(1.0, abs=1e-12)
        assert rank_biased_overlap_lists("abc", "xyz", 0.9) == 0.0

    def test_undefined_and_wrong_input(self) -> None:
        assert math.isnan(rank_biased_overlap_lists([], ["a"], 0.9))
        assert "empty" in rank_biased_overlap_lists([], ["a"], 0.9).reason
        with pytest.raises(ValueError, match="twice"):
            rank_biased_overlap_lists(["a", "a"], ["b"], 0.9)
        with pytest.raises(ValueError, match="p must be in"):
            rank_biased_overlap_lists(["a"], ["b"], 1.0)


class TestKendall:
    @given(hnp.arrays(np.float64, (4, 6), elements=st.integers(0, 3).map(float)))
    def test_is_friedmans_statistic_on_another_scale(self, scores: Array) -> None:
        n_replicates, n_genes = scores.shape
        value = kendall_w(scores)
        if (scores.min(axis=1) == scores.max(axis=1)).all():
            assert math.isnan(value)
            assert value.reason == "every replicate ties all genes"
        else:
            chi2 = friedmanchisquare(*scores.T).statistic
            assert value == pytest.approx(chi2 / (n_replicates * (n_genes - 1)), abs=1e-9)

    def test_chance_corrected_form_is_the_mean_spearman_correlation(self) -> None:
        scores = np.random.default_rng(0).normal(size=(5, 40))
        pairs = [spearmanr(one, other).statistic for one, other in itertools.combinations(scores, 2)]
        assert kendall_w(scores).chance_corrected == pytest.approx(np.mean(pairs), abs=1e-12)

    def test_extremes(self) -> None:
        scores = np.array([3.0, 1.0, 2.0, 2.0])
        assert kendall_w(np.stack([scores, 10 * scores, scores - 1])) == pytest.approx(1.0, abs=1e-12)
        assert kendall_w(np.stack([scores, -scores])) == pytest.approx(0.0, abs=1e-12)
        assert kendall_w(np.stack([scores, -scores])).chance_corrected == pytest.approx(-1.0, abs=1e-12)

    @pytest.mark.parametrize(
        ("scores", "reason"),
        [
            ([[1.0, 2.0, 3.0]], "one replicate"),
            ([[1.0], [2.0]], "one gene"),
            ([[1.0, np.nan], [1.0, 2.0]], "NaN"),
            ([[1.0, 1.0], [2.0, 2.0]], "ties all genes"),
        ],
    )
    def test_undefined(self, scores: Any, reason: str) -> None:
        value = kendall_w(scores)
        assert math.isnan(value)
        assert math.isnan(value.chance_corrected)
        assert reason in value.reason

    def test_wrong_input(self) -> None:
        with pytest.raises(ValueError, match="replicate × gene"):
            kendall_w([1.0, 2.0])


class TestConsensus:
    def test_frequency_is_the_share_of_replicates(self) -> None:
        np.testing.assert_allclose(selection_frequency([[1, 0, 1], [1, 0, 0], [1, 0, 1], [0, 0, 1]]), [0.75, 0, 0.75])

    @given(hnp.arrays(np.float64, (3, 8), elements=st.integers(0, 4).map(float)))
    def test_order_follows_the_mean_midrank(self, scores: Array) -> None:
        consensus = consensus_ranking(scores, np.zeros((3, 8)), np.arange(8))
        midranks = rankdata(-scores, axis=1).mean(axis=0)
        np.testing.assert_allclose(consensus.mean_rank, midranks)
        assert np.all(np.diff(consensus.mean_rank[consensus.order]) >= 0)
        np.testing.assert_array_equal(consensus.ranks[consensus.order], np.arange(1, 9))

    def test_frequency_breaks_ties_in_the_mean_and_keys_the_rest(self) -> None:
        # Mean midranks: 2.5, 2.5, 2.5, 2.5; the frequency at k = 1 sets genes 0 and 3 apart, the keys order the rest.
        scores = np.array([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
        selections = np.array([[1, 0, 0, 0], [0, 0, 0, 1]])
        assert consensus_ranking(scores, selections, [3, 2, 1, 0]).order.tolist() == [3, 0, 2, 1]
        assert consensus_ranking(scores, selections, [0, 1, 2, 3]).order.tolist() == [0, 3, 1, 2]

    def test_genes_without_scores(self) -> None:
        scores = np.array([[np.nan, 2.0, 1.0], [0.0, 2.0, 1.0]])
        consensus = consensus_ranking(scores, np.zeros((2, 3)), np.arange(3))
        np.testing.assert_allclose(consensus.mean_rank, [3.0, 1.0, 2.0])

    def test_wrong_input(self) -> None:
        with pytest.raises(ValueError, match=r"selections .* do not fit"):
            consensus_ranking([[1.0, 2.0]], [[1, 0, 0]], [1, 2])
        with pytest.raises(ValueError, match=r"tie keys .* do not fit"):
            consensus_ranking([[1.0, 2.0]], [[1, 0]], [1])
        with pytest.raises(ValueError, match="replicate × gene"):
            consensus_ranking([1.0, 2.0], [[1, 0]], [1, 2])


class TestErrorBound:
    @pytest.mark.parametrize(
        ("n_selected", "n_genes", "threshold", "bound"),
        [(50, 2000, 0.9, 1.5625), (50, 1000, 0.6, 12.5), (0, 9, 1.0, 0)],
    )
    def test_by_hand(self, n_selected: int, n_genes: int, threshold: float, bound: float) -> None:
        assert selection_error_bound(n_selected, n_genes, threshold) == pytest.approx(bound, abs=1e-12)

    def test_holds_for_exchangeable_noise(self) -> None:
        rng = np.random.default_rng(0)
        counts = []
        for _ in range(200):
            frequency = np.mean([rng.permutation(200) < 20 for _ in range(10)], axis=0)
            counts.append(np.sum(frequency >= 0.6))
        assert np.mean(counts) <= selection_error_bound(20, 200, 0.6)

    @pytest.mark.parametrize("arguments", [(5, 0, 0.9), (11, 10, 0.9), (-1, 10, 0.9), (5, 10, 0.5), (5, 10, 1.1)])
    def test_wrong_input(self, arguments: tuple[float, int, float]) -> None:
        with pytest.raises(ValueError, match=r"need 0 <=|threshold must be"):
            selection_error_bound(*arguments)
