"""Thinned counts: two parts that sum to the whole and know nothing of each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scballast.data.thinning import gene_dispersions, thin_counts


def negative_binomial(rng: np.random.Generator, phi: float, n_cells: int = 20_000) -> np.ndarray:
    return rng.poisson(4.0 * rng.gamma(1.0 / phi, phi, (n_cells, 3))).astype(np.float32)


def test_parts_sum_to_the_counts_and_have_their_shares() -> None:
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(negative_binomial(rng, 0.5, 2000))
    first, second = thin_counts(counts, np.full(3, 0.5), rng, share=0.3)
    assert (first + second != counts).nnz == 0
    assert first.dtype == counts.dtype
    assert first.sum() / counts.sum() == pytest.approx(0.3, abs=0.01)
    assert min(first.data.min(), second.data.min()) > 0


def test_parts_of_overdispersed_counts_are_independent_and_binomial_ones_are_not() -> None:
    rng = np.random.default_rng(1)
    values = negative_binomial(rng, 0.5)
    counts = sparse.csr_matrix(values)

    def correlation(dispersion: float) -> float:
        one, other = (part.toarray().ravel() for part in thin_counts(counts, np.full(3, dispersion), rng))
        return float(np.corrcoef(one, other)[0, 1])

    assert abs(correlation(0.5)) < 0.015
    assert correlation(0.0) > 0.3
    part = thin_counts(counts, np.full(3, 0.5), rng)[0].toarray()
    # Half the mean, twice the dispersion.
    assert part.mean() == pytest.approx(2.0, rel=0.03)
    assert part.var() == pytest.approx(2.0 + 1.0 * 4.0, rel=0.06)


def test_parts_of_poisson_counts_are_independent() -> None:
    rng = np.random.default_rng(2)
    counts = sparse.csr_matrix(rng.poisson(3.0, (30_000, 1)).astype(np.float32))
    one, other = (part.toarray().ravel() for part in thin_counts(counts, np.zeros(1), rng))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.015


def test_dispersions_are_those_within_populations() -> None:
    rng = np.random.default_rng(3)
    codes = np.repeat([0, 1, -1], [3000, 3000, 100])
    depth = rng.lognormal(0.0, 0.4, codes.size)
    phi = np.array([0.0, 0.3, 1.0, 0.5])
    noise = np.column_stack([np.ones(codes.size) if p == 0 else rng.gamma(1 / p, p, codes.size) for p in phi])
    level = np.array([[3.0, 3.0, 3.0, 0.0], [12.0, 1.0, 3.0, 0.0], [500.0] * 4])[codes]
    counts = sparse.csr_matrix(rng.poisson(depth[:, None] * level * noise).astype(float))
    found = gene_dispersions(counts, depth, codes)
    np.testing.assert_allclose(found, [0.0, 0.3, 1.0, 0.0], atol=0.09)
