"""From a score set to the tables of stability, concordance, consensus, differences and factor agreement.

Every table can be computed again from ``tables/rankings.parquet`` (``score_set_from_rankings``), to the last bit.

An index is read against two lines. Its *floor* is the most that lists without a signal of the population itself
show (``floors``): an index whose lower bound is not above its floor says nothing. Its *ceiling*, for two methods, is
the root of the product of their stabilities: what noise in the two lists leaves of perfect agreement. Methods of one
replicate see the same cells and share part of their noise, so the ceiling can be passed; the ``disjoint`` overlap,
between replicates without a common cell, is held under it but for chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, product

import numpy as np
import pandas as pd

from scballast.agreement.concordance import agreement_by_replicate, standardised
from scballast.agreement.overlap import concordance_curve_weights, pairwise_expected_overlap, rank_biased_weights
from scballast.agreement.rank_agreement import consensus_ranking, kendall_w_of_spans
from scballast.agreement.ranking import RankSpans, rank_spans, tie_keys
from scballast.agreement.ranking import top_k as select
from scballast.agreement.stability import degenerate_size, jackknife_interval, mean_interval, pairwise_kuncheva
from scballast.agreement.statistic import Interval, no_interval
from scballast.arrays import FloatArray, IntArray
from scballast.methods.method import NamedMethod
from scballast.verdict.floors import BetweenReplicates, Index, between_replicates
from scballast.verdict.score_set import ScoreSet
from scballast.verdict.unseen import FALSE_DISCOVERY_RATE

STABILITY_KS = (10, 20, 50, 100, 200)
RBO_PERSISTENCE = 0.98

# A table without rows keeps its columns.
_DIFFERENCE_COLUMNS = (
    *("method_a", "method_b", "estimand", "population", "k"),
    *("difference", "lower", "upper", "reason"),
)
_CONCORDANCE_COLUMNS = (
    *("method_a", "method_b", "estimand", "population", "k", "n_replicates", "overlap", "lower", "upper"),
    *("floor", "ceiling", "disjoint", "rbo", "rbo_floor", "rbo_ceiling", "aucc", "aucc_floor", "aucc_ceiling"),
    *("spearman", "spearman_floor", "spearman_ceiling", "reason"),
)
_CONSENSUS_COLUMNS = (
    *("population", "method", "estimand", "gene", "rank", "selection_frequency", "mean_rank"),
    *("q_value", "confirmed"),
)


def stability_table(score_set: ScoreSet, top_k: int = 50) -> pd.DataFrame:
    """Stability of each method on each population.

    Parameters
    ----------
    score_set
        Scores and ranks.
    top_k
        The headline's k; the table has the k of ``STABILITY_KS`` too.

    Returns
    -------
    DataFrame
        method, estimand, population, k, n_replicates, phi (Nogueira), lower, upper (jackknife), floor (see ``floors``),
        other_populations (phi between lists of different populations: the first part of the floor), disjoint (phi
        between replicates without a common cell alone), rbo, rbo_floor, spearman, spearman_floor,
        kendall_w (chance-corrected), reason (why phi or its interval is NaN). The columns from rbo to kendall_w
        do not depend on k.
    """
    ks = sorted({*STABILITY_KS, top_k})
    methods = [method for method in score_set.methods if not score_set.without_stability(method)]
    pairs = [(method, method) for method in methods]
    between = between_replicates(score_set, pairs, ks, top_k, RBO_PERSISTENCE)
    between_of_method = {
        method.name: {
            index: values.corrected(index, len(score_set.genes)) if isinstance(index, int) else values
            for index, values in by_index.items()
        }
        for method, by_index in zip(methods, between, strict=True)
    }
    rows = []
    for method in score_set.methods:
        for position, population in enumerate(score_set.populations):
            names = {"method": method.name, "estimand": method.estimand, "population": population}
            values = _stability_rows(score_set, method, position, ks, top_k, between_of_method.get(method.name, {}))
            rows += [{**names, **row} for row in values]
    return pd.DataFrame(rows)


def differences_table(score_set: ScoreSet, top_k: int = 50) -> pd.DataFrame:
    """Differences in stability between methods, with intervals of their own.

    Returns
    -------
    DataFrame
        method_a, method_b, estimand, population, k, difference (phi of a minus phi of b), lower, upper: the
        jackknife deletes the same replicate from both methods. Only replicates in which both have scores.
    """
    rows = []
    for (position, population), (first, second) in product(
        enumerate(score_set.populations), _estimand_pairs(score_set)
    ):
        key = ("difference", (first.name, second.name), position, top_k)
        if key not in score_set.agreements:
            score_set.agreements[key] = _difference(score_set, first, second, position, top_k)
        interval = score_set.agreements[key]
        names = _pair_names(first, second, population, top_k)
        rows.append({**names, **_limits("difference", interval), "reason": interval.reason})
    return pd.DataFrame(rows, columns=list(_DIFFERENCE_COLUMNS))


def concordance_table(score_set: ScoreSet, top_k: int = 50) -> pd.DataFrame:
    """Agreement of each pair of methods with one estimand, paired by replicate.

    Returns
    -------
    DataFrame
        method_a, method_b, estimand, population, k, n_replicates, overlap (share of the top k in common, mean
        over replicates), lower, upper, floor, ceiling, other_populations (the overlap between lists of different
        populations), disjoint (the overlap between replicates without a common cell), rbo, rbo_floor, rbo_ceiling,
        aucc, aucc_floor, aucc_ceiling, spearman, spearman_floor, spearman_ceiling, reason.
    """
    pairs = _estimand_pairs(score_set)
    between = between_replicates(score_set, pairs, [top_k], top_k, RBO_PERSISTENCE)
    rows = []
    for position, population in enumerate(score_set.populations):
        spans = _spans_of(score_set, position)
        self_agreements = {
            method.name: _self_agreement(score_set, method, position, top_k) for method in score_set.methods
        }
        for (first, second), by_index in zip(pairs, between, strict=True):
            both = _both_scored(score_set, first, second, position)
            key = ("pair", (first.name, second.name), position, top_k)
            values = score_set.agreements.get(key)
            if values is None:
                paired = spans(first.name)[both], spans(second.name)[both]
                values = score_set.agreements[key] = agreement_by_replicate(*paired, top_k, RBO_PERSISTENCE)
            overlap = _interval(values["overlap"], top_k, len(score_set.genes))
            row: dict[str, object] = {
                **_pair_names(first, second, population, top_k),
                "n_replicates": both.size,
                **_limits("overlap", overlap),
                "floor": by_index[top_k].floor(position, overlap.estimate),
                "ceiling": _ceiling(self_agreements[first.name]["phi"], self_agreements[second.name]["phi"]),
                "disjoint": by_index[top_k].without_shared_cells(position),
            }
            for name in ("rbo", "aucc", "spearman"):
                mean = float(values[name].mean()) if both.size else math.nan
                row[name] = mean
                row[f"{name}_floor"] = by_index[name].floor(position, mean)
                row[f"{name}_ceiling"] = _ceiling(self_agreements[first.name][name], self_agreements[second.name][name])
            rows.append({**row, "reason": overlap.reason})
    return pd.DataFrame(rows, columns=list(_CONCORDANCE_COLUMNS))


def consensus_table(
    score_set: ScoreSet, top_k: int = 50, q_values: Mapping[str, FloatArray] | None = None
) -> pd.DataFrame:
    """Consensus list of each method and population.

    Parameters
    ----------
    score_set
        Scores and ranks.
    top_k
        Genes that a replicate selects.
    q_values
        ``confirmation.Confirmation.q_values``; None: nothing was tested.

    Returns
    -------
    DataFrame
        population, method, estimand, gene, rank, selection_frequency (share of the replicates that have the gene
        in their top k), mean_rank (mean midrank, by which the list is ordered, ties by frequency), q_value
        (over replicates, in cells that the lists never saw), confirmed (q at most 5%). The first
        ``max(200, 2 * top_k)`` genes, and all that are confirmed.
    """
    keys = tie_keys(score_set.genes)
    genes = np.asarray(score_set.genes, dtype=object)
    length = max(200, 2 * top_k)
    parts = []
    for position, population in enumerate(score_set.populations):
        for method in score_set.methods:
            scored = score_set.scored(method.name)[:, position]
            if not scored.any():
                continue
            selections = select(score_set.ranks[method.name][scored, position], top_k)
            consensus = consensus_ranking(score_set.scores[method.name][scored, position], selections, keys)
            q = np.full(genes.size, np.nan) if q_values is None else q_values[method.name][position]
            confirmed = q <= FALSE_DISCOVERY_RATE
            best = consensus.order[(np.arange(genes.size) < length) | confirmed[consensus.order]]
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
                        "q_value": q[best],
                        "confirmed": confirmed[best],
                    }
                )
            )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(_CONSENSUS_COLUMNS))


def _stability_rows(
    score_set: ScoreSet,
    method: NamedMethod,
    position: int,
    ks: Sequence[int],
    top_k: int,
    between: Mapping[Index, BetweenReplicates],
) -> list[dict[str, object]]:
    """Rows of one method and population, one for each k."""
    scored_replicates = np.flatnonzero(score_set.scored(method.name)[:, position])
    reason = score_set.without_stability(method) or ("" if scored_replicates.size else "no replicate has a score")
    agreement = _self_agreement(score_set, method, position, top_k)
    by_rank: dict[str, float] = {
        "rbo": agreement["rbo"],
        "rbo_floor": math.nan if reason else between["rbo"].floor(position, agreement["rbo"]),
        "spearman": agreement["spearman"],
        "spearman_floor": math.nan if reason else between["spearman"].floor(position, agreement["spearman"]),
        "kendall_w": agreement["kendall_w"],
    }
    rows: list[dict[str, object]] = []
    for k in ks:
        phi = no_interval(reason)
        floor = other_populations = disjoint = math.nan
        if not reason:
            phi = _phi(score_set, method, position, k)
            floor = between[k].floor(position, phi.estimate)
            other_populations = between[k].between_populations(position)
            disjoint = between[k].without_shared_cells(position)
        rows.append(
            {
                "k": k,
                "n_replicates": scored_replicates.size,
                **_limits("phi", phi),
                "floor": floor,
                "other_populations": other_populations,
                "disjoint": disjoint,
                **by_rank,
                "reason": phi.reason,
            }
        )
    return rows


def _difference(score_set: ScoreSet, first: NamedMethod, second: NamedMethod, position: int, k: int) -> Interval:
    """Return the stability of one method less that of another, where both have scores."""
    both = _both_scored(score_set, first, second, position)
    reason = score_set.without_stability(first) or score_set.without_stability(second)
    reason = reason or degenerate_size(k, len(score_set.genes))
    if reason or both.size == 0:
        return no_interval(reason or "no replicate has scores of both")
    first_overlaps, second_overlaps = (
        pairwise_kuncheva(select(score_set.ranks[method.name][both, position], k)) for method in (first, second)
    )
    return jackknife_interval(first_overlaps - second_overlaps)


def _pair_names(first: NamedMethod, second: NamedMethod, population: str, k: int) -> dict[str, object]:
    names = {"method_a": first.name, "method_b": second.name, "estimand": first.estimand}
    return {**names, "population": population, "k": k}


def _limits(name: str, interval: Interval) -> dict[str, object]:
    return {name: interval.estimate, "lower": interval.lower, "upper": interval.upper}


def _phi(score_set: ScoreSet, method: NamedMethod, position: int, k: int) -> Interval:
    """Nogueira's stability with its jackknife interval, of the replicates with scores."""
    key = ("phi", (method.name,), position, k)
    if key not in score_set.agreements:
        scored_replicates = score_set.scored(method.name)[:, position]
        score_set.agreements[key] = _stability(score_set.ranks[method.name][scored_replicates, position], k)
    interval: Interval = score_set.agreements[key]
    return interval


def _stability(ranks: IntArray, k: int) -> Interval:
    reason = degenerate_size(k, ranks.shape[1])
    if reason:
        return no_interval(reason)
    return _within(jackknife_interval(pairwise_kuncheva(select(ranks, k))), -1.0)


def _spans_of(score_set: ScoreSet, position: int) -> Callable[[str], RankSpans]:
    """Return what gives the rank spans of a method's lists of one population, each made when first asked for."""
    return cache(lambda name: rank_spans(score_set.scores[name][:, position]))


def _self_agreement(score_set: ScoreSet, method: NamedMethod, position: int, k: int) -> Mapping[str, float]:
    """Mean agreement of a method's lists over pairs of replicates, by each index."""
    key = ("self", (method.name,), position, k)
    if key not in score_set.agreements:
        score_set.agreements[key] = _mean_agreement(score_set, method, position, k)
    known: Mapping[str, float] = score_set.agreements[key]
    return known


def _mean_agreement(score_set: ScoreSet, method: NamedMethod, position: int, k: int) -> dict[str, float]:
    scored_replicates = np.flatnonzero(score_set.scored(method.name)[:, position])
    agreement = dict.fromkeys(("phi", "rbo", "aucc", "spearman", "kendall_w"), math.nan)
    if score_set.without_stability(method) or scored_replicates.size < 2 or len(score_set.genes) < 2:
        return agreement
    ranks = score_set.ranks[method.name][scored_replicates, position]
    n_genes = ranks.shape[1]
    spans = rank_spans(score_set.scores[method.name][scored_replicates, position])
    upper = np.triu_indices(scored_replicates.size, 1)
    unit = standardised(spans.midranks)
    rbo = pairwise_expected_overlap(spans, rank_biased_weights(n_genes, RBO_PERSISTENCE))
    agreement["rbo"] = float(rbo[upper].mean())
    agreement["spearman"] = float((unit @ unit.T)[upper].mean())
    agreement["kendall_w"] = kendall_w_of_spans(spans).chance_corrected
    if 0 < k <= n_genes:
        agreement["aucc"] = float(pairwise_expected_overlap(spans, concordance_curve_weights(k))[upper].mean())
    if not degenerate_size(k, n_genes):
        agreement["phi"] = float(pairwise_kuncheva(select(ranks, k))[upper].mean())
    return agreement


def _interval(values: FloatArray, k: int, n_genes: int) -> Interval:
    reason = degenerate_size(k, n_genes) or ("" if values.size else "no replicate has scores of both")
    return no_interval(reason) if reason else _within(mean_interval(values), 0.0)


def _within(interval: Interval, lowest: float) -> Interval:
    """Cut an interval to the range of its index, up to 1: what lies outside covers nothing."""
    lower, upper = (max(lowest, min(1.0, limit)) for limit in (interval.lower, interval.upper))
    return interval if math.isnan(interval.lower) else replace(interval, lower=lower, upper=upper)


def _ceiling(first: float, second: float) -> float:
    return math.sqrt(first * second) if first > 0.0 and second > 0.0 else math.nan


def _estimand_pairs(score_set: ScoreSet) -> list[tuple[NamedMethod, NamedMethod]]:
    return [
        (first, second) for first, second in combinations(score_set.methods, 2) if first.estimand == second.estimand
    ]


def _both_scored(score_set: ScoreSet, first: NamedMethod, second: NamedMethod, position: int) -> IntArray:
    both = score_set.scored(first.name)[:, position] & score_set.scored(second.name)[:, position]
    return np.flatnonzero(both)
