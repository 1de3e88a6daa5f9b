"""Van Elteren's test in unseen cells: scipy in one stratum, permutations over several, and the depth it rests on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse, stats

from scballast.agreement import marker_confirmation
from scballast.agreement.marker_confirmation import composition_depth, depth_strata, marker_p_values

Array = np.ndarray[Any, Any]


def drawn(rng: np.random.Generator, codes: Array, effect: float = 0.0, n_genes: int = 40) -> Array:
    """Counts in which the first 10 genes are higher in population 0."""
    rate = np.exp(effect * np.outer(codes == 0, np.arange(n_genes) < 10))
    values: Array = rng.poisson(rate * rng.lognormal(0.0, 0.5, (codes.size, 1))).astype(float)
    return values


def test_one_stratum_is_the_rank_sum_test() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, -1], [30, 40, 10])
    values = drawn(rng, codes, 0.4)
    depth = values.sum(axis=1)
    p = marker_p_values(sparse.csr_matrix(values), codes, 2, depth, np.zeros(80, dtype=int))
    shares = values / depth[:, None]
    for population in (0, 1):
        expected = stats.mannwhitneyu(
            shares[codes == population],
            shares[codes != population],
            alternative="greater",
            method="asymptotic",
            use_continuity=False,
        ).pvalue
        np.testing.assert_allclose(p[population], expected, rtol=1e-9)


@pytest.mark.parametrize("most_entries", [1, 2**23])
def test_zeros_that_are_never_listed_rank_as_scipy_ranks_them(
    most_entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    codes, strata = rng.integers(-1, 3, 120), rng.integers(0, 4, 120) * 7
    codes[strata == 21] = 1  # a stratum of one population
    strata[0] = 99  # and one of one cell
    values = rng.poisson(0.7, (120, 6)).astype(float)
    depth = np.where(values[:, 0] > 1, 4.0, 2.0)  # 2 of 4 ties with 1 of 2
    values[:, 2], values[:, 3], values[:, 4] = 0, depth, rng.poisson(30.0, 120)
    deviation, variance = np.zeros((3, 6)), np.zeros((3, 6))
    for stratum in np.unique(strata):
        cells = np.flatnonzero(strata == stratum)
        ranks = stats.rankdata(values[cells] / depth[cells, None], axis=0)
        for population in range(3):
            inside = codes[cells] == population
            if 0 < inside.sum() < cells.size:
                deviation[population] += (ranks[inside] - (cells.size + 1) / 2).sum(axis=0) / (cells.size + 1)
                pairs = inside.sum() * (cells.size - inside.sum()) / cells.size
                variance[population] += pairs * ranks.var(axis=0, ddof=1) / (cells.size + 1) ** 2
    monkeypatch.setattr(marker_confirmation, "_MOST_ENTRIES", most_entries)
    z = marker_confirmation.van_elteren(sparse.csr_matrix(values), codes, 3, depth, strata)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(z, deviation / np.sqrt(variance), rtol=1e-9)
    assert np.isnan(z[:, 2:4]).all()  # equal in all cells


def test_several_strata_follow_permutations_within_them() -> None:
    rng = np.random.default_rng(1)
    codes = np.repeat([0, 1], [40, 60])
    strata = rng.integers(0, 3, 100)
    values = drawn(rng, codes, 0.3, 6)
    values[strata == 2] *= 3  # a difference between strata alone
    depth = np.ones(100)
    p = marker_p_values(sparse.csr_matrix(values), codes, 2, depth, strata)[0]
    groups = [np.flatnonzero(strata == s) for s in range(3)]
    ranks = [stats.rankdata(values[g], axis=0) / (g.size + 1) for g in groups]

    def statistic(labels: Array) -> Array:
        total: Array = sum((r[labels[g] == 0].sum(axis=0) for r, g in zip(ranks, groups, strict=True)), np.zeros(6))
        return total

    def permuted() -> Array:
        labels = codes.copy()
        for g in groups:
            labels[g] = rng.permutation(labels[g])
        return labels

    null = np.array([statistic(permuted()) for _ in range(4000)])
    np.testing.assert_allclose(p, (null >= statistic(codes)).mean(axis=0), atol=0.02)


def test_depth_alone_marks_nothing() -> None:
    """The population's cells are deeper; within strata of depth no gene is higher."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(20):
        codes = np.repeat([0, 1], 100)
        library = rng.lognormal(np.where(codes == 0, 0.4, 0.0), 0.3)
        values = rng.poisson(np.outer(library, np.full(60, 0.8))).astype(float)
        depth = values.sum(axis=1)
        found.append(marker_p_values(sparse.csr_matrix(values), codes, 2, depth, depth_strata(depth))[0])
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.025)


def test_markers_of_others_do_not_mark_this_one() -> None:
    """Strong markers of one population push its other genes down; to the rest of the cells they must look equal."""
    rng = np.random.default_rng(3)
    codes = np.repeat([0, 1], 150)
    rate = np.full(200, 1.0)
    raised = np.where(np.arange(200) < 30, 8.0, 1.0)
    profile = np.where((codes == 1)[:, None], raised * rate, rate)
    profile /= profile.sum(axis=1, keepdims=True)
    values = rng.poisson(rng.lognormal(6.0, 0.5, (300, 1)) * profile).astype(float)
    matrix, total = sparse.csr_matrix(values), values.sum(axis=1)
    depth = composition_depth(matrix, total, codes)
    raw, corrected = (marker_p_values(matrix, codes, 2, d, depth_strata(d))[0, 30:] for d in (total, depth))
    assert np.mean(raw <= 0.05) > 0.9
    assert np.mean(corrected <= 0.05) < 0.1
    ratio = np.mean(depth[codes == 0] / total[codes == 0]) / np.mean(depth[codes == 1] / total[codes == 1])
    assert ratio == pytest.approx(raised.mean(), rel=0.1)


def test_strata_keep_blocks_apart_and_equal_depths_together() -> None:
    rng = np.random.default_rng(4)
    depth, blocks = rng.integers(1, 30, 1000), rng.integers(0, 2, 1000)
    strata = depth_strata(depth, blocks)
    for stratum in np.unique(strata):
        inside = strata == stratum
        assert np.unique(blocks[inside]).size == 1
        others = depth[(strata != stratum) & (blocks == blocks[inside][0])]
        assert not np.isin(depth[inside], others).any()
    assert np.unique(strata).size == 10
    assert np.unique(depth_strata(depth[:60])).size == 1


def test_what_cannot_be_tested_is_nan_and_what_is_equal_is_1() -> None:
    rng = np.random.default_rng(5)
    codes = np.repeat([0, 1, 2], [5, 40, 40])
    values = drawn(rng, codes)
    values[:, 7] = 0.0
    p = marker_p_values(sparse.csr_matrix(values), codes, 3, values.sum(axis=1), np.zeros(85, dtype=int))
    assert np.isnan(p[0]).all()
    assert (p[1:, 7] == 1.0).all()
    apart = marker_p_values(sparse.csr_matrix(values), codes, 3, values.sum(axis=1), codes)
    assert np.isnan(apart).all()
