"""Confirmation of response genes: do they differ between two conditions, in cells or donors that the list never saw.

Where the unseen cells are of donors that the list has seen, conditions are compared within each donor, and cells are
the evidence: what differs between two preparations of a donor's cells, seen and unseen alike, passes for a response.
Where the unseen cells are of other donors, the donors are the evidence.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse, stats

from scballast.agreement.marker_confirmation import composition_depth, depth_strata, few_to_compare, van_elteren
from scballast.agreement.statistic import Tested, untested
from scballast.arrays import FloatArray, IntArray, cross_table, divided, membership

CELLS_OF_A_DONOR = 3
"""Cells of one condition that a donor must have to take part."""
FEWEST_PAIRED, FEWEST_UNPAIRED = 3, 2
"""Donors with both conditions, or of each condition: two degrees of freedom are left."""
_TARGET_COUNTS = 1e4


def within_donor_test(
    counts: sparse.csr_matrix,
    total_counts: FloatArray,
    conditions: IntArray,
    blocks: IntArray | None,
    genes: IntArray,
) -> Tested:
    """Compare conditions cell by cell, within donors (and batches) and strata of depth: van Elteren's rank test.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts of unseen cells of one population, of all analysed genes.
    total_counts
        (n_cells,) counts per cell over all genes.
    conditions
        (n_cells,) 0: reference, 1: the other.
    blocks
        (n_cells,) donor (crossed with batch) of each cell; None: the cells are one block.
    genes
        (n_tested,) columns to test.

    Returns
    -------
    Tested
        p-values are 1 for a gene that is equal in all cells. None where fewer than 5 cells of either condition are in
        strata that have both.
    """
    depth = composition_depth(counts, total_counts, conditions)
    strata = depth_strata(depth, blocks)
    if blocks is not None and not np.intersect1d(blocks[conditions == 0], blocks[conditions == 1]).size:
        return untested(genes.size, "no donor (or batch) has unseen cells of both conditions")
    if few_to_compare(conditions, 2, strata).any():
        return untested(genes.size, "too few unseen cells of both conditions to compare")
    z = van_elteren(counts[:, genes], conditions, 2, depth, strata)[1]
    return Tested(two_sided(z))


def two_sided(z: FloatArray) -> FloatArray:
    """Return two-sided normal p-values; 1 where there is nothing to compare (NaN)."""
    return np.asarray(2.0 * stats.norm.sf(np.abs(np.nan_to_num(z, nan=0.0))))


def over_donors_test(
    counts: sparse.csr_matrix,
    total_counts: FloatArray,
    conditions: IntArray,
    donors: IntArray,
    genes: IntArray,
) -> Tested:
    """Compare conditions donor by donor: a t-test of the donors' log expression, paired where donors have both.

    A donor's expression under a condition is the natural log of 1 plus its counts per 10,000, summed over its cells,
    on a scale on which the median gene is equal under both conditions.

    Parameters
    ----------
    counts, total_counts, conditions, genes
        As :func:`within_donor_test`, of cells whose donors the list has not seen.
    donors
        (n_cells,) donor of each cell.

    Returns
    -------
    Tested
        Paired over the donors with 3 cells or more under both conditions, at least 3 of them; without such a donor, the
        donors of one condition against those of the other, at least 2 each (equal variances). p-values are 1 for a
        gene without any difference.
    """
    present, donor = np.unique(donors, return_inverse=True)
    enough = cross_table(donor, present.size, conditions, 2) >= CELLS_OF_A_DONOR
    depth = composition_depth(counts, total_counts, conditions)
    members = membership(donor * 2 + conditions, 2 * present.size)
    sums = np.asarray((members @ counts[:, genes].astype(np.float64)).todense())
    totals = np.asarray(members @ depth)[:, None]
    shares = divided(sums, totals)
    levels = np.log1p(_TARGET_COUNTS * shares).reshape(present.size, 2, genes.size)
    paired = enough.all(axis=1)
    if paired.any():
        differences = levels[paired, 1] - levels[paired, 0]
        if len(differences) < FEWEST_PAIRED:
            which = f"{len(differences)} unseen donors have both conditions"
            return untested(genes.size, f"{which}, and {FEWEST_PAIRED} are needed")
        error = differences.std(axis=0, ddof=1) / np.sqrt(len(differences))
        return Tested(_t_test(differences.mean(axis=0), error, len(differences) - 1))
    sides = [levels[enough[:, condition], condition] for condition in (0, 1)]
    numbers = [len(side) for side in sides]
    if min(numbers) < FEWEST_UNPAIRED:
        which = f"{numbers[0]} and {numbers[1]} unseen donors have one condition and the other"
        return untested(genes.size, f"{which}, and {FEWEST_UNPAIRED} of each are needed")
    squares = sum((side.var(axis=0) * len(side) for side in sides), np.zeros(genes.size))
    degrees = sum(numbers) - 2
    error = np.sqrt(squares / degrees * (1 / numbers[0] + 1 / numbers[1]))
    return Tested(_t_test(sides[1].mean(axis=0) - sides[0].mean(axis=0), error, degrees))


def _t_test(difference: FloatArray, error: FloatArray, degrees: int) -> FloatArray:
    """Two-sided p-values of Student's t; 1 where nothing differs."""
    t = np.divide(difference, error, out=np.where(difference == 0, 0.0, np.inf), where=error > 0)
    return np.asarray(2.0 * stats.t.sf(np.abs(t), degrees))
