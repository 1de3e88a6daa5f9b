"""Confirmation of markers in cells that the lists never saw: a rank test within strata of depth and batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats

from scballast.agreement.confirmation import FEWEST_CELLS
from scballast.arrays import BoolArray, FloatArray, IntArray, cross_table, divided

_CELLS_PER_STRATUM = 40
_MOST_STRATA = 5
_FEWEST_COUNTS = 20.0
_MOST_ENTRIES = 2**23  # of the tables of one part of the genes
_EXPECTED_SHARE = 8  # one count in so many is above 0


def marker_p_values(
    counts: sparse.csr_matrix,
    codes: IntArray,
    n_populations: int,
    depth: FloatArray,
    strata: IntArray,
) -> FloatArray:
    """Test whether genes are higher in each population than in the rest, within strata; see :func:`van_elteren`.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts of unseen cells of all populations; the genes to test.
    codes
        (n_cells,) population of each cell; negative: none, part of every rest.
    n_populations
        Number of populations.
    depth
        (n_cells,) what a count is divided by, > 0 where a cell has counts: see :func:`composition_depth`.
    strata
        (n_cells,) stratum of each cell: see :func:`depth_strata`.

    Returns
    -------
    (n_populations, n_genes) float
        One-sided p-values; 1 for a gene that is equal in all cells. NaN for a population with fewer than
        ``FEWEST_CELLS`` cells in strata that have others too, or as few others.
    """
    z = van_elteren(counts, codes, n_populations, depth, strata)
    p: FloatArray = stats.norm.sf(np.nan_to_num(z, nan=-np.inf))
    p[few_to_compare(codes, n_populations, strata)] = np.nan
    return p


def few_to_compare(codes: IntArray, n_populations: int, strata: IntArray) -> BoolArray:
    """Return the populations with fewer than ``FEWEST_CELLS`` cells in strata with others too, or as few others.

    Parameters
    ----------
    codes, n_populations, strata
        As :func:`van_elteren`.

    Returns
    -------
    (n_populations,) bool
    """
    present, stratum = np.unique(strata, return_inverse=True)
    within = cross_table(codes, n_populations, stratum, present.size).T
    outside = np.bincount(stratum, minlength=present.size)[:, None] - within
    both = (within > 0) & (outside > 0)
    return np.asarray(((within * both).sum(axis=0) < FEWEST_CELLS) | ((outside * both).sum(axis=0) < FEWEST_CELLS))


def van_elteren(
    counts: sparse.csr_matrix,
    codes: IntArray,
    n_populations: int,
    depth: FloatArray,
    strata: IntArray,
) -> FloatArray:
    r"""Compare counts over depth of each population with those of the rest, within strata: van Elteren's rank test.

    .. math:: z = \frac{\sum_s w_s (W_s - E W_s)}{\sqrt{\sum_s w_s^2 \mathrm{Var} W_s}}, \quad w_s = \frac{1}{N_s + 1}

    with the rank sum :math:`W_s` of the population's counts over depth among the :math:`N_s` cells of stratum s,
    midranks and the variance corrected for ties.

    Parameters
    ----------
    counts, codes, n_populations, depth, strata
        As :func:`marker_p_values`.

    Returns
    -------
    (n_populations, n_genes) float
        Standard normal without a difference; positive: higher in the population. NaN for a gene that is equal in all
        cells, and where no stratum has cells of both sides.

    References
    ----------
    van Elteren (1960), On the combination of independent two-sample tests of Wilcoxon, Bulletin of the International
    Statistical Institute 37; ties: Lehmann (1975), Nonparametrics, ch. 3.3.
    """
    n_cells, n_genes = counts.shape
    # Divided, not multiplied by the inverse: equal fractions such as 1/300 and 2/600 then stay tied.
    divisor = np.where(np.asarray(depth) > 0, depth, 1.0)
    present, stratum = np.unique(strata, return_inverse=True)
    within = cross_table(codes, n_populations, stratum, present.size).T  # (stratum, population)
    within = within.astype(np.float64, order="C")
    sizes = np.bincount(stratum, minlength=present.size).astype(np.float64)
    weight = 1.0 / (sizes + 1)
    pairs = (weight**2 / sizes)[:, None] * within * (sizes[:, None] - within)
    deviation = np.zeros((n_populations, n_genes))
    variance = np.zeros((n_populations, n_genes))
    at_once = max(1, _MOST_ENTRIES // max(present.size, n_populations, n_cells // _EXPECTED_SHARE))
    for start in range(0, n_genes, at_once):
        genes = slice(start, min(start + at_once, n_genes))
        entries = sparse.coo_matrix(counts[:, genes])
        kept = entries.data > 0
        cell, gene = entries.row[kept], entries.col[kept].astype(np.int64)
        n_now = genes.stop - genes.start
        ranks = _ranks_above_zeros(
            entries.data[kept] / divisor[cell], gene * present.size + stratum[cell], np.tile(sizes, n_now)
        )
        # A rank sum is that of as many zeros, and what the cells with counts have more.
        more = weight[stratum[cell]] * ranks.above_zeros
        labelled = codes[cell] >= 0
        excess = np.bincount(
            gene[labelled] * n_populations + codes[cell[labelled]], more[labelled], minlength=n_now * n_populations
        ).reshape(n_now, n_populations)
        of_zeros = (weight * (ranks.of_zeros.reshape(n_now, -1) - (sizes + 1) / 2)) @ within
        deviation[:, genes] = (excess + of_zeros).T
        variance[:, genes] = (ranks.spread.reshape(n_now, -1) @ pairs).T
    return divided(deviation, np.sqrt(variance), np.nan)


@dataclass(frozen=True)
class _Ranks:
    """Midranks of values above 0 in groups that hold zeros besides.

    Attributes
    ----------
    above_zeros
        (n_values,) rank of each, less that of a zero of its group.
    of_zeros
        (n_groups,) rank of a zero, had the group one.
    spread
        (n_groups,) variance of the ranks over the whole group, zeros included.
    """

    above_zeros: FloatArray
    of_zeros: FloatArray
    spread: FloatArray


def _ranks_above_zeros(values: FloatArray, groups: IntArray, sizes: FloatArray) -> _Ranks:
    """Rank values above 0 within groups of these sizes, (n_groups,), zeros included."""
    order = _by_group_and_value(values, groups, sizes.size)
    ordered, group = values[order], groups[order]
    n_values = np.bincount(groups, minlength=sizes.size)
    zeros = sizes - n_values
    first = np.ones(ordered.size, dtype=bool)
    first[1:] = (ordered[1:] != ordered[:-1]) | (group[1:] != group[:-1])
    begins = np.flatnonzero(first)
    lengths = np.diff(np.append(begins, ordered.size))
    of_run = begins - (np.cumsum(n_values) - n_values)[group[begins]] + (lengths + 1) / 2 + zeros[group[begins]]
    ranks = np.empty(ordered.size)
    ranks[order] = np.repeat(of_run, lengths)
    of_zeros, middle = (zeros + 1) / 2, (sizes + 1) / 2
    # Of no values numpy counts in whole numbers.
    squares = np.bincount(groups, (ranks - middle[groups]) ** 2, minlength=sizes.size).astype(np.float64)
    squares += zeros * (of_zeros - middle) ** 2
    return _Ranks(ranks - of_zeros[groups], of_zeros, squares / np.maximum(sizes - 1, 1))


def _by_group_and_value(values: FloatArray, groups: IntArray, n_groups: int) -> IntArray:
    """Sort by group, then by value, equal ones in any order: a quick sort, then one that counts (CSR to CSC)."""
    by_value = np.argsort(values)
    row = sparse.csr_matrix((by_value, groups[by_value], [0, values.size]), shape=(1, n_groups))
    return np.asarray(row.tocsc().data)


def composition_depth(counts: sparse.csr_matrix, depth: FloatArray, codes: IntArray) -> FloatArray:
    """Depth of each cell on a scale on which the median gene is equal in all populations.

    A population's strong markers push the share of every other gene down; a gene that is equal everywhere then seems to
    mark the populations that have few. Each population's depth is multiplied by the median over genes of its profile
    over the mean profile.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts.
    depth
        (n_cells,) counts per cell over all genes.
    codes
        (n_cells,) population of each cell; the cells of no population (negative) are one group more.

    Returns
    -------
    (n_cells,) float
        In counts.

    References
    ----------
    Anders & Huber (2010), Differential expression analysis for sequence count data, Genome Biology 11 (median of
    ratios).
    """
    scaled = np.asarray(depth, dtype=np.float64).copy()
    matrix = sparse.csr_matrix(counts)
    groups = [np.flatnonzero(codes == code) for code in np.unique(codes)]
    sums = np.array([np.asarray(matrix[cells].sum(axis=0)).ravel() for cells in groups])
    totals = np.array([scaled[cells].sum() for cells in groups])
    if len(groups) < 2 or np.any(totals == 0):
        return scaled
    profiles = sums / totals[:, None]
    reference = profiles.mean(axis=0)
    for cells, total, profile in zip(groups, totals, profiles, strict=True):
        known = reference * total >= _FEWEST_COUNTS
        factor = float(np.median(profile[known] / reference[known])) if known.any() else 1.0
        scaled[cells] *= factor if factor > 0 else 1.0
    return scaled


def depth_strata(depth: FloatArray, blocks: IntArray | None = None) -> IntArray:
    """Cut the cells of each block (batch, sample) at quantiles of their depth.

    Parameters
    ----------
    depth
        (n_cells,) counts per cell.
    blocks
        (n_cells,) code of each cell's block; None: one block.

    Returns
    -------
    (n_cells,) int
        Stratum of each cell: up to 5 per block, of 40 cells or more each.
    """
    block_of_cell: IntArray = np.zeros(len(depth), dtype=np.int64) if blocks is None else np.asarray(blocks)
    strata = np.zeros(len(depth), dtype=np.int64)
    n_used = 0
    for block in np.unique(block_of_cell):
        cells = np.flatnonzero(block_of_cell == block)
        n_strata = int(np.clip(cells.size // _CELLS_PER_STRATUM, 1, _MOST_STRATA))
        place = stats.rankdata(np.asarray(depth)[cells], method="min") - 1
        # Cells of equal depth stay together: cut apart, their order in the file would count.
        strata[cells] = n_used + place.astype(np.int64) * n_strata // cells.size
        n_used += n_strata
    return strata
