r"""The floor of an index: the most that lists without a signal of the population itself show.

It is the sum of three parts.

*Lists of different populations.* Abundant and variable genes recur in every list, so even an index corrected for
chance flatters. This part is the same index between lists of different populations, taken between replicates that
share no cell.

*Shared cells.* Replicates 2i and 2i+1 of ``subsample`` and ``donor`` share no cell, any two others do, and the
methods of one replicate see the same cells. Noise that was sampled once is then found again: with labels at random
the top 50 of a Wilcoxon test repeat themselves with Φ = 0.18, all of it from cells in common
(``tests/benchmarks/bench_null_split.py``). This part is the index as it is reported less the same index between
replicates without a common cell, or 0 where that is negative.

*Its own error.* With no signal, lists of one population and of different populations are exchangeable, but two
halves of one data set happen to agree or not. Across data sets such an agreement varies as much as it does across
splits of one data set (it is a sum over genes of products of two halves, (a + b)(a - b) = a² - b² with a the noise
of the data and b that of the split), so the error of a mean over n pairs of replicates is
:math:`s \sqrt{1 + 1/n}`, with s the standard deviation over pairs, pooled over populations. This part is that error
times the 95% point of Student's t.

``seed`` and ``bootstrap`` have no replicates without common cells: there the floor is the first part alone, from
neighbouring replicates, and says nothing about other cells.

*Response genes* recur in other populations because the populations respond alike, which is no lack of signal. Their
first part is the same index between lists of the control with conditions that mean nothing (``method.RESPONSE_NULL``);
without that control they have no floor.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from scballast.agreement.concordance import standardised
from scballast.agreement.overlap import concordance_curve_weights, rank_biased_weights, shared_weight
from scballast.agreement.ranking import rank_spans, top_k
from scballast.agreement.stability import student_quantile
from scballast.arrays import BoolArray, FloatArray, IntArray, divided
from scballast.methods.method import RESPONSE_NULL, NamedMethod
from scballast.verdict.score_set import ScoreSet

KINDS_WITH_DISJOINT_PAIRS = frozenset({"subsample", "donor", "thin"})
LEVEL = 0.95
"""One-sided level of the floor's own error."""

Index = str | int
"""``"rbo"``, ``"aucc"``, ``"spearman"``, or a k: the share of the top k in common."""


@dataclass(frozen=True)
class BetweenReplicates:
    """One index between lists of different replicates, by pair of replicates and population.

    Attributes
    ----------
    same : (n_pairs, n_populations) float
        Between lists of the population itself; NaN where there are no lists.
    different : (n_pairs, n_populations) float
        Mean between lists of the population and those of the others; NaN where there are no lists.
    disjoint
        The replicates of a pair share no cell.
    null : (n_pairs, n_populations) float, optional
        Between lists of the population under conditions that mean nothing: for response genes, in the place of
        ``different``.
    """

    same: FloatArray
    different: FloatArray
    disjoint: bool
    null: FloatArray | None = None

    def floor(self, position: int, reported: float) -> float:
        """Floor of the population's reported index; NaN where that is undefined."""
        if math.isnan(reported):
            return math.nan
        floor = float(self._mean_without_signal[position])
        same = float(self._mean_same[position])
        if not self.disjoint or math.isnan(same):
            return floor
        return floor + max(0.0, reported - same) + float(self._errors[position])

    def between_populations(self, position: int) -> float:
        """Mean index between the population's lists and the others': the first part of the floor but of response."""
        return float(self._mean_different[position])

    @property
    def _without_signal(self) -> FloatArray:
        return self.different if self.null is None else self.null

    def without_shared_cells(self, position: int) -> float:
        """Mean over replicates without a common cell; NaN where there are none."""
        return float(self._mean_same[position]) if self.disjoint else math.nan

    def corrected(self, k: int, n_genes: int) -> BetweenReplicates:
        """Turn the share of the top k in common into Kuncheva's index; NaN where k leaves no gene out."""
        chance = k / n_genes
        most = 1.0 - chance if 0 < k < n_genes else math.nan
        same, different = ((share - chance) / most for share in (self.same, self.different))
        null = None if self.null is None else (self.null - chance) / most
        return BetweenReplicates(same, different, self.disjoint, null)

    @cached_property
    def _mean_same(self) -> FloatArray:
        return _means_over_pairs(self.same)

    @cached_property
    def _mean_different(self) -> FloatArray:
        return _means_over_pairs(self.different)

    @cached_property
    def _mean_without_signal(self) -> FloatArray:
        return self._mean_different if self.null is None else _means_over_pairs(self.null)

    @cached_property
    def _errors(self) -> FloatArray:
        """(n_populations,) Upper limit of the error of the floor; 0 where fewer than 2 pairs leave it unknown."""
        excess = self.same - self._without_signal
        counts = (~np.isnan(excess)).sum(axis=0)  # (population,)
        repeated = excess[:, counts > 1]
        degrees = int((counts[counts > 1] - 1).sum())
        if degrees == 0:
            return np.zeros(counts.size)
        variance = float(np.nansum((repeated - np.nanmean(repeated, axis=0)) ** 2)) / degrees
        quantile = student_quantile(LEVEL, degrees)
        return np.where(counts > 0, quantile * np.sqrt(variance * (1.0 + divided(1.0, counts))), 0.0)


def between_replicates(
    score_set: ScoreSet, pairs: Sequence[tuple[NamedMethod, NamedMethod]], ks: Sequence[int], curve_k: int, p: float
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
    controls = [method for method in score_set.methods if method.name == RESPONSE_NULL]
    asked, pairs = pairs, [*pairs, *((control, control) for control in controls)]
    stacked = _compared(score_set, pairs, ks, curve_k, p)
    return [
        _against_null(by_index, stacked[-1] if controls else None) if first.estimand == "response" else by_index
        for (first, _), by_index in zip(asked, stacked, strict=False)
    ]


def _compared(
    score_set: ScoreSet, pairs: Sequence[tuple[NamedMethod, NamedMethod]], ks: Sequence[int], curve_k: int, p: float
) -> list[dict[Index, BetweenReplicates]]:
    """Return each index of each pair of methods, those that are known already as they are."""
    identities = [("between", (first.name, second.name), (*ks,), curve_k, p) for first, second in pairs]
    unknown = {
        identity: pair for identity, pair in zip(identities, pairs, strict=True) if identity not in score_set.agreements
    }
    replicates, disjoint = _replicates_to_compare(score_set.n_replicates, score_set.resample_kind)
    names = {method.name for pair in unknown.values() for method in pair}
    values_by_pair: list[dict[Index, list[tuple[FloatArray, FloatArray]]]] = [defaultdict(list) for _ in unknown]
    for replicate_a, replicate_b in replicates:
        lists = {
            (name, replicate): _Lists.of(score_set, name, replicate, ks, curve_k, p)
            for name in names
            for replicate in {replicate_a, replicate_b}
        }
        for (first, second), by_index in zip(unknown.values(), values_by_pair, strict=True):
            indices = _indices(lists[first.name, replicate_a], lists[second.name, replicate_b])
            if first.name == second.name:
                mirrored = {index: values.T for index, values in indices.items()}
            else:
                mirrored = _indices(lists[first.name, replicate_b], lists[second.name, replicate_a])
            for index, values in indices.items():
                by_index[index].append(_same_and_different(values, mirrored[index]))
    for identity, by_index in zip(unknown, values_by_pair, strict=True):
        score_set.agreements[identity] = {
            index: _stack(values, disjoint=disjoint) for index, values in by_index.items()
        }
    return [score_set.agreements[identity] for identity in identities]


def _against_null(
    by_index: Mapping[Index, BetweenReplicates], null: Mapping[Index, BetweenReplicates] | None
) -> dict[Index, BetweenReplicates]:
    """Put lists under conditions that mean nothing in the place of lists of other populations."""
    return {
        index: replace(between, null=np.full_like(between.same, np.nan) if null is None else null[index].same)
        for index, between in by_index.items()
    }


def _stack(by_pair: Sequence[tuple[FloatArray, FloatArray]], *, disjoint: bool) -> BetweenReplicates:
    same, different = zip(*by_pair, strict=True)
    return BetweenReplicates(np.stack(same), np.stack(different), disjoint)


def _replicates_to_compare(n_replicates: int, resample_kind: str) -> tuple[list[tuple[int, int]], bool]:
    """Pairs of replicates without a common cell, or else each replicate and the next."""
    if n_replicates > 1 and resample_kind in KINDS_WITH_DISJOINT_PAIRS:
        return [(even, even + 1) for even in range(0, n_replicates - 1, 2)], True
    n_pairs = n_replicates if n_replicates != 2 else 1
    return [(replicate, (replicate + 1) % n_replicates) for replicate in range(n_pairs)], False


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


def _indices(first: _Lists, second: _Lists) -> dict[Index, FloatArray]:
    """Each index between the lists of any two populations, population × population; NaN without lists."""
    both = np.outer(first.scored, second.scored)
    values: dict[Index, FloatArray] = {k: first.selected[k] @ second.selected[k].T for k in first.selected}
    values["rbo"] = shared_weight(first.rank_biased, second.rank_biased) + first.beyond
    values["aucc"] = shared_weight(first.curve, second.curve)
    scored_values: dict[Index, FloatArray] = {index: np.where(both, value, np.nan) for index, value in values.items()}
    ordered = np.outer(first.ordered, second.ordered)
    return {**scored_values, "spearman": np.where(ordered, first.midranks @ second.midranks.T, np.nan)}


def _same_and_different(values: FloatArray, mirrored: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Means of an index on and off the diagonal, over both ways of giving two replicates to two methods."""
    both = np.stack([values, mirrored])  # (way, population of the first, population of the second)
    off = np.where(np.eye(len(values), dtype=bool), np.nan, both)
    others = np.concatenate([off, off.swapaxes(1, 2)], axis=0)  # (4, population, other population)
    return _column_means(both.diagonal(axis1=1, axis2=2)), _column_means(others.swapaxes(1, 2).reshape(-1, len(values)))


def _column_means(values: FloatArray) -> FloatArray:
    known = ~np.isnan(values)
    return divided(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0), np.nan)


def _means_over_pairs(values: FloatArray) -> FloatArray:
    """(n_populations,) mean of each column, added up along it: no other population decides its last digit."""
    known = ~np.isnan(values)
    sums = np.ascontiguousarray(np.where(known, values, 0.0).T).sum(axis=1)
    return divided(sums, known.sum(axis=0), np.nan)
