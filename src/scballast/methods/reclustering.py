"""Labels found again by clustering counts, as many as there were, and matched to the old ones."""

from __future__ import annotations

import random

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from scballast.arrays import FloatArray, IntArray, cross_table, divided

N_COMPONENTS = 30
N_NEIGHBOURS = 15
_RESOLUTIONS = (1e-3, 30.0)
_MOST_STEPS = 20
_TARGET_COUNTS = 1e4


def cluster_again(counts: sparse.csr_matrix, n_clusters: int, seed: int) -> IntArray:
    """Cluster cells as is usual: log counts, principal components, nearest neighbours, Leiden.

    The resolution is found by bisection, so that there are ``n_clusters`` clusters, or as near as it comes to.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts, CSR.
    n_clusters
        Clusters wanted, at least 1.
    seed
        Rules the components' solver and Leiden.

    Returns
    -------
    (n_cells,) int
        Cluster of each cell, from 0, the largest first.

    References
    ----------
    Traag, Waltman & van Eck (2019), From Louvain to Leiden, Scientific Reports 9.
    """
    import igraph

    edges, weights = _neighbours(_components(counts, seed))
    graph = igraph.Graph(n=counts.shape[0], edges=edges)
    igraph.set_random_number_generator(random.Random(seed))
    memberships: dict[float, IntArray] = {}

    def at(log_resolution: float) -> int:
        clusters = graph.community_leiden(
            objective_function="modularity", weights=weights, resolution=float(np.exp(log_resolution)), n_iterations=4
        )
        memberships[log_resolution] = np.asarray(clusters.membership, dtype=np.int64)
        return len(clusters)

    low, high = np.log(_RESOLUTIONS)
    for _ in range(_MOST_STEPS):
        middle = (low + high) / 2
        number = at(middle)
        if number == n_clusters:
            break
        low, high = (middle, high) if number < n_clusters else (low, middle)
    nearest = min(memberships.values(), key=lambda membership: abs(int(membership.max()) + 1 - n_clusters))
    by_size = np.argsort(-np.bincount(nearest), kind="stable")
    return np.asarray(np.argsort(by_size)[nearest])


def match_labels(old: IntArray, new: IntArray, n_old: int) -> tuple[IntArray, FloatArray]:
    """Give each new cluster the old population that it shares most cells with, one to one.

    Parameters
    ----------
    old, new
        (n_cells,) population and cluster of each cell.
    n_old
        Number of populations.

    Returns
    -------
    codes : (n_cells,) int
        Each cell's cluster under the code of its population; -1 in a cluster that no population is left for.
    recurrence : (n_old,) float
        Cells in common over cells in either; 0 for a population without a cluster.
    """
    n_new = int(new.max()) + 1
    common = cross_table(old, n_old, new, n_new)
    either = common.sum(axis=1, keepdims=True) + common.sum(axis=0, keepdims=True) - common
    jaccard = divided(common, either)
    rows, columns = linear_sum_assignment(-jaccard)
    name = np.full(n_new, -1, dtype=np.int64)
    name[columns] = rows
    recurrence = np.zeros(n_old)
    recurrence[rows] = jaccard[rows, columns]
    return name[new], recurrence


def _components(counts: sparse.csr_matrix, seed: int) -> FloatArray:
    """(n_cells, n_components) principal components of log counts per 10,000."""
    from sklearn.decomposition import PCA

    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    scale = divided(_TARGET_COUNTS, totals)
    logged = sparse.csr_matrix(sparse.diags(scale) @ counts).log1p()
    number = min(N_COMPONENTS, min(counts.shape) - 1)
    return np.asarray(PCA(number, svd_solver="arpack", random_state=seed).fit_transform(logged))


def _neighbours(components: FloatArray) -> tuple[IntArray, FloatArray]:
    """Pairs of cells of which one is among the nearest of the other, weighed by the neighbours that they share."""
    from sklearn.neighbors import kneighbors_graph

    number = min(N_NEIGHBOURS, len(components) - 1)
    near = kneighbors_graph(components, number, mode="connectivity", include_self=False)
    shared = near @ near.T  # (cell, cell): neighbours in common
    joined = sparse.triu(near.maximum(near.T), k=1).tocoo()
    pairs = np.column_stack([joined.row, joined.col])
    common = np.asarray(shared[joined.row, joined.col], dtype=np.float64).ravel()
    return pairs, (common + 1.0) / (2 * number - common + 1.0)
