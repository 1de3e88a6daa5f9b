"""Tests of response genes against scipy's, and their error rates under conditions that mean nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tests.helpers.response_examples import Example, donors_example

from scballast.agreement.marker_confirmation import composition_depth
from scballast.agreement.response_confirmation import over_donors_test, two_sided, within_donor_test

ALL = np.arange(200)


def over_donors(example: Example, genes: np.ndarray = ALL):
    return over_donors_test(example.counts, example.total_counts, example.conditions, example.donors, genes)


def within_donors(example: Example, genes: np.ndarray = ALL):
    return within_donor_test(example.counts, example.total_counts, example.conditions, example.donors, genes)


def log_levels(example: Example) -> np.ndarray:
    """(donor, condition, gene) by loops; NaN where a donor has no cells of a condition."""
    depth = composition_depth(example.counts, example.total_counts, example.conditions)
    counts, n_donors = example.counts.toarray(), example.donors.max() + 1
    levels = np.full((n_donors, 2, counts.shape[1]), np.nan)
    for donor in range(n_donors):
        for condition in (0, 1):
            own = (example.donors == donor) & (example.conditions == condition)
            if own.any():
                levels[donor, condition] = np.log(1 + 1e4 * counts[own].sum(axis=0) / depth[own].sum())
    return levels


class TestOverDonors:
    def test_paired_is_scipys_paired_t_test(self):
        example = donors_example(1, paired=True, n_donors=5, effect=0.5)
        levels = log_levels(example)
        expected = stats.ttest_rel(levels[:, 1], levels[:, 0]).pvalue
        np.testing.assert_allclose(over_donors(example).p_value, expected, rtol=1e-6)
        np.testing.assert_allclose(over_donors(example, ALL[::7]).p_value, expected[::7], rtol=1e-6)

    def test_between_donors_is_scipys_t_test(self):
        example = donors_example(2, paired=False, n_donors=7, effect=0.5)
        levels = log_levels(example)
        treated = ~np.isnan(levels[:, 1, 0])
        expected = stats.ttest_ind(levels[treated, 1], levels[~treated, 0]).pvalue
        np.testing.assert_allclose(over_donors(example).p_value, expected, rtol=1e-6)

    @pytest.mark.parametrize("paired", [True, False])
    def test_it_has_the_error_rate_that_it_says(self, paired):
        p_values = [over_donors(donors_example(seed, paired=paired)).p_value for seed in range(10)]
        # 2,000 tests: a rate of 0.05 has a standard error of 0.005.
        assert 0.03 < np.mean(np.array(p_values) <= 0.05) < 0.07

    def test_a_response_is_found(self):
        p_value = over_donors(donors_example(3, paired=True, effect=1.0)).p_value
        assert (p_value[:20] < 0.01).all()

    def test_a_gene_that_is_equal_everywhere_has_a_p_value_of_one(self):
        example = donors_example(4, paired=True, n_donors=4)
        counts = example.counts.tolil()
        counts[:, 3] = 0
        silent = Example(counts.tocsr(), example.donors, example.conditions)
        assert over_donors(silent).p_value[3] == 1.0
        assert within_donors(silent).p_value[3] == 1.0

    def test_too_few_donors_are_said(self):
        two = donors_example(5, paired=True, n_donors=2)
        assert over_donors(two).reason == "2 unseen donors have both conditions, and 3 are needed"
        assert np.isnan(over_donors(two).p_value).all()
        three = donors_example(5, paired=False, n_donors=3)
        assert "unseen donors have one condition and the other, and 2 of each are needed" in over_donors(three).reason


class TestWithinDonors:
    def test_one_donor_is_mann_and_whitneys_test(self):
        # 38 cells: too few to cut into strata of depth.
        example = donors_example(6, paired=True, n_donors=1, n_cells=19)
        depth = composition_depth(example.counts, example.total_counts, example.conditions)
        values = example.counts.toarray().astype(float) / depth[:, None]
        expected = stats.mannwhitneyu(
            values[example.conditions == 1], values[example.conditions == 0], method="asymptotic", use_continuity=False
        ).pvalue
        np.testing.assert_allclose(within_donors(example).p_value, expected, rtol=1e-9)

    def test_it_has_its_error_rate_where_only_donors_differ_and_not_where_preparations_do(self):
        rates = []
        for preparation_sd in (0.0, 0.3):
            examples = [donors_example(seed, paired=True, preparation_sd=preparation_sd) for seed in range(10)]
            rates.append(np.mean([within_donors(example).p_value <= 0.05 for example in examples]))
        assert 0.03 < rates[0] < 0.07
        assert rates[1] > 0.15  # why donors, and not cells, are the evidence where they can be

    def test_donors_with_one_condition_are_not_compared(self):
        found = within_donors(donors_example(7, paired=False, n_donors=4))
        assert found.reason == "no donor (or batch) has unseen cells of both conditions"
        assert np.isnan(found.p_value).all()
        few = donors_example(8, paired=True, n_donors=1, n_cells=4)
        assert within_donors(few).reason == "too few unseen cells of both conditions to compare"


def test_two_sided_p_values():
    np.testing.assert_allclose(
        two_sided(np.array([-1.959964, 0.0, 1.959964, np.nan])), [0.05, 1.0, 0.05, 1.0], atol=1e-7
    )
