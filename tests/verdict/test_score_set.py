"""The score set and the table that stores it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.helpers.score_set_examples import ranked, signal

from scballast.agreement.concordance import agreement_by_replicate
from scballast.agreement.ranking import rank_genes, tie_keys
from scballast.config.schema import ResampleConfig
from scballast.methods.method import NamedMethod
from scballast.verdict import tables
from scballast.verdict.score_set import ScoreSet, rank_scores, rankings_table, score_set_from_rankings
from scballast.verdict.tables import concordance_table, differences_table, stability_table


def example() -> ScoreSet:
    scores = {"contrast": signal(0, 1.0, ties=True), "t_test": signal(1, 1.0), "spread": signal(2, 1.0)}
    scores["t_test"][2, 1] = np.nan
    scores["contrast"][:, 0, :5] = np.nan  # genes without a score, in lists that have others
    return ranked(scores, program=["spread"], deterministic="t_test")


def assert_same(first: ScoreSet, second: ScoreSet) -> None:
    for field in ("genes", "methods", "populations", "resample_kind"):
        assert getattr(first, field) == getattr(second, field)
    for name in first.scores:
        np.testing.assert_array_equal(first.scores[name], second.scores[name])
        np.testing.assert_array_equal(first.ranks[name], second.ranks[name])


def test_ranks_carry_the_identity_of_their_list() -> None:
    score_set = example()
    expected = rank_genes(
        score_set.scores["contrast"][3, 2], tie_keys(score_set.genes), 0, "contrast", "population 2", 3
    )
    np.testing.assert_array_equal(score_set.ranks["contrast"][3, 2], expected)
    assert (score_set.ranks["t_test"][2, 1] == 0).all()
    np.testing.assert_array_equal(np.argwhere(~score_set.scored("t_test")), [[2, 1]])


def test_other_methods_populations_and_replicates_change_no_rank() -> None:
    whole = example()
    part = rank_scores(
        {"contrast": whole.scores["contrast"][:4, 1:]},
        methods=[NamedMethod("contrast", "marker")],
        populations=whole.populations[1:],
        genes=whole.genes,
        resample_kind="subsample",
        seed=0,
    )
    np.testing.assert_array_equal(part.ranks["contrast"], whole.ranks["contrast"][:4, 1:])


def test_the_table_has_a_row_for_each_gene_of_each_list() -> None:
    score_set = example()
    table = rankings_table(score_set)
    assert list(table.columns) == ["method", "estimand", "replicate", "population", "gene", "score", "rank"]
    assert len(table) == (3 * 6 * 3 - 1) * 80
    row = table[(table.method == "spread") & (table.replicate == 4) & (table.population == "population 1")].iloc[7]
    assert (row.estimand, row.gene) == ("program", "gene7")
    assert row.score == score_set.scores["spread"][4, 1, 7]
    assert row["rank"] == score_set.ranks["spread"][4, 1, 7]


def test_what_is_known_of_the_same_lists_is_taken_and_of_others_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {"contrast": signal(0, 1.0), "t_test": signal(1, 1.0), "spread": signal(2, 1.0), "local": signal(3, 1.0)}
    earlier = ranked({**scores, "contrast": signal(4, 1.0)}, program=["spread", "local"])
    for table in (stability_table, concordance_table, differences_table):
        table(earlier, 15)
    known = earlier.only([method for method in earlier.methods if method.name != "local"])
    score_set = ranked(scores, program=["spread", "local"], earlier=known)
    assert {name for key in score_set.agreements for name in key[1]} == {"t_test", "spread"}
    alone = ranked(scores, program=["spread", "local"])
    assert_same(score_set, alone)
    agreed: list[tuple[float, float]] = []

    def noted(first: Any, second: Any, *others: Any) -> Any:
        agreed.append((first.top.sum(), second.top.sum()))
        return agreement_by_replicate(first, second, *others)

    monkeypatch.setattr(tables, "agreement_by_replicate", noted)
    for table in (stability_table, concordance_table, differences_table):
        pd.testing.assert_frame_equal(table(score_set, 15), table(alone, 15), check_exact=True)
    n_populations, both_pairs, twice = len(alone.populations), 2, 2
    assert len(agreed) == n_populations * both_pairs * twice  # neither pair is known whole

    agreed.clear()
    again = ranked(scores, program=["spread", "local"], earlier=score_set)
    pd.testing.assert_frame_equal(concordance_table(again, 15), concordance_table(alone, 15), check_exact=True)
    assert not agreed
    pd.testing.assert_frame_equal(
        concordance_table(again, 10),
        concordance_table(ranked(scores, program=["spread", "local"]), 10),
        check_exact=True,
    )
    assert len(agreed) == n_populations * both_pairs * twice  # lists of another length


@pytest.mark.parametrize("changed", ["genes", "populations", "resample_kind"])
def test_lists_of_other_genes_populations_or_replicates_are_not_taken(changed: str) -> None:
    earlier = example()
    stability_table(earlier, 15)
    names: dict[str, Any] = {name: getattr(earlier, name) for name in ("genes", "populations", "resample_kind")}
    names[changed] = "bootstrap" if changed == "resample_kind" else names[changed][::-1]
    score_set = rank_scores(earlier.scores, methods=earlier.methods, seed=0, earlier=earlier, **names)
    assert not score_set.agreements
    assert_same(score_set, rank_scores(earlier.scores, methods=earlier.methods, seed=0, **names))


@pytest.mark.parametrize("suffix", ["memory", "parquet", "csv"])
def test_the_score_set_survives_its_table(suffix: str, tmp_path: Path) -> None:
    score_set = example()
    table = rankings_table(score_set)
    if suffix == "parquet":
        table.to_parquet(tmp_path / "rankings.parquet")
        table = pd.read_parquet(tmp_path / "rankings.parquet")
    elif suffix == "csv":
        table.to_csv(tmp_path / "rankings.csv", index=False)
        table = pd.read_csv(tmp_path / "rankings.csv", float_precision="round_trip")
    assert_same(score_set_from_rankings(table, ResampleConfig("subsample", 6), deterministic=["t_test"]), score_set)


def test_the_number_of_replicates_may_exceed_those_with_scores() -> None:
    score_set = example()
    for scores, ranks in ((score_set.scores[name], score_set.ranks[name]) for name in score_set.scores):
        scores[5], ranks[5] = np.nan, 0
    table = rankings_table(score_set)
    again = score_set_from_rankings(table, ResampleConfig("subsample", 6), deterministic=["t_test"])
    assert_same(again, score_set)


@pytest.mark.parametrize("n_genes", [127, 128, 32767, 32768])
def test_small_integers_are_large_enough(n_genes: int) -> None:
    score_set = ranked({"contrast": np.arange(n_genes, dtype=np.float32).reshape(1, 1, -1)})
    table = rankings_table(score_set)
    assert table["rank"].to_numpy()[[0, -1]].tolist() == [n_genes, 1]
    assert_same(score_set_from_rankings(table, ResampleConfig("subsample", 1)), score_set)


def test_scores_must_fit_the_names() -> None:
    scores: dict[str, Any] = {"contrast": np.zeros((2, 3, 4))}
    with pytest.raises(ValueError, match=r"contrast: expected replicate × population × gene \(2, 2, 4\)"):
        ScoreSet(tuple("abcd"), (NamedMethod("contrast", "marker"),), ("p", "q"), "seed", scores, scores)
    with pytest.raises(ValueError, match="got none"):
        ScoreSet(tuple("abcd"), (NamedMethod("contrast", "marker"),), ("p", "q", "r"), "seed", scores, {})
