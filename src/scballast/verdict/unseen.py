"""The tests of gene lists in the cells that a replicate did not see, for any list: a method's or somebody's."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import sparse

from scballast.agreement.confirmation import PopulationCells, foreign_share, population_cells
from scballast.agreement.marker_confirmation import composition_depth, depth_strata, marker_p_values
from scballast.agreement.multiplicity import adaptive_q_values, combined_lower_bound, true_lower_bound, true_share
from scballast.agreement.response_confirmation import over_donors_test, within_donor_test
from scballast.agreement.statistic import Tested, untested
from scballast.arrays import BoolArray, FloatArray, IntArray, divided, membership
from scballast.data.replicates import Replicate
from scballast.seeds import Stream, at_most, generator_for

FALSE_DISCOVERY_RATE = 0.05
LEVEL = 0.95
MOST_CELLS = 4000
"""Cells of one population that a program test looks at, seen and unseen each."""


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
        (n_cells,) code of the biological sample (donor), or None.
    conditions
        (n_cells,) 0: the reference, 1: the other condition, negative: neither; or None.
    null_conditions
        (n_cells,) the same after permuting, or None.
    known_foreign
        Shares of other populations in cells (``agreement.confirmation.foreign_share``) by what they follow from: the
        first answer and the confirmation ask for the same.
    """

    counts: sparse.csr_matrix
    total_counts: FloatArray
    codes: IntArray
    batches: IntArray | None = None
    samples: IntArray | None = None
    conditions: IntArray | None = None
    null_conditions: IntArray | None = None
    known_foreign: dict[tuple[bytes, int], FloatArray] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class UnseenCells:
    """One replicate, ready to test lists in the cells that it did not see.

    Attributes
    ----------
    cells
        All cells.
    replicate
        What it saw (``cells``) and did not see (``heldout``).
    populations
        Names by population code.
    seed
        The experiment's seed: which cells of a very large population are looked at.
    """

    cells: Cells
    replicate: Replicate
    populations: Sequence[str]
    seed: int

    @cached_property
    def n_cells(self) -> IntArray:
        """(n_populations,) Unseen cells of each population."""
        inside = self.cells.codes[self.replicate.heldout]
        return np.bincount(inside[inside >= 0], minlength=len(self.populations))

    def marker_p_values(self, genes: IntArray) -> FloatArray:
        """Test whether genes are higher in each population than in the rest.

        Parameters
        ----------
        genes
            (n_tested,) columns of the counts.

        Returns
        -------
        (n_populations, n_tested) float
            See ``agreement.marker_confirmation``; all NaN without unseen cells.
        """
        heldout = self.replicate.heldout
        if heldout.size == 0:
            return np.full((len(self.populations), genes.size), np.nan)
        counts, codes = self.cells.counts[heldout], self.cells.codes[heldout]
        depth = composition_depth(counts, self.cells.total_counts[heldout], codes)
        strata = depth_strata(depth, joined_codes(self.cells.batches, self.cells.samples, heldout))
        return marker_p_values(counts[:, genes], codes, len(self.populations), depth, strata)

    def response_test(self, position: int, genes: IntArray, *, permuted: bool = False) -> Tested:
        """Test whether genes differ between the conditions within a population.

        In donors that the replicate has not seen, if there are only such; else in other cells of the donors that it
        has seen. See ``agreement.response_confirmation``.

        Parameters
        ----------
        position
            Of the population.
        genes
            (n_tested,) columns of the counts.
        permuted
            Whether conditions are those that mean nothing.
        """
        cells, heldout, samples = self.cells, self.replicate.heldout, self.cells.samples
        conditions = cells.null_conditions if permuted else cells.conditions
        if conditions is None:
            return untested(genes.size, "there are no conditions")
        tested_cells = heldout[(cells.codes[heldout] == position) & (conditions[heldout] >= 0)]
        if tested_cells.size == 0:
            return untested(genes.size, "no unseen cell has a condition")
        shared = (cells.counts[tested_cells], cells.total_counts[tested_cells], conditions[tested_cells])
        if samples is not None and not np.isin(samples[heldout], samples[self.replicate.cells]).any():
            return over_donors_test(*shared, samples[tested_cells], genes)
        return within_donor_test(*shared, joined_codes(cells.batches, samples, tested_cells), genes)

    def sides(self, position: int) -> tuple[PopulationCells, PopulationCells]:
        """Return the seen and the unseen cells of a population, ready for ``agreement.program_p_values``."""
        both_sides = []
        sides = (self.replicate.cells, self.replicate.heldout)
        for name, side, shares in zip(("seen", "unseen"), sides, self._profiles, strict=True):
            side_cells = side[self.cells.codes[side] == position]
            identity = ("confirmation", name, self.replicate.number, self.populations[position])
            side_cells = at_most(side_cells, MOST_CELLS, generator_for(self.seed, Stream.HELDOUT, *identity))
            both_sides.append(_population_cells(self.cells, side_cells, shares, position))
        return both_sides[0], both_sides[1]

    @cached_property
    def _profiles(self) -> list[FloatArray]:
        sides = (self.replicate.cells, self.replicate.heldout)
        return [_profiles(self.cells, side, len(self.populations)) for side in sides]


def confirmed_share(lists: Sequence[FloatArray]) -> float:
    """Return the confirmed share of the p-values of one list, mean over replicates."""
    return _share_of([adaptive_q_values(p) for p in lists])


def _share_of(q_values: Sequence[FloatArray]) -> float:
    return float(np.mean([(q <= FALSE_DISCOVERY_RATE).mean() for q in q_values]))


def confirmed_shares(
    lists: Sequence[FloatArray], n_genes: int, q_values: Sequence[FloatArray] | None = None
) -> dict[str, float]:
    """Sum up the p-values of one list, or of one method's lists, over replicates.

    Parameters
    ----------
    lists
        For each replicate in which it could be tested, (n_tested,) p-values.
    n_genes
        Genes of a list: what the bound is a share of.
    q_values
        ``adaptive_q_values`` of each of the lists, where the caller has them.

    Returns
    -------
    dict
        confirmed (share with an adaptive q-value of at most 5%, mean over replicates), lower (share that holds with 95%
        confidence; see ``multiplicity.combined_lower_bound``), pi (Storey's share, mean); NaN without lists.
    """
    if not lists:
        return dict.fromkeys(("confirmed", "lower", "pi"), float("nan"))
    bounds = [true_lower_bound(p, level=(1.0 + LEVEL) / 2.0) / n_genes for p in lists]
    return {
        "confirmed": confirmed_share(lists) if q_values is None else _share_of(q_values),
        "lower": combined_lower_bound(bounds),
        "pi": float(np.mean([true_share(p) for p in lists])),
    }


def _population_cells(cells: Cells, rows: IntArray, profiles: FloatArray, position: int) -> PopulationCells:
    counts = cells.counts[rows]
    # A population without counts on this side has no profile that a cell could resemble.
    there: BoolArray = np.asarray(profiles.any(axis=1))
    foreign = None
    if there[position] and there.sum() > 1:
        key = (hashlib.sha256(rows.tobytes() + profiles.tobytes()).digest(), position)
        foreign = cells.known_foreign.get(key)
        if foreign is None:
            foreign = foreign_share(counts, profiles[there], int(np.count_nonzero(there[:position])))
            cells.known_foreign[key] = foreign
    batches = None if cells.batches is None else cells.batches[rows]
    return population_cells(counts, cells.total_counts[rows], batches=batches, foreign=foreign)


def _profiles(cells: Cells, side: IntArray, n_populations: int) -> FloatArray:
    """(n_populations, n_genes) share of each gene in the counts of each population, on one side."""
    sums = (membership(cells.codes[side], n_populations) @ cells.counts[side]).toarray().astype(np.float64)
    return divided(sums, sums.sum(axis=1, keepdims=True))


def joined_codes(batches: IntArray | None, samples: IntArray | None, chosen: IntArray) -> IntArray | None:
    """Return codes of batch and sample together, of the chosen cells."""
    known = [codes[chosen] for codes in (batches, samples) if codes is not None]
    if not known:
        return None
    return np.asarray(np.unique(np.column_stack(known), axis=0, return_inverse=True)[1].ravel())
