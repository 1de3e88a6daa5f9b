"""Rotated factors: the plane of the principal components, in simple structure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from tests.reference.scired_authors import N_FACTORS
from tests.reference.scired_authors import example as authors_example

from scballast.agreement.residuals import pearson_residuals
from scballast.models.factor_analysis import rotated_factors

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "scired_authors.json").read_text())
N_CELLS, N_GENES = 300, 150
PROGRAMS = (range(10), range(10, 22), range(22, 30))


def _example(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Counts in which three equal programs of different genes vary independently, and their activities."""
    rng = np.random.default_rng(seed)
    activity = rng.normal(size=(N_CELLS, len(PROGRAMS)))
    log_rate = np.tile(rng.normal(2.0, 0.5, N_GENES), (N_CELLS, 1))
    for number, genes in enumerate(PROGRAMS):
        log_rate[:, list(genes)] += 0.5 * activity[:, [number]]
    return rng.poisson(np.exp(log_rate)), activity


def test_the_rotation_is_that_of_scireds_own_function() -> None:
    """Up to order and sign; its iteration is another, run to its end, and so the last digits differ."""
    loadings, scores = rotated_factors(sparse.csr_matrix(authors_example()), N_FACTORS)
    theirs = np.array(REFERENCE["rotated"])
    cosine = loadings.T @ theirs
    order = np.abs(cosine).argmax(axis=1)
    assert sorted(order) == list(range(N_FACTORS))
    np.testing.assert_allclose(loadings, theirs[:, order] * np.sign(cosine[range(N_FACTORS), order]), atol=5e-4)
    # Its residuals are a regression's on the library size, not analytic ones: near, not equal.
    correlation = np.abs(np.corrcoef(scores.T, np.array(REFERENCE["scores"]).T)[:N_FACTORS, N_FACTORS:])
    assert (correlation[range(N_FACTORS), correlation.argmax(axis=1)] > 0.87).all()
    assert sorted(correlation.argmax(axis=1)) == list(range(N_FACTORS))


def test_the_factors_span_what_scikit_learns_components_of_standardised_residuals_span() -> None:
    counts, _ = _example()
    loadings, scores = rotated_factors(sparse.csr_matrix(counts), 3)
    values = StandardScaler().fit_transform(pearson_residuals(sparse.csr_matrix(counts)))
    pca = PCA(3, svd_solver="full").fit(values)
    np.testing.assert_allclose(scores @ loadings.T, pca.transform(values) @ pca.components_, atol=1e-8)
    np.testing.assert_allclose(loadings.T @ loadings, np.eye(3), atol=1e-10)


def test_no_small_rotation_has_a_larger_varimax_criterion() -> None:
    loadings, _ = rotated_factors(sparse.csr_matrix(_example()[0]), 3)

    def criterion(rotated: np.ndarray) -> float:
        squares = (rotated / np.linalg.norm(rotated, axis=1, keepdims=True)) ** 2
        return float(squares.var(axis=0).sum())

    best = criterion(loadings)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        for angle in (-0.3, -0.02, 0.02, 0.3):
            turn = np.eye(3)
            turn[first, first] = turn[second, second] = np.cos(angle)
            turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
            assert criterion(loadings @ turn) < best


def test_each_factor_is_one_of_the_planted_programs() -> None:
    counts, activity = _example()
    loadings, scores = rotated_factors(sparse.csr_matrix(counts), 3)
    correlation = np.abs(np.corrcoef(activity.T, scores.T)[:3, 3:])
    assert sorted(correlation.argmax(axis=1)) == [0, 1, 2]
    assert (correlation.max(axis=1) > 0.85).all()
    for number, factor in enumerate(correlation.argmax(axis=1)):
        genes = PROGRAMS[number]
        assert set(np.argsort(-np.abs(loadings[:, factor]))[: len(genes)]) == set(genes)


def test_differences_between_categories_are_taken_out() -> None:
    counts, _ = _example()
    category = np.arange(N_CELLS) % 2
    counts[category == 1, 40:50] *= 4
    _, plain = rotated_factors(sparse.csr_matrix(counts), 4)
    _, taken_out = rotated_factors(sparse.csr_matrix(counts), 4, category)

    def largest_difference(scores: np.ndarray) -> float:
        between = scores[category == 0].mean(axis=0) - scores[category == 1].mean(axis=0)
        return float((np.abs(between) / scores.std(axis=0)).max())

    assert largest_difference(plain) > 1.0
    assert largest_difference(taken_out) < 1e-8


def test_a_gene_without_counts_has_no_loading() -> None:
    counts, _ = _example()
    counts[:, 5] = 0
    assert not rotated_factors(sparse.csr_matrix(counts), 3)[0][5].any()
