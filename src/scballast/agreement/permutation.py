"""Permutation tests of the difference between a group and the rest, with cells or whole donors as the units.

Cells of one donor resemble each other, so cells are exchangeable only within a donor. Where a group is made of whole
donors (a condition that each donor has or has not) the donors are what was labelled, and their labels are permuted.
"""

from __future__ import annotations

from itertools import chain, combinations
from math import comb

import numpy as np
from scipy import sparse

from scballast.agreement.statistic import Tested, untested
from scballast.arrays import BoolArray, FloatArray, IntArray, membership

MOST_ASSIGNMENTS = 20_000
"""Assignments of a label to donors that are all looked at; of more, some are drawn."""
LEVEL = 0.05
"""A test that cannot reach a p-value below this is not made."""

_INDICES_PER_BLOCK = 2**22
_RELATIVE_TOLERANCE = 1e-9


def group_sums(values: FloatArray, labels: IntArray, n_groups: int) -> FloatArray:
    """Return (n_dimensions, n_groups) sums of ``values`` (n_cells, n_dimensions) over the cells of each group."""
    return np.asarray((membership(labels, n_groups) @ values).T)


def cell_p_values(
    values: FloatArray,
    labels: IntArray,
    n_categories: int,
    *,
    strata: IntArray | None = None,
    n_permutations: int,
    generator: np.random.Generator,
) -> FloatArray:
    r"""Permute the labels of the cells, all of them or within strata (donors).

    Parameters
    ----------
    values : (n_cells, n_dimensions) float
        What is compared.
    labels : (n_cells,) int
        Category of each cell, 0 to ``n_categories`` less 1.
    n_categories
        Number of categories.
    strata : (n_cells,) int, optional
        Cells of one stratum exchange labels with each other alone; default: all cells are one stratum.
    n_permutations
        The same for all dimensions and categories, > 0.
    generator
        Draws them.

    Returns
    -------
    (n_dimensions, n_categories) float
        :math:`(b+1)/(m+1)` with b of m permutations in which the sum of the category's values, each less the mean of
        its stratum, is at least as far from 0; NaN for a dimension that is constant within every stratum.

    References
    ----------
    Phipson & Smyth (2010), Permutation p-values should never be zero.
    """
    blocks = np.zeros(len(labels), dtype=np.int64) if strata is None else np.unique(strata, return_inverse=True)[1]
    # Constant dimensions cannot be told from rounding after centring, so they are found before.
    varied = np.zeros(values.shape[1], dtype=bool)
    centred = np.empty(values.shape)
    members = [np.flatnonzero(blocks == block) for block in range(int(blocks.max(initial=-1)) + 1)]
    for cells in members:
        stratum_values = values[cells]
        varied |= stratum_values.min(axis=0) < stratum_values.max(axis=0)
        centred[cells] = stratum_values - stratum_values.mean(axis=0)
    limit = np.abs(group_sums(centred, labels, n_categories)) * (1 - _RELATIVE_TOLERANCE)
    # A permutation deals the cells of each stratum out anew to its slots. The sums of a block of permutations are one
    # product of a sparse 0/1 matrix, row (permutation, category), with the values.
    slots = np.concatenate([np.sort(labels[cells]) for cells in members])
    by_category = np.argsort(slots, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=n_categories))
    n_cells = len(labels)
    at_least = np.zeros(limit.shape, dtype=np.int64)
    block = max(1, _INDICES_PER_BLOCK // n_cells)
    for start in range(0, n_permutations, block):
        n_now = min(block, n_permutations - start)
        dealt = np.concatenate(
            [generator.permuted(np.tile(cells.astype(np.int32), (n_now, 1)), axis=1) for cells in members], axis=1
        )[:, by_category]
        rows = (np.arange(n_now)[:, None] * n_cells + ends).ravel()
        deal = sparse.csr_matrix(
            (np.ones(dealt.size), dealt.ravel(), np.concatenate([[0], rows])), (rows.size, n_cells)
        )
        permuted = (deal @ centred).reshape(n_now, n_categories, -1)  # (permutation, category, dimension)
        at_least += (np.abs(permuted) >= limit.T).sum(axis=0).T
    p_values: FloatArray = (at_least + 1) / (n_permutations + 1)
    p_values[~varied] = np.nan
    return p_values


def donor_p_values(
    values: FloatArray, inside: BoolArray, *, n_permutations: int, generator: np.random.Generator
) -> Tested:
    r"""Permute a label over the donors that have it or have it not.

    The statistic is the difference between the mean of the donors with the label and the mean of the others: each
    donor counts once, however many cells it has.

    Parameters
    ----------
    values : (n_donors, n_dimensions) float
        Mean of each donor's cells.
    inside : (n_donors,) bool
        Which donors have the label.
    n_permutations
        How many are drawn where there are more than ``MOST_ASSIGNMENTS`` assignments, > 0.
    generator
        Draws them.

    Returns
    -------
    Tested
        The share of all assignments of the label to as many donors with a difference at least as large in size, the
        observed one among them; where assignments are drawn, :math:`(b+1)/(m+1)`.

    References
    ----------
    Phipson & Smyth (2010), Permutation p-values should never be zero; Ernst (2004), Permutation methods: a basis for
    exact inference.
    """
    n_donors, n_inside = inside.size, int(inside.sum())
    n_assignments = comb(n_donors, n_inside)
    # Where half of the donors have the label, the other half in its place is as far from no difference.
    smallest = (2 if 2 * n_inside == n_donors else 1) / n_assignments
    if smallest >= LEVEL:
        reason = (
            f"{n_inside} of {n_donors} donors: their labels permuted give no p-value below {LEVEL:g} "
            f"({min(smallest, 1.0):.2g} at least)"
        )
        return untested(values.shape[1], reason)
    centred = values - values.mean(axis=0)
    limit = np.abs(centred[inside].sum(axis=0)) * (1 - _RELATIVE_TOLERANCE)
    if n_assignments <= MOST_ASSIGNMENTS:
        n_chosen = min(n_inside, n_donors - n_inside)  # the others' sum is the same but for the sign
        subsets = np.fromiter(
            chain.from_iterable(combinations(range(n_donors), n_chosen)), dtype=np.int64, count=n_assignments * n_chosen
        ).reshape(n_assignments, n_chosen)
        return Tested((np.abs(_sums(centred, subsets)) >= limit).mean(axis=0))
    orders = generator.permuted(np.tile(np.arange(n_donors), (n_permutations, 1)), axis=1)
    at_least = (np.abs(_sums(centred, orders[:, :n_inside])) >= limit).sum(axis=0)
    return Tested((at_least + 1) / (n_permutations + 1))


def _sums(values: FloatArray, subsets: IntArray) -> FloatArray:
    """Return (n_subsets, n_dimensions) sums of the rows in each subset."""
    sums = np.zeros((len(subsets), values.shape[1]))
    for column in subsets.T:
        sums += values[column]
    return sums
