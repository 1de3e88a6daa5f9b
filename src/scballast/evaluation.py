"""From a score set to the tables of stability, concordance, consensus and differences.

Every table can be computed again from ``tables/rankings.parquet`` (``score_set_from_rankings``), to the last bit.

The two lines against which an index is read
--------------------------------------------
*Floor*: the same index between lists of different populations. Abundant genes recur in every list, so an index
corrected for chance still flatters. For stability: the method's list of a population in one replicate against its
lists of the other populations in other replicates. For concordance: the list of one method for a population
against the other method's lists of the other populations, in the same replicate.

*Ceiling*: the root of the product of the two methods' stabilities; what noise in the two lists leaves of perfect
agreement. Methods of one replicate see the same cells, so part of their noise is shared and the ceiling can be
passed.

Independent cells
-----------------
Replicates 2i and 2i+1 of ``subsample`` and ``donor`` share no cell; any other two do, and cells in common make even
a score without signal repeat itself. ``disjoint`` columns hold the mean over the pairs without a common cell alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from .concordance import agreement_by_replicate, standardised
from .factors import match_factors, subspace_agreement
from .overlap import (
    concordance_curve_weights,
    pairwise_expected_overlap,
    rank_biased_weights,
    shared_weight,
)
from .ranking import BoolArray, FloatArray, IntArray, rank_spans, tie_keys, top_k
from .score_set import CONTROLS, Method, ScoreSet, rank_scores, rankings_table, score_set_from_rankings
from .stability import consensus_ranking, jackknife_interval, kendall_w, mean_interval, pairwise_kuncheva
from .statistic import Interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CONTROLS",
    "STABILITY_KS",
    "Method",
    "ScoreSet",
    "concordance_table",
    "consensus_table",
    "differences_table",
    "factors_table",
    "rank_scores",
    "rankings_table",
    "score_set_from_rankings",
    "stability_table",
]

STABILITY_KS = (10, 20, 50, 100, 200)
RBO_PERSISTENCE = 0.98
KINDS_WITH_DISJOINT_PAIRS = frozenset({"subsample", "donor"})


def stability_table(score_set: ScoreSet, top_k: int = 50, *, level: float = 0.95) -> pd.DataFrame:
    """Stability of each method on each population.

    Parameters
    ----------
    score_set
        Scores and ranks.
    top_k
        The headline's k; the table has the k of ``STABILITY_KS`` too.
    level
        Nominal coverage of the intervals.

    Returns
    -------
    DataFrame
        method, estimand, population, k, n_replicates, phi (Nogueira), lower, upper (jackknife), floor, disjoint
        (the mean over pairs of replicates without a common cell), rbo, rbo_floor, spearman, spearman_floor,
        kendall_w (chance-corrected), reason (why phi or its interval is NaN). Columns from rbo on do not
        depend on k.
    """
    import pandas as pd

    ks = sorted({*STABILITY_KS, top_k})
    rows: list[dict[str, object]] = []
    for method in score_set.methods:
        scored = score_set.scored(method.name)
        reason = score_set.without_stability(method)
        floors = None if reason else _stability_floors(score_set, method, scored, ks)
        for position, population in enumerate(score_set.populations):
            names = {"method": method.name, "estimand": method.estimand, "population": population}
            own = np.flatnonzero(scored[:, position])
            curve = _nothing(reason) if floors is None else _rank_agreement(score_set, method.name, position, own)
            if floors is not None:
                curve = {**curve, "rbo_floor": floors.rbo[position], "spearman_floor": floors.spearman[position]}
            for k in ks:
                if floors is None or own.size == 0:
                    interval = _no_interval(reason or "no replicate has a score", level)
                    disjoint = floor = math.nan
                else:
                    ranks = score_set.ranks[method.name][own, position]
                    interval, disjoint = _phi(ranks, k, own, score_set.resample_kind, level)
                    floor = floors.phi[k][position]
                rows.append(
                    {
                        **names,
                        "k": k,
                        "n_replicates": own.size,
                        "phi": interval.estimate,
                        "lower": interval.lower,
                        "upper": interval.upper,
                        "floor": floor,
                        "disjoint": disjoint,
                        **curve,
                        "reason": interval.reason,
                    }
                )
    return pd.DataFrame(rows)


def differences_table(score_set: ScoreSet, top_k: int = 50, *, level: float = 0.95) -> pd.DataFrame:
    """Differences in stability between methods, with intervals of their own.

    Returns
    -------
    DataFrame
        method_a, method_b, estimand, population, k, difference (phi of a minus phi of b), lower, upper: the
        jackknife deletes the same replicate from both methods. Only replicates in which both have scores.
    """
    import pandas as pd

    rows = []
    for first, second, population, position in _method_pairs(score_set):
        both = _both_scored(score_set, first, second, position)
        reason = score_set.without_stability(first) or score_set.without_stability(second)
        if reason or both.size == 0:
            interval = _no_interval(reason or "no replicate has scores of both", level)
        else:
            similarities = [
                pairwise_kuncheva(_selected(score_set.ranks[method.name][both, position], top_k))
                for method in (first, second)
            ]
            interval = jackknife_interval(similarities[0] - similarities[1], level)
        rows.append(
            {
                "method_a": first.name,
                "method_b": second.name,
                "estimand": first.estimand,
                "population": population,
                "k": top_k,
                "difference": interval.estimate,
                "lower": interval.lower,
                "upper": interval.upper,
                "reason": interval.reason,
            }
        )
    return pd.DataFrame(rows)


def concordance_table(score_set: ScoreSet, top_k: int = 50, *, level: float = 0.95) -> pd.DataFrame:
    """Agreement of each pair of methods with one estimand, paired by replicate.

    Returns
    -------
    DataFrame
        method_a, method_b, estimand, population, k, n_replicates, overlap (share of the top k in common, mean
        over replicates), lower, upper, floor, ceiling, disjoint (the overlap between replicates without a common
        cell), rbo, rbo_floor, rbo_ceiling, aucc, aucc_floor, aucc_ceiling, spearman, spearman_floor,
        spearman_ceiling, reason.
    """
    import pandas as pd

    floors = {
        (first.name, second.name): _concordance_floors(score_set, first, second, top_k)
        for first, second in _estimand_pairs(score_set)
    }
    rows = []
    for position, population in enumerate(score_set.populations):
        spans = {method.name: rank_spans(score_set.scores[method.name][:, position]) for method in score_set.methods}
        own = {method.name: _self_agreement(score_set, method, position, top_k) for method in score_set.methods}
        for first, second in _estimand_pairs(score_set):
            both = _both_scored(score_set, first, second, position)
            values = agreement_by_replicate(spans[first.name][both], spans[second.name][both], top_k, RBO_PERSISTENCE)
            overlap = mean_interval(values.overlap, level)
            floor = floors[first.name, second.name]
            row: dict[str, object] = {
                "method_a": first.name,
                "method_b": second.name,
                "estimand": first.estimand,
                "population": population,
                "k": top_k,
                "n_replicates": both.size,
                "overlap": overlap.estimate,
                "lower": overlap.lower,
                "upper": overlap.upper,
                "floor": floor["overlap"][position],
                "ceiling": _ceiling(own[first.name]["phi"], own[second.name]["phi"]),
                "disjoint": _disjoint_overlap(score_set, first, second, position, top_k),
            }
            for name in ("rbo", "aucc", "spearman"):
                row[name] = float(np.mean(getattr(values, name))) if both.size else math.nan
                row[f"{name}_floor"] = floor[name][position]
                row[f"{name}_ceiling"] = _ceiling(own[first.name][name], own[second.name][name])
            rows.append({**row, "reason": overlap.reason})
    return pd.DataFrame(rows)


def consensus_table(score_set: ScoreSet, top_k: int = 50) -> pd.DataFrame:
    """Consensus list of each method and population.

    Returns
    -------
    DataFrame
        population, method, estimand, gene, rank, selection_frequency (share of the replicates that have the gene
        in their top k), mean_rank (mean midrank, by which the list is ordered, ties by frequency). The first
        ``max(200, 2 * top_k)`` genes.
    """
    import pandas as pd

    keys = tie_keys(score_set.genes)
    genes = np.asarray(score_set.genes, dtype=object)
    length = max(200, 2 * top_k)
    parts = []
    for position, population in enumerate(score_set.populations):
        for method in score_set.methods:
            scored = score_set.scored(method.name)[:, position]
            if not scored.any():
                continue
            selections = _selected(score_set.ranks[method.name][scored, position], top_k)
            consensus = consensus_ranking(score_set.scores[method.name][scored, position], selections, keys)
            best = consensus.order[:length]
            parts.append(
                pd.DataFrame(
                    {
                        "population": population,
                        "method": method.name,
                        "estimand": method.estimand,
                        "gene": genes[best],
                        "rank": consensus.ranks[best],
                        "selection_frequency": consensus.frequency[best],
                        "mean_rank": consensus.mean_rank[best],
                    }
                )
            )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def factors_table(loadings: Mapping[str, Mapping[int, FloatArray]], *, seed: int) -> pd.DataFrame:
    """Agreement of the factors of one linear model between replicates.

    Parameters
    ----------
    loadings
        By model, by replicate: (n_genes, n_factors). For ``latent_distribution=ln`` with rows centred too.
    seed
        The experiment's seed, for the permutation null.

    Returns
    -------
    DataFrame
        model, replicate_a, replicate_b, matched_correlation, null, subspace_cos2, chance.
    """
    import pandas as pd

    rows = []
    for model, by_replicate in loadings.items():
        for first, second in combinations(sorted(by_replicate), 2):
            match = match_factors(by_replicate[first], by_replicate[second], seed=seed)
            subspace = subspace_agreement(by_replicate[first], by_replicate[second])
            rows.append(
                {
                    "model": model,
                    "replicate_a": first,
                    "replicate_b": second,
                    "matched_correlation": match.mean_correlation,
                    "null": match.null,
                    "subspace_cos2": float(subspace),
                    "chance": subspace.chance,
                }
            )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Floors:
    """Mean index of a population's lists with those of other populations; (n_populations,) each."""

    phi: Mapping[int, FloatArray]
    rbo: FloatArray
    spearman: FloatArray


def _stability_floors(score_set: ScoreSet, method: Method, scored: BoolArray, ks: Sequence[int]) -> _Floors:
    ranks, scores = score_set.ranks[method.name], score_set.scores[method.name]
    n_genes = len(score_set.genes)
    phi = {}
    for k in ks:
        shared = _across_replicates(_selected(ranks, k).astype(np.float32), scored)
        expected = k**2 / n_genes
        phi[k] = (shared - expected) / (k - expected) if k < n_genes else np.full(len(shared), np.nan)
    midranks = np.zeros(scores.shape)
    informative = scored.copy()
    for replicate, position in np.argwhere(scored):
        unit = standardised(rank_spans(scores[replicate, position]).midranks)
        informative[replicate, position] = not np.isnan(unit[0])
        midranks[replicate, position] = np.nan_to_num(unit)
    return _Floors(phi, _rbo_floor(ranks, scored), _across_replicates(midranks, informative))


def _across_replicates(vectors: FloatArray, scored: BoolArray) -> FloatArray:
    """Mean inner product of a population's vectors with those of other populations in other replicates.

    Parameters
    ----------
    vectors : (n_replicates, n_populations, n_genes) float
    scored : (n_replicates, n_populations) bool

    Returns
    -------
    (n_populations,) float
    """
    vectors = vectors * scored[..., None]
    own = vectors.sum(axis=0, dtype=np.float64)  # (population, gene)
    others = own.sum(axis=0) - own
    same_replicate = vectors.sum(axis=1, keepdims=True) - vectors  # (replicate, population, gene)
    total = (own * others).sum(axis=1) - np.einsum("rpg,rpg->p", vectors, same_replicate, dtype=np.float64)
    count = scored.sum(axis=0)
    pairs = count * (count.sum() - count) - (scored * (scored.sum(axis=1, keepdims=True) - scored)).sum(axis=0)
    return _divide(total, pairs)


def _rbo_floor(ranks: IntArray, scored: BoolArray) -> FloatArray:
    """Rank-biased overlap of a population's lists with the others' in the next replicate (the last's is the first).

    One neighbour per replicate, for the cost grows with the square of the number of lists.
    """
    n_replicates, n_populations, n_genes = ranks.shape
    if n_replicates < 2:
        return np.full(n_populations, np.nan)
    weights = rank_biased_weights(n_genes, RBO_PERSISTENCE)
    total = np.zeros((n_populations, n_populations))
    pairs = np.zeros((n_populations, n_populations))
    for replicate in range(n_replicates):
        following = (replicate + 1) % n_replicates
        first, second = (weights.from_depth(np.maximum(ranks[one], 1)) for one in (replicate, following))
        both = np.outer(scored[replicate], scored[following])
        total += both * (shared_weight(first, second) + weights.beyond)
        pairs += both
    return _off_diagonal_mean(total, pairs)


def _concordance_floors(score_set: ScoreSet, first: Method, second: Method, k: int) -> dict[str, FloatArray]:
    n_genes = len(score_set.genes)
    n_populations = len(score_set.populations)
    rank_biased = rank_biased_weights(n_genes, RBO_PERSISTENCE)
    curve = concordance_curve_weights(k) if 0 < k <= n_genes else None
    names = ("overlap", "rbo", "aucc", "spearman")
    totals = {name: np.zeros((n_populations, n_populations)) for name in names}
    pairs = np.zeros((n_populations, n_populations))
    scored = score_set.scored(first.name), score_set.scored(second.name)
    for replicate in range(score_set.n_replicates):
        both = np.outer(scored[0][replicate], scored[1][replicate])
        pairs += both
        one, other = (np.maximum(score_set.ranks[method.name][replicate], 1) for method in (first, second))
        chosen = [_selected(ranks, k).astype(np.float32) for ranks in (one, other)]
        totals["overlap"] += both * (chosen[0] @ chosen[1].T)
        totals["rbo"] += both * (
            shared_weight(rank_biased.from_depth(one), rank_biased.from_depth(other)) + rank_biased.beyond
        )
        if curve is not None:
            totals["aucc"] += both * shared_weight(curve.from_depth(one), curve.from_depth(other))
        unit = [standardised(ranks.astype(np.float64)) for ranks in (one, other)]
        totals["spearman"] += both * np.nan_to_num(unit[0] @ unit[1].T)
    floors = {name: _off_diagonal_mean(total, pairs) for name, total in totals.items()}
    nothing = np.full(n_populations, np.nan)
    floors["overlap"] = floors["overlap"] / k if 0 < k < n_genes else nothing
    floors["aucc"] = floors["aucc"] if curve is not None else nothing
    return floors


def _off_diagonal_mean(total: FloatArray, pairs: FloatArray) -> FloatArray:
    """Mean over the pairs of a population with another one, in either order."""
    total, pairs = total.copy(), pairs.copy()
    np.fill_diagonal(total, 0.0)
    np.fill_diagonal(pairs, 0.0)
    return _divide(total.sum(axis=0) + total.sum(axis=1), pairs.sum(axis=0) + pairs.sum(axis=1))


def _phi(ranks: IntArray, k: int, replicates: IntArray, resample_kind: str, level: float) -> tuple[Interval, float]:
    """Nogueira's stability with its interval, and its mean over pairs of replicates without a common cell."""
    n_genes = ranks.shape[-1]
    if k >= n_genes or k == 0:
        return _no_interval("every gene is selected" if k else "no gene is selected", level), math.nan
    similarities = pairwise_kuncheva(_selected(ranks, k))
    pairs = disjoint_pairs(replicates, resample_kind)
    disjoint = float(np.mean([similarities[i, j] for i, j in pairs])) if pairs else math.nan
    return jackknife_interval(similarities, level), disjoint


def disjoint_pairs(replicates: IntArray, resample_kind: str) -> list[tuple[int, int]]:
    """Positions in ``replicates`` (replicate numbers) of the pairs that share no cell."""
    if resample_kind not in KINDS_WITH_DISJOINT_PAIRS:
        return []
    position = {int(number): at for at, number in enumerate(replicates)}
    return [(at, position[number + 1]) for number, at in position.items() if number % 2 == 0 and number + 1 in position]


def _rank_agreement(score_set: ScoreSet, method: str, position: int, own: IntArray) -> dict[str, float]:
    if own.size < 2:
        return _nothing("")
    scores = score_set.scores[method][own, position]
    spans = rank_spans(scores)
    upper = np.triu_indices(own.size, 1)
    rbo = pairwise_expected_overlap(spans, rank_biased_weights(scores.shape[1], RBO_PERSISTENCE))
    unit = standardised(spans.midranks)
    return {
        "rbo": float(rbo[upper].mean()),
        "rbo_floor": math.nan,
        "spearman": float((unit @ unit.T)[upper].mean()),
        "spearman_floor": math.nan,
        "kendall_w": kendall_w(-spans.midranks).chance_corrected,
    }


def _nothing(_reason: str) -> dict[str, float]:
    return dict.fromkeys(("rbo", "rbo_floor", "spearman", "spearman_floor", "kendall_w"), math.nan)


def _self_agreement(score_set: ScoreSet, method: Method, position: int, k: int) -> dict[str, float]:
    """Mean agreement of a method with itself over pairs of replicates, by each index of concordance."""
    own = np.flatnonzero(score_set.scored(method.name)[:, position])
    nothing = dict.fromkeys(("phi", "rbo", "aucc", "spearman"), math.nan)
    if score_set.without_stability(method) or own.size < 2:
        return nothing
    ranks = score_set.ranks[method.name][own, position]
    n_genes = ranks.shape[1]
    spans = rank_spans(score_set.scores[method.name][own, position])
    upper = np.triu_indices(own.size, 1)
    unit = standardised(spans.midranks)
    rbo = pairwise_expected_overlap(spans, rank_biased_weights(n_genes, RBO_PERSISTENCE))
    found = {**nothing, "rbo": float(rbo[upper].mean()), "spearman": float((unit @ unit.T)[upper].mean())}
    if 0 < k <= n_genes:
        found["aucc"] = float(pairwise_expected_overlap(spans, concordance_curve_weights(k))[upper].mean())
    if 0 < k < n_genes:
        found["phi"] = float(pairwise_kuncheva(_selected(ranks, k))[upper].mean())
    return found


def _disjoint_overlap(score_set: ScoreSet, first: Method, second: Method, position: int, k: int) -> float:
    both = _both_scored(score_set, first, second, position)
    pairs = disjoint_pairs(both, score_set.resample_kind)
    if not pairs or not 0 < k < len(score_set.genes):
        return math.nan
    one, other = (_selected(score_set.ranks[method.name][both, position], k) for method in (first, second))
    shared = [(one[i] & other[j]).sum() + (one[j] & other[i]).sum() for i, j in pairs]
    return float(np.mean(shared)) / (2.0 * k)


def _ceiling(first: float, second: float) -> float:
    return math.sqrt(first * second) if first > 0.0 and second > 0.0 else math.nan


def _estimand_pairs(score_set: ScoreSet) -> Iterator[tuple[Method, Method]]:
    return ((one, other) for one, other in combinations(score_set.methods, 2) if one.estimand == other.estimand)


def _method_pairs(score_set: ScoreSet) -> Iterator[tuple[Method, Method, str, int]]:
    for position, population in enumerate(score_set.populations):
        for first, second in _estimand_pairs(score_set):
            yield first, second, population, position


def _both_scored(score_set: ScoreSet, first: Method, second: Method, position: int) -> IntArray:
    both = score_set.scored(first.name)[:, position] & score_set.scored(second.name)[:, position]
    return np.flatnonzero(both)


def _selected(ranks: IntArray, k: int) -> BoolArray:
    return top_k(ranks, k)


def _divide(total: FloatArray, count: FloatArray | IntArray) -> FloatArray:
    mean: FloatArray = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return mean


def _no_interval(reason: str, level: float) -> Interval:
    return Interval(math.nan, math.nan, math.nan, math.nan, level, reason)
