"""Programs: found where planted, none where not, and single only after rotation to simple structure."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scballast.agreement.enrichment import enriched_sets
from scballast.agreement.program_components import (
    counting_variance,
    join_correlated,
    leading_components,
    log_residuals,
    varimax,
)
from scballast.agreement.program_context import category_share, marker_correlations, matching_programs
from scballast.agreement.programs import find_programs, interval_over_pairs, signal_share

N_CELLS, N_GENES, SIZE = 240, 300, 25


def halves(n_cells: int, n_pairs: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = []
    for seed in range(n_pairs):
        order = np.random.default_rng(seed).permutation(n_cells)
        pairs.append((np.sort(order[: n_cells // 2]), np.sort(order[n_cells // 2 :])))
    return pairs


def cells(activities: np.ndarray, strength: float = 0.8, seed: int = 0) -> np.ndarray:
    """Counts with a program of 25 genes for each column of activities."""
    generator = np.random.default_rng(seed)
    log_rates = np.tile(generator.normal(0.5, 0.7, N_GENES), (len(activities), 1))
    for number, activity in enumerate(activities.T):
        log_rates[:, number * SIZE : (number + 1) * SIZE] += strength * activity[:, None]
    depth = generator.lognormal(0, 0.3, len(activities))
    return generator.poisson(np.exp(log_rates) * depth[:, None]).astype(float)


def equal_programs(seed: int = 1) -> np.ndarray:
    """Two independent activities of equal strength: no component tells one from the other."""
    return np.random.default_rng(seed).standard_normal((N_CELLS, 2))


def recovered(weights: np.ndarray, activity: np.ndarray, truth: np.ndarray) -> int:
    found = 0
    for number, planted in enumerate(truth.T):
        genes = set(range(number * SIZE, (number + 1) * SIZE))
        for weight, values in zip(weights.T, activity.T, strict=True):
            share = len(genes & set(np.argsort(-np.abs(weight))[:50].tolist())) / SIZE
            if abs(np.corrcoef(values, planted)[0, 1]) >= 0.8 and share >= 0.5:
                found += 1
                break
    return found


def test_planted_programs_are_found_with_their_cells_and_genes() -> None:
    truth = equal_programs()
    counts = cells(truth)
    programs = find_programs(counts, counts.sum(axis=1), halves(N_CELLS), np.random.default_rng(0))
    assert programs.n_programs == 2
    assert recovered(programs.weights, programs.activity, truth) == 2
    assert (programs.lower > programs.floor).all()
    assert (programs.weight_lower > programs.weight_floor).all()


def test_without_rotation_to_simple_structure_equal_programs_are_mixed() -> None:
    lost = 0
    for seed in range(3):
        truth = equal_programs(seed)
        counts = cells(truth, seed=seed)
        arguments = (counts, counts.sum(axis=1), halves(N_CELLS), np.random.default_rng(0))
        plain = find_programs(*arguments, rotate=False)
        rotated = find_programs(*arguments)
        assert recovered(rotated.weights, rotated.activity, truth) == 2
        lost += 2 - recovered(plain.weights, plain.activity, truth)
    assert lost >= 3


@pytest.mark.parametrize("n_cells", [40, 240])
def test_nothing_is_found_where_nothing_is_planted(n_cells: int) -> None:
    for seed in range(5):
        counts = cells(np.zeros((n_cells, 0)), seed=seed)
        programs = find_programs(counts, counts.sum(axis=1), halves(n_cells), np.random.default_rng(seed))
        assert programs.n_programs == 0
        assert programs.reason


def test_a_component_of_one_half_alone_is_no_program() -> None:
    counts = cells(np.zeros((N_CELLS, 0)))
    counts[0, :40] += 60  # one odd cell: it lies in one half of every pair
    programs = find_programs(counts, counts.sum(axis=1), halves(N_CELLS), np.random.default_rng(0))
    assert programs.n_programs == 0


def test_activity_of_a_cell_does_not_depend_on_weights_from_that_cell() -> None:
    """Cross-fitting: activities recomputed by hand from the halves without the cell."""
    truth = equal_programs()
    counts = cells(truth)
    pairs = halves(N_CELLS)
    programs = find_programs(counts, counts.sum(axis=1), pairs, np.random.default_rng(0))
    values = log_residuals(counts, counts.sum(axis=1)) / programs.noise
    expected = np.zeros_like(programs.activity)
    for row, (first, second) in enumerate(pairs):
        for own, other, side in ((first, second, 1), (second, first, 0)):
            centred = values[own] - values[own].mean(axis=0)
            expected[own] += centred @ programs.half_weights[2 * row + side]
            assert np.intersect1d(own, other).size == 0
    np.testing.assert_allclose(programs.activity, expected / len(pairs), atol=1e-9)


def test_permuting_genes_permutes_the_programs() -> None:
    counts = cells(equal_programs())
    order = np.random.default_rng(3).permutation(N_GENES)
    first = find_programs(counts, counts.sum(axis=1), halves(N_CELLS), np.random.default_rng(0))
    second = find_programs(counts[:, order], counts.sum(axis=1), halves(N_CELLS), np.random.default_rng(0))
    cosine = np.abs(first.weights[order].T @ second.weights)
    np.testing.assert_allclose(np.sort(cosine.max(axis=0)), 1.0, atol=1e-3)


def test_pairs_must_be_disjoint_and_three() -> None:
    counts = cells(np.zeros((40, 0)))
    with pytest.raises(ValueError, match="3 pairs"):
        find_programs(counts, counts.sum(axis=1), halves(40, 2), np.random.default_rng(0))
    overlapping = [(np.arange(20), np.arange(19, 40))] * 3
    with pytest.raises(ValueError, match="share cells"):
        find_programs(counts, counts.sum(axis=1), overlapping, np.random.default_rng(0))


def test_too_few_cells_say_so() -> None:
    counts = cells(np.zeros((16, 0)))
    programs = find_programs(counts, counts.sum(axis=1), halves(16), np.random.default_rng(0))
    assert (programs.n_programs, programs.reason) == (0, "16 cells: a half holds 8, fewer than 10")


def test_signal_share_is_the_reliability_of_a_sum() -> None:
    """Oracle: squared correlation of the observed activity with the one without noise."""
    generator = np.random.default_rng(0)
    latent, weights = generator.standard_normal(200_000), np.full(4, 0.5)
    values = latent[:, None] + 1.5 * generator.standard_normal((latent.size, 4))
    observed = values @ weights
    noise_only = weights**2 @ np.full(4, 1.5**2)
    reliability = np.corrcoef(observed, latent)[0, 1] ** 2
    share, _ = signal_share(values, weights[:, None])
    # The share leaves out the latent's own part of each gene's variance: exact for many genes, known for four.
    own = weights**2 @ np.ones(4)
    assert share[0] + own / observed.var() == pytest.approx(reliability, abs=0.01)
    independent, _ = signal_share(generator.standard_normal((50_000, 30)), np.ones((30, 1)))
    assert noise_only > 0
    assert abs(independent[0]) < 0.02


def test_varimax_recovers_disjoint_factors_and_beats_any_grid_of_rotations() -> None:
    loadings = np.zeros((60, 2))
    loadings[:30, 0], loadings[30:, 1] = 1.0, 1.0
    turn = np.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])
    rotated = varimax(loadings @ turn)
    np.testing.assert_allclose(np.sort(np.abs(rotated), axis=1), np.sort(loadings, axis=1), atol=1e-6)
    noisy = np.random.default_rng(0).standard_normal((40, 2)) ** 3

    def criterion(matrix: np.ndarray) -> float:
        return float((matrix**2).var(axis=0).sum())

    angles = np.linspace(0, np.pi / 2, 721)
    turns = [np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in angles]
    assert criterion(varimax(noisy)) >= max(criterion(noisy @ t) for t in turns) - 1e-6


def test_factors_that_go_together_are_joined_and_independent_ones_are_not() -> None:
    generator = np.random.default_rng(0)
    common, other = generator.standard_normal(4000), generator.standard_normal(4000)
    early, late = (common + 0.4 * generator.standard_normal(4000) for _ in range(2))
    values = np.repeat(np.column_stack([early, late, other]), 20, axis=1)
    values = values - values.mean(axis=0)
    variances, components = leading_components(values, 3)
    joined = join_correlated(varimax(components * np.sqrt(variances)))
    assert joined.shape == (60, 2)
    activity = np.abs(np.corrcoef(np.column_stack([values @ joined, common, other]).T)[:2, 2:])
    np.testing.assert_array_less(0.95, activity.max(axis=0))


def test_leading_components_are_those_of_numpy_for_either_shape_and_by_iteration() -> None:
    generator = np.random.default_rng(0)
    for shape in ((50, 90), (90, 50), (1000, 900)):
        values = generator.standard_normal(shape) + 3 * np.outer(
            generator.standard_normal(shape[0]), generator.random(shape[1])
        )
        values -= values.mean(axis=0)
        _, singular, right = np.linalg.svd(values, full_matrices=False)
        variances, components = leading_components(values, 1)
        np.testing.assert_allclose(variances, singular[:1] ** 2 / shape[0], rtol=1e-6)
        assert abs(right[0] @ components[:, 0]) == pytest.approx(1.0, abs=1e-6)


def test_counting_variance_is_that_of_poisson_counts() -> None:
    means = np.array([0.05, 0.7, 4.0, 30.0, 200.0])
    counts = np.random.default_rng(0).poisson(means, (400_000, 5)).astype(float)
    np.testing.assert_allclose(counting_variance(counts), np.log(counts + 1.25).var(axis=0), rtol=0.03)


def test_residuals_do_not_follow_depth() -> None:
    counts = cells(np.zeros((200, 0)))
    depth = np.log(counts.sum(axis=1))
    residuals = log_residuals(counts, counts.sum(axis=1))
    np.testing.assert_allclose(residuals.T @ (depth - depth.mean()), 0.0, atol=1e-8)


def test_interval_is_the_corrected_resampled_t() -> None:
    values = np.array([[0.1], [0.4], [0.3], [0.2]])
    mean, lower, upper = interval_over_pairs(values)
    reach = stats.t.ppf(0.975, 3) * values.std(ddof=1) * np.sqrt(1 / 4 + 1)
    assert (mean[0], lower[0], upper[0]) == pytest.approx((0.25, 0.25 - reach, 0.25 + reach))


def test_cells_of_another_population_are_recognised_by_its_markers() -> None:
    mean_logs = np.zeros((3, 100))
    mean_logs[1, :20], mean_logs[2, 50:70] = 1.0, 1.0
    contaminated = mean_logs[1] - mean_logs[0]
    own = np.zeros(100)
    own[80:] = 1.0
    correlation = marker_correlations(np.column_stack([contaminated, own]), mean_logs, 0)
    assert correlation[1, 0] == pytest.approx(1.0)
    assert np.isnan(correlation[0]).all()
    assert np.nanmax(correlation[:, 1]) < 0


def test_category_share_is_zero_by_chance_and_one_when_groups_decide() -> None:
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 5, 20_000)
    shares = category_share(np.column_stack([codes.astype(float) ** 2, generator.standard_normal(codes.size)]), codes)
    assert shares == pytest.approx([1.0, 0.0], abs=2e-3)
    assert np.isnan(category_share(np.ones((4, 1)), np.zeros(4, dtype=int))).all()


def test_shared_programs_match_and_others_do_not() -> None:
    basis = np.eye(2000)
    first, second = basis[:, :2], np.column_stack([basis[:, 5], (basis[:, 0] + basis[:, 9]) / np.sqrt(2)])
    matches = matching_programs([first, second])
    assert [[(m.population, m.program) for m in row] for row in matches[0]] == [[(1, 1)], []]
    assert matches[1][1][0].cosine == pytest.approx(np.sqrt(0.5))


def test_enrichment_is_fishers_test_among_analysed_genes() -> None:
    analysed = [f"g{i}" for i in range(200)]
    genes = analysed[:20]
    sets = {"mine": [*analysed[:10], *analysed[50:55], "elsewhere"], "other": analysed[100:140], "tiny": ["g1", "x"]}
    best, rest = enriched_sets([*genes, "elsewhere"], analysed, sets)
    fisher = stats.fisher_exact([[10, 10], [5, 175]], alternative="greater").pvalue
    assert (best.gene_set, best.n_common, best.n_set) == ("mine", 10, 15)
    assert best.p_value == pytest.approx(fisher)
    assert best.q_value == pytest.approx(min(2 * fisher, rest.p_value))
    assert best.common == tuple(analysed[:10])
