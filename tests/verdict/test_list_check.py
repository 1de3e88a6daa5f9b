"""Somebody's lists held against replicates: planted genes hold and beat the floor, random ones do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.verdict.test_confirmation import MARKERS, N_GENES, NAMES, PROGRAM, halves, scored, simulated

from scballast.data.gene_match import Match
from scballast.verdict.confirmation import confirm
from scballast.verdict.list_check import N_RANDOM, ListCheck, check_lists, random_genes
from scballast.verdict.list_genes import list_genes_table, missed_genes

GENES = [f"gene{gene}" for gene in range(N_GENES)]
K = int(MARKERS.sum())


@pytest.fixture(scope="module")
def cells() -> Any:
    return simulated(1, planted=True)


@pytest.fixture(scope="module")
def score_set(cells: Any) -> Any:
    return scored(cells, halves(cells))


def others(seed: int = 0) -> np.ndarray[Any, Any]:
    """Return genes without any signal, as many as were planted."""
    return np.random.default_rng(seed).choice(np.arange(50, N_GENES), K, replace=False)


def checked(cells: Any, score_set: Any, lists: dict[str, Any]) -> ListCheck:
    return check_lists(lists, score_set, cells, halves(cells), seed=0)


def row(check: ListCheck, population: str, estimand: str) -> Any:
    table = check.summary
    return table[(table["population"] == population) & (table["estimand"] == estimand)].iloc[0]


def test_planted_lists_hold_in_their_own_reading_alone(cells: Any, score_set: Any) -> None:
    check = checked(cells, score_set, {"A": np.flatnonzero(MARKERS)})
    marker, program = row(check, "A", "marker"), row(check, "A", "program")
    assert marker["verdict"] == "holds"
    assert marker["confirmed"] > 0.95
    assert 0.7 < marker["lower"] <= marker["confirmed"]
    assert marker["floor"] < 0.3
    assert program["verdict"].startswith("no better than")
    check = checked(cells, score_set, {"A": np.flatnonzero(PROGRAM)})
    marker, program = row(check, "A", "marker"), row(check, "A", "program")
    assert program["verdict"] == "holds"
    assert program["confirmed"] > 0.9
    assert program["floor"] < 0.3
    assert marker["verdict"].startswith("no better than")


def test_random_lists_and_lists_of_other_populations_do_not_hold(cells: Any, score_set: Any) -> None:
    lists = {"A": others(), "B": np.flatnonzero(MARKERS), "C": others(1)}
    check = checked(cells, score_set, lists)
    for population in NAMES:
        for estimand in ("marker", "program"):
            found = row(check, population, estimand)
            assert found["verdict"] != "holds", found
    # The planted genes are A's: as B's list they make a floor there that A's own random list cannot pass.
    here = row(check, "A", "marker")
    assert here["floor"] >= here["others"] > 0.4
    assert here["verdict"] == "no better than the lists of other populations"


def test_a_method_is_tested_as_in_the_confirmation_table(cells: Any, score_set: Any) -> None:
    check = checked(cells, score_set, {"A": np.flatnonzero(MARKERS)})
    table = confirm(score_set, cells, halves(cells), K, seed=0).summary
    own = table[table["population"] == "A"].set_index("method")
    for found in check.methods.itertuples():
        assert found.confirmed == pytest.approx(own.loc[found.method, "confirmed"], abs=1e-12)
        assert found.confirmed_lower == pytest.approx(own.loc[found.method, "lower"], abs=1e-12)
    best = row(check, "A", "marker")
    assert (best["method"], best["method_confirmed"]) == ("t", pytest.approx(own.loc["t", "confirmed"]))


def test_agreement_is_counted_gene_by_gene(cells: Any, score_set: Any) -> None:
    listed = np.flatnonzero(MARKERS)
    check = checked(cells, score_set, {"A": listed})
    for found in check.methods.itertuples():
        by_replicate = [
            len({*np.argsort(ranks)[:K].tolist()} & {*listed.tolist()}) / K
            for ranks in score_set.ranks[found.method][:, 0]
        ]
        assert found.overlap == pytest.approx(np.mean(by_replicate))
        half = stats.t.ppf(0.975, len(by_replicate) - 1) * stats.sem(by_replicate)
        assert found.lower == pytest.approx(max(0.0, np.mean(by_replicate) - half))
        assert found.chance == pytest.approx(K / N_GENES)
    agrees = check.methods.set_index("method")["agrees"]
    assert agrees["t"]
    assert not agrees[["noise", "noise_too", "pca"]].any()


def test_short_and_empty_lists_say_why(cells: Any, score_set: Any) -> None:
    check = checked(cells, score_set, {"A": np.array([3]), "B": np.zeros(0, dtype=int)})
    assert row(check, "A", "program")["reason"] == "one gene is no program: two vary together"
    assert row(check, "A", "marker")["n_genes"] == 1
    assert {row(check, "B", estimand)["reason"] for estimand in ("marker", "program")} == {
        "none of its genes is in the data"
    }
    assert (check.summary.loc[check.summary["population"] == "B", "verdict"] == "not tested").all()


def test_half_of_all_genes_leave_no_random_list(cells: Any, score_set: Any) -> None:
    found = row(checked(cells, score_set, {"A": np.arange(N_GENES - 10)}), "A", "marker")
    assert found["verdict"].startswith("no floor")
    assert np.isnan(found["floor"])


def test_random_genes_are_others_as_abundant() -> None:
    rng = np.random.default_rng(0)
    abundance = rng.lognormal(0.0, 1.0, 1000)
    own = np.argsort(-abundance)[:40]
    drawn = np.stack([random_genes(own, abundance, 1000, rng) for _ in range(N_RANDOM)])
    assert all(np.unique(genes).size == own.size for genes in drawn)
    assert not np.isin(drawn, own).any()
    rank = stats.rankdata(-abundance)
    assert rank[drawn].max() <= 40 + 40 + 50
    assert len({tuple(sorted(genes)) for genes in drawn}) == N_RANDOM
    middle = np.argsort(-abundance)[480:520]
    assert abs(rank[random_genes(middle, abundance, 1000, rng)].mean() - 500) < 25


def test_every_gene_is_told_what_became_of_it(cells: Any, score_set: Any) -> None:
    listed = [0, 3, 60, 61]
    check = checked(cells, score_set, {"A": np.array(listed)})
    matches = [*(Match(f"G{gene}", gene) for gene in listed), Match("CD3X", None, "not in the data")]
    table = list_genes_table({"A": matches}, check.q_values, cells, NAMES, GENES, GENES)
    assert list(table["confirmed_marker"]) == [True, True, False, False, False]
    assert list(table["gene"]) == ["gene0", "gene3", "gene60", "gene61", ""]
    np.testing.assert_array_equal(table["q_marker"].to_numpy()[:4], check.q_values["marker", "A"])
    assert table["why"].iloc[4] == "not in the data"
    assert all(table["why"].iloc[2:4])
    assert not any(table["why"].iloc[:2])
    assert table["log2_fold_change"].iloc[0] > 0.5
    answer = table[["population", "gene"]].iloc[[0, 2]].assign(estimand="marker")
    answer.loc[len(answer)] = ["A", "gene7", "marker"]
    answer.loc[len(answer) + 1] = ["B", "gene8", "marker"]
    assert list(missed_genes(table, answer)["gene"]) == ["gene7"]
