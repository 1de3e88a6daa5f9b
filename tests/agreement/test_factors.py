"""Agreement of factors: matching, subspaces, and what neither may depend on."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.linalg import subspace_angles
from scipy.stats import ortho_group

from scballast.agreement.factors import match_factors, subspace_agreement

Array = npt.NDArray[Any]


def loadings(seed: int, n_genes: int = 60, n_factors: int = 4) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_genes, n_factors)) + rng.normal(size=n_factors)  # column means are free


class TestMatchFactors:
    def test_is_the_best_of_all_assignments(self) -> None:
        first, second = loadings(0), loadings(1)
        table = np.abs(np.corrcoef(first.T, second.T)[:4, 4:])
        best = max(
            np.mean([table[row, column] for row, column in enumerate(columns)])
            for columns in itertools.permutations(range(4))
        )
        found = match_factors(first, second)
        assert found.mean_correlation == pytest.approx(best, abs=1e-12)

    def test_finds_permuted_flipped_shifted_and_scaled_factors(self) -> None:
        first = loadings(0)
        second = first[:, [2, 0, 3, 1]] * [-3.0, 0.5, 1.0, -1.0] + [7.0, 0.0, -2.0, 1.0]
        found = match_factors(first, second)
        assert found.mean_correlation == pytest.approx(1.0, abs=1e-12)

    def test_rotation_breaks_the_match_but_not_the_space(self) -> None:
        first = loadings(0)
        second = first @ ortho_group.rvs(4, random_state=1)
        assert match_factors(first, second).mean_correlation < 0.95
        assert subspace_agreement(first, second) == pytest.approx(1.0, abs=1e-12)

    def test_the_smaller_model_decides_how_many_are_matched(self) -> None:
        first = loadings(0)
        assert match_factors(first, first[:, [3, 1]]).mean_correlation == pytest.approx(1.0)

    def test_null_is_the_mean_over_orders_of_the_genes(self) -> None:
        first, second = loadings(0), loadings(1)
        generator = np.random.default_rng(5)
        orders = [generator.permutation(60) for _ in range(20)]
        expected = np.mean([match_factors(first, second[order]).mean_correlation for order in orders])
        assert match_factors(first, second, seed=5).null == pytest.approx(expected, abs=1e-12)

    def test_the_seed_rules_the_null(self) -> None:
        first, second = loadings(0), loadings(1)
        assert match_factors(first, second, seed=1).null == match_factors(first, second, seed=1).null
        assert match_factors(first, second, seed=1).null != match_factors(first, second, seed=2).null

    def test_unrelated_factors_are_at_the_null(self) -> None:
        found = [match_factors(loadings(2 * i), loadings(2 * i + 1)) for i in range(40)]
        assert abs(np.mean([match.mean_correlation - match.null for match in found])) < 0.02

    def test_a_constant_factor_matches_nothing(self) -> None:
        first, second = loadings(0), loadings(0)
        second[:, 1] = 0.1
        found = match_factors(first, second)
        assert found.mean_correlation == pytest.approx(0.75)
        nothing = match_factors(first, np.full((60, 2), 0.1))
        assert math.isnan(nothing.mean_correlation)
        assert math.isnan(nothing.null)

    def test_wrong_input(self) -> None:
        first = loadings(0)
        with pytest.raises(ValueError, match="same genes"):
            match_factors(first, first[:-1])
        with pytest.raises(ValueError, match="at least 2 genes"):
            match_factors(first[:1], first[:1])
        with pytest.raises(ValueError, match="finite"):
            match_factors(first, np.where(first > 2, np.nan, first))


class TestSubspaceAgreement:
    @pytest.mark.parametrize(("n_first", "n_second"), [(4, 4), (2, 5), (1, 1)])
    def test_is_the_mean_squared_cosine_of_scipys_angles(self, n_first: int, n_second: int) -> None:
        first, second = loadings(0, n_factors=n_first), loadings(1, n_factors=n_second)
        angles = subspace_angles(first - first.mean(axis=0), second - second.mean(axis=0))
        assert subspace_agreement(first, second) == pytest.approx(np.mean(np.cos(angles) ** 2), abs=1e-10)

    def test_rotation_scale_and_shift_of_columns_change_nothing(self) -> None:
        first, second = loadings(0), loadings(1)
        value = subspace_agreement(first, second)
        moved = second @ ortho_group.rvs(4, random_state=0) * [1.0, 5.0, -2.0, 0.1] + [3.0, 0.0, 1.0, -4.0]
        assert subspace_agreement(first, moved) == pytest.approx(value, abs=1e-10)
        assert subspace_agreement(second, first) == pytest.approx(value, abs=1e-12)

    def test_random_spaces_agree_by_chance(self) -> None:
        found = [subspace_agreement(loadings(2 * i), loadings(2 * i + 1)) for i in range(200)]
        assert found[0].chance == pytest.approx(4 / 59)
        assert np.mean(found) == pytest.approx(4 / 59, abs=0.005)

    def test_factors_that_repeat_others_add_no_dimension(self) -> None:
        first = loadings(0)
        doubled = np.column_stack([first, first[:, 0] + first[:, 1], np.full(60, 3.0)])
        value = subspace_agreement(first, doubled)
        assert value == pytest.approx(1.0, abs=1e-10)
        assert value.chance == pytest.approx(4 / 59)

    def test_undefined_and_wrong_input(self) -> None:
        value = subspace_agreement(loadings(0), np.full((60, 2), 0.3))
        assert math.isnan(value)
        assert value.reason == "every factor is constant"
        with pytest.raises(ValueError, match="gene × factor"):
            subspace_agreement(loadings(0), loadings(0)[0])
