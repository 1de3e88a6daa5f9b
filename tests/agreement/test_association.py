from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from tests.helpers.donor_examples import donor_effects, error_rate, of_many_donors, of_whole_donors, within_donors

from scballast.agreement.association import Association, association
from scballast.agreement.multiplicity import bh_q_values
from scballast.agreement.purity import axis_purity
from scballast.verdict.latent_tables import association_table, axis_purity_table


def example(n_cells: int = 120, n_dimensions: int = 3, n_categories: int = 4, seed: int = 0, *, ties: bool = True):
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, n_categories, n_cells)
    scores = rng.standard_normal((n_cells, n_dimensions)) + 0.4 * codes[:, None] * np.arange(n_dimensions)
    return (np.round(scores, 1) if ties else scores), codes


def associate(scores, codes, n_categories=4, n_permutations=0, seed=0) -> Association:
    generator = np.random.default_rng(seed)
    return association(scores, codes, n_categories, n_permutations=n_permutations, generator=generator)


class TestAssociation:
    @pytest.mark.parametrize("ties", [True, False])
    def test_auroc_agrees_with_scikit_learn(self, ties):
        from sklearn.metrics import roc_auc_score

        scores, codes = example(ties=ties)
        found = associate(scores, codes)
        known = codes >= 0
        for dimension in range(3):
            for category in range(4):
                expected = roc_auc_score(codes[known] == category, scores[known, dimension])
                assert found.auroc[dimension, category] == pytest.approx(expected, abs=1e-12)

    def test_standardised_difference_and_eta_squared_by_definition(self):
        scores, codes = example()
        found = associate(scores, codes)
        known = codes >= 0
        for dimension in range(3):
            for category in range(4):
                inside = scores[codes == category, dimension]
                outside = scores[known & (codes != category), dimension]
                smd = (inside.mean() - outside.mean()) / np.sqrt((inside.var() + outside.var()) / 2)
                assert found.smd[dimension, category] == pytest.approx(smd, abs=1e-12)
                # In one-way analysis of variance F determines η².
                f = stats.f_oneway(inside, outside).statistic
                eta2 = f / (f + len(inside) + len(outside) - 2)
                assert found.eta2[dimension, category] == pytest.approx(eta2, abs=1e-12)

    def test_p_values_are_those_of_a_loop_over_the_same_permutations(self):
        scores, codes = example(60)
        labels, values = codes[codes >= 0], scores[codes >= 0]
        found = associate(scores, codes, n_permutations=200, seed=3)
        # The cells dealt to category 0 are the first of each permutation, to category 1 the next, and so on.
        cells = np.tile(np.arange(len(labels), dtype=np.int32), (200, 1))
        dealt = np.random.default_rng(3).permuted(cells, axis=1)
        dealt_labels = np.sort(labels)

        def distance(groups, dimension, category):
            column = values[:, dimension]
            return abs(column[groups == category].mean() - column[groups != category].mean())

        for dimension in range(3):
            for category in range(4):
                observed = distance(labels, dimension, category)
                as_far = 0
                for order in dealt:
                    groups = np.empty_like(labels)
                    groups[order] = dealt_labels
                    as_far += distance(groups, dimension, category) >= observed - 1e-9
                assert found.p_value[dimension, category] == pytest.approx((as_far + 1) / 201)

    def test_p_values_approach_those_of_scipy(self):
        scores, codes = example(50, 1, 2, seed=5, ties=False)
        codes = np.abs(codes)
        found = associate(scores, codes, 2, n_permutations=9_999)
        expected = stats.permutation_test(
            (scores[codes == 1, 0], scores[codes == 0, 0]),
            lambda first, second, axis: first.mean(axis=axis) - second.mean(axis=axis),
            n_resamples=9_999,
            vectorized=True,
            rng=np.random.default_rng(1),
        ).pvalue
        assert found.p_value[0, 1] == pytest.approx(expected, abs=0.02)
        # Of two categories the one lies as far out as the other.
        assert found.p_value[0, 0] == found.p_value[0, 1]

    def test_blocks_of_permutations_do_not_show(self, monkeypatch):
        scores, codes = example()
        whole = associate(scores, codes, n_permutations=99)
        monkeypatch.setattr("scballast.agreement.permutation._INDICES_PER_BLOCK", 300)
        np.testing.assert_array_equal(associate(scores, codes, n_permutations=99).p_value, whole.p_value)

    def test_p_values_are_uniform_when_labels_mean_nothing(self):
        rng = np.random.default_rng(11)
        p_values = [
            association(
                rng.standard_normal((40, 1)), rng.permutation(np.arange(40) % 3), 3, n_permutations=99, generator=rng
            ).p_value[0, 0]
            for _ in range(400)
        ]
        # Discrete, on {0.01, …, 1}: spread evenly within each step.
        jittered = np.array(p_values) - rng.uniform(0, 0.01, 400)
        assert stats.kstest(jittered, "uniform").pvalue > 1e-3
        assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.03)

    def test_most_extreme_p_value_is_one_over_permutations_plus_one(self):
        scores = np.concatenate([np.zeros(30), np.ones(30)])[:, None] + np.random.default_rng(0).normal(
            0, 0.01, (60, 1)
        )
        found = associate(scores, np.repeat([0, 1], 30), 2, n_permutations=199)
        assert found.p_value[0, 1] == 1 / 200
        assert found.auroc[0].tolist() == [0.0, 1.0]

    def test_order_of_cells_unlabelled_cells_and_scale_change_nothing(self):
        scores, codes = example()
        found = associate(scores, codes)
        order = np.random.default_rng(1).permutation(len(codes))
        known = codes >= 0
        for other in (
            associate(scores[order], codes[order]),
            associate(scores[known], codes[known]),
            associate(5.0 * scores + 3.0, codes),
        ):
            for name in ("smd", "auroc", "eta2"):
                np.testing.assert_allclose(getattr(other, name), getattr(found, name), atol=1e-10)
        mirrored = associate(-scores, codes)
        np.testing.assert_allclose(mirrored.smd, -found.smd, atol=1e-12)
        np.testing.assert_allclose(mirrored.auroc, 1 - found.auroc, atol=1e-12)

    def test_undefined_is_nan_with_the_reason(self):
        scores, codes = example(40)
        codes = np.where(codes == 2, 0, codes)
        codes[np.flatnonzero(codes == 3)[1:]] = 0
        found = associate(scores, codes, 4, n_permutations=9)
        assert found.reason == {2: "0 cells, at least 2 needed", 3: "1 cells, at least 2 needed"}
        for values in (found.smd, found.auroc, found.eta2, found.p_value):
            assert np.isnan(values[:, 2:]).all()
            assert np.isfinite(values[:, :2]).all()
        everything = associate(scores, np.zeros(40, dtype=int), 1)
        assert everything.reason == {0: "0 other cells, at least 2 needed"}
        scores[:, 1] = 0.1
        constant = associate(scores, codes, 4, n_permutations=9)
        assert np.isnan(constant.eta2[1]).all()
        assert np.isfinite(constant.eta2[[0, 2], :2]).all()
        nobody = associate(scores, np.full(40, -1), 4, n_permutations=9)
        assert np.isnan(nobody.p_value).all()

    @pytest.mark.parametrize(
        ("scores", "codes", "message"),
        [
            (np.zeros((4, 1)), np.zeros(3, dtype=int), "one per cell"),
            (np.zeros(4), np.zeros(4, dtype=int), "cell × dimension"),
            (np.full((4, 1), np.nan), np.zeros(4, dtype=int), "4 of 4 scores are not finite"),
            (np.zeros((4, 1)), np.full(4, 7), "code 7"),
        ],
    )
    def test_wrong_input_is_refused(self, scores, codes, message):
        with pytest.raises(ValueError, match=message):
            associate(scores, codes)
        with pytest.raises(ValueError, match=message):
            axis_purity(scores, codes, 4, generator=np.random.default_rng(0))


# 2,000 p-values: a rate of 0.05 has a standard error of 0.005.
HONEST_RATE = (0.03, 0.07)


class TestDonors:
    def test_a_label_of_whole_donors_has_the_error_rate_that_it_says(self):
        assert HONEST_RATE[0] < error_rate(of_whole_donors, by_donor=True) < HONEST_RATE[1]
        # Permuted cells take the differences between donors for an effect of the label.
        assert error_rate(of_whole_donors, by_donor=False) > 0.5

    def test_so_it_has_with_more_donors_than_can_be_enumerated(self):
        assert HONEST_RATE[0] < error_rate(of_many_donors, by_donor=True) < HONEST_RATE[1]

    def test_a_label_that_varies_within_donors_has_it_though_donors_have_it_unequally_often(self):
        assert HONEST_RATE[0] < error_rate(within_donors, by_donor=True) < HONEST_RATE[1]
        assert error_rate(within_donors, by_donor=False) > 0.3

    @pytest.mark.parametrize("sizes", [(4, 4), (3, 6), (2, 3, 4), (8, 1)])
    def test_donors_are_enumerated(self, sizes):
        rng = np.random.default_rng(sum(sizes))
        scores, donors = donor_effects(rng, 3, n_donors=sum(sizes))
        label = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
        found = association(scores, label[donors], len(sizes), n_permutations=9, generator=rng, donors=donors)
        means = [scores[donors == donor].mean(axis=0) for donor in range(len(label))]
        for category, size in enumerate(sizes):
            differences = {}
            for chosen in itertools.combinations(range(len(label)), size):
                inside = np.mean([means[donor] for donor in chosen], axis=0)
                outside = np.mean([means[donor] for donor in set(range(len(label))) - set(chosen)], axis=0)
                differences[chosen] = np.abs(inside - outside)
            observed = differences[tuple(np.flatnonzero(label == category))]
            p_value = np.mean([difference >= observed - 1e-12 for difference in differences.values()], axis=0)
            if category in found.reason:
                assert np.isnan(found.p_value[:, category]).all()
                continue
            np.testing.assert_allclose(found.p_value[:, category], p_value)
            assert found.permuted[category] == "donors"

    def test_cells_within_donors_approach_all_arrangements(self):
        # Two donors of 4 and 5 cells: 6 times 10 ways to give the label to 2 cells of each.
        scores = np.array([0.3, 1.1, 0.2, 0.9, 5.4, 5.1, 6.3, 5.0, 5.9])[:, None]
        codes, donors = np.array([0, 1, 0, 1, 0, 0, 1, 0, 1]), np.repeat([0, 1], [4, 5])
        centred = np.concatenate([scores[:4, 0] - scores[:4, 0].mean(), scores[4:, 0] - scores[4:, 0].mean()])
        sums = [
            centred[list(first)].sum() + centred[list(second)].sum()
            for first in itertools.combinations(range(4), 2)
            for second in itertools.combinations(range(4, 9), 2)
        ]
        exact = np.mean(np.abs(sums) >= abs(centred[codes == 1].sum()) - 1e-12)
        found = association(scores, codes, 2, n_permutations=20_000, generator=np.random.default_rng(0), donors=donors)
        assert found.p_value[0, 1] == pytest.approx(exact, abs=0.01)
        assert set(found.permuted.values()) == {"cells within donors"}

    def test_too_few_donors_are_said_and_not_tested(self):
        rng = np.random.default_rng(3)
        scores, donors = donor_effects(rng, 2, n_donors=6)
        codes = (np.arange(6) % 2)[donors]
        found = association(scores, codes, 2, n_permutations=999, generator=rng, donors=donors)
        words = "3 of 6 donors: their labels permuted give no p-value below 0.05 (0.1 at least)"
        assert found.reason == {0: words, 1: words}
        assert np.isnan(found.p_value).all()
        assert found.permuted == {}
        assert np.isfinite(found.eta2).all()
        # A donor against the others cannot be told from the spread of donors, whatever the number of cells.
        alone = association(scores, donors, 6, n_permutations=999, generator=rng, donors=donors)
        assert np.isnan(alone.p_value).all()

    def test_each_category_is_tested_by_what_it_allows(self):
        # Category 2 makes up whole donors; 0 and 1 share the others.
        rng = np.random.default_rng(4)
        scores, donors = donor_effects(rng, 2, n_donors=10)
        codes = np.where(donors < 4, 2, rng.integers(0, 2, donors.size))
        found = association(scores, codes, 3, n_permutations=99, generator=rng, donors=donors)
        assert found.permuted == {0: "cells within donors", 1: "cells within donors", 2: "donors"}
        assert np.isfinite(found.p_value).all()
        # Unlabelled cells and how donors are numbered change nothing.
        more = association(
            np.concatenate([scores, scores[:5] + 9]), np.concatenate([codes, np.full(5, -1)]), 3,
            n_permutations=99, generator=rng, donors=np.concatenate([donors * 3 + 5, np.full(5, 1)]),
        )  # fmt: skip
        np.testing.assert_array_equal(more.p_value[:, 2], found.p_value[:, 2])

    def test_a_dimension_without_variation_within_donors_has_no_test_within_them(self):
        donors, codes = np.repeat([0, 1], 6), np.tile([0, 1], 6)
        scores = np.stack([donors * 1.0, np.arange(12.0)], axis=1)
        found = association(scores, codes, 2, n_permutations=99, generator=np.random.default_rng(0), donors=donors)
        assert np.isnan(found.p_value[0]).all()
        assert np.isfinite(found.p_value[1]).all()

    def test_wrong_donors_are_refused(self):
        for donors in (np.zeros(3, dtype=int), np.full(4, -1)):
            with pytest.raises(ValueError, match="donors"):
                association(
                    np.zeros((4, 1)), np.zeros(4, dtype=int), 1,
                    n_permutations=9, generator=np.random.default_rng(0), donors=donors,
                )  # fmt: skip


@settings(deadline=None)
@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)))
def test_benjamini_hochberg_agrees_with_scipy(p_values):
    np.testing.assert_allclose(bh_q_values(p_values), stats.false_discovery_control(p_values), atol=1e-12)


def test_benjamini_hochberg_leaves_out_what_was_not_tested():
    found = bh_q_values([0.01, np.nan, 0.04, 0.03])
    np.testing.assert_allclose(found, [0.03, np.nan, 0.04, 0.04])
    assert bh_q_values([]).size == 0
    assert np.isnan(bh_q_values([np.nan])).all()


def test_association_table_is_in_step_with_the_arrays():
    scores, codes = example()
    results = {
        ("cell_type", replicate): (["a", "b", "c", "d"], associate(scores, codes, n_permutations=99, seed=replicate))
        for replicate in (0, 1)
    }
    results["donor", 0] = (["x", "y"], associate(scores, np.zeros(len(codes), dtype=int), 2))
    table = association_table(results)
    assert list(table)[:9] == [
        "key",
        "category",
        "dimension",
        "smd",
        "auroc",
        "eta2",
        "p_value",
        "q_value",
        "replicate",
    ]
    assert len(table) == 2 * 12 + 6
    for row in table[table["key"] == "cell_type"].itertuples():
        found = results["cell_type", row.replicate][1]
        category = "abcd".index(row.category)
        for name in ("smd", "auroc", "eta2", "p_value"):
            assert getattr(row, name) == getattr(found, name)[row.dimension, category]
    tested = table["p_value"].notna()
    assert tested.sum() == 24
    np.testing.assert_allclose(
        table.loc[tested, "q_value"], stats.false_discovery_control(table.loc[tested, "p_value"])
    )
    assert table.loc[table["key"] == "donor", "reason"].unique().tolist() == [
        "0 other cells, at least 2 needed",
        "0 cells, at least 2 needed",
    ]


def purity_of(scores, codes, n_categories=3, fraction=0.05, seed=0, **changes):
    return axis_purity(scores, codes, n_categories, generator=np.random.default_rng(seed), fraction=fraction, **changes)


class TestAxisPurity:
    def test_counts_the_cells_at_both_ends(self):
        rng = np.random.default_rng(0)
        scores, codes = rng.standard_normal((237, 4)), rng.integers(0, 3, 237)
        found = purity_of(scores, codes)
        assert found.n_cells == math.ceil(0.05 * 237) == 12
        for dimension in range(4):
            order = np.argsort(scores[:, dimension])
            for side, cells in enumerate((order[:12], order[-12:])):
                counts = np.bincount(codes[cells], minlength=3)
                assert found.purity[dimension, side] == counts.max() / 12
                assert counts[found.category[dimension, side]] == counts.max()
                assert found.base_rate[dimension, side] == np.mean(codes == found.category[dimension, side])

    def test_an_extreme_group_is_found_and_beats_random_cells(self):
        rng = np.random.default_rng(1)
        codes = np.repeat([0, 1, 2], [300, 80, 20])
        scores = rng.standard_normal((400, 2))
        scores[codes == 2, 0] += 8
        found = purity_of(scores, codes)
        assert found.category[0, 1] == 2
        assert found.purity[0, 1] == 1.0
        assert found.base_rate[0, 1] == 0.05
        assert found.p_value[0, 1] < 1e-20
        assert (found.p_value[1] > 0.02).all()

    def test_random_cells_reach_the_expected_maximum_share(self):
        # Exactly, by listing all ways to draw 3 cells from groups of 4, 3 and 3.
        expected = sum(
            max(a, b, 3 - a - b) / 3 * math.comb(4, a) * math.comb(3, b) * math.comb(3, 3 - a - b)
            for a in range(4)
            for b in range(4 - a)
        ) / math.comb(10, 3)
        scores = np.arange(10.0)[:, None]
        found = purity_of(scores, [0, 0, 0, 0, 1, 1, 1, 2, 2, 2], fraction=0.3, n_draws=40_000)
        assert found.expected == pytest.approx(expected, abs=0.005)
        assert found.purity.tolist() == [[1.0, 1.0]]
        # At the high end three of the three cells of group 2, in one way of 120; there are three groups.
        assert found.p_value[0, 1] == pytest.approx(3 / 120)
        # At the low end three of the four cells of group 0.
        assert found.p_value[0, 0] == pytest.approx(3 * 4 / 120)

    def test_without_order_the_p_values_are_valid(self):
        rng = np.random.default_rng(2)
        codes = np.repeat([0, 1, 2], [100, 60, 40])
        found = purity_of(rng.standard_normal((200, 400)), codes)
        assert found.purity.mean() == pytest.approx(found.expected, abs=0.02)
        for level in (0.05, 0.2, 0.5):
            assert (found.p_value <= level).mean() <= level + 0.03

    def test_ties_are_not_settled_by_position(self):
        # Half of the cells share the lowest value, as scores of a non-negative factorisation do.
        codes = np.repeat([0, 1], [60, 40])
        scores = np.where(np.arange(100) % 2 == 0, 0.0, np.arange(100.0))[:, None]
        found = purity_of(scores, codes, 2)
        assert found.purity[0, 0] == pytest.approx(0.6)
        order = np.random.default_rng(0).permutation(100)
        again = purity_of(scores[order], codes[order], 2)
        np.testing.assert_allclose(again.purity, found.purity)

    def test_turning_an_axis_round_swaps_its_ends(self):
        rng = np.random.default_rng(3)
        scores, codes = rng.standard_normal((150, 3)), rng.integers(-1, 3, 150)
        found, turned = purity_of(scores, codes), purity_of(-scores, codes)
        np.testing.assert_array_equal(found.purity, turned.purity[:, ::-1])
        np.testing.assert_array_equal(found.p_value, turned.p_value[:, ::-1])

    def test_fraction_and_labels_are_checked(self):
        with pytest.raises(ValueError, match="fraction"):
            purity_of(np.zeros((4, 1)), np.zeros(4, dtype=int), fraction=0.6)
        with pytest.raises(ValueError, match="no cell has a category"):
            purity_of(np.zeros((4, 1)), np.full(4, -1))

    def test_table_names_ends_and_populations(self):
        rng = np.random.default_rng(4)
        scores, codes = rng.standard_normal((100, 2)), rng.integers(0, 3, 100)
        found = {replicate: purity_of(scores[replicate:], codes[replicate:]) for replicate in (0, 5)}
        table = axis_purity_table(found, ["a", "b", "c"])
        assert len(table) == 2 * 2 * 2
        row = table[(table["replicate"] == 5) & (table["dimension"] == 1) & (table["end"] == "high")]
        assert row["purity"].item() == found[5].purity[1, 1]
        assert row["population"].item() == "abc"[found[5].category[1, 1]]
        assert row["base_rate"].item() == found[5].base_rate[1, 1]
