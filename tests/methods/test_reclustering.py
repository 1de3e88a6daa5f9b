"""Clusters found again: the groups that are there, in the number asked for, under their old names."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from scballast.methods.reclustering import cluster_again, match_labels


def grouped(seed: int = 0) -> tuple[sparse.csr_matrix, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = np.repeat([0, 1, 2, 3], [120, 90, 60, 40])
    rates = np.ones((4, 100))
    for group in range(4):
        rates[group, 10 * group : 10 * group + 10] = 5.0
    return sparse.csr_matrix(rng.poisson(rates[codes]).astype(np.float32)), codes


def test_groups_are_found_in_the_number_asked_for() -> None:
    counts, codes = grouped()
    clusters = cluster_again(counts, 4, seed=0)
    assert np.bincount(clusters).tolist() == [120, 90, 60, 40]
    assert len(set(zip(codes, clusters, strict=True))) == 4
    np.testing.assert_array_equal(clusters, cluster_again(counts, 4, seed=0))
    for number in (2, 3, 6):
        assert abs(int(cluster_again(counts, number, seed=0).max()) + 1 - number) <= 1


def test_clusters_take_the_names_of_the_populations_they_share_most_cells_with() -> None:
    old = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    new = np.array([1, 1, 1, 0, 0, 0, 0, 2])
    codes, recurrence = match_labels(old, new, 4)
    np.testing.assert_array_equal(codes, [0, 0, 0, 1, 1, 1, 1, 2])
    np.testing.assert_allclose(recurrence, [3 / 4, 3 / 4, 1.0, 0.0])
    codes, _ = match_labels(np.zeros(4, dtype=int), np.array([0, 0, 0, 1]), 1)
    np.testing.assert_array_equal(codes, [0, 0, 0, -1])
