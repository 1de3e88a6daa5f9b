"""A picture of the latent space: two coordinates per cell, for the report."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy import sparse

from scballast.arrays import FloatArray
from scballast.experiment.setup import Setup
from scballast.seeds import Stream, at_most, generator_for, integer_for
from scballast.threads import one_thread

MOST_CELLS = 2000
N_NEIGHBORS = 15
MIN_DIST, SPREAD = 0.5, 1.0  # scanpy's
FEWEST_CELLS = 10
_HALVINGS = 50


def embedding_table(setup: Setup, replicate: int, scores: FloatArray) -> pd.DataFrame:
    """Lay the cells of one replicate out in the plane by UMAP.

    The layout is that of umap-learn; the neighbours come from scikit-learn, and their weights from
    :func:`neighbour_graph`: umap-learn would compile its own anew in every process, 15 s of processor time.

    Parameters
    ----------
    setup
        Data set, replicates and seed.
    replicate
        Position of the replicate.
    scores
        (n_cells, n_factors) position of each of its cells in the latent space.

    Returns
    -------
    DataFrame
        cell, population ("" for cells of none that is ranked), x, y; at most 2,000 cells, drawn at random.
        Empty with fewer than 10 cells.

    References
    ----------
    McInnes, Healy & Melville (2018), UMAP: uniform manifold approximation and projection for dimension reduction.
    Kobak & Linderman (2021), Initialization is critical for preserving global data structure in both t-SNE and UMAP:
    its start from principal components.
    """
    cells = setup.replicates[replicate].cells
    seed = setup.config.seed
    generator = generator_for(seed, Stream.ASSOCIATION, replicate, "embedding")
    shown = at_most(np.arange(cells.size), MOST_CELLS, generator)
    if shown.size < FEWEST_CELLS:
        return pd.DataFrame(columns=["cell", "population", "x", "y"])
    random_state = np.random.RandomState(integer_for(seed, Stream.ASSOCIATION, replicate, "embedding") % 2**32)
    with one_thread():
        layout = _layout(np.asarray(scores[shown], dtype=np.float32), random_state)
    codes = setup.dataset.population_codes[cells[shown]]
    names = np.array([*setup.populations, ""], dtype=object)
    return pd.DataFrame(
        {
            "cell": setup.dataset.adata.obs_names.to_numpy(dtype=object)[cells[shown]],
            "population": names[codes],
            "x": np.round(layout[:, 0], 3),
            "y": np.round(layout[:, 1], 3),
        }
    )


def _layout(points: FloatArray, random_state: np.random.RandomState) -> FloatArray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # of a part of umap-learn that needs tensorflow
        from umap.umap_ import find_ab_params, simplicial_set_embedding
    a, b = find_ab_params(SPREAD, MIN_DIST)
    layout, _ = simplicial_set_embedding(
        points,
        neighbour_graph(points, min(N_NEIGHBORS, len(points))),
        n_components=2,
        initial_alpha=1.0,
        a=a,
        b=b,
        gamma=1.0,
        negative_sample_rate=5,
        n_epochs=None,
        init="pca" if points.shape[1] > 1 else "random",
        random_state=random_state,
        metric="euclidean",
        metric_kwds={},
        densmap=False,
        densmap_kwds={},
        output_dens=False,
        parallel=False,
    )
    return np.asarray(layout)


def neighbour_graph(points: FloatArray, n_neighbors: int) -> sparse.coo_matrix:
    r"""Join each point with its nearest neighbours, by UMAP's weights.

    The weight of neighbour j of i is :math:`\exp(-\max(0, d_{ij} - \rho_i) / \sigma_i)`, with :math:`\rho_i` the
    smallest distance above 0 and :math:`\sigma_i` such that the weights of i add up to :math:`\log_2 k`; both
    directions are joined as probabilities, :math:`w_{ij} + w_{ji} - w_{ij} w_{ji}`.

    Parameters
    ----------
    points : (n, n_dimensions) float
    n_neighbors
        k, the point itself included; 3 to n.

    Returns
    -------
    (n, n) symmetric
        Weights in [0, 1]; no point is its own neighbour.

    References
    ----------
    McInnes, Healy & Melville (2018), section 3.1.
    """
    from sklearn.neighbors import NearestNeighbors

    n = len(points)
    distances, neighbours = NearestNeighbors(n_neighbors=n_neighbors - 1).fit(points).kneighbors()
    distances = distances.astype(np.float64)
    nearest = np.where(distances > 0, distances, np.inf).min(axis=1, keepdims=True)
    beyond = np.maximum(distances - np.where(np.isfinite(nearest), nearest, 0.0), 0.0)
    target = np.log2(n_neighbors)
    low = np.zeros((n, 1))
    # Wide enough: the smallest weight is the mean that is asked for.
    high = beyond.max(axis=1, keepdims=True) / np.log((n_neighbors - 1) / target)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        small = _decayed(beyond, middle).sum(axis=1, keepdims=True) < target
        low, high = np.where(small, middle, low), np.where(small, high, middle)
    smallest = 1e-3 * distances.sum(axis=1, keepdims=True) / n_neighbors  # umap-learn's
    weights = _decayed(beyond, np.maximum(high, smallest))
    rows = np.repeat(np.arange(n), n_neighbors - 1)
    one_way = sparse.csr_matrix((weights.ravel(), (rows, neighbours.ravel())), shape=(n, n))
    both = one_way.multiply(one_way.T)
    graph = (one_way + one_way.T - both).tocoo()
    graph.eliminate_zeros()
    return graph


def _decayed(beyond: FloatArray, width: FloatArray) -> FloatArray:
    return np.exp(-beyond / np.maximum(width, np.finfo(np.float64).tiny))
