"""Programs: found where planted, none where not, and single only after rotation to simple structure."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scballast.agreement import program_components, program_replication, program_weights
from scballast.agreement.enrichment import enriched_sets
from scballast.agreement.program_components import (
    counting_variance,
    join_correlated,
    leading_components,
    log_residuals,
    varimax,
    without_rare_genes,
)
from scballast.agreement.program_context import category_share, marker_correlations, matching_programs
from scballast.agreement.program_replication import agreement_of_halves, gene_p_values, in_unseen_cells
from scballast.agreement.program_weights import sparse_weights
from scballast.agreement.programs import PopulationPrograms, find_programs

N_CELLS, N_GENES, SIZE = 240, 300, 25


def halves(n_cells: int, n_pairs: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = []
    for seed in range(n_pairs):
        order = np.random.default_rng(seed).permutation(n_cells)
        pairs.append((np.sort(order[: n_cells // 2]), np.sort(order[n_cells // 2 :])))
    return pairs


def parts(n_cells: int, n_parts: int = 5) -> list[np.ndarray]:
    return np.array_split(np.random.default_rng(9).permutation(n_cells), n_parts)


def found_in(counts: np.ndarray, seed: int = 0) -> PopulationPrograms:
    n_cells = len(counts)
    arguments = (counts, counts.sum(axis=1), halves(n_cells), parts(n_cells), np.random.default_rng(seed))
    return find_programs(*arguments)


def cells(activities: np.ndarray, strength: float = 0.8, seed: int = 0) -> np.ndarray:
    """Counts with a program of 25 genes for each column of activities."""
    generator = np.random.default_rng(seed)
    log_rates = np.tile(generator.normal(0.5, 0.7, N_GENES), (len(activities), 1))
    for number, activity in enumerate(activities.T):
        log_rates[:, number * SIZE : (number + 1) * SIZE] += strength * activity[:, None]
    depth = generator.lognormal(0, 0.3, len(activities))
    return generator.poisson(np.exp(log_rates) * depth[:, None]).astype(float)


def equal_programs(seed: int = 1, n_programs: int = 2) -> np.ndarray:
    """Independent activities of equal strength: no component tells one from the other."""
    return np.random.default_rng(seed).standard_normal((N_CELLS, n_programs))


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
    programs = found_in(counts)
    assert programs.n_programs == 2
    assert recovered(programs.weights, programs.activity, truth) == 2
    assert (programs.lower > programs.floor).all()
    assert (programs.weight_agreement > programs.weight_floor).all()
    assert (programs.floor >= 0.5).all()


def test_without_rotation_to_simple_structure_equal_programs_are_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(2):
        truth = equal_programs(seed, 4)
        counts = cells(truth, seed=seed)
        rotated = found_in(counts)
        with monkeypatch.context() as patch:
            for step in ("varimax", "join_correlated"):
                patch.setattr(program_components, step, lambda loadings, **_: loadings)
            plain = found_in(counts)
        assert recovered(rotated.weights, rotated.activity, truth) == 4
        assert recovered(plain.weights, plain.activity, truth) <= 2


@pytest.mark.parametrize("n_cells", [40, 240])
def test_nothing_is_found_where_nothing_is_planted(n_cells: int) -> None:
    for seed in range(5):
        counts = cells(np.zeros((n_cells, 0)), seed=seed)
        programs = found_in(counts, seed)
        assert programs.n_programs == 0
        assert programs.reason


def test_a_component_of_one_half_alone_is_no_program() -> None:
    counts = cells(np.zeros((N_CELLS, 0)))
    counts[0, :40] += 60  # one odd cell: it lies in one half of every pair
    programs = found_in(counts)
    assert programs.n_programs == 0


def test_cells_are_measured_by_weights_that_they_took_no_part_in() -> None:
    """Oracle: the definition, part by part, and the interval by leaving out one cell at a time."""
    generator = np.random.default_rng(0)
    values = generator.standard_normal((90, 8)) + 0.7 * generator.standard_normal((90, 1))
    left_out, weights = parts(90, 3), generator.standard_normal((3, 8, 2))
    found = in_unseen_cells(values, left_out, weights)
    squares, noise = np.zeros((90, 2)), np.zeros((90, 2))
    for part, own in zip(left_out, weights, strict=True):
        others = np.setdiff1d(np.arange(90), part)
        np.testing.assert_allclose(found.activity[part], (values[part] - values[others].mean(axis=0)) @ own)
        for cell in part:
            deviation = values[cell] - values[part].mean(axis=0)
            squares[cell], noise[cell] = (deviation @ own) ** 2, deviation**2 @ own**2
    share = 1 - noise.sum(axis=0) / squares.sum(axis=0)
    np.testing.assert_allclose(found.share, share)
    without = 1 - (noise.sum(axis=0) - noise) / (squares.sum(axis=0) - squares)
    jackknife = np.sqrt(89 / 90 * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose(found.share - found.lower, stats.t.ppf(0.975, 89) * jackknife, rtol=0.15)
    cosine = [weights[i].T @ weights[j] for i in range(3) for j in range(i)]
    np.testing.assert_allclose(found.agreement, np.mean(cosine, axis=0).diagonal())


def test_listed_genes_are_those_of_the_program_and_go_one_way() -> None:
    generator = np.random.default_rng(3)
    n_cells, n_genes, n_planted = 400, 600, 12
    log_rates = np.tile(generator.normal(0.5, 0.7, n_genes), (n_cells, 1))
    log_rates[:, :n_planted] += 0.8 * generator.standard_normal(n_cells)[:, None]
    counts = generator.poisson(np.exp(log_rates) * generator.lognormal(0, 0.3, n_cells)[:, None]).astype(float)
    programs = found_in(counts)
    assert programs.n_programs == 1
    listed = np.flatnonzero(programs.listed[:, 0])
    assert set(range(n_planted)) <= set(listed)
    assert len(listed) <= n_planted + 2
    assert (programs.weights[listed[listed < n_planted], 0] > 0).all()
    # The fifty of the largest weight, which five searches of nearly the same cells share, are for the most part noise.
    assert (programs.selection_frequency[:, 0] >= 0.5).sum() > 2 * n_planted


def test_genes_are_tested_without_what_they_add_themselves() -> None:
    generator = np.random.default_rng(5)
    n_cells, n_genes = 200, 40
    values = generator.standard_normal((n_cells, n_genes))
    weights = np.tile(np.full((n_genes, 1), 1 / np.sqrt(n_genes)), (4, 1, 1))
    sides = np.array_split(generator.permutation(n_cells), 4)
    tested = gene_p_values(values, sides, weights)
    # By hand: covariance with the sum of the other genes, over the deviations of the gene and of the whole activity.
    centred = values.copy()
    for side in sides:
        centred[side] -= centred[side].mean(axis=0)
    activity = centred @ weights[0]
    others = activity[:, 0, None] - centred * weights[0].T
    r = (centred * others).sum(axis=0) / np.sqrt((centred**2).sum(axis=0) * (activity**2).sum())
    np.testing.assert_allclose(tested[:, 0], stats.t.sf(r * np.sqrt(n_cells - 5), n_cells - 5), rtol=1e-9)


def test_genes_without_a_program_have_uniform_p_values_and_programs_genes_small_ones() -> None:
    generator = np.random.default_rng(6)
    values = generator.standard_normal((150, 2000))
    values[:, :20] += generator.standard_normal(150)[:, None]
    weights = np.zeros((5, 2000, 1))
    weights[:, :20] = 1.0
    weights[:, 20:] = 0.1 * generator.standard_normal((5, 1980, 1))
    weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
    tested = gene_p_values(values, parts(150), weights)[:, 0]
    assert (tested[:20] < 1e-3).all()
    # 1,980 draws: 0.05 by chance, five standard deviations.
    assert (tested[20:] < 0.05).mean() == pytest.approx(0.05, abs=0.025)
    assert np.isnan(gene_p_values(np.zeros((150, 2000)), parts(150), weights)).all()


def test_a_program_that_one_search_does_not_find_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = cells(equal_programs(n_programs=1))
    assert found_in(counts).n_programs == 1
    real, calls = program_replication.found_again, []

    def blind_once(*arguments: object, **options: object) -> np.ndarray:
        calls.append(1)
        weights = real(*arguments, **options)  # type: ignore[arg-type]
        return np.zeros_like(weights) if len(calls) == 2 else weights

    monkeypatch.setattr(program_replication, "found_again", blind_once)
    assert found_in(counts).n_programs == 0


def test_weaker_programs_beside_a_bent_one_are_searched_with_all_components() -> None:
    generator = np.random.default_rng(1)
    n_cells, n_genes = 200, 1000
    base = generator.lognormal(0, 1.2, n_genes)
    chosen = generator.choice(np.argsort(-base)[20:400], 100, replace=False)
    log_rates = np.tile(np.log(base / base.sum()), (n_cells, 1))
    path = generator.random(n_cells) * 2.5
    for place, gene in enumerate(chosen[:60]):
        log_rates[:, gene] += 2.4 / (1 + np.exp(-8 * (path - 2.5 * place / 60)))
    linear = generator.normal(size=(2, n_cells))
    for number in range(2):
        log_rates[:, chosen[60 + 20 * number : 80 + 20 * number]] += 0.5 * linear[number][:, None]
    rates = np.exp(log_rates)
    depth = 2500 * generator.lognormal(0, 0.3, n_cells)
    rates *= depth[:, None] / rates.sum(axis=1, keepdims=True)
    programs = found_in(generator.poisson(rates * generator.gamma(5, 1 / 5, size=rates.shape)).astype(float))
    correlation = np.abs(np.corrcoef(programs.activity.T, linear)[: programs.n_programs, -2:])
    assert (correlation.max(axis=0) > 0.7).all()


def test_halves_agree_by_the_cosine_of_their_weights() -> None:
    first, second, third = np.eye(3)
    halves_of_two_pairs = np.stack([first, first, second, third])[:, :, None]
    assert agreement_of_halves(halves_of_two_pairs) == pytest.approx([0.5])


def test_permuting_genes_permutes_the_programs() -> None:
    counts = cells(equal_programs())
    order = np.random.default_rng(3).permutation(N_GENES)
    first = found_in(counts)
    second = found_in(counts[:, order])
    cosine = np.abs(first.weights[order].T @ second.weights)
    np.testing.assert_allclose(np.sort(cosine.max(axis=0)), 1.0, atol=1e-3)


def test_pairs_must_be_disjoint_and_three_and_parts_hold_each_cell_once() -> None:
    counts = cells(np.zeros((40, 0)))
    arguments = (counts, counts.sum(axis=1))
    with pytest.raises(ValueError, match="3 pairs"):
        find_programs(*arguments, halves(40, 2), parts(40), np.random.default_rng(0))
    overlapping = [(np.arange(20), np.arange(19, 40))] * 3
    with pytest.raises(ValueError, match="share cells"):
        find_programs(*arguments, overlapping, parts(40), np.random.default_rng(0))
    for wrong in (parts(40)[:4], [*parts(40), np.arange(3)], [np.arange(40)]):
        with pytest.raises(ValueError, match="hold each of the 40 cells once"):
            find_programs(*arguments, halves(40), wrong, np.random.default_rng(0))


def test_too_few_cells_say_so() -> None:
    counts = cells(np.zeros((16, 0)))
    programs = found_in(counts)
    assert (programs.n_programs, programs.reason) == (0, "16 cells: a half holds 8, fewer than 10")


def test_share_is_the_reliability_of_a_sum_and_zero_by_chance() -> None:
    """Oracle: squared correlation of the observed activity with the one without noise."""
    generator = np.random.default_rng(0)
    n_cells, n_genes = 100_000, 4
    latent, weights = generator.standard_normal(n_cells), np.full((2, n_genes, 1), 0.5)
    values = latent[:, None] + 1.5 * generator.standard_normal((n_cells, n_genes))
    left_out = np.array_split(np.arange(n_cells), 2)
    observed = values @ weights[0, :, 0]
    reliability = np.corrcoef(observed, latent)[0, 1] ** 2
    found = in_unseen_cells(values, left_out, weights)
    # The share leaves out the latent's own part of each gene's variance: exact for many genes, known for four.
    own = n_genes * 0.5**2
    assert found.share[0] + own / observed.var() == pytest.approx(reliability, abs=0.01)
    independent = in_unseen_cells(generator.standard_normal((n_cells, n_genes)), left_out, weights)
    assert independent.lower[0] < 0 < independent.upper[0]
    assert abs(independent.share[0]) < 0.02


def test_sparse_weights_are_the_posterior_means_of_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: gene by gene with densities of scipy, the activity made of all genes but its own."""
    monkeypatch.setattr(program_weights, "N_STEPS", 1)
    generator = np.random.default_rng(0)
    values = generator.standard_normal((70, 30)) * generator.uniform(0.5, 2, 30)
    values[:, :6] += generator.standard_normal((70, 1))
    values -= values.mean(axis=0)
    start = generator.standard_normal((30, 1))
    start /= np.linalg.norm(start)
    activity = values @ start[:, 0]
    expected = np.zeros(30)
    for gene in range(30):
        others = activity - start[gene, 0] * values[:, gene]
        covariance = (others * values[:, gene]).mean()
        z = covariance / values[:, gene].std() / activity.std() * np.sqrt(70)
        inside = 0.05 * stats.norm.pdf(z, scale=np.sqrt(10))
        outside = 0.95 * stats.norm.pdf(z)
        expected[gene] = inside / (inside + outside) * z * 0.9
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(sparse_weights(values, start)[:, 0], expected, atol=1e-10)


def shallow(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the activity of one program of 25 genes, up and down, in 80 cells, and their low counts of 600 genes."""
    generator = np.random.default_rng(seed)
    truth = generator.standard_normal((80, 1))
    log_rates = np.tile(generator.normal(0.0, 0.7, 600), (80, 1))
    log_rates[:, :SIZE] += 0.5 * truth * np.where(np.arange(SIZE) % 2, 1, -1)
    depth = generator.lognormal(0, 0.3, (80, 1))
    return truth, generator.poisson(np.exp(log_rates) * depth).astype(float)


def test_few_genes_make_programs_of_few_cells_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def n_recovered() -> int:
        programs = [(truth, found_in(counts)) for truth, counts in map(shallow, range(3))]
        return sum(recovered(found.weights, found.activity, truth) for truth, found in programs)

    assert n_recovered() >= 2
    monkeypatch.setattr(program_components, "sparse_weights", lambda values, weights: weights)
    assert n_recovered() == 0


def test_foreign_cells_with_genes_of_their_own_do_not_take_the_place_of_a_program() -> None:
    truth = np.random.default_rng(5).standard_normal((120, 1))
    counts = np.hstack([cells(truth), np.zeros((120, 600))])
    for cell in range(15):  # each brings 40 genes that no other cell has
        counts[cell, N_GENES + 40 * cell : N_GENES + 40 * (cell + 1)] = 3
    programs = found_in(counts)
    assert recovered(programs.weights, programs.activity, truth) == 1


def test_rare_genes_are_those_of_less_than_five_cells_or_one_in_a_hundred() -> None:
    counts = np.zeros((1000, 3))
    counts[:9, 0], counts[:10, 1] = 1, 1
    np.testing.assert_array_equal(without_rare_genes(np.ones((1000, 3)), counts)[0], [0, 1, 0])
    np.testing.assert_array_equal(without_rare_genes(np.ones((7, 3)), counts[3:10])[0], [1, 1, 0])
    np.testing.assert_array_equal(without_rare_genes(np.ones((5, 3)), counts[5:10])[0], [0, 1, 0])


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


def test_leading_components_are_those_of_numpy_for_either_shape_and_by_iteration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(0)
    monkeypatch.setattr(program_components, "SMALL_GRAM", 60)
    for shape in ((50, 90), (90, 50), (100, 90)):
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
