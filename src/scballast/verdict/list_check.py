"""Somebody's gene lists held against the replicates of an experiment.

A list is tested as both things that the genes of a population can be, as markers and as a program. In each replicate
it is tested in the cells that the replicate's methods never saw, as their own lists are (``confirmation``), and beside
it two kinds of lists that know nothing of the population:

*Random lists.* 19 lists of as many other genes, each as abundant as one of the list (over all cells for markers,
within the population for programs). A list without a signal is one of 20 alike, so it beats all 19 with a probability
of 5%.

*Lists of other populations.* The same file's lists of up to 5 other populations, tested in this one: abundant and
variable genes hold everywhere.

The *floor* is the larger of the most that a random list reaches and the mean of the other populations' lists. Methods
are compared at the list's own length. That the list was not read from these very cells is taken for granted: it would
then have seen the cells that it is tested in.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scballast.agreement.confirmation import program_p_values
from scballast.agreement.multiplicity import bh_q_values, combined_p_values
from scballast.agreement.stability import mean_interval
from scballast.arrays import FloatArray, IntArray
from scballast.data.replicates import Replicate
from scballast.methods.method import LIST_ESTIMANDS
from scballast.methods.registry import CONTROLS
from scballast.seeds import Stream, generator_for
from scballast.verdict.answer import SMALLEST_SHARE
from scballast.verdict.score_set import ScoreSet
from scballast.verdict.unseen import LEVEL, Cells, UnseenCells, confirmed_share, confirmed_shares

N_RANDOM = 19
MOST_OTHERS = 5
_NEIGHBOURS = 50
"""Genes of like abundance that one of a random list is drawn from."""

_Key = tuple[str, int, str, str]  # estimand, population, kind of list, its name
_PValues = Mapping[_Key, list[FloatArray]]


@dataclass(frozen=True, eq=False)
class ListCheck:
    """What the replicates say of somebody's lists.

    Attributes
    ----------
    summary
        population, estimand, n_genes (tested), confirmed, lower, pi (shares), random (mean over random lists), others
        (mean over other populations' lists), floor, above_floor, method (that is confirmed most at this length),
        method_confirmed, verdict, reason (why there is nothing).
    methods
        population, estimand, method, k, overlap (share of the list in the method's first k, mean over replicates),
        lower, upper, chance, others (the same with the method's lists of other populations), agrees (lower is above
        both), confirmed, confirmed_lower.
    q_values
        By estimand and population: (n_genes,) q-value over replicates, in the order of the list; NaN: not tested.
    """

    summary: pd.DataFrame
    methods: pd.DataFrame
    q_values: Mapping[tuple[str, str], FloatArray]


def check_lists(
    lists: Mapping[str, IntArray],
    score_set: ScoreSet,
    cells: Cells,
    replicates: Sequence[Replicate],
    *,
    seed: int,
    advance: Callable[[int], None] = lambda _: None,
) -> ListCheck:
    """Hold lists against replicates.

    Parameters
    ----------
    lists
        By population: (n_genes,) columns of the counts, the best gene first, each once.
    score_set
        The methods' rankings of the analysed genes.
    cells
        The cells; their first columns are the analysed genes, others may follow.
    replicates
        In the order of the score set.
    seed
        The experiment's.
    advance
        Told of every replicate that is done.

    Returns
    -------
    ListCheck
    """
    check = _Check(lists, score_set, cells, seed)
    for row, replicate in enumerate(replicates):
        check.replicate(row, replicate)
        advance(1)
    summary, methods = [], []
    q_values: dict[tuple[str, str], FloatArray] = {}
    for population in lists:
        for estimand in LIST_ESTIMANDS:
            method_rows = check.methods_rows(population, estimand)
            methods += method_rows
            summary.append(check.summary_row(population, estimand, method_rows))
            q_values[estimand, population] = check.q_values(population, estimand)
    return ListCheck(pd.DataFrame(summary), pd.DataFrame(methods, columns=list(_METHOD_COLUMNS)), q_values)


_METHOD_COLUMNS = (
    *("population", "estimand", "method", "k", "overlap", "lower", "upper", "chance", "others", "agrees"),
    *("confirmed", "confirmed_lower"),
)


class _Check:
    """Collects the p-values of every list, replicate by replicate, and sums them up."""

    def __init__(self, lists: Mapping[str, IntArray], score_set: ScoreSet, cells: Cells, seed: int) -> None:
        self._lists, self._score_set, self._cells, self._seed = lists, score_set, cells, seed
        self._n_genes = len(score_set.genes)
        self._place = {name: position for position, name in enumerate(score_set.populations)}
        self._p_values: dict[_Key, list[FloatArray]] = defaultdict(list)
        self._most_unseen = np.zeros(len(score_set.populations), dtype=np.int64)
        self._compared = {name: self._compared_lists(name) for name in lists}

    def replicate(self, row: int, replicate: Replicate) -> None:
        unseen = UnseenCells(self._cells, replicate, self._score_set.populations, self._seed)
        self._most_unseen = np.maximum(self._most_unseen, unseen.n_cells)
        of_markers = unseen.marker_p_values(np.arange(self._cells.counts.shape[1]))
        for population in self._lists:
            position = self._place[population]
            for kind, name, genes in self._all_lists(row, population, "marker"):
                self._keep(("marker", position, kind, name), of_markers[position, genes])
            sides = unseen.sides(position)
            for kind, name, genes in self._all_lists(row, population, "program"):
                listed = np.zeros(self._cells.counts.shape[1], dtype=bool)
                listed[genes] = True
                self._keep(("program", position, kind, name), program_p_values(*sides, listed, genes))

    def _keep(self, key: _Key, p_values: FloatArray) -> None:
        if not np.isnan(p_values).all():
            self._p_values[key].append(p_values)

    def _all_lists(self, row: int, population: str, estimand: str) -> list[tuple[str, str, IntArray]]:
        genes = self._lists[population]
        entries = [("own", "", genes), *self._compared[population][estimand]]
        for method in self._score_set.methods_of(estimand):
            ranks = self._score_set.ranks[method.name][row, self._place[population]]
            if ranks[0] > 0:
                entries.append(("method", method.name, np.argsort(ranks, kind="stable")[: genes.size]))
        return [entry for entry in entries if entry[2].size]

    def _compared_lists(self, population: str) -> dict[str, list[tuple[str, str, IntArray]]]:
        """Random lists and those of other populations, by estimand."""
        listed, position = self._lists[population], self._place[population]
        rng = generator_for(self._seed, Stream.CONTROLS, "check", population)
        names = [name for name in self._lists if name != population and self._lists[name].size]
        chosen = [names[i] for i in sorted(rng.permutation(len(names))[:MOST_OTHERS])]
        others = [("other", name, self._lists[name]) for name in chosen]
        inside = np.flatnonzero(self._cells.codes == position)
        abundance = {
            "marker": np.asarray(self._cells.counts.mean(axis=0)).ravel(),
            "program": np.asarray(self._cells.counts[inside].mean(axis=0)).ravel(),
        }
        compared = {}
        for estimand, values in abundance.items():
            randoms = [
                ("random", str(number), genes)
                for number in range(N_RANDOM)
                if (genes := random_genes(listed, values, self._n_genes, rng)).size
            ]
            compared[estimand] = [*randoms, *others]
        return compared

    def _shares(self, estimand: str, position: int, kind: str) -> list[float]:
        return [
            confirmed_share(lists)
            for (of, where, what, _), lists in self._p_values.items()
            if (of, where, what) == (estimand, position, kind)
        ]

    def q_values(self, population: str, estimand: str) -> FloatArray:
        """q-values of the list's genes over replicates."""
        lists = self._p_values.get((estimand, self._place[population], "own", ""), [])
        if not lists:
            return np.full(self._lists[population].size, np.nan)
        return bh_q_values(combined_p_values(np.stack(lists)))

    def summary_row(self, population: str, estimand: str, methods: Sequence[Mapping[str, object]]) -> dict[str, object]:
        position, listed = self._place[population], self._lists[population]
        lists = self._p_values.get((estimand, position, "own", ""), [])
        numbers = confirmed_shares(lists, max(1, listed.size))
        randoms, others = (self._shares(estimand, position, kind) for kind in ("random", "other"))
        other = _mean(others)
        floor = max((value for value in (*randoms, other) if not math.isnan(value)), default=math.nan)
        best = max(
            (row for row in methods if row["method"] not in CONTROLS and row["confirmed"] == row["confirmed"]),
            key=lambda row: (row["confirmed"], row["confirmed_lower"]),
            default=None,
        )
        above = bool(numbers["confirmed"] > floor)
        return {
            "population": population,
            "estimand": estimand,
            "n_genes": listed.size,
            **numbers,
            "random": _mean(randoms),
            "others": other,
            "floor": floor,
            "above_floor": above,
            "method": "" if best is None else best["method"],
            "method_confirmed": math.nan if best is None else best["confirmed"],
            "verdict": _verdict(numbers, floor, other, above=above) if lists else "not tested",
            "reason": "" if lists else self._why_untested(position, listed.size, estimand),
        }

    def _why_untested(self, position: int, n_genes: int, estimand: str) -> str:
        if n_genes == 0:
            return "none of its genes is in the data"
        if n_genes == 1 and estimand == "program":
            return "one gene is no program: two vary together"
        most = int(self._most_unseen[position])
        return f"too few unseen cells for a test ({most} at most in one replicate)"

    def methods_rows(self, population: str, estimand: str) -> list[dict[str, object]]:
        position = self._place[population]
        listed = np.zeros(self._n_genes, dtype=bool)
        columns = self._lists[population]
        listed[columns[columns < self._n_genes]] = True
        k = int(listed.sum())
        rows: list[dict[str, object]] = []
        for method in self._score_set.methods_of(estimand):
            ranks = self._score_set.ranks[method.name]  # (replicate, population, gene)
            scored = ranks[..., 0] > 0
            if k == 0 or not scored[:, position].any():
                continue
            overlap = ((ranks <= k) & listed).sum(axis=2) / k
            here = mean_interval(overlap[scored[:, position], position], LEVEL)
            elsewhere = np.delete(np.where(scored, overlap, np.nan), position, axis=1)
            others = _mean(elsewhere[~np.isnan(elsewhere)])
            chance = k / self._n_genes
            lists = self._p_values.get((estimand, position, "method", method.name), [])
            shares = confirmed_shares(lists, columns.size)
            rows.append(
                {
                    "population": population,
                    "estimand": estimand,
                    "method": method.name,
                    "k": k,
                    "overlap": here.estimate,
                    "lower": float(np.maximum(0.0, here.lower)),  # NaN stays NaN
                    "upper": float(np.minimum(1.0, here.upper)),
                    "chance": chance,
                    "others": others,
                    "agrees": bool(here.lower > (chance if math.isnan(others) else max(chance, others))),
                    "confirmed": shares["confirmed"],
                    "confirmed_lower": shares["lower"],
                }
            )
        return rows


def random_genes(listed: IntArray, abundance: FloatArray, n_genes: int, rng: np.random.Generator) -> IntArray:
    """Draw as many other genes, each about as abundant as one of the list.

    Parameters
    ----------
    listed : (n,) int
        The list.
    abundance : (≥ n_genes,) float
        Of every gene, in any unit.
    n_genes
        Genes from 0 on that may be drawn.
    rng
        Draws one of the 50 free genes that are nearest in order of abundance, for each gene of the list in turn.

    Returns
    -------
    (n,) int
        Empty where fewer than n genes are left.
    """
    free = np.setdiff1d(np.arange(n_genes), listed)
    if free.size < listed.size:
        return np.zeros(0, dtype=np.int64)
    free = free[np.argsort(abundance[free], kind="stable")]
    drawn = []
    for gene in rng.permutation(listed):
        place = int(np.searchsorted(abundance[free], abundance[gene]))
        start = min(max(0, place - _NEIGHBOURS // 2), max(0, free.size - _NEIGHBOURS))
        at = int(rng.integers(start, min(start + _NEIGHBOURS, free.size)))
        drawn.append(free[at])
        free = np.delete(free, at)
    return np.array(drawn, dtype=np.int64)


def _mean(values: Sequence[float] | FloatArray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _verdict(numbers: Mapping[str, float], floor: float, others: float, *, above: bool) -> str:
    if math.isnan(floor):
        return "no floor: too few other genes to draw lists from"
    if not above:
        if others >= floor:
            return "no better than the lists of other populations"
        return "no better than random genes as abundant"
    if numbers["lower"] < SMALLEST_SHARE:
        return "above the floor, but hardly a gene for certain"
    return "holds"
