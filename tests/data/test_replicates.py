"""Replicates: who shares cells with whom, and what a replicate's cells depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scballast.data.replicates import draw_replicates
from scballast.errors import DataError

NAMES = ("B", "T", "NK")
STRATA = np.repeat([0, 1, 2, -1], [101, 40, 7, 12])


def test_pairs_of_subsamples_share_no_cell_and_cover_all() -> None:
    replicates = draw_replicates("subsample", 6, STRATA, NAMES, seed=0)
    for first, second in zip(replicates[::2], replicates[1::2], strict=True):
        assert not set(first.cells) & set(second.cells)
        assert set(first.cells) | set(second.cells) == set(range(STRATA.size))
        np.testing.assert_array_equal(first.heldout, second.cells)


def test_subsamples_are_stratified() -> None:
    for replicate in draw_replicates("subsample", 4, STRATA, NAMES, seed=0):
        for code, size in ((0, 101), (1, 40), (2, 7), (-1, 12)):
            assert abs((STRATA[replicate.cells] == code).sum() - size / 2) <= 0.5


def test_the_odd_cell_goes_to_each_side_in_turn() -> None:
    replicates = draw_replicates("subsample", 4, STRATA, NAMES, seed=0)
    assert [(STRATA[replicate.cells] == 0).sum() for replicate in replicates] == [51, 50, 50, 51]


@settings(max_examples=30, deadline=None)
@given(fraction=st.floats(0.1, 0.5), seed=st.integers(0, 1000))
def test_smaller_subsamples_are_disjoint_too(fraction: float, seed: int) -> None:
    first, second = draw_replicates("subsample", 2, STRATA, NAMES, seed=seed, fraction=fraction)
    assert not set(first.cells) & set(second.cells)
    assert set(first.cells) | set(first.heldout) == set(range(STRATA.size))
    assert abs(first.cells.size - fraction * STRATA.size) <= 4


def test_adding_a_replicate_changes_no_other() -> None:
    few = draw_replicates("subsample", 3, STRATA, NAMES, seed=5)
    many = draw_replicates("subsample", 8, STRATA, NAMES, seed=5)
    for one, other in zip(few, many, strict=False):
        np.testing.assert_array_equal(one.cells, other.cells)


def test_adding_a_population_changes_no_other() -> None:
    with_more = np.concatenate([STRATA, np.full(30, 3)])
    before = draw_replicates("subsample", 2, STRATA, NAMES, seed=5)[0]
    after = draw_replicates("subsample", 2, with_more, ("B", "T", "NK", "Mono"), seed=5)[0]
    np.testing.assert_array_equal(before.cells, after.cells[after.cells < STRATA.size])


def test_seed_replicates_share_their_cells_and_hold_out_a_tenth() -> None:
    replicates = draw_replicates("seed", 3, STRATA, NAMES, seed=0)
    for replicate in replicates[1:]:
        np.testing.assert_array_equal(replicate.cells, replicates[0].cells)
    assert replicates[0].heldout.size == 10 + 4 + 0 + 1
    assert not set(replicates[0].cells) & set(replicates[0].heldout)


def test_bootstrap_draws_with_replacement_within_strata() -> None:
    replicate = draw_replicates("bootstrap", 1, STRATA, NAMES, seed=0)[0]
    assert replicate.cells.size == STRATA.size
    np.testing.assert_array_equal(np.unique(STRATA[replicate.cells], return_counts=True)[1], [12, 101, 40, 7])
    assert np.unique(replicate.cells).size < STRATA.size
    assert not set(replicate.cells) & set(replicate.heldout)


def test_donor_halves_share_no_donor() -> None:
    samples = np.arange(STRATA.size) % 5
    replicates = draw_replicates("donor", 4, STRATA, NAMES, seed=0, samples=samples)
    for first, second in zip(replicates[::2], replicates[1::2], strict=True):
        assert not set(samples[first.cells]) & set(samples[second.cells])
        assert set(samples[first.cells]) | set(samples[second.cells]) == set(range(5))
    assert set(samples[replicates[0].cells]) != set(samples[replicates[2].cells])


def test_halves_of_donors_with_one_condition_each_have_both_conditions() -> None:
    samples = np.arange(STRATA.size) % 9
    conditions = (samples < 5).astype(int)
    for replicate in draw_replicates("donor", 6, STRATA, NAMES, seed=0, samples=samples, conditions=conditions):
        for side in (replicate.cells, replicate.heldout):
            n_treated = np.unique(samples[side][conditions[side] == 1]).size
            n_reference = np.unique(samples[side][conditions[side] == 0]).size
            assert n_treated in (2, 3)
            assert n_reference == 2
        assert not set(samples[replicate.cells]) & set(samples[replicate.heldout])
        assert replicate.cells.size + replicate.heldout.size == STRATA.size


def test_halves_of_donors_with_both_conditions_are_those_without_conditions() -> None:
    samples = np.arange(STRATA.size) % 5
    conditions = np.arange(STRATA.size) % 2
    with_them = draw_replicates("donor", 4, STRATA, NAMES, seed=3, samples=samples, conditions=conditions)
    without = draw_replicates("donor", 4, STRATA, NAMES, seed=3, samples=samples)
    for one, other in zip(with_them, without, strict=True):
        np.testing.assert_array_equal(one.cells, other.cells)


def test_donor_halves_need_two_donors() -> None:
    with pytest.raises(DataError, match=r"2 samples or more .* the sample column has 1"):
        draw_replicates("donor", 2, STRATA, NAMES, seed=0, samples=np.zeros(STRATA.size, dtype=int))
