"""The tests in unseen cells: uniform without a signal, and what would make them wrong is taken out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse, stats

from scballast.agreement import confirmation
from scballast.agreement.confirmation import (
    FEWEST_CELLS,
    PopulationCells,
    depth_weights,
    foreign_share,
    population_cells,
    program_p_values,
)

Array = np.ndarray[Any, Any]
LISTED = np.arange(80) < 20


def counts(rng: np.random.Generator, n_cells: int, *, program: float = 0.0, level: Array | None = None) -> Array:
    """Counts of 80 genes at varying depth; the first 15 share an activity."""
    rate = np.geomspace(0.2, 3.0, 80)[np.random.default_rng(3).permutation(80)] if level is None else level
    depth = rng.lognormal(0.0, 0.4, (n_cells, 1))
    activity = rng.standard_normal((n_cells, 1)) * (np.arange(80) < 15)
    drawn: Array = rng.poisson(depth * rate * np.exp(program * activity)).astype(float)
    return drawn


def cells(values: Array, batches: Array | None = None) -> PopulationCells:
    return population_cells(sparse.csr_matrix(values), values.sum(axis=1), batches=batches)


def test_p_values_are_uniform_without_a_program() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([program_p_values(cells(counts(rng, 60)), cells(counts(rng, 60)), LISTED) for _ in range(100)])
    assert p.size == 2000
    for level in (0.01, 0.05, 0.2):
        assert np.mean(p <= level) == pytest.approx(level, abs=0.35 * level + 0.005)


def test_the_program_is_confirmed_and_what_only_stands_beside_it_is_not() -> None:
    rng = np.random.default_rng(1)
    p = np.array(
        [program_p_values(cells(counts(rng, 80, program=0.7)), cells(counts(rng, 80, program=0.7)), LISTED)
         for _ in range(40)]
    )  # fmt: skip
    assert np.mean(p[:, :15] <= 0.05) > 0.9
    assert np.mean(p[:, 15:] <= 0.05) < 0.1


def test_the_same_cells_confirm_what_is_not_there() -> None:
    rng = np.random.default_rng(2)
    wrong, right = [], []
    for _ in range(20):
        seen, unseen = counts(rng, 50), counts(rng, 50)
        found = cells(seen)
        centred = seen - seen.mean(axis=0)
        loading = np.linalg.svd(centred / (centred.std(axis=0) + 1e-9))[2][0]
        listed = np.zeros(80, dtype=bool)
        listed[np.argsort(-np.abs(loading))[:20]] = True
        wrong.append(np.mean(program_p_values(found, found, listed) <= 0.05))
        right.append(np.mean(program_p_values(found, cells(unseen), listed) <= 0.05))
    assert np.mean(wrong) > 0.9
    assert np.mean(right) < 0.1


def test_a_strong_program_does_not_confirm_what_it_pushes_down() -> None:
    """With depth over all genes the others vary against the program, and so look like a part of it."""
    rng = np.random.default_rng(4)
    level = np.where(np.arange(80) < 15, 6.0, 1.0)
    listed = np.arange(80) < 25
    p = np.array(
        [
            program_p_values(
                cells(counts(rng, 100, program=0.8, level=level)),
                cells(counts(rng, 100, program=0.8, level=level)),
                listed,
            )
            for _ in range(40)
        ]
    )
    assert np.mean(p[:, 15:] <= 0.05) < 0.1


def test_one_overdispersed_gene_is_not_the_depth_of_all() -> None:
    rng = np.random.default_rng(5)

    def drawn() -> Array:
        values = counts(rng, 80, level=np.full(80, 2.0))
        values[:, 79] = rng.poisson(rng.gamma(0.5, 200.0, 80))
        return values

    p = np.concatenate([program_p_values(cells(drawn()), cells(drawn()), LISTED) for _ in range(40)])
    assert np.mean(p <= 0.05) < 0.09
    values = drawn()
    weights = depth_weights(sparse.csr_matrix(values), values.sum(axis=1))
    assert weights[79] < 0.1 < 0.5 < weights[:79].mean() <= 1.0


def test_depth_weights_are_the_inverse_of_the_dispersion() -> None:
    values = counts(np.random.default_rng(6), 40)
    depth = values.sum(axis=1)
    expected = np.outer(depth, values.sum(axis=0) / depth.sum())
    plain = 1.0 / np.maximum(((values - expected) ** 2 / expected).mean(axis=0), 1.0)
    np.testing.assert_allclose(depth_weights(sparse.csr_matrix(values), depth), plain, rtol=1e-10)


def test_batches_do_not_count_as_a_program() -> None:
    rng = np.random.default_rng(7)
    batches = np.repeat([0, 1], 40)
    shift = np.where(np.arange(80) < 20, 1.0, 0.0)

    def drawn() -> Array:
        values: Array = rng.poisson(np.exp(shift * batches[:, None]) * rng.lognormal(0.0, 0.3, (80, 1))).astype(float)
        return values

    blind = program_p_values(cells(drawn()), cells(drawn()), LISTED)
    known = np.concatenate(
        [program_p_values(cells(drawn(), batches), cells(drawn(), batches), LISTED) for _ in range(20)]
    )
    assert np.mean(blind <= 0.05) > 0.9
    assert np.mean(known <= 0.05) < 0.09


def test_a_noisy_depth_is_no_program() -> None:
    """Few counts outside the list: what they miss of the depth is in every listed gene."""
    rng = np.random.default_rng(13)
    level = np.where(LISTED, 3.0, 0.7)
    p = np.concatenate(
        [program_p_values(cells(counts(rng, 60, level=level)), cells(counts(rng, 60, level=level)), LISTED)
         for _ in range(100)]
    )  # fmt: skip
    assert np.mean(p <= 0.05) < 0.075


def test_doublets_are_left_out() -> None:
    rng = np.random.default_rng(8)
    own, other = np.full(80, 1.0), np.full(80, 1.0)
    other[:20] = 8.0

    def side(n_cells: int = 100) -> tuple[Array, Array]:
        values = rng.poisson(own, (n_cells, 80)).astype(float)
        values[:3] += rng.poisson(other, (3, 80))
        profiles = np.array([own / own.sum(), other / other.sum()])
        return values, profiles

    found = {"in": [], "out": []}
    for _ in range(20):
        (seen, profiles), (unseen, _) = side(), side()
        foreign = [foreign_share(sparse.csr_matrix(v), profiles, 0) for v in (seen, unseen)]
        trimmed = [
            population_cells(sparse.csr_matrix(v), v.sum(axis=1), foreign=shares)
            for v, shares in zip((seen, unseen), foreign, strict=True)
        ]
        assert trimmed[0].counts.shape[0] == 95
        found["out"].append(np.mean(program_p_values(*trimmed, LISTED) <= 0.05))
        found["in"].append(np.mean(program_p_values(cells(seen), cells(unseen), LISTED) <= 0.05))
    assert np.mean(found["in"]) > 0.5
    assert np.mean(found["out"]) < 0.1


def test_the_foreign_share_is_that_of_each_cell_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    values, profiles = rng.poisson(0.8, (11, 9)).astype(float), rng.dirichlet(np.ones(9), 3)
    values[2] = 0
    profiles[1, 3] = 0
    mixed = 0.999 * profiles + 0.001 * profiles.mean(axis=0)
    expected = []
    for cell in values:
        shares = np.array([0.05, 0.05, 0.9])
        for _ in range(8):
            shares = shares * (mixed @ (cell / (shares @ mixed)))
            shares = shares / shares.sum() if shares.sum() > 0 else np.full(3, 1 / 3)
        expected.append(1 - shares[2])
    monkeypatch.setattr(confirmation, "_CELLS_AT_ONCE", 4)
    np.testing.assert_allclose(foreign_share(sparse.csr_matrix(values), profiles, 2), expected, rtol=1e-10)


def test_the_foreign_share_is_that_of_the_mixture() -> None:
    rng = np.random.default_rng(9)
    profiles = rng.dirichlet(np.full(80, 0.5), 3)
    share = np.array([0.0, 0.2, 0.5, 0.9])
    values = rng.poisson(50_000 * ((1 - share)[:, None] * profiles[1] + share[:, None] * profiles[2])).astype(float)
    np.testing.assert_allclose(foreign_share(sparse.csr_matrix(values), profiles, 1), share, atol=0.05)


def test_a_gene_beyond_the_list_is_tested_against_it() -> None:
    rng = np.random.default_rng(10)
    seen, unseen = cells(counts(rng, 150, program=0.8)), cells(counts(rng, 150, program=0.8))
    listed = np.arange(80) < 10
    beyond = program_p_values(seen, unseen, listed, np.arange(10, 20))
    assert (beyond[:5] <= 0.01).all()
    assert np.mean(beyond[5:] <= 0.01) <= 0.2


def test_the_statistic_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(11)
    seen, unseen = cells(counts(rng, 40, program=0.3)), cells(counts(rng, 50, program=0.3))

    def residuals(side: PopulationCells) -> tuple[Array, Array]:
        values = side.counts.toarray()
        depth = side.depth - values[:, LISTED] @ side.weights[LISTED]
        expected = np.outer(depth, values.sum(axis=0) / depth.sum())
        deviation = np.sqrt(expected + expected**2 / 100)
        plain = np.clip((values - expected) / deviation, -(len(values) ** 0.5), len(values) ** 0.5)
        noise = expected / depth[:, None] * np.sqrt(depth)[:, None] / deviation
        return (plain - plain.mean(axis=0)) / plain.std(axis=0), noise / plain.std(axis=0)

    (first, shared), (other, shared_other) = residuals(seen), residuals(unseen)
    p = program_p_values(seen, unseen, LISTED)
    for gene in range(20):
        rest = [g for g in range(20) if g != gene]
        weights = [np.mean(first[:, gene] * first[:, h]) - np.mean(shared[:, gene] * shared[:, h]) for h in rest]
        activity = other[:, rest] @ weights
        common = [np.mean(shared_other[:, gene] * shared_other[:, h]) for h in rest]
        r = (np.mean(other[:, gene] * activity) - np.dot(weights, common)) / activity.std()
        assert p[gene] == pytest.approx(stats.t.sf(r * np.sqrt(48 / (1 - r**2)), 48), rel=1e-6)


def test_too_few_cells_are_no_test_and_constant_genes_no_confirmation() -> None:
    rng = np.random.default_rng(12)
    few, many = cells(counts(rng, FEWEST_CELLS - 1)), cells(counts(rng, 40))
    assert np.isnan(program_p_values(few, many, LISTED)).all()
    assert np.isnan(program_p_values(many, few, LISTED)).all()
    assert np.isnan(program_p_values(many, many, np.arange(80) < 1)).all()
    values = counts(rng, 40)
    values[:, 3] = 0.0
    assert program_p_values(many, cells(values), LISTED)[3] == 1.0
    with pytest.raises(ValueError, match="80 genes"):
        program_p_values(many, cells(values[:, :79]), LISTED)
