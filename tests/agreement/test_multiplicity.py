"""Many tests at once: against brute force, scipy, and simulated truth."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scballast.agreement.multiplicity import (
    adaptive_q_values,
    bh_q_values,
    combined_lower_bound,
    combined_p_values,
    hommel_number,
    true_lower_bound,
    true_share,
)


def test_a_gene_that_no_replicate_looked_at_is_never_found() -> None:
    """2,000 genes of which 100 are looked at: 1 times 100 / 2,000 is 5%, and once all of them were found by that."""
    p = np.ones(2000)
    p[:30] = np.linspace(1e-6, 1e-4, 30)
    p[30:90] = np.random.default_rng(0).uniform(0.1, 1.0, 60)
    q = bh_q_values(p, n_tests=100)
    assert list(np.flatnonzero(q <= 0.05)) == list(range(30))
    assert (q[p == 1.0] == 1.0).all()
    looked_at = p[p < 1.0]
    np.testing.assert_allclose(q[p < 1.0], np.minimum(bh_q_values(looked_at) * 100 / looked_at.size, 1.0))


P_VALUES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=7)


def simes_rejects(p: np.ndarray, alpha: float) -> bool:
    return bool(np.any(np.sort(p) * p.size <= np.arange(1, p.size + 1) * alpha))


def closed_testing_bound(p: np.ndarray, inside: np.ndarray, alpha: float) -> int:
    """All subsets: the largest part of the selection that is in no rejected intersection is what may be null."""
    everything = range(p.size)
    subsets = [np.array(s) for size in range(1, p.size + 1) for s in combinations(everything, size)]
    rejected = {tuple(s): simes_rejects(p[s], alpha) for s in subsets}

    def closed(s: np.ndarray) -> bool:
        return all(value for other, value in rejected.items() if set(s) <= set(other))

    own = np.flatnonzero(inside)
    null = [len(s) for s in subsets if set(s) <= set(own) and not closed(s)]
    return own.size - max(null, default=0)


@settings(max_examples=60, deadline=None)
@given(P_VALUES, st.integers(0, 127))
def test_the_lower_bound_is_that_of_closed_testing(values: list[float], chosen: int) -> None:
    p = np.array(values) ** 4  # small p-values too
    inside = np.array([chosen >> i & 1 for i in range(p.size)], dtype=bool)
    assert true_lower_bound(p, inside, 0.95) == closed_testing_bound(p, inside, 1.0 - 0.95)


@settings(max_examples=60, deadline=None)
@given(P_VALUES)
def test_hommels_number_is_the_largest_set_that_simes_keeps(values: list[float]) -> None:
    p = np.array(values) ** 4
    kept = [
        size
        for size in range(1, p.size + 1)
        if any(not simes_rejects(p[list(s)], 1.0 - 0.95) for s in combinations(range(p.size), size))
    ]
    assert hommel_number(p, 0.95) == max(kept, default=0)


def test_the_lower_bound_covers_under_positive_dependence() -> None:
    rng = np.random.default_rng(0)
    wrong, bounds = 0, []
    for _ in range(1000):
        z = 0.5 * rng.standard_normal() + np.sqrt(0.75) * rng.standard_normal(50) + np.repeat([3.0, 0.0], [20, 30])
        bounds.append(true_lower_bound(stats.norm.sf(z)))
        wrong += bounds[-1] > 20
    assert wrong <= 70
    assert np.mean(bounds) > 8


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30))
def test_q_values_are_scipys(values: list[float]) -> None:
    p = np.array([*values, np.nan])
    q = bh_q_values(p)
    np.testing.assert_allclose(q[:-1], stats.false_discovery_control(values), atol=1e-12)
    assert np.isnan(q[-1])


def test_adaptive_q_values_find_more_where_most_are_true_and_keep_the_rate() -> None:
    rng = np.random.default_rng(1)
    for n_true in (0, 25, 45):
        rates, found, plain = [], [], []
        for _ in range(2000):
            true = np.arange(50) < n_true
            p = stats.norm.sf(rng.standard_normal(50) + 2.5 * true)
            called = adaptive_q_values(p) <= 0.05
            rates.append((called & ~true).sum() / max(called.sum(), 1))
            found.append(called.sum())
            plain.append((bh_q_values(p) <= 0.05).sum())
        assert np.mean(rates) <= 0.065  # three standard errors above the level
        if n_true == 45:
            assert np.mean(found) > np.mean(plain) + 5


def test_genes_with_a_large_p_value_are_never_confirmed() -> None:
    assert adaptive_q_values([1e-9] * 49 + [0.6])[-1] == 1.0


def test_storeys_share() -> None:
    assert true_share([0.01] * 40 + [0.05, 0.15, 0.3, 0.45, 0.48, 0.6, 0.7, 0.8, 0.9, 0.95]) == pytest.approx(0.8)
    assert true_share([0.9] * 10) == 0.0
    assert np.isnan(true_share([np.nan]))


def test_twice_the_median_holds_whatever_the_dependence() -> None:
    rng = np.random.default_rng(2)
    for rho in (0.0, 0.5, 0.95):
        shared = rng.standard_normal((1, 20_000))
        z = np.sqrt(rho) * shared + np.sqrt(1 - rho) * rng.standard_normal((10, 20_000))
        combined = combined_p_values(stats.norm.sf(z))
        for level in (0.01, 0.05, 0.2):
            assert np.mean(combined <= level) <= level + 0.005


def test_combining_skips_what_was_not_tested() -> None:
    p = np.array([[0.01, np.nan, 0.2], [0.03, np.nan, 0.01], [0.5, np.nan, np.nan]])
    np.testing.assert_allclose(combined_p_values(p), [0.045, np.nan, 0.02])


def test_the_combined_bound_is_the_lower_median() -> None:
    assert combined_lower_bound([0.8, 0.1, 0.4, 0.6]) == 0.4
    assert combined_lower_bound([np.nan, 0.3, 0.1, 0.2]) == 0.2
    assert np.isnan(combined_lower_bound([np.nan]))


@pytest.mark.parametrize("wrong", [[[0.1]], [1.5], [-0.1]])
def test_what_is_no_p_value_is_refused(wrong: list[float]) -> None:
    for function in (bh_q_values, adaptive_q_values, true_share, true_lower_bound):
        with pytest.raises(ValueError, match="p_values"):
            function(wrong)
