"""Ranks, selections and ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from tests.helpers.agreement_oracles import nogueira_stability

from scballast.agreement.ranking import rank_genes, rank_spans, tie_keys, top_k

SCORES = st.lists(st.one_of(st.integers(-3, 3).map(float), st.just(np.nan)), min_size=1, max_size=25)


def names(n_genes: int) -> list[str]:
    return [f"gene{gene}" for gene in range(n_genes)]


def test_tie_keys_are_the_same_on_every_machine() -> None:
    # Digests from GNU b2sum -l 64; stored rankings depend on them.
    assert tie_keys(["CD3D", "MS4A1", "β2"]).tolist() == [
        int.from_bytes(bytes.fromhex(digest), "little")
        for digest in ("44351daed2b7a64c", "a2f9bd8383893a03", "7d2eafbf6e7474d1")
    ]


def test_untied_scores_rank_in_descending_order() -> None:
    ranks = rank_genes([0.5, 2.0, -1.0, 7.0], tie_keys(names(4)), 0, "contrast")
    assert ranks.tolist() == [3, 2, 4, 1]


@given(SCORES, st.integers(0, 5))
def test_ranks_lie_within_the_spans_and_use_each_rank_once(scores: list[float], replicate: int) -> None:
    ranks = rank_genes(scores, tie_keys(names(len(scores))), 0, "m", "p", replicate)
    spans = rank_spans(scores)
    assert sorted(ranks) == list(range(1, len(scores) + 1))
    assert np.all((spans.top <= ranks) & (ranks <= spans.bottom))


@given(SCORES)
def test_spans_are_scipys_minimum_and_maximum_ranks(scores: list[float]) -> None:
    descending = -np.where(np.isnan(scores), -np.inf, scores)
    spans = rank_spans(scores)
    np.testing.assert_array_equal(spans.top, rankdata(descending, "min"))
    np.testing.assert_array_equal(spans.bottom, rankdata(descending, "max"))
    np.testing.assert_array_equal(spans.midranks, rankdata(descending, "average"))


def test_spans_of_a_stack_are_those_of_each_row() -> None:
    scores = np.random.default_rng(0).integers(0, 6, (3, 4, 30)).astype(float)
    stack = rank_spans(scores)
    for row in np.ndindex(3, 4):
        np.testing.assert_array_equal(stack.top[row], rank_spans(scores[row]).top)
        np.testing.assert_array_equal(stack.bottom[row], rank_spans(scores[row]).bottom)


@given(SCORES, st.randoms(use_true_random=False))
def test_gene_order_changes_no_rank(scores: list[float], random: object) -> None:
    order = list(range(len(scores)))
    random.shuffle(order)  # type: ignore[attr-defined]
    genes = names(len(scores))
    ranks = rank_genes(scores, tie_keys(genes), 0, "m", "p", 1)
    shuffled = rank_genes([scores[i] for i in order], tie_keys([genes[i] for i in order]), 0, "m", "p", 1)
    np.testing.assert_array_equal(shuffled, ranks[order])


def test_genes_without_a_score_come_last() -> None:
    scores = [np.nan, -np.inf, np.nan, 1.0, -5.0]
    ranks = rank_genes(scores, tie_keys(names(5)), 0)
    assert ranks[[3, 4, 1]].tolist() == [1, 2, 3]
    assert sorted(ranks[[0, 2]]) == [4, 5]


@pytest.mark.parametrize("part", [0, 1, 2, 3])
def test_each_part_of_the_identity_breaks_ties_anew(part: int) -> None:
    keys = tie_keys(names(200))
    identity: list[int | str] = [0, "contrast", "B cells", 3]
    other = identity.copy()
    other[part] = 1 if isinstance(other[part], int) else f"{other[part]}*"
    first, second = (rank_genes(np.zeros(200), keys, *of) for of in (identity, other))
    assert np.abs(np.corrcoef(first, second)[0, 1]) < 0.25


def test_a_score_without_information_is_not_stable() -> None:
    # By position this would be 1.
    keys = tie_keys(names(500))
    selections = np.stack([top_k(rank_genes(np.zeros(500), keys, 0, "m", "p", i), 50) for i in range(20)])
    assert abs(nogueira_stability(selections)) < 0.02


def test_ties_at_the_boundary_of_the_top_are_spread_over_all_tied_genes() -> None:
    scores = np.r_[np.full(10, 2.0), np.full(90, 1.0)]
    keys = tie_keys(names(100))
    selections = np.stack([top_k(rank_genes(scores, keys, 0, "m", "p", i), 30) for i in range(400)])
    assert selections[:, :10].all()
    frequency = selections[:, 10:].mean(axis=0)
    assert abs(frequency.mean() - 20 / 90) < 1e-12
    assert frequency.max() < 0.33  # 5 standard errors
    assert frequency.min() > 0.11


def test_top_k_selects_the_best() -> None:
    ranks = np.array([[3, 1, 2, 4], [1, 2, 3, 4]])
    np.testing.assert_array_equal(top_k(ranks, 2), [[False, True, True, False], [True, True, False, False]])
    assert not top_k(ranks, 0).any()
    assert top_k(ranks, 9).all()
    with pytest.raises(ValueError, match="at least 0, got -1"):
        top_k(ranks, -1)


def test_scores_must_fit_the_genes() -> None:
    with pytest.raises(ValueError, match="one length"):
        rank_genes([1.0, 2.0], tie_keys(names(3)))
