"""Response genes in the tables: their floor, their confirmation, and what they are never compared with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests.helpers.response_examples import donors_example
from tests.helpers.response_lists import NULL, RESPONSE, confirmed_lists
from tests.helpers.score_set_examples import signal

from scballast.data.replicates import draw_replicates
from scballast.methods.method import RESPONSE_NULL, NamedMethod
from scballast.verdict.answer import answer_table
from scballast.verdict.answer_genes import (
    answer_genes_table,
    expression_levels,
    level_sums,
    response_levels,
    with_levels,
)
from scballast.verdict.floors import between_replicates
from scballast.verdict.score_set import ScoreSet, rank_scores
from scballast.verdict.tables import concordance_table, consensus_table, stability_table
from scballast.verdict.unseen import UnseenCells


def made_up(*, null: bool = True, all_alike: bool = True) -> ScoreSet:
    """Lists of a response that is the same in every population, and of a control of noise, beside a marker method."""
    response = signal(1, 0.3)
    if all_alike:
        response = response[:, :1] + 0.3 * np.random.default_rng(2).normal(size=response.shape)
    scores = {"response_wilcoxon": response, "wilcoxon": signal(3, 0.3)}
    methods = [RESPONSE, NamedMethod("wilcoxon", "marker")]
    if null:
        scores[RESPONSE_NULL] = np.random.default_rng(4).normal(size=response.shape)
        methods.append(NULL)
    names = [f"population {number}" for number in range(3)]
    genes = [f"gene{number}" for number in range(80)]
    return rank_scores(scores, methods=methods, populations=names, genes=genes, resample_kind="subsample", seed=0)


def test_the_floor_is_that_of_permuted_conditions_not_of_other_populations() -> None:
    table = stability_table(made_up(), 10)
    head = table[table["k"] == 10].set_index("method")
    own = head.loc["response_wilcoxon"]
    # Populations that respond alike: the lists of the others are no floor.
    assert (own["other_populations"] > 0.4).all()
    assert (own["lower"] > own["floor"]).all()
    assert (head.loc["wilcoxon", "floor"] > head.loc["wilcoxon", "other_populations"]).all()


def test_the_floor_by_hand() -> None:
    score_set = made_up()
    own, null = between_replicates(score_set, [(RESPONSE, RESPONSE), (NULL, NULL)], [10], 10, 0.98)
    control = between_replicates(score_set, [(NULL, NULL)], [10], 10, 0.98)[0][10].same
    found = own[10]
    assert found.null is not None
    np.testing.assert_array_equal(found.null, control)
    np.testing.assert_array_equal(found.different, replace(found, null=None).different)
    # First part: lists of the control in replicates without a common cell. Second: shared cells. Third: its error.
    reported = 0.9
    excess = found.same - control
    variance = ((excess - excess.mean(axis=0)) ** 2).sum() / (excess.size - excess.shape[1])
    from scipy.stats import t

    error = t.ppf(0.95, excess.size - excess.shape[1]) * np.sqrt(variance * (1 + 1 / len(excess)))
    expected = control[:, 1].mean() + max(0.0, reported - found.same[:, 1].mean()) + error
    assert found.floor(1, reported) == pytest.approx(expected)
    assert null[10].floor(1, reported) >= null[10].same[:, 1].mean()


def test_without_the_control_there_is_no_floor() -> None:
    score_set = made_up(null=False)
    table = stability_table(score_set, 10)
    table = table[table["k"] < 80]
    assert table.loc[table["method"] == "response_wilcoxon", "floor"].isna().all()
    assert table.loc[table["method"] == "wilcoxon", "floor"].notna().all()
    # A control more or less changes nothing for other estimands.
    with_control = stability_table(made_up(), 10).query("k < 80")
    columns = ["population", "k", "phi", "floor"]
    first, second = (
        one.loc[one["method"] == "wilcoxon", columns].reset_index(drop=True) for one in (table, with_control)
    )
    assert first.equals(second)


def test_response_is_compared_with_response_alone() -> None:
    table = concordance_table(made_up(), 10)
    assert set(zip(table["method_a"], table["method_b"], strict=True)) == {("response_wilcoxon", RESPONSE_NULL)}


@pytest.mark.parametrize("paired", [True, False])
def test_a_response_is_confirmed_in_other_donors_and_its_absence_is_not(paired: bool) -> None:
    found, *_ = confirmed_lists(donors_example(1, paired=paired, n_donors=24, effect=1.5), "donor")
    summary = found.summary.set_index("method")
    assert summary.loc["response_wilcoxon", "confirmed"] > 0.9
    assert summary.loc[RESPONSE_NULL, "confirmed"] < 0.2


@pytest.mark.parametrize("paired", [True, False])
def test_lists_under_conditions_dealt_to_donors_have_the_error_rate_that_they_say(paired: bool) -> None:
    genes = [confirmed_lists(donors_example(seed, paired=paired), "donor", seed, 25)[0].genes for seed in range(20)]
    tested = pd.concat(genes).dropna(subset="p_value")
    # 900 tests or more of genes that were chosen in other donors, of the method and of its control.
    assert 0.03 < (tested.loc[tested["method"] == RESPONSE.name, "p_value"] <= 0.05).mean() < 0.07
    assert 0.03 < (tested.loc[tested["method"] == NULL.name, "p_value"] <= 0.05).mean() < 0.07


def test_a_response_is_confirmed_in_other_cells_of_the_same_donors() -> None:
    found, *_ = confirmed_lists(donors_example(2, paired=True, n_donors=4, effect=1.0, preparation_sd=0.0), "subsample")
    summary = found.summary.set_index("method")
    assert summary.loc["response_wilcoxon", "confirmed"] > 0.9
    assert summary.loc[RESPONSE_NULL, "confirmed"] < 0.2
    assert summary["reason"].eq("").all()


def test_lists_under_permuted_conditions_are_tested_under_them() -> None:
    found, _, cells = confirmed_lists(donors_example(5, paired=True, n_donors=4, effect=1.0), "subsample")
    replicates = draw_replicates("subsample", 2, cells.codes, ("A",), seed=0)
    for name, conditions in (("response_wilcoxon", cells.conditions), (RESPONSE_NULL, cells.null_conditions)):
        for row, replicate in enumerate(replicates):
            genes = np.flatnonzero(~np.isnan(found.p_values[name][row, 0]))
            unseen = UnseenCells(replace(cells, conditions=conditions), replicate, ("A",), 0)
            expected = unseen.response_test(0, genes).p_value
            np.testing.assert_array_equal(found.p_values[name][row, 0, genes], expected)


def test_donors_with_one_condition_each_are_not_tested_in_their_own_cells() -> None:
    found, score_set, _ = confirmed_lists(donors_example(3, paired=False, effect=1.0), "subsample")
    assert found.summary["confirmed"].isna().all()
    words = "no donor (or batch) has unseen cells of both conditions"
    assert found.summary["reason"].tolist() == [words, words]
    stability, concordance = stability_table(score_set, 20), concordance_table(score_set, 20)
    answer = answer_table(stability, concordance, found.summary, top_k=20)
    assert answer["method"].tolist() == ["none"]
    assert words in answer["reason"].item()


def test_the_genes_of_an_answer_come_with_both_conditions() -> None:
    example = donors_example(4, paired=True, n_donors=24, effect=1.5)
    found, score_set, cells = confirmed_lists(example, "donor")
    answer = answer_table(stability_table(score_set, 20), concordance_table(score_set, 20), found.summary, top_k=20)
    lists = consensus_table(score_set, 20, found.q_values)
    consensus = with_levels(lists, cells, level_sums(cells, cells.codes, 1), ("A",), score_set.genes, {})
    table = answer_genes_table(answer, consensus)
    assert answer["method"].tolist() == ["response_wilcoxon"]
    up = table[table["gene"].isin([f"gene{number}" for number in range(20)])]
    assert (up["log2_fold_change"] > 0.5).all()
    shares = 1e4 / example.total_counts[:, None] * example.counts.toarray()
    number = int(up["gene"].iloc[0].removeprefix("gene"))
    treated = example.conditions == 1
    assert up["mean_in"].iloc[0] == pytest.approx(shares[treated, number].mean(), rel=1e-5)
    assert up["mean_out"].iloc[0] == pytest.approx(shares[~treated, number].mean(), rel=1e-5)
    assert up["pct_in"].iloc[0] == pytest.approx(100 * (shares[treated, number] > 0).mean())
    assert set(response_levels(cells, 0)) == set(expression_levels(level_sums(cells, cells.codes, 1), 0))
