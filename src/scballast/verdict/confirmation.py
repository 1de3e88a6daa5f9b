"""Confirmation of every list in the cells that its replicate never saw, as tables.

Per list, the genes of its top k are tested (``agreement.confirmation``, ``agreement.marker_confirmation``): p-values,
adaptive q-values within the list, the share confirmed at 5%, Storey's share and a simultaneous lower bound. Over the
replicates of a method, which share cells and depend on each other: shares are averaged; bounds, each at confidence
1 - α/2, are combined by their median; the p-values of a gene by twice their median (a gene that is not among the first
2k of a replicate has a p-value of 1 there), with q-values for the 2k tests that each replicate makes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scballast.agreement.confirmation import PopulationCells, population_cells, program_p_values
from scballast.agreement.marker_confirmation import composition_depth, depth_strata, marker_p_values
from scballast.agreement.multiplicity import (
    adaptive_q_values,
    bh_q_values,
    combined_lower_bound,
    combined_p_values,
    true_lower_bound,
    true_share,
)
from scballast.arrays import FloatArray, IntArray
from scballast.data.replicates import Replicate
from scballast.methods.method import ESTIMANDS, NamedMethod
from scballast.seeds import Stream, generator_for
from scballast.verdict.score_set import ScoreSet

if TYPE_CHECKING:
    import pandas as pd

FALSE_DISCOVERY_RATE = 0.05
LEVEL = 0.95
MOST_CELLS = 4000
"""Cells of one population that a program test looks at, seen and unseen each."""

_COLUMNS = ("population", "estimand", "method", "confirmed", "lower", "pi", "n_genes", "n_cells_unseen", "reason")
_GENE_COLUMNS = ("population", "estimand", "method", "replicate", "gene", "p_value", "q_value")


@dataclass(frozen=True, eq=False)
class Cells:
    """All cells of an experiment.

    Attributes
    ----------
    counts
        (n_cells, n_genes) raw counts of the analysed genes, CSR.
    total_counts
        (n_cells,) counts per cell over all genes.
    codes
        (n_cells,) population of each cell; negative: none.
    batches
        (n_cells,) code of the experimental batch, or None.
    samples
        (n_cells,) code of the biological sample, or None.
    """

    counts: sparse.csr_matrix
    total_counts: FloatArray
    codes: IntArray
    batches: IntArray | None = None
    samples: IntArray | None = None


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
        method.name: known[method.name] if method.name in known else np.full(shape, np.nan)
        for method in score_set.methods
        for shape in (score_set.scores[method.name].shape,)
    }
    markers, programs = (
        [method for method in score_set.methods_of(estimand) if method.name not in known] for estimand in ESTIMANDS
    )
    unseen = np.zeros((len(replicates), len(score_set.populations)), dtype=np.int64)
    for row, replicate in enumerate(replicates):
        inside = cells.codes[replicate.heldout]
        unseen[row] = np.bincount(inside[inside >= 0], minlength=len(score_set.populations))
        _test_markers(p_values, score_set, markers, cells, row, replicate.heldout, top_k)
        _test_programs(p_values, score_set, programs, cells, row, replicate, top_k, seed)
    summaries, genes, q_values = [], [], {}
    for method in score_set.methods:
        q_values[method.name] = np.full((len(score_set.populations), len(score_set.genes)), np.nan)
        for position in range(len(score_set.populations)):
            own = _OneMethod(score_set, method, position, p_values[method.name][:, position], top_k)
            summaries.append(own.summary(unseen[:, position]))
            genes.append(own.genes())
            q_values[method.name][position] = own.q_values()
    import pandas as pd

    found = [table for table in genes if len(table)]
    return Confirmation(
        pd.DataFrame(summaries, columns=list(_COLUMNS)),
        pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(_GENE_COLUMNS)),
        q_values,
        p_values,
    )


@dataclass(frozen=True, eq=False)
class _OneMethod:
    """The lists of one method on one population."""

    score_set: ScoreSet
    method: NamedMethod
    position: int
    p_values: FloatArray  # (replicate, gene)
    top_k: int

    def _listed(self, replicate: int) -> IntArray:
        ranks = self.score_set.ranks[self.method.name][replicate, self.position]
        return np.argsort(ranks, kind="stable")[: self.top_k]

    def _tested(self) -> IntArray:
        return np.flatnonzero(~np.isnan(self.p_values).all(axis=1))

    def _names(self) -> dict[str, object]:
        population = self.score_set.populations[self.position]
        return {"population": population, "estimand": self.method.estimand, "method": self.method.name}

    def summary(self, n_unseen: IntArray) -> dict[str, object]:
        rows = self._tested()
        lists = [self.p_values[row, self._listed(row)] for row in rows]
        numbers = {"confirmed": math.nan, "lower": math.nan, "pi": math.nan}
        reason = ""
        if lists:
            bounds = [true_lower_bound(p, level=(1.0 + LEVEL) / 2.0) / self.top_k for p in lists]
            numbers = {
                "confirmed": float(np.mean([(adaptive_q_values(p) <= FALSE_DISCOVERY_RATE).mean() for p in lists])),
                "lower": combined_lower_bound(bounds),
                "pi": float(np.mean([true_share(p) for p in lists])),
            }
        elif not self.score_set.scored(self.method.name)[:, self.position].any():
            reason = "no replicate has a score"
        else:
            reason = f"too few unseen cells for a test ({int(n_unseen.max(initial=0))} at most in one replicate)"
        seen = n_unseen[rows] if lists else n_unseen
        return {
            **self._names(),
            **numbers,
            "n_genes": self.top_k,
            "n_cells_unseen": round(float(seen.mean())) if seen.size else 0,
            "reason": reason,
        }

    def genes(self) -> pd.DataFrame:
        import pandas as pd

        names = np.asarray(self.score_set.genes, dtype=object)
        parts = []
        for row in self._tested():
            listed = self._listed(row)
            p = self.p_values[row, listed]
            columns = {"replicate": row, "gene": names[listed], "p_value": p, "q_value": adaptive_q_values(p)}
            parts.append(pd.DataFrame({**self._names(), **columns}))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(_GENE_COLUMNS))

    def q_values(self) -> FloatArray:
        tested = self.p_values[self._tested()]
        if not len(tested):
            return np.full(len(self.score_set.genes), np.nan)
        combined = combined_p_values(np.where(np.isnan(tested), 1.0, tested))
        return bh_q_values(combined, n_tests=min(2 * self.top_k, combined.size))


def _candidates(score_set: ScoreSet, method: NamedMethod, row: int, position: int, top_k: int) -> IntArray:
    """First 2k genes of a list, best first; empty without a list."""
    ranks = score_set.ranks[method.name][row, position]
    return np.argsort(ranks, kind="stable")[: 2 * top_k] if ranks[0] > 0 else np.zeros(0, dtype=np.int64)


def _test_markers(
    p_values: dict[str, FloatArray],
    score_set: ScoreSet,
    methods: Sequence[NamedMethod],
    cells: Cells,
    row: int,
    heldout: IntArray,
    top_k: int,
) -> None:
    n_populations = len(score_set.populations)
    chosen = {
        (method.name, position): _candidates(score_set, method, row, position, top_k)
        for method in methods
        for position in range(n_populations)
    }
    if heldout.size == 0 or not any(genes.size for genes in chosen.values()):
        return
    union = np.unique(np.concatenate(list(chosen.values())))
    codes = cells.codes[heldout]
    counts = cells.counts[heldout]
    depth = composition_depth(counts, cells.total_counts[heldout], codes)
    strata = depth_strata(depth, _joined(cells.batches, cells.samples, heldout))
    found = marker_p_values(counts[:, union], codes, n_populations, depth, strata)
    place = np.searchsorted(union, np.arange(len(score_set.genes)))
    for (name, position), genes in chosen.items():
        p_values[name][row, position, genes] = found[position, place[genes]]


def _test_programs(
    p_values: dict[str, FloatArray],
    score_set: ScoreSet,
    methods: Sequence[NamedMethod],
    cells: Cells,
    row: int,
    replicate: Replicate,
    top_k: int,
    seed: int,
) -> None:
    if not methods:
        return
    profiles = [_profiles(cells, side, len(score_set.populations)) for side in (replicate.cells, replicate.heldout)]
    for position, population in enumerate(score_set.populations):
        chosen = {method.name: _candidates(score_set, method, row, position, top_k) for method in methods}
        if not any(genes.size for genes in chosen.values()):
            continue
        sides = []
        for name, positions, shares in zip(
            ("seen", "unseen"), (replicate.cells, replicate.heldout), profiles, strict=True
        ):
            own = positions[cells.codes[positions] == position]
            if own.size > MOST_CELLS:
                identity = ("confirmation", name, replicate.number, population)
                own = np.sort(generator_for(seed, Stream.HELDOUT, *identity).choice(own, MOST_CELLS, replace=False))
            sides.append(_population_cells(cells, own, shares, position))
        for name, genes in chosen.items():
            listed = np.zeros(len(score_set.genes), dtype=bool)
            listed[genes[:top_k]] = True
            p_values[name][row, position, genes] = program_p_values(sides[0], sides[1], listed, genes)


def _population_cells(cells: Cells, own: IntArray, profiles: FloatArray, position: int) -> PopulationCells:
    return population_cells(
        cells.counts[own],
        cells.total_counts[own],
        batches=None if cells.batches is None else cells.batches[own],
        # A population without counts on this side has no profile that a cell could resemble.
        profiles=profiles[profiles.any(axis=1)] if profiles[position].any() else None,
        own=int(np.count_nonzero(profiles[:position].any(axis=1))),
    )


def _profiles(cells: Cells, side: IntArray, n_populations: int) -> FloatArray:
    """(n_populations, n_genes) share of each gene in the counts of each population, on one side."""
    codes = cells.codes[side]
    inside = codes >= 0
    members = sparse.csr_matrix(
        (np.ones(int(inside.sum())), (codes[inside], np.flatnonzero(inside))), shape=(n_populations, side.size)
    )
    sums = (members @ cells.counts[side]).toarray().astype(np.float64)
    totals = sums.sum(axis=1, keepdims=True)
    shares: FloatArray = np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0)
    return shares


def _joined(batches: IntArray | None, samples: IntArray | None, chosen: IntArray) -> IntArray | None:
    """Return codes of batch and sample together, of the chosen cells."""
    known = [codes[chosen] for codes in (batches, samples) if codes is not None]
    if not known:
        return None
    joined: IntArray = np.unique(np.column_stack(known), axis=0, return_inverse=True)[1].ravel()
    return joined
