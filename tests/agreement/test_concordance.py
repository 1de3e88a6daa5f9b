"""Concordance indices against brute force, scipy and hand-made examples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from tests.helpers.agreement_oracles import (
    area_under_concordance_curve,
    compare_methods,
    overlap_at_k,
    rank_biased_overlap,
    spearman_correlation,
    weighted_tau,
)

from scballast.agreement.concordance import agreement_by_replicate
from scballast.agreement.ranking import rank_spans

Array = npt.NDArray[Any]
TIED = hnp.arrays(np.float64, 4, elements=st.integers(0, 2).map(float))
INDICES = (overlap_at_k, area_under_concordance_curve)


def orders(scores: Array) -> Iterator[list[int]]:
    """Yield every order of the genes that descending scores allow, each as often."""
    groups = [np.flatnonzero(scores == value).tolist() for value in sorted(set(scores.tolist()), reverse=True)]
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield list(itertools.chain(*parts))


def curve(first: list[int], second: list[int], k: int) -> list[int]:
    """Return the number of common genes among the first 1, …, k."""
    return [len(set(first[:t]) & set(second[:t])) for t in range(1, k + 1)]


@given(TIED, TIED, st.integers(1, 3))
def test_overlap_is_the_mean_over_all_tie_breakings(first: Array, second: Array, k: int) -> None:
    values = [curve(one, other, k)[-1] / k for one in orders(first) for other in orders(second)]
    assert overlap_at_k(first, second, k) == pytest.approx(np.mean(values), abs=1e-12)


@given(TIED, TIED, st.integers(1, 4))
def test_area_is_the_mean_over_all_tie_breakings(first: Array, second: Array, k: int) -> None:
    values = [sum(curve(one, other, k)) / (k * (k + 1) / 2) for one in orders(first) for other in orders(second)]
    assert area_under_concordance_curve(first, second, k) == pytest.approx(np.mean(values), abs=1e-12)


def test_area_of_long_lists_is_the_sum_of_the_curve() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=2000)
    second = first + rng.normal(size=2000)
    one, other = (np.argsort(-scores).tolist() for scores in (first, second))
    for k in (1, 50, 200, 2000):
        expected = sum(curve(one, other, k)) / (k * (k + 1) / 2)
        assert area_under_concordance_curve(first, second, k) == pytest.approx(expected, abs=1e-9)


def test_by_hand() -> None:
    # Orders 0 1 2 3 and 1 0 3 2: nothing, two, two, four in common.
    first, second = [4.0, 3.0, 2.0, 1.0], [3.0, 4.0, 1.0, 2.0]
    assert [overlap_at_k(first, second, k) for k in (1, 2, 3)] == pytest.approx([0, 1, 2 / 3])
    assert area_under_concordance_curve(first, second, 4) == pytest.approx(8 / 10)


def test_uninformative_scores_share_what_chance_gives() -> None:
    nothing = np.zeros(1000)
    assert overlap_at_k(nothing, nothing, 50) == pytest.approx(0.05)
    tied_at_the_boundary = np.r_[np.full(40, 2.0), np.full(60, 1.0), np.zeros(900)]
    assert overlap_at_k(tied_at_the_boundary, tied_at_the_boundary, 50) == pytest.approx((40 + 60 * (1 / 6) ** 2) / 50)


@pytest.mark.parametrize("index", INDICES)
def test_top_indices_undefined_and_wrong_input(index: Any) -> None:
    scores = [3.0, 2.0, 1.0]
    assert index(scores, scores, 2) == 1.0
    for k, first, reason in ((0, scores, "no gene"), (4, scores, "leaves no gene out"), (2, [1.0, np.nan, 2.0], "NaN")):
        value = index(first, scores, k)
        assert math.isnan(value)
        assert reason in value.reason
    with pytest.raises(ValueError, match="k must be a whole number"):
        index(scores, scores, -1)
    with pytest.raises(ValueError, match="k must be a whole number"):
        index(scores, scores, 1.5)
    with pytest.raises(ValueError, match="same genes"):
        index(scores, [1.0, 2.0], 1)


def test_the_whole_list_has_an_area_but_no_overlap() -> None:
    scores = [3.0, 2.0, 1.0]
    assert math.isnan(overlap_at_k(scores, scores, 3))
    assert area_under_concordance_curve(scores, [1.0, 2.0, 3.0], 3) == pytest.approx(4 / 6)


def weighted_tau_by_definition(first: Array, second: Array) -> float:
    """Vigna's equations with additive hyperbolic weights, pair by pair."""

    def product(left: Array, right: Array, weight: Array) -> float:
        signs = np.sign(left[:, None] - left) * np.sign(right[:, None] - right)
        return float(np.sum(np.triu(signs * (weight[:, None] + weight), 1)))

    def one_way(leader: Array, follower: Array) -> float:
        rank = np.empty(len(leader))
        rank[np.lexsort((follower, leader))[::-1]] = np.arange(len(leader))
        weight = 1 / (rank + 1)
        norm = product(leader, leader, weight) * product(follower, follower, weight)
        return product(leader, follower, weight) / math.sqrt(norm)

    return (one_way(first, second) + one_way(second, first)) / 2


@given(
    hnp.arrays(np.float64, 9, elements=st.integers(-3, 3).map(float)),
    hnp.arrays(np.float64, 9, elements=st.integers(-3, 3).map(float)),
)
def test_weighted_tau_is_its_definition(first: Array, second: Array) -> None:
    value = weighted_tau(first, second)
    if first.min() == first.max() or second.min() == second.max():
        assert math.isnan(value)
        assert "tied" in value.reason
    else:
        assert value == pytest.approx(weighted_tau_by_definition(first, second), abs=1e-12)


def test_weighted_tau_of_scipys_example() -> None:
    value = weighted_tau([12, 2, 1, 12, 2], [1, 4, 7, 1, 0])
    assert value == pytest.approx(-0.56694968153682723, abs=1e-12)


def test_weighted_tau_undefined_and_wrong_input() -> None:
    assert weighted_tau([1.0, np.nan], [1.0, 2.0]).reason == "a score is NaN"
    assert math.isnan(weighted_tau([1.0], [2.0]))
    with pytest.raises(ValueError, match="same genes"):
        weighted_tau([1.0, 2.0], [1.0])


def test_spearman_is_scipys() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, 40).astype(float), rng.normal(size=40)
    assert spearman_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)
    assert "tied" in spearman_correlation(np.ones(3), [1.0, 2.0, 3.0]).reason
    assert "NaN" in spearman_correlation([np.nan, 1.0, 2.0], [1.0, 2.0, 3.0]).reason


class TestCompareMethods:
    def test_is_the_mean_of_each_replicates_index(self) -> None:
        rng = np.random.default_rng(0)
        first = rng.integers(0, 30, (6, 80)).astype(float)
        second = np.maximum(first + rng.normal(size=(6, 80)) * 5, 0)
        found = compare_methods(first, second, k=10, p=0.9, level=0.9)
        expected = {
            "overlap": [overlap_at_k(a, b, 10) for a, b in zip(first, second, strict=True)],
            "rbo": [rank_biased_overlap(a, b, 0.9) for a, b in zip(first, second, strict=True)],
            "aucc": [area_under_concordance_curve(a, b, 10) for a, b in zip(first, second, strict=True)],
            "spearman": [stats.spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)],
        }
        for name, values in expected.items():
            interval = getattr(found, name)
            assert interval.estimate == pytest.approx(np.mean(values), abs=1e-9)
            low, high = stats.t.interval(0.9, 5, np.mean(values), stats.sem(values))
            assert (interval.lower, interval.upper) == pytest.approx((low, high), abs=1e-9)
        assert found.n_replicates == 6

    def test_pairing_matters(self) -> None:
        first = np.random.default_rng(0).normal(size=(4, 50))
        assert compare_methods(first, first, k=5).overlap.estimate == pytest.approx(1.0)
        assert compare_methods(first, first[::-1], k=5).overlap.estimate < 0.6

    def test_replicates_without_scores_are_left_out(self) -> None:
        rng = np.random.default_rng(0)
        first, second = rng.normal(size=(2, 5, 40))
        first[1], second[3] = np.nan, np.nan
        found = compare_methods(first, second, k=5)
        assert found.n_replicates == 3
        kept = [0, 2, 4]
        assert found == compare_methods(first[kept], second[kept], k=5)
        nothing = compare_methods(np.full((2, 4), np.nan), np.ones((2, 4)), k=2)
        assert nothing.n_replicates == 0
        assert math.isnan(nothing.rbo.estimate)

    def test_undefined_and_wrong_input(self) -> None:
        scores = np.random.default_rng(0).normal(size=(3, 8))
        found = compare_methods(scores, scores, k=8)
        assert math.isnan(found.overlap.estimate)
        assert "leaves no gene out" in found.overlap.reason
        assert found.aucc.estimate == pytest.approx(1.0)
        assert math.isnan(compare_methods(scores, np.ones((3, 8)), k=2).spearman.estimate)
        with pytest.raises(ValueError, match="paired"):
            compare_methods(scores, scores[:2])
        with pytest.raises(ValueError, match="p must be in"):
            compare_methods(scores, scores, k=2, p=1.5)
        with pytest.raises(ValueError, match="k must be a whole number"):
            compare_methods(scores, scores, k=-2)


def test_methods_without_a_common_replicate_have_no_agreement() -> None:
    nothing = rank_spans(np.zeros((0, 30)))
    for index, values in agreement_by_replicate(nothing, nothing, 5, 0.98).items():
        assert values.shape == (0,), index
