from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from scballast.data.simulate import Truth
from scballast.methods.method import NamedMethod
from scballast.verdict.score_set import rank_scores
from scballast.verdict.truth import average_precision, precision_at_k, truth_table

SCORES = hnp.arrays(np.float64, st.integers(2, 40), elements=st.integers(-4, 4).map(float))


@settings(deadline=None)
@given(scores=SCORES, data=st.data())
def test_average_precision_agrees_with_scikit_learn_under_ties(scores, data):
    from sklearn.metrics import average_precision_score

    positives = data.draw(hnp.arrays(bool, scores.shape).filter(np.any))
    expected = average_precision_score(positives, scores)
    assert average_precision(scores, positives) == pytest.approx(expected, abs=1e-12)


@given(scores=SCORES, data=st.data())
def test_average_precision_does_not_depend_on_the_order_of_genes(scores, data):
    positives = data.draw(hnp.arrays(bool, scores.shape).filter(np.any))
    order = data.draw(st.permutations(range(scores.size)))
    assert average_precision(scores[order], positives[order]) == average_precision(scores, positives)


def test_average_precision_by_hand():
    # Planted at ranks 1 and 3: (1/1 + 2/3) / 2.
    assert average_precision([4.0, 3.0, 2.0, 1.0], [1, 0, 1, 0]) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision([4.0, 3.0, 2.0, 1.0], [1, 1, 0, 0]) == 1.0
    # All tied: every gene enters at once, precision is the share of planted genes.
    assert average_precision(np.zeros(8), np.arange(8) < 2) == 0.25


def test_genes_without_score_come_last():
    scores = np.array([np.nan, 2.0, -1e300, np.nan])
    assert average_precision(scores, [0, 1, 1, 0]) == 1.0
    # Both NaN genes enter together at the end, with the planted one: precision 1/4.
    assert average_precision(scores, [1, 0, 0, 0]) == 0.25


def test_random_scores_have_the_precision_of_chance():
    rng = np.random.default_rng(0)
    positives = np.arange(1000) < 80
    areas = [average_precision(rng.standard_normal(1000), positives) for _ in range(200)]
    assert np.mean(areas) == pytest.approx(0.08, abs=0.012)


def test_undefined_precisions_say_why():
    nothing_planted = average_precision([1.0, 2.0], [0, 0])
    assert np.isnan(nothing_planted)
    assert nothing_planted.reason == "no gene is planted"
    assert average_precision([np.nan, np.nan], [0, 1]).reason == "no gene has a score"
    assert precision_at_k([1, 2], [0, 0], 1).reason == "no gene is planted"
    assert precision_at_k([1, 2], [0, 1], 3).reason == "k = 3 exceeds the 2 genes"
    with pytest.raises(ValueError, match="one length"):
        average_precision([1.0, 2.0], [True])
    with pytest.raises(ValueError, match="k must be at least 1"):
        precision_at_k([1, 2], [0, 1], 0)


@given(st.permutations(range(1, 13)), st.integers(1, 12), st.integers(0, 2**12 - 1))
def test_precision_at_k_counts_planted_genes(ranks, k, bits):
    positives = np.array([(bits >> bit) & 1 for bit in range(12)], dtype=bool)
    found = precision_at_k(ranks, positives, k)
    if positives.any():
        assert found == len({g for g in range(12) if ranks[g] <= k and positives[g]}) / k
    else:
        assert np.isnan(found)


class TestTruthTable:
    N_GENES = 60

    def truth(self) -> Truth:
        rng = np.random.default_rng(1)
        marker_sets, program_sets = np.zeros((2, 3, self.N_GENES), dtype=bool)
        for row in range(3):
            marker_sets[row, row * 10 : row * 10 + 6] = True
            program_sets[row, 30 + row * 10 : 30 + row * 10 + 8] = True
        return Truth(
            populations=("c", "a", "b"),
            marker_effect=marker_sets + 0.1 * rng.standard_normal(marker_sets.shape),
            program_variance=program_sets + rng.uniform(0, 0.1, program_sets.shape),
            marker_sets=marker_sets,
            program_sets=program_sets,
        )

    def table(self, **changes):
        truth = self.truth()
        rng = np.random.default_rng(2)
        # The scored populations are in another order than the truth's, and one is missing.
        rows = [truth.populations.index(name) for name in ("a", "c")]
        scores = {
            "contrast": np.stack([truth.marker_effect[rows]] * 2),
            "spread": np.stack([np.sqrt(truth.program_variance[rows])] * 2),
            "random": rng.standard_normal((2, 2, self.N_GENES)),
            **changes,
        }
        methods = [NamedMethod("contrast", "marker"), NamedMethod("spread", "program"), NamedMethod("random", "marker")]
        genes = [f"g{gene}" for gene in range(self.N_GENES)]
        score_set = rank_scores(
            scores, methods=methods, populations=["a", "c"], genes=genes, resample_kind="subsample", seed=0
        )
        return score_set, truth, truth_table(score_set, truth, k=6)

    def test_each_estimand_is_read_against_its_own_truth_by_name_of_population(self):
        _, _, table = self.table()
        assert len(table) == 3 * 2 * 2
        exact = table[table["method"] != "random"]
        assert (exact["average_precision"] == 1.0).all()
        assert (exact["precision_at_k"] == 1.0).all()
        np.testing.assert_allclose(exact["spearman"], 1.0)
        chance = table.groupby("estimand")["chance"].unique()
        assert chance["marker"].tolist() == [6 / 60]
        assert chance["program"].tolist() == [8 / 60]

    def test_values_agree_with_the_functions_row_by_row(self):
        score_set, truth, table = self.table()
        for row in table[table["method"] == "random"].itertuples():
            position, truth_row = score_set.populations.index(row.population), truth.populations.index(row.population)
            own = score_set.scores["random"][row.replicate, position]
            assert row.average_precision == average_precision(own, truth.marker_sets[truth_row])
            ranks = score_set.ranks["random"][row.replicate, position]
            assert row.precision_at_k == precision_at_k(ranks, truth.marker_sets[truth_row], 6)
            expected = stats.spearmanr(own, truth.marker_effect[truth_row]).statistic
            assert row.spearman == pytest.approx(expected, abs=1e-12)

    def test_a_list_without_scores_keeps_its_row_and_says_so(self):
        scores = np.random.default_rng(3).standard_normal((2, 2, self.N_GENES))
        scores[1, 0] = np.nan
        _, _, table = self.table(random=scores)
        row = table[(table["method"] == "random") & (table["population"] == "a") & (table["replicate"] == 1)]
        assert row["reason"].item() == "no score"
        assert row[["average_precision", "precision_at_k", "spearman"]].isna().all(axis=None)
        assert (table.drop(index=row.index)["reason"] == "").all()

    def test_nothing_planted_leaves_the_correlation(self):
        score_set, truth, _ = self.table()
        bare = Truth(
            truth.populations,
            truth.marker_effect,
            truth.program_variance,
            np.zeros_like(truth.marker_sets),
            np.zeros_like(truth.program_sets),
        )
        table = truth_table(score_set, bare, k=6)
        assert table["average_precision"].isna().all()
        assert (table["reason"] == "no gene is planted").all()
        assert np.isfinite(table["spearman"]).all()

    def test_truths_that_do_not_fit_are_refused(self):
        score_set, truth, _ = self.table()
        other = Truth(
            ("a", "b"),
            *(
                values[:2]
                for values in (truth.marker_effect, truth.program_variance, truth.marker_sets, truth.program_sets)
            ),
        )
        with pytest.raises(ValueError, match=r"lacks the populations \['c'\]"):
            truth_table(score_set, other, k=6)
        narrow = Truth(
            truth.populations,
            *(
                values[:, :50]
                for values in (truth.marker_effect, truth.program_variance, truth.marker_sets, truth.program_sets)
            ),
        )
        with pytest.raises(ValueError, match="50 genes"):
            truth_table(score_set, narrow, k=6)
