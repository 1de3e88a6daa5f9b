"""Confirmation of whole score sets: planted genes hold in unseen cells, and what is not there does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

from scballast.agreement.multiplicity import adaptive_q_values
from scballast.agreement.residuals import pearson_residuals
from scballast.data.replicates import Replicate, draw_replicates
from scballast.methods.method import NamedMethod
from scballast.verdict.confirmation import Confirmation, confirm
from scballast.verdict.score_set import ScoreSet, rank_scores
from scballast.verdict.unseen import Cells

Array = np.ndarray[Any, Any]
N_GENES, TOP_K = 300, 25
NAMES = ["A", "B", "C"]
MARKERS = np.arange(N_GENES) < 25  # of A
PROGRAM = (np.arange(N_GENES) >= 25) & (np.arange(N_GENES) < 50)  # within A


def simulated(seed: int, *, planted: bool) -> Cells:
    rng = np.random.default_rng(seed)
    codes = np.repeat([0, 1, 2, -1], [160, 160, 60, 10])
    log_rate = np.tile(rng.normal(0.0, 0.7, N_GENES), (codes.size, 1))
    if planted:
        log_rate += 0.8 * np.outer(codes == 0, MARKERS)
        log_rate += 0.7 * np.outer((codes == 0) * rng.standard_normal(codes.size), PROGRAM)
    rates = np.exp(log_rate) * rng.lognormal(0.0, 0.4, (codes.size, 1))
    counts = rng.poisson(rates).astype(np.float32)
    return Cells(sparse.csr_matrix(counts), counts.sum(axis=1, dtype=float), codes)


def scored(cells: Cells, replicates: tuple[Replicate, ...]) -> ScoreSet:
    """First principal component within a population, a t statistic, and noise for either estimand."""
    shape = (len(replicates), 3, N_GENES)
    scores = {name: np.full(shape, np.nan) for name in ("pca", "t", "noise", "noise_too")}
    for row, replicate in enumerate(replicates):
        rng = np.random.default_rng(row)
        counts, codes = cells.counts[replicate.cells], cells.codes[replicate.cells]
        logged = np.log1p(counts.toarray() / cells.total_counts[replicate.cells][:, None] * 1e3)
        for population in range(3):
            inside = codes == population
            residuals = pearson_residuals(counts[np.flatnonzero(inside)])
            component = np.linalg.svd(residuals - residuals.mean(axis=0), full_matrices=False)[2][0]
            scores["pca"][row, population] = np.abs(component)
            scores["t"][row, population] = stats.ttest_ind(logged[inside], logged[~inside]).statistic
            scores["noise"][row, population] = rng.standard_normal(N_GENES)
            scores["noise_too"][row, population] = rng.standard_normal(N_GENES)
    methods = [
        NamedMethod("pca", "program"),
        NamedMethod("noise", "program"),
        NamedMethod("t", "marker"),
        NamedMethod("noise_too", "marker"),
    ]
    genes = [f"gene{gene}" for gene in range(N_GENES)]
    kind = {"methods": methods, "populations": NAMES, "genes": genes, "resample_kind": "subsample", "seed": 0}
    return rank_scores(scores, **kind)


def halves(cells: Cells, n_replicates: int = 6) -> tuple[Replicate, ...]:
    return draw_replicates("subsample", n_replicates, cells.codes, NAMES, seed=0)


def confirmed(planted: bool, seed: int = 1) -> tuple[ScoreSet, Confirmation]:
    cells = simulated(seed, planted=planted)
    replicates = halves(cells)
    score_set = scored(cells, replicates)
    return score_set, confirm(score_set, cells, replicates, TOP_K, seed=0)


@pytest.fixture(scope="module")
def planted() -> tuple[ScoreSet, Confirmation]:
    return confirmed(planted=True)


def shares(found: Confirmation, column: str = "confirmed") -> dict[tuple[str, str], float]:
    table = found.summary
    return dict(zip(zip(table["population"], table["method"], strict=True), table[column], strict=True))


def test_planted_genes_hold(planted: tuple[ScoreSet, Confirmation]) -> None:
    score_set, found = planted
    confirmed = shares(found)
    for method, truth in (("pca", PROGRAM), ("t", MARKERS)):
        ranks = score_set.ranks[method][:, 0]
        precision = np.mean([truth[row <= TOP_K].mean() for row in ranks])
        assert precision > 0.8
        assert confirmed["A", method] == pytest.approx(precision, abs=0.07)
        assert 0.5 < shares(found, "lower")["A", method] <= max(truth[row <= TOP_K].mean() for row in ranks)
        assert shares(found, "pi")["A", method] == pytest.approx(precision, abs=0.2)
    others = [value for (population, method), value in confirmed.items() if population != "A" and method == "pca"]
    assert max(others) < 0.1
    assert confirmed["A", "noise"] < 0.15


def test_populations_side_by_side_have_the_p_values_of_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = simulated(3, planted=True)
    replicates = halves(cells, 2)
    score_set = scored(cells, replicates)
    found = []
    for n_threads in ("1", "3", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", n_threads)
        if len(found) < 2:
            cells.known_foreign.clear()
        found.append(confirm(score_set, cells, replicates, TOP_K, seed=0))
        if len(found) == 2:  # what is known of the cells is not computed again
            monkeypatch.setattr("scballast.verdict.unseen.foreign_share", None)
    assert len(cells.known_foreign) == 2 * len(NAMES), "what one half has seen the other has not"
    for other in found[1:]:
        pd.testing.assert_frame_equal(found[0].genes, other.genes)
        for name, p_values in found[0].p_values.items():
            np.testing.assert_array_equal(p_values, other.p_values[name])


def test_what_is_not_there_is_confirmed_in_the_same_cells_only() -> None:
    """Fails when lists are tested in the cells that they were found in."""
    cells = simulated(2, planted=False)
    replicates = halves(cells)
    score_set = scored(cells, replicates)
    unseen = shares(confirm(score_set, cells, replicates, TOP_K, seed=0))
    same = [replace(replicate, heldout=replicate.cells) for replicate in replicates]
    seen = shares(confirm(score_set, cells, same, TOP_K, seed=0))
    assert max(unseen.values()) < 0.1
    for population in NAMES:
        for method in ("pca", "t"):
            assert seen[population, method] > 0.6


def test_genes_and_summary_agree(planted: tuple[ScoreSet, Confirmation]) -> None:
    score_set, found = planted
    assert list(found.genes.columns) == [
        "population", "estimand", "method", "replicate", "gene", "p_value", "q_value",
    ]  # fmt: skip
    lists = found.genes.groupby(["population", "method", "replicate"])
    assert (lists.size() == TOP_K).all()
    for (population, method), rows in found.genes.groupby(["population", "method"]):
        by_list = [(q["q_value"] <= 0.05).mean() for _, q in rows.groupby("replicate")]
        assert shares(found)[population, method] == pytest.approx(np.mean(by_list))
    one = found.genes[(found.genes["method"] == "pca") & (found.genes["population"] == "A")]
    first = one[one["replicate"] == 0]
    np.testing.assert_allclose(first["q_value"], adaptive_q_values(first["p_value"]))
    ranks = dict(zip(score_set.genes, score_set.ranks["pca"][0, 0], strict=True))
    assert [ranks[gene] for gene in first["gene"]] == list(range(1, TOP_K + 1))
    assert (found.summary["n_cells_unseen"].isin([80, 30])).all()


def test_genes_are_confirmed_over_replicates(planted: tuple[ScoreSet, Confirmation]) -> None:
    _, found = planted
    for method, truth in (("pca", PROGRAM), ("t", MARKERS)):
        called = found.q_values[method][0] <= 0.05
        assert called[truth].mean() > 0.8
        assert called[~truth].sum() <= 0.1 * called.sum()
    assert not (found.q_values["noise"][1] <= 0.05).any()


def test_too_few_unseen_cells_say_so() -> None:
    cells = simulated(3, planted=True)
    replicates = tuple(replace(r, heldout=r.heldout[cells.codes[r.heldout] != 2]) for r in halves(cells, 2))
    found = confirm(scored(cells, replicates), cells, replicates, TOP_K, seed=0).summary
    small = found[found["population"] == "C"]
    assert small["confirmed"].isna().all()
    assert small["reason"].str.contains("too few unseen cells").all()
    assert (found.loc[found["population"] != "C", "reason"] == "").all()


def test_a_list_without_scores_says_so() -> None:
    cells = simulated(3, planted=True)
    replicates = halves(cells, 2)
    score_set = scored(cells, replicates)
    ranks = {name: values.copy() for name, values in score_set.ranks.items()}
    ranks["pca"][:, 1] = 0
    found = confirm(replace(score_set, ranks=ranks), cells, replicates, TOP_K, seed=0).summary
    row = found[(found["population"] == "B") & (found["method"] == "pca")].iloc[0]
    assert row["reason"] == "no replicate has a score"
    assert np.isnan(row["confirmed"])


def test_what_was_tested_before_is_not_tested_again(planted: tuple[ScoreSet, Confirmation]) -> None:
    score_set, whole = planted
    cells = simulated(1, planted=True)
    known = {name: whole.p_values[name] for name in ("pca", "noise_too")}
    again = confirm(score_set, cells, halves(cells), TOP_K, seed=0, known=known)
    for name, values in whole.p_values.items():
        np.testing.assert_array_equal(again.p_values[name], values)
        assert (again.p_values[name] is values) == (name in known)
    pd.testing.assert_frame_equal(again.summary, whole.summary)
    pd.testing.assert_frame_equal(again.genes, whole.genes)
