"""The floor of an index: what it shows between lists that have no signal of one population in common.

It has two parts.

*Lists of different populations.* Abundant and variable genes recur in every list, so even an index corrected for
chance flatters. This part is the same index between lists of different populations, taken between replicates that
share no cell.

*Shared cells.* Replicates 2i and 2i+1 of ``subsample`` and ``donor`` share no cell, any two others do, and the
methods of one replicate see the same cells. Noise that was sampled once is then found again: on random labels the
top 50 of a t statistic repeat themselves with Φ = 0.14, all of it from cells in common. This part is the index as it
is reported less the same index between replicates without a common cell, or 0 where that is larger.

``seed`` and ``bootstrap`` have no replicates without common cells: there, neighbouring replicates give the first
part, and the second is unknown and left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scballast.concordance import standardised
from scballast.overlap import concordance_curve_weights, rank_biased_weights, shared_weight
from scballast.ranking import BoolArray, FloatArray, IntArray, rank_spans, top_k
from scballast.score_set import Method, ScoreSet

KINDS_WITH_DISJOINT_PAIRS = frozenset({"subsample", "donor"})

Index = str | int
"""``"rbo"``, ``"aucc"``, ``"spearman"``, or a k: the share of the top k in common."""


@dataclass(frozen=True)
class BetweenReplicates:
    """One index between lists of different replicates, by population; NaN where no lists can be compared.

    Attributes
    ----------
    same : (n_populations,) float
        Mean between lists of the population itself.
    different : (n_populations,) float
        Mean between lists of the population and those of the others.
    disjoint
        The replicates share no cell.
    """

    same: FloatArray
    different: FloatArray
    disjoint: bool

    def floor(self, position: int, reported: float) -> float:
        """Floor of the population's reported index; NaN where that is undefined."""
        if math.isnan(reported):
            return math.nan
        shared = reported - float(self.same[position]) if self.disjoint else 0.0
        return float(self.different[position]) + (0.0 if math.isnan(shared) else max(0.0, shared))

    def without_shared_cells(self, position: int) -> float:
        """Mean over replicates without a common cell; NaN where there are none."""
        return float(self.same[position]) if self.disjoint else math.nan

    def corrected(self, k: int, n_genes: int) -> BetweenReplicates:
        """Turn the share of the top k in common into Kuncheva's index; NaN where k leaves no gene out."""
        if not 0 < k < n_genes:
            nothing = np.full_like(self.same, np.nan)
            return BetweenReplicates(nothing, nothing, self.disjoint)
        chance = k / n_genes
        same, different = ((share - chance) / (1.0 - chance) for share in (self.same, self.different))
        return BetweenReplicates(same, different, self.disjoint)


def between_replicates(
    score_set: ScoreSet, pairs: Sequence[tuple[Method, Method]], ks: Sequence[int], curve_k: int, p: float
) -> list[dict[Index, BetweenReplicates]]:
    """Compare the lists of pairs of methods between replicates.

    Parameters
    ----------
    score_set
        Scores and ranks.
    pairs
        Methods to compare; a method with itself for its stability.
    ks
        Lengths of the top lists.
    curve_k
        Length of the lists for the area under the concordance curve.
    p
        Persistence of rank-biased overlap.

    Returns
    -------
    list of dict
        For each pair, by index.
    """
    replicates, disjoint = _replicates_to_compare(score_set.n_replicates, score_set.resample_kind)
    sums = [_Sums(len(score_set.populations)) for _ in pairs]
    names = {method.name for pair in pairs for method in pair}
    for one, other in replicates:
        lists = {
            (name, replicate): _Lists.of(score_set, name, replicate, ks, curve_k, p)
            for name in names
            for replicate in {one, other}
        }
        for (first, second), total in zip(pairs, sums, strict=True):
            total.add(lists[first.name, one], lists[second.name, other])
            if first.name != second.name and one != other:
                total.add(lists[first.name, other], lists[second.name, one])
    indices: tuple[Index, ...] = (*ks, "rbo", "aucc", "spearman")
    return [{index: total.means(index, disjoint=disjoint) for index in indices} for total in sums]


def _replicates_to_compare(n_replicates: int, resample_kind: str) -> tuple[list[tuple[int, int]], bool]:
    """Pairs of replicates without a common cell, or else each replicate and the next."""
    if n_replicates > 1 and resample_kind in KINDS_WITH_DISJOINT_PAIRS:
        return [(even, even + 1) for even in range(0, n_replicates - 1, 2)], True
    return [(one, (one + 1) % n_replicates) for one in range(n_replicates if n_replicates != 2 else 1)], False


@dataclass(frozen=True)
class _Lists:
    """One method's lists of all populations in one replicate, as vectors whose products are the indices."""

    selected: Mapping[int, FloatArray]  # (population, gene), 1 / sqrt(k) in the top k
    rank_biased: FloatArray  # (population, gene)
    curve: FloatArray  # (population, gene)
    midranks: FloatArray  # (population, gene), mean 0 and length 1; 0 where all are tied
    beyond: float
    scored: BoolArray  # (population,)
    ordered: BoolArray  # (population,): not all tied

    @staticmethod
    def of(score_set: ScoreSet, name: str, replicate: int, ks: Sequence[int], curve_k: int, p: float) -> _Lists:
        scored = score_set.scored(name)[replicate]
        # Lists that are not there get any rank: they are left out of the sums.
        ranks: IntArray = np.maximum(score_set.ranks[name][replicate], 1)
        n_genes = ranks.shape[1]
        weights = rank_biased_weights(n_genes, p)
        curve = concordance_curve_weights(min(max(curve_k, 1), n_genes))
        midranks = standardised(rank_spans(score_set.scores[name][replicate]).midranks)
        return _Lists(
            selected={k: top_k(ranks, k) / math.sqrt(max(k, 1)) for k in ks},
            rank_biased=weights.from_depth(ranks),
            curve=curve.from_depth(ranks),
            midranks=np.nan_to_num(midranks),
            beyond=weights.beyond,
            scored=scored,
            ordered=scored & ~np.isnan(midranks[:, 0]),
        )


class _Sums:
    """Running sums of each index over pairs of replicates, population × population."""

    def __init__(self, n_populations: int) -> None:
        self._shape = (n_populations, n_populations)
        self._totals: dict[Index, FloatArray] = {}
        self._counts: dict[Index, FloatArray] = {}

    def add(self, first: _Lists, second: _Lists) -> None:
        both = np.outer(first.scored, second.scored)
        for k, selected in first.selected.items():
            self._add(k, selected @ second.selected[k].T, both)
        self._add("rbo", shared_weight(first.rank_biased, second.rank_biased) + first.beyond, both)
        self._add("aucc", shared_weight(first.curve, second.curve), both)
        self._add("spearman", first.midranks @ second.midranks.T, np.outer(first.ordered, second.ordered))

    def _add(self, index: Index, values: FloatArray, counts: BoolArray) -> None:
        self._totals.setdefault(index, np.zeros(self._shape))
        self._counts.setdefault(index, np.zeros(self._shape))
        self._totals[index] += values * counts
        self._counts[index] += counts

    def means(self, index: Index, *, disjoint: bool) -> BetweenReplicates:
        total, count = self._totals.get(index, np.zeros(self._shape)), self._counts.get(index, np.zeros(self._shape))
        return BetweenReplicates(
            same=_divide(total.diagonal(), count.diagonal()),
            different=_divide(_others(total), _others(count)),
            disjoint=disjoint,
        )


def _others(matrix: FloatArray) -> FloatArray:
    """Row and column sums without the diagonal: a pair of populations counts in either order."""
    sums: FloatArray = matrix.sum(axis=0) + matrix.sum(axis=1) - 2.0 * matrix.diagonal()
    return sums


def _divide(total: FloatArray, count: FloatArray) -> FloatArray:
    mean: FloatArray = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0.5)
    return mean
