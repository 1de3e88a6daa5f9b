"""Confirmation of every list in the cells that its replicate never saw, as tables.

Per list, the genes of its top k are tested (``agreement.confirmation``, ``agreement.marker_confirmation``,
``agreement.response_confirmation``): p-values, adaptive q-values within the list, the share confirmed at 5%, Storey's
share and a simultaneous lower bound. Over the replicates of a method, which share cells and depend on each other:
shares are averaged; bounds, each at confidence 1 - α/2, are combined by their median; the p-values of a gene by twice
their median (a gene that is not among the first 2k of a replicate has a p-value of 1 there), with q-values for the 2k
tests that each replicate makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd

from scballast.agreement.confirmation import program_p_values
from scballast.agreement.multiplicity import adaptive_q_values, bh_q_values, combined_p_values
from scballast.arrays import FloatArray, IntArray
from scballast.data.replicates import Replicate
from scballast.methods.method import RESPONSE_NULL, NamedMethod
from scballast.threads import side_by_side
from scballast.verdict.score_set import ScoreSet
from scballast.verdict.unseen import Cells, UnseenCells, confirmed_shares

_COLUMNS = ("population", "estimand", "method", "confirmed", "lower", "pi", "n_genes", "n_cells_unseen", "reason")
_GENE_COLUMNS = ("population", "estimand", "method", "replicate", "gene", "p_value", "q_value")


@dataclass(frozen=True, eq=False)
class Confirmation:
    """What unseen cells say of every method's lists.

    Attributes
    ----------
    summary
        population, estimand, method, confirmed, lower, pi (shares of the top k), n_genes, n_cells_unseen, reason (why
        there is nothing).
    genes
        population, estimand, method, replicate, gene, p_value, q_value: each list's top k.
    q_values
        By method: (n_populations, n_genes) q-value over replicates; NaN where nothing was tested.
    p_values
        By method: (n_replicates, n_populations, n_genes) p-value of the first 2k genes of each list, else NaN.
    """

    summary: pd.DataFrame
    genes: pd.DataFrame
    q_values: dict[str, FloatArray]
    p_values: dict[str, FloatArray]


def confirm(
    score_set: ScoreSet,
    cells: Cells,
    replicates: Sequence[Replicate],
    top_k: int,
    *,
    seed: int,
    known: Mapping[str, FloatArray] | None = None,
) -> Confirmation:
    """Test every list of every method in the cells that its replicate never saw.

    Parameters
    ----------
    score_set
        Scores and ranks.
    cells
        The cells that the replicates are drawn from.
    replicates
        What each replicate saw (``cells``) and did not see (``heldout``), in the order of the score set.
    top_k
        Genes of a list.
    seed
        The experiment's seed: which cells of a very large population are looked at.
    known
        ``Confirmation.p_values`` of some of these methods with the same scores, cells and replicates: they are not
        tested again.

    Returns
    -------
    Confirmation
    """
    known = known or {}
    p_values: dict[str, FloatArray] = {
        method.name: known.get(method.name, np.full(score_set.scores[method.name].shape, np.nan))
        for method in score_set.methods
    }
    untested: dict[int, str] = {}
    n_unseen = np.zeros((len(replicates), len(score_set.populations)), dtype=np.int64)
    for row, replicate in enumerate(replicates):
        unseen = UnseenCells(cells, replicate, score_set.populations, seed)
        n_unseen[row] = unseen.n_cells
        tests = _Tests(score_set, frozenset(known), unseen, row, top_k, p_values)
        tests.of_markers()
        tests.of_programs()
        untested |= tests.of_responses()
    summaries, q_values, genes = [], {}, list[_TestedList]()
    for method in score_set.methods:
        q_values[method.name] = np.full((len(score_set.populations), len(score_set.genes)), np.nan)
        for position in range(len(score_set.populations)):
            why = untested.get(position, "") if method.estimand == "response" else ""
            of_lists = p_values[method.name][:, position]
            row_of_method, of_genes, q_values[method.name][position] = _of_method(
                score_set, method, position, of_lists, top_k, n_unseen[:, position], why
            )
            summaries.append(row_of_method)
            genes += of_genes
    return Confirmation(
        pd.DataFrame(summaries, columns=list(_COLUMNS)),
        _genes_table(score_set, genes),
        q_values,
        p_values,
    )


@dataclass(frozen=True, eq=False)
class _TestedList:
    """One list that was tested: p-values and q-values of the ``genes`` at these positions."""

    population: str
    method: NamedMethod
    replicate: int
    genes: IntArray
    p_values: FloatArray
    q_values: FloatArray


def _genes_table(score_set: ScoreSet, lists: Sequence[_TestedList]) -> pd.DataFrame:
    if not lists:
        return pd.DataFrame(columns=list(_GENE_COLUMNS))
    lengths = [tested.genes.size for tested in lists]

    def repeated(values: Iterable[object]) -> npt.NDArray[np.object_]:
        return np.repeat(np.fromiter(values, dtype=object, count=len(lists)), lengths)

    return pd.DataFrame(
        {
            "population": repeated(tested.population for tested in lists),
            "estimand": repeated(tested.method.estimand for tested in lists),
            "method": repeated(tested.method.name for tested in lists),
            "replicate": np.repeat([tested.replicate for tested in lists], lengths),
            "gene": np.asarray(score_set.genes, dtype=object)[np.concatenate([tested.genes for tested in lists])],
            "p_value": np.concatenate([tested.p_values for tested in lists]),
            "q_value": np.concatenate([tested.q_values for tested in lists]),
        }
    )


def _of_method(
    score_set: ScoreSet,
    method: NamedMethod,
    position: int,
    p_values: FloatArray,
    top_k: int,
    n_unseen: IntArray,
    why: str,
) -> tuple[dict[str, object], list[_TestedList], FloatArray]:
    """Return the row of a method's lists of one population, each as it was tested, and q-values over replicates."""
    names = {"population": score_set.populations[position], "estimand": method.estimand, "method": method.name}
    ranks = score_set.ranks[method.name][:, position]
    rows = np.flatnonzero(~np.isnan(p_values).all(axis=1))
    listed = [np.argsort(ranks[row], kind="stable")[:top_k] for row in rows]
    lists = [p_values[row, chosen] for row, chosen in zip(rows, listed, strict=True)]
    list_q_values = [adaptive_q_values(p) for p in lists]
    reason, q_values = "", np.full(ranks.shape[1], np.nan)
    if lists:
        combined = combined_p_values(np.where(np.isnan(p_values[rows]), 1.0, p_values[rows]))
        q_values = bh_q_values(combined, n_tests=min(2 * top_k, combined.size))
    elif not score_set.scored(method.name)[:, position].any():
        reason = "no replicate has a score"
    else:
        most = int(n_unseen.max(initial=0))
        reason = why or f"too few unseen cells for a test ({most} at most in one replicate)"
    seen = n_unseen[rows] if lists else n_unseen
    summary = {
        **names,
        **confirmed_shares(lists, top_k, list_q_values),
        "n_genes": top_k,
        "n_cells_unseen": round(float(seen.mean())) if seen.size else 0,
        "reason": reason,
    }
    tested = [
        _TestedList(score_set.populations[position], method, int(row), chosen, p, q)
        for row, chosen, p, q in zip(rows, listed, lists, list_q_values, strict=True)
    ]
    return summary, tested, q_values


@dataclass(frozen=True, eq=False)
class _Tests:
    """The tests of one replicate's lists, but those of methods that are ``known``; ``p_values`` gets what they give."""

    score_set: ScoreSet
    known: frozenset[str]
    unseen: UnseenCells
    row: int
    top_k: int
    p_values: dict[str, FloatArray]

    def _candidates(self, estimand: str, position: int) -> dict[str, IntArray]:
        """First 2k genes of each method's list, best first; methods without one are left out."""
        candidates: dict[str, IntArray] = {}
        for method in self.score_set.methods_of(estimand):
            ranks = self.score_set.ranks[method.name][self.row, position]
            if method.name not in self.known and ranks[0] > 0:
                candidates[method.name] = np.argsort(ranks, kind="stable")[: 2 * self.top_k]
        return candidates

    def of_markers(self) -> None:
        chosen = {
            (name, position): genes
            for position in range(len(self.score_set.populations))
            for name, genes in self._candidates("marker", position).items()
        }
        if not chosen:
            return
        union = np.unique(np.concatenate(list(chosen.values())))
        marker_p_values = self.unseen.marker_p_values(union)
        for (name, position), genes in chosen.items():
            tested = marker_p_values[position, np.searchsorted(union, genes)]
            self.p_values[name][self.row, position, genes] = tested

    def of_programs(self) -> None:
        def test(position: int) -> None:
            chosen = self._candidates("program", position)
            if not chosen:
                return
            sides = self.unseen.sides(position)
            for name, genes in chosen.items():
                listed = np.zeros(len(self.score_set.genes), dtype=bool)
                listed[genes[: self.top_k]] = True
                self.p_values[name][self.row, position, genes] = program_p_values(*sides, listed, genes)

        side_by_side(test, range(len(self.score_set.populations)))

    def of_responses(self) -> dict[int, str]:
        """Test response genes, those of permuted conditions under these; return why populations cannot be tested."""
        untested = {}
        for position, permuted in product(range(len(self.score_set.populations)), (False, True)):
            candidates = self._candidates("response", position)
            chosen = {name: genes for name, genes in candidates.items() if (name == RESPONSE_NULL) == permuted}
            if not chosen:
                continue
            union = np.unique(np.concatenate(list(chosen.values())))
            test = self.unseen.response_test(position, union, permuted=permuted)
            if test.reason:
                untested[position] = test.reason
            for name, genes in chosen.items():
                self.p_values[name][self.row, position, genes] = test.p_value[np.searchsorted(union, genes)]
        return untested
