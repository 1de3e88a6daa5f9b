"""The picture of the latent space: UMAP's own weights, and a layout that keeps groups apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors

from scballast.data.replicates import Replicate
from scballast.experiment.embedding import MOST_CELLS, embedding_table, neighbour_graph

GROUPS = np.repeat([0, 1, 2], [120, 60, 20])


def points(n_dimensions: int, seed: int = 0) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    centres = np.zeros((3, n_dimensions))
    centres[:, 0] = 0, 9, 18
    return (centres[GROUPS] + rng.normal(size=(GROUPS.size, n_dimensions))).astype(np.float32)


def setup_of(codes: npt.NDArray[np.int_], cells: npt.NDArray[np.int_]) -> Any:
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(codes.size)])
    dataset = SimpleNamespace(population_codes=codes, adata=SimpleNamespace(obs_names=obs.index))
    replicate = Replicate(0, cells, np.arange(0))
    return SimpleNamespace(
        replicates=[replicate], dataset=dataset, populations=["A", "B"], config=SimpleNamespace(seed=0)
    )


@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")
@pytest.mark.parametrize("n_neighbors", [4, 15])
def test_weights_are_those_of_umap_learn(n_neighbors: int) -> None:
    from umap.umap_ import fuzzy_simplicial_set

    cells = points(5)
    cells[1] = cells[0]  # two cells in one place
    others, names = NearestNeighbors(n_neighbors=n_neighbors - 1).fit(cells).kneighbors()
    itself = np.arange(len(cells))[:, None]
    expected, _, _ = fuzzy_simplicial_set(
        cells, n_neighbors, np.random.RandomState(0), "euclidean",
        knn_indices=np.hstack([itself, names]).astype(np.int32), knn_dists=np.hstack([0.0 * itself, others]),
    )  # fmt: skip
    found = neighbour_graph(cells, n_neighbors)
    assert found.nnz == expected.nnz > 2 * len(cells)
    np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=2e-4)


@pytest.mark.parametrize("n_dimensions", [1, 10])
def test_groups_stay_together_and_the_layout_is_the_same_again(n_dimensions: int) -> None:
    codes = np.where(GROUPS == 2, -1, GROUPS)
    scores = points(n_dimensions)
    tables = [embedding_table(setup_of(codes, np.arange(codes.size)), 0, scores) for _ in range(2)]
    pd.testing.assert_frame_equal(*tables)
    table = tables[0]
    assert list(table["population"].unique()) == ["A", "B", ""]
    places = table[["x", "y"]].to_numpy()
    _, nearest = cKDTree(places).query(places, k=2)
    assert (GROUPS[nearest[:, 1]] == GROUPS).mean() > 0.97


def test_many_cells_are_drawn_from_and_a_handful_has_no_picture() -> None:
    rng = np.random.default_rng(1)
    cells = np.arange(0, 2 * (MOST_CELLS + 50), 2)
    table = embedding_table(setup_of(np.zeros(cells.max() + 1, dtype=int), cells), 0, rng.normal(size=(cells.size, 3)))
    assert len(set(table["cell"])) == MOST_CELLS
    assert set(table["cell"]) < {f"cell{i}" for i in cells}
    assert embedding_table(setup_of(np.zeros(9, dtype=int), np.arange(9)), 0, rng.normal(size=(9, 3))).empty
