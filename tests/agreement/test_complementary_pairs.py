"""Shah & Samworth's bound: against the definition by random search, and against simulated selections."""

from __future__ import annotations

import numpy as np
import pytest

from scballast.agreement.complementary_pairs import largest_tail, r_concave_bound
from scballast.agreement.stability import selection_error_bound


@pytest.mark.parametrize(("mean", "threshold", "n", "r"), [(0.04, 0.6, 10, -0.5), (0.1, 0.5, 20, -0.25)])
def test_no_r_concave_distribution_has_a_larger_tail_and_one_comes_near(
    mean: float, threshold: float, n: int, r: float
) -> None:
    bound = largest_tail(mean, threshold, n, r)
    rng = np.random.default_rng(0)
    steps = np.arange(n + 1)
    best = 0.0
    for draw in range(20_000):
        support = int(rng.integers(np.ceil(threshold * n), n + 1))
        slopes = np.sort(rng.gamma(1.0, 1.0, support)) if draw % 2 else np.ones(support)
        # f is r-concave, r < 0, where f^r is convex; a steeper last step is allowed.
        convex = 1.0 + np.concatenate([[0.0], np.cumsum(slopes)]) * 10.0 ** rng.uniform(-3, 3)
        convex[-1] *= 1.0 + (draw % 3 == 0) * rng.gamma(1.0)
        weights = np.zeros(n + 1)
        weights[: support + 1] = convex ** (1.0 / r)
        weights /= weights.sum()
        if weights @ steps / n <= mean:
            best = max(best, float(weights[steps >= threshold * n - 1e-9].sum()))
    assert 0.8 * bound < best <= bound + 1e-9


def test_the_bound_is_tighter_than_meinshausens_and_falls_with_pairs_and_threshold() -> None:
    for threshold in (0.7, 0.8, 0.9, 1.0):
        few, many = (float(r_concave_bound(50, 2000, threshold, pairs)) for pairs in (5, 50))
        assert many < few < float(selection_error_bound(50, 2000, threshold))
    by_threshold = [float(r_concave_bound(50, 2000, t, 50)) for t in (0.6, 0.7, 0.8, 0.9, 1.0)]
    assert by_threshold == sorted(by_threshold, reverse=True)


def test_selections_by_chance_stay_below_the_bound() -> None:
    rng = np.random.default_rng(1)
    n_genes, selected, pairs = 200, 20, 10
    chance = rng.beta(4.0, 36.0, n_genes)  # some genes are selected more often than others by chance
    kept = []
    for _ in range(50):
        noise = rng.gumbel(size=(2 * pairs, n_genes)) + np.log(chance / (1 - chance))
        chosen = np.argsort(-noise, axis=1)[:, :selected]
        frequency = np.bincount(chosen.ravel(), minlength=n_genes) / (2 * pairs)
        kept.append((frequency >= 0.6).sum())
    assert np.mean(kept) <= float(r_concave_bound(selected, n_genes, 0.6, pairs))


def test_what_is_undefined_says_why_and_what_is_wrong_is_refused() -> None:
    assert np.isnan(r_concave_bound(50, 2000, 0.9, 1))
    assert "two complementary pairs" in r_concave_bound(50, 2000, 0.9, 1).reason
    assert float(r_concave_bound(0, 2000, 0.9, 5)) == 0.0
    assert float(r_concave_bound(1900, 2000, 0.9, 5)) == 2000.0
    with pytest.raises(ValueError, match="threshold"):
        r_concave_bound(50, 2000, 0.5, 5)
    with pytest.raises(ValueError, match="n_selected"):
        r_concave_bound(50, 20, 0.9, 5)
