"""Genes whose counts are alike in cells that a model places near each other: local autocorrelation (Hotspot)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import KDTree
from scipy.stats import norm

from scballast.agreement.multiplicity import bh_q_values
from scballast.arrays import FloatArray, IntArray
from scballast.methods.method import Evidence

logger = logging.getLogger(__name__)

N_NEIGHBOURS = 30
LARGEST_SHARE = 1 / 3  # of the cells that are neighbours of one: with all of them, near would mean nothing
SMALLEST_POPULATION = 10


@dataclass(frozen=True)
class LocalAutocorrelation:
    """How far each gene's counts go together with those of neighbouring cells.

    Attributes
    ----------
    z
        (n_genes,) standard deviations above what independent counts give; 0 for a gene without counts.
    p_value
        (n_genes,) one-sided, from the normal distribution of ``z``. It takes the neighbours as given: where the latent
        space was found from the same counts, each gene has a part in who is near whom, and they are too small.
    q_value
        (n_genes,) after Benjamini and Hochberg, over the genes given.
    """

    z: FloatArray
    p_value: FloatArray
    q_value: FloatArray


def hotspot_scores(evidence: Evidence) -> FloatArray:
    """Score genes by their autocorrelation among the cells of each population, on the latent space of all cells.

    Parameters
    ----------
    evidence
        One replicate; the model's positions of cells are read, and no loadings.

    Returns
    -------
    (n_populations, n_genes) float
        ``z`` of :func:`local_autocorrelation` of each population's own cells.
    """
    cells = evidence.cells
    scores, view = cells.empty_scores(), evidence.factors("global")
    if view is None:
        return scores
    for code, name in enumerate(cells.populations):
        inside = first_of_each(view.counts, cells.of_population(code))
        if inside.size < SMALLEST_POPULATION:
            message = "hotspot: no score for population %r: %d different cells, at least %d needed."
            logger.warning(message, name, inside.size, SMALLEST_POPULATION)
            continue
        scores[code] = local_autocorrelation(view.scores[inside], view.counts[inside]).z
    return scores


def first_of_each(counts: csr_matrix, cells: IntArray) -> IntArray:
    """Return the cells without those whose counts are another's: drawn twice, a cell would be its own neighbour.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts.
    cells
        Positions.
    """
    part = csr_matrix(counts[cells])
    part.sort_indices()
    kept: dict[tuple[bytes, bytes], int] = {}
    for cell, start, end in zip(cells, part.indptr, part.indptr[1:], strict=False):
        kept.setdefault((part.indices[start:end].tobytes(), part.data[start:end].tobytes()), int(cell))
    return np.array(list(kept.values()), dtype=np.int64)


def local_autocorrelation(
    latent: FloatArray, counts: csr_matrix, n_neighbours: int = N_NEIGHBOURS
) -> LocalAutocorrelation:
    r"""Test whether neighbouring cells have like counts, gene by gene.

    .. math::
        H_g = \sum_i \sum_{j \in N(i)} z_{ig} z_{jg}, \quad
        Z_g = H_g \Big/ \sqrt{\tfrac12 \textstyle\sum_{ij} (A_{ij} + A_{ji})^2}

    with the counts standardised by a depth-adjusted negative binomial, :math:`\mu_{ig} = t_i t_g / t` and a size of the
    gene's own by the method of moments, and the adjacency :math:`A_{ij} = 1` where :math:`j \in N(i)`. Independent
    counts of that mean and variance give :math:`Z_g` mean 0 and variance 1, for each pair of neighbours has them.

    Parameters
    ----------
    latent
        (n_cells, n_factors) positions; distances are Euclidean, in the units that the model gives them.
    counts
        (n_cells, n_genes) raw counts, no cell twice; the totals :math:`t_i` are over the genes given.
    n_neighbours
        Of each cell, itself left out; at most a third of the cells are taken.

    Returns
    -------
    LocalAutocorrelation
        As the authors' package (hotspotsc 1.1.3) gives them with its defaults and exact neighbours.

    References
    ----------
    DeTomaso & Yosef (2021), Hotspot identifies informative gene modules across modalities of single-cell genomics,
    Cell Systems 12.
    Andrews & Hemberg (2019), M3Drop: dropout-based feature selection for scRNASeq, Bioinformatics 35 (the
    depth-adjusted negative binomial).
    """
    both_ways = neighbour_graph(latent, n_neighbours)
    values = standardised_counts(counts)
    products = np.einsum("ig,ig->g", values, both_ways @ values) / 2
    z = products / np.sqrt(both_ways.power(2).sum() / 2)
    p_value = norm.sf(z)
    return LocalAutocorrelation(z, p_value, bh_q_values(p_value))


def neighbour_graph(latent: FloatArray, n_neighbours: int = N_NEIGHBOURS) -> csr_matrix:
    """Return the (n_cells, n_cells) number of ways in which two cells are neighbours: A + Aᵀ, so 0, 1 or 2.

    Parameters
    ----------
    latent, n_neighbours
        As :func:`local_autocorrelation`.
    """
    neighbours = nearest_cells(latent, min(n_neighbours, max(1, int(LARGEST_SHARE * len(latent)))))
    n_cells, n_used = neighbours.shape
    rows = np.repeat(np.arange(n_cells), n_used)
    graph = csr_matrix((np.ones(rows.size), (rows, neighbours.ravel())), shape=(n_cells, n_cells))
    return graph + graph.T


def nearest_cells(latent: FloatArray, n_neighbours: int) -> IntArray:
    """Return the (n_cells, n_neighbours) nearest other cells of each, by Euclidean distance, the nearest first."""
    nearest = KDTree(latent).query(latent, k=n_neighbours + 1)[1]
    others = nearest != np.arange(len(latent))[:, None]
    # Where more cells than are asked for share one place, a cell need not be among its own nearest.
    others[others.all(axis=1), -1] = False
    return np.asarray(nearest[others].reshape(len(latent), n_neighbours), dtype=np.int64)


def standardised_counts(counts: csr_matrix) -> FloatArray:
    r"""Return (n_cells, n_genes) counts in standard deviations of a depth-adjusted negative binomial, of these cells.

    The variance of a count is :math:`\mu + \mu^2 / r_g` with
    :math:`r_g = \sum_i \mu_{ig}^2 / ((N - 1) v_g - t_g)`, :math:`v_g` the sample variance of :math:`x_{ig} - \mu_{ig}`;
    a gene that varies less than a Poisson variable is one. 0 for a gene or a cell without counts.
    """
    matrix = csr_matrix(counts, dtype=np.float64)
    of_cells, of_genes = (np.asarray(matrix.sum(axis=axis)).ravel() for axis in (1, 0))
    total = of_cells.sum()
    if total == 0:
        return np.zeros(matrix.shape)
    expected = np.outer(of_cells, of_genes / total)
    values: FloatArray = matrix.toarray() - expected
    excess = np.maximum((len(values) - 1) * values.var(axis=0, ddof=1) - of_genes, 0.0)
    squares = (of_cells @ of_cells) * (of_genes / total) ** 2
    expected *= 1 + expected * np.divide(excess, squares, out=np.zeros_like(excess), where=squares > 0)
    return np.divide(values, np.sqrt(expected), out=np.zeros_like(values), where=expected > 0)
