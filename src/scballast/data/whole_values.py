"""Whole numbers that are no counts: logarithms, normalised or multiplied values that somebody rounded."""

from __future__ import annotations

import numpy as np

from scballast.arrays import FloatArray
from scballast.data.dispersion import TOO_LITTLE, dispersion
from scballast.data.row_sample import RowSample

FEWEST_CELLS = 50
"""Whose totals tell."""
FEWEST_DIFFERENT = 3
"""Values of which a common divisor says something."""
FEWEST_GAPS = 5
SHARE_OF_GAPS = 0.1
"""Cells with a gap, below which these may be chance: of real and simulated counts 2 % at most have one."""
HIGHEST_GAP = 6
"""Gaps between multiples of a number below 2 begin above it."""
FEWEST_BESIDE = 5
"""Values on either side of a gap, in one cell."""
SHARE_OF_NEIGHBOURS = 0.1
TOTALS_TOO_ALIKE = 0.4
"""Variance of the totals over that of Poisson counts: three standard errors below them with the fewest cells."""


def doubts(sample: RowSample) -> list[str]:
    """Return what speaks against the values being counts, each in words that follow 'the values are whole, but'.

    Counts of cells and genes have four properties that rounding other values does not give them: they have no common
    divisor; in a cell, where 1 and 3 are common, 2 is so too; totals differ between cells (or are the same to the
    last count, after downsampling); and they vary at least as a Poisson distribution does (`dispersion`).

    Parameters
    ----------
    sample
        Rows of counts.

    References
    ----------
    Grün et al. (2014), Validation of noise models for single-cell transcriptomics.
    """
    rows = [np.rint(values) for values in sample.values if values.size]
    if not rows or max(values.max() for values in rows) == 1:
        return []
    reasons = []
    different = np.unique(np.concatenate(rows)).astype(np.int64)
    divisor = int(np.gcd.reduce(different)) if different.size >= FEWEST_DIFFERENT else 1
    if divisor > 1:
        reasons.append(f"all are multiples of {divisor}: were counts multiplied, or reads of pairs counted twice?")
        rows = [values / divisor for values in rows]
    with_gap = sum(map(_has_gap, rows))
    if with_gap >= max(FEWEST_GAPS, SHARE_OF_GAPS * len(rows)):
        reasons.append(
            f"in {with_gap:,} of the {len(rows):,} cells looked at some small number is missing although the next ones "
            "are common: were they normalised or multiplied, and rounded?"
        )
    totals = np.array([values.sum() for values in rows])
    if totals.size >= FEWEST_CELLS and 0 < totals.var() < TOTALS_TOO_ALIKE * totals.mean():
        reasons.append(
            f"the totals of the cells are all but the same ({totals.min() * divisor:,.0f} to "
            f"{totals.max() * divisor:,.0f}): were they normalised and rounded? (Counts that were downsampled before "
            "genes were left out are like this too.)"
        )
    varies = dispersion(sample.matrix() / divisor)
    if varies < TOO_LITTLE:
        reasons.append(
            f"within genes they vary {varies:.2f} times as much as counts do at the least: were they logged or scaled, "
            "and rounded?"
        )
    return reasons


def _has_gap(values: FloatArray) -> bool:
    """Tell whether, of the smallest numbers, one is rare among a cell's values although those beside it are common."""
    smallest = values.min()
    if smallest > 1 and np.count_nonzero(values == smallest) >= FEWEST_BESIDE:
        return True  # below 1 stand the zeros, which every cell has
    counts = np.bincount(values[values <= 2 * HIGHEST_GAP].astype(np.int64), minlength=2 * HIGHEST_GAP + 1)
    for number in range(2, HIGHEST_GAP + 1):
        beside = min(counts[1:number].max(), counts[number + 1 : 2 * number + 1].max())
        if beside >= FEWEST_BESIDE and counts[number] <= SHARE_OF_NEIGHBOURS * beside:
            return True
    return False
