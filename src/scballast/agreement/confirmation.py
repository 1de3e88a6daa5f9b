"""Confirmation of gene lists in cells that the lists never saw: what the tests assume, and the test of programs.

Pure functions of arrays; numpy and scipy only. A list is found in some cells of a data set (*seen*) and its genes are
tested in others (*unseen*). What the tests assume, and what they cannot see:

- *Program.* Under no covariation of a gene with the others of its list within the population, its p-value is uniform,
  since the unseen cells took no part in the choice of the list or of the weights. Depth is counted over the genes
  outside the list, each weighted by how far its counts are Poisson: over all genes, a gene that varies pushes the share
  of every other down, and genes that do not vary seem to vary against those that do; and one abundant overdispersed
  gene would make the depth itself a noise that all genes share. The cells most like another population are left out,
  for doublets carry the markers of two. Differences between batches are taken out. What else moves genes together
  within a label is confirmed, biology or not: ambient counts that differ between cells, doublets within one label.
- *Marker.* Under no difference between the population and the rest within strata of depth and batch, p is uniform.
  Labels are taken as given: where they come from clustering the same counts, both the list and the test have seen them,
  and every cluster has markers, one that is noise too (see ``resample.kind=thin``); see ``marker_confirmation``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

from scballast.arrays import FloatArray, IntArray, divided

FEWEST_CELLS = 10
"""Cells of the population that a test needs, seen and unseen each."""

_THETA = 100.0
_FOREIGN_SHARE = 0.05
_MIXTURE_STEPS = 8
_CELLS_AT_ONCE = 2**7  # whose expected counts stay in the processor's cache


@dataclass(frozen=True, eq=False)
class PopulationCells:
    """Cells of one population, ready for the program test.

    Attributes
    ----------
    counts
        (n_cells, n_genes) raw counts, CSC.
    depth
        (n_cells,) counts per cell, each gene's weighted.
    weights
        (n_genes,) weight of each gene's counts in ``depth``, in (0, 1].
    batches
        (n_cells,) code of the experimental batch.
    """

    counts: sparse.csc_matrix
    depth: FloatArray
    weights: FloatArray
    batches: IntArray


def population_cells(
    counts: sparse.csr_matrix,
    total_counts: FloatArray,
    *,
    batches: IntArray | None = None,
    foreign: FloatArray | None = None,
) -> PopulationCells:
    """Weigh the genes for depth, and leave out the cells that are most like another population.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts of the analysed genes in cells of the population.
    total_counts
        (n_cells,) counts per cell over all genes, the analysed ones among them.
    batches
        (n_cells,) codes of the experimental batches; None: one batch.
    foreign
        (n_cells,) :func:`foreign_share` by the profiles of the same side; None: no cell is left out.

    Returns
    -------
    PopulationCells
    """
    matrix = sparse.csr_matrix(counts, dtype=np.float64)
    totals = np.asarray(total_counts, dtype=np.float64)
    codes = np.zeros(totals.size, dtype=np.int64) if batches is None else np.asarray(batches)
    if foreign is not None and totals.size:
        kept = foreign <= np.quantile(foreign, 1.0 - _FOREIGN_SHARE)
        matrix, totals, codes = matrix[kept], totals[kept], codes[kept]
    weights = depth_weights(matrix, totals)
    rest = np.maximum(totals - np.asarray(matrix.sum(axis=1)).ravel(), 0.0)
    return PopulationCells(sparse.csc_matrix(matrix), matrix @ weights + rest, weights, codes)


def depth_weights(counts: sparse.csr_matrix, depth: FloatArray) -> FloatArray:
    r"""Weight of each gene's counts in a cell's depth: 1 for Poisson counts, less for counts that vary more.

    .. math:: w_g = 1 / \max(1, v_g), \quad v_g = \frac{1}{N} \sum_i \frac{(x_{ig} - \mu_{ig})^2}{\mu_{ig}}

    with :math:`\mu_{ig}` the gene's share of the cell's depth: the best weights of a sum of independent counts of one
    common factor, were the variances known.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts, CSR.
    depth
        (n_cells,) counts per cell.

    Returns
    -------
    (n_genes,) float
        In (0, 1].
    """
    total = float(depth.sum())
    used = depth > 0
    if total == 0.0:
        return np.ones(counts.shape[1])
    share = np.asarray(counts.sum(axis=0)).ravel() / total
    inverse = divided(1.0, depth)
    # (x - sd)^2 / (sd) = x^2 / (sd) - 2x + sd, summed over cells without making zeros dense.
    squares = np.asarray(counts.multiply(counts).T @ inverse).ravel()
    excess = divided(squares, share) - share * total
    return np.asarray(1.0 / np.maximum(excess / used.sum(), 1.0))


def foreign_share(counts: sparse.csr_matrix, profiles: FloatArray, position: int) -> FloatArray:
    """Share of each cell's counts that the profiles of other populations explain better than its own.

    Maximum likelihood of a multinomial mixture of the profiles, by a few steps of expectation-maximisation.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts, CSR.
    profiles
        (n_populations, n_genes) share of each gene in the counts of each population.
    position
        Row of the cells' own population.

    Returns
    -------
    (n_cells,) float
        In [0, 1].
    """
    # A gene that a profile lacks is rare there, not impossible.
    mixed = 0.999 * profiles + 0.001 * profiles.mean(axis=0)
    counted = mixed[0] > 0  # in the cells of any population, and then in all of these profiles
    values, mixed = sparse.csr_matrix(counts[:, counted], dtype=np.float64), mixed[:, counted]
    foreign = np.empty(counts.shape[0])
    for start in range(0, counts.shape[0], _CELLS_AT_ONCE):
        part = values[start : start + _CELLS_AT_ONCE]
        foreign[start : start + _CELLS_AT_ONCE] = 1.0 - _mixture_shares(part, mixed, position)[:, position]
    return foreign


def _mixture_shares(counts: sparse.csr_matrix, profiles: FloatArray, position: int) -> FloatArray:
    """(n_cells, n_populations) Share of each profile in the counts of each cell, from a start at its own population."""
    n_populations = len(profiles)
    shares = np.full((counts.shape[0], n_populations), 0.1 / (n_populations - 1))
    shares[:, position] = 0.9
    values = counts.toarray()
    ratio = np.empty_like(values)
    for _ in range(_MIXTURE_STEPS):
        np.matmul(shares, profiles, out=ratio)
        np.divide(values, ratio, out=ratio)
        shares = shares * (ratio @ profiles.T)
        total = shares.sum(axis=1, keepdims=True)
        shares = divided(shares, total, 1.0 / n_populations)
    return shares


def program_p_values(
    seen: PopulationCells, unseen: PopulationCells, listed: npt.ArrayLike, tested: npt.ArrayLike | None = None
) -> FloatArray:
    r"""Test whether genes vary together with the list, in cells that the list never saw.

    With the Pearson residuals :math:`Z` of the unseen cells given the depth outside the list, centred within batches
    and scaled to unit variance, and the correlations :math:`w_{gh}` of gene g with the listed genes h in the *seen*
    cells (:math:`w_{gg} = 0`), the activity of the list for gene g is :math:`a_g = Z w_g`, and the statistic

    .. math:: r_g = \mathrm{corr}(Z_g, a_g), \quad t = r_g \sqrt{\nu / (1 - r_g^2)}

    less what the residuals of g and of the list share because both are measured against one depth, itself a count;
    against Student's t with :math:`\nu` = cells - batches - 1 degrees of freedom, one-sided.

    Parameters
    ----------
    seen, unseen
        The cells of the population in which the list was found, and others; the same genes.
    listed : (n_genes,) bool
        The genes of the list.
    tested : (n_tested,) int
        The genes to test, listed or not; default: the listed ones, in order.

    Returns
    -------
    (n_tested,) float
        p-values; 1 for a gene that does not vary in the unseen cells. All NaN with fewer than ``FEWEST_CELLS`` cells on
        either side, or fewer than two listed genes.

    Raises
    ------
    ValueError
        Sides with different genes.
    """
    chosen = np.asarray(listed, dtype=bool)
    if not seen.counts.shape[1] == unseen.counts.shape[1] == chosen.size:
        message = f"{chosen.size} genes, but counts of {seen.counts.shape[1]} seen and {unseen.counts.shape[1]} unseen"
        raise ValueError(message)
    members = np.flatnonzero(chosen)
    genes = members if tested is None else np.asarray(tested)
    n_cells = unseen.counts.shape[0]
    degrees = n_cells - int(np.unique(unseen.batches).size) - 1
    if min(seen.counts.shape[0], n_cells) < FEWEST_CELLS or degrees < 1 or members.size < 2:
        return np.full(genes.size, np.nan)
    weights = _correlation(_residuals(seen, members, members), _residuals(seen, members, genes))
    weights[members[:, None] == genes] = 0.0  # (listed, tested): a gene is no part of its own activity
    of_tested, others = _residuals(unseen, members, genes), _residuals(unseen, members, members)
    activity = others.values @ weights  # (cell, tested)
    spread = np.sqrt((activity**2).mean(axis=0))
    explained = (weights * _correlation(others, of_tested)).sum(axis=0)
    r = np.clip(divided(explained, spread), -1.0, 1.0)
    t = r * np.sqrt(degrees / np.maximum(1.0 - r**2, np.finfo(float).tiny))
    p: FloatArray = stats.t.sf(t, degrees)
    p[~of_tested.values.any(axis=0) | (spread == 0)] = 1.0
    return p


@dataclass(frozen=True, eq=False)
class _Residuals:
    """Residuals of some genes.

    Attributes
    ----------
    values
        (n_cells, n_genes) centred within batches, of unit variance; 0 for a gene that does not vary.
    shared
        (n_cells, n_genes) what the counting noise of the depth adds to them, per standard deviation of that noise.
    """

    values: FloatArray
    shared: FloatArray


def _correlation(first: _Residuals, other: _Residuals) -> FloatArray:
    """(n_first, n_other) correlation of residuals, less what they share for being measured against one noisy depth."""
    return np.asarray((first.values.T @ other.values - first.shared.T @ other.shared) / len(first.values))


def _residuals(cells: PopulationCells, listed: IntArray, genes: IntArray) -> _Residuals:
    """Pearson residuals given the depth outside the list."""
    values = cells.counts[:, genes].toarray()
    outside = np.maximum(cells.depth - cells.counts[:, listed] @ cells.weights[listed], 0.0)
    expected = np.zeros(values.shape)
    groups = [cells.batches == batch for batch in np.unique(cells.batches)]
    for in_batch in groups:
        # Shares by batch: with common ones, what a batch has more of would follow depth within it.
        depth = outside[in_batch]
        expected[in_batch] = np.outer(
            depth, values[in_batch].sum(axis=0) / max(float(depth.sum()), np.finfo(float).tiny)
        )
    deviation = np.sqrt(expected + expected**2 / _THETA)
    residuals = divided(values - expected, deviation)
    limit = np.sqrt(values.shape[0])
    np.clip(residuals, -limit, limit, out=residuals)
    for in_batch in groups:
        residuals[in_batch] -= residuals[in_batch].mean(axis=0)
    # The weighted depth D of a cell has a variance of D, its weights being inverse dispersions: a share s of it, s D,
    # has a standard deviation of s sqrt(D), the same noise in every gene.
    noise = divided(expected, deviation)
    noise /= np.sqrt(np.maximum(outside, 1.0))[:, None]
    scale = np.sqrt((residuals**2).mean(axis=0))
    inverse = np.divide(1.0, scale, out=np.zeros(scale.size), where=scale > 1e-9)
    return _Residuals(residuals * inverse, noise * inverse)
