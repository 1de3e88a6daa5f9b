"""Sums over groups of cells, against a loop."""

from __future__ import annotations

import numpy as np

from scballast.arrays import membership


def test_sums_over_groups_are_those_of_a_loop_and_cells_in_none_are_left_out() -> None:
    rng = np.random.default_rng(0)
    codes, values = rng.integers(-1, 4, 50), rng.integers(0, 9, (50, 3))
    sums = membership(codes, 5) @ values
    for group in range(5):  # the last has no cell
        assert sums[group].tolist() == sum((values[i] for i in range(50) if codes[i] == group), np.zeros(3)).tolist()
    assert sums.sum() == values[codes >= 0].sum() < values.sum()
