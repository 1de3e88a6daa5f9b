"""Modules of genes whose counts go together among cells that a model places near each other (Hotspot)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.sparse import csr_matrix
from scipy.stats import norm

from scballast.agreement.multiplicity import bh_q_values
from scballast.arrays import FloatArray, IntArray
from scballast.methods import hotspot

FALSE_DISCOVERY_RATE = 0.05  # of genes that are looked at, and of pairs that hold a module together
MOST_GENES = 500  # the authors' choice in their tutorials
FEWEST_GENES = 20  # of a module; the authors' default


@dataclass(frozen=True)
class GeneModules:
    """Genes with local autocorrelation, and the modules that they form.

    Attributes
    ----------
    genes
        (n_looked_at,) columns of the counts.
    module
        (n_looked_at,) from 0, the largest first; -1: in none.
    z
        (n_looked_at, n_looked_at) local correlation of pairs.
    autocorrelation
        Of all genes.
    """

    genes: IntArray
    module: IntArray
    z: FloatArray
    autocorrelation: hotspot.LocalAutocorrelation


def local_modules(latent: FloatArray, counts: csr_matrix, fewest: int = FEWEST_GENES) -> GeneModules:
    """Return the modules of the genes with local autocorrelation at a false discovery rate of 5 %, the first 500.

    Parameters
    ----------
    latent, counts
        As :func:`scballast.methods.hotspot.local_autocorrelation`.
    fewest
        Genes of a module.

    References
    ----------
    DeTomaso & Yosef (2021), Hotspot identifies informative gene modules across modalities of single-cell genomics,
    Cell Systems 12.
    """
    autocorrelation = hotspot.local_autocorrelation(latent, counts)
    order = np.argsort(-autocorrelation.z, kind="stable")
    genes = order[autocorrelation.q_value[order] < FALSE_DISCOVERY_RATE][:MOST_GENES]
    z = local_correlation(latent, counts, genes)
    return GeneModules(genes, modules_of(z, fewest), z, autocorrelation)


def local_correlation(latent: FloatArray, counts: csr_matrix, genes: IntArray) -> FloatArray:
    r"""Test whether the counts of two genes go together in neighbouring cells, pair by pair.

    .. math::
        H_{gh} = \sum_{ij} B_{ij} z_{ig} z_{jh}, \quad B = A + A^T, \quad
        Z_{gh} = H_{gh} \Big/ \max\!\big(\|B z_g\|, \|B z_h\|\big)

    with counts standardised and neighbours as in :func:`scballast.methods.hotspot.local_autocorrelation`. Given where
    the one gene is expressed, independent counts of the other have mean 0 and the variance :math:`\|B z\|^2`; of the
    two conditions the one that says less is taken.

    Parameters
    ----------
    latent, counts
        As there; the cells' totals are over all genes.
    genes
        (n,) columns to pair.

    Returns
    -------
    (n, n) float
        Symmetric, 0 on the diagonal and for a gene without counts. As the authors' package (hotspotsc 1.1.3) gives it
        with exact neighbours.
    """
    values = hotspot.standardised_counts(counts)[:, genes]
    smoothed = hotspot.neighbour_graph(latent) @ values
    length = np.linalg.norm(smoothed, axis=0)
    deviation = np.maximum(length[:, None], length)
    products = values.T @ smoothed
    z = np.divide(products, deviation, out=np.zeros_like(products), where=deviation > 0)
    np.fill_diagonal(z, 0.0)
    return np.asarray((z + z.T) / 2)


def modules_of(z: FloatArray, fewest: int = FEWEST_GENES) -> IntArray:
    """Group genes by the local correlation of their pairs, from the tightest pair upwards.

    Average linkage. A module has ``fewest`` genes or more and grows while its mean correlation with what joins it is at
    least the smallest that a pair has at a false discovery rate of 5 %. Two modules are never joined: where they would
    be, both are whole, and what would join them later is in none (the authors' ``core_only``).

    Parameters
    ----------
    z
        (n_genes, n_genes) symmetric, from :func:`local_correlation`.
    fewest
        Genes of a module.

    Returns
    -------
    (n_genes,) int
        Module from 0, the largest first; -1: in none.
    """
    nothing = np.full(len(z), -1, dtype=np.int64)
    pairs = z[np.triu_indices(len(z), 1)]
    significant = pairs[bh_q_values(norm.sf(pairs)) < FALSE_DISCOVERY_RATE] if pairs.size else pairs
    if not significant.size:
        return nothing
    least, largest = significant.min(), pairs.max()
    groups, is_module = [[gene] for gene in range(len(z))], [False] * len(z)
    owner = nothing.copy()
    for first, second, distance in linkage(largest - pairs, "average")[:, :3]:
        sides = (int(first), int(second))
        joined = groups[sides[0]] + groups[sides[1]]
        large = [side for side in sides if len(groups[side]) >= fewest]
        grows = len(large) < 2 and all(is_module[side] for side in large)
        is_module.append(grows and len(joined) >= fewest and distance <= largest - least)
        groups.append(joined)
        if is_module[-1]:
            owner[joined] = len(groups)
    modules, sizes = np.unique(owner[owner >= 0], return_counts=True)
    for number, module in enumerate(modules[np.argsort(-sizes, kind="stable")]):
        nothing[owner == module] = number
    return nothing
