"""Modules of genes are those of the authors' package; planted ones are found, and noise has none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import special_ortho_group
from tests.reference.hotspot_authors import FEWEST, modules_example

from scballast.arrays import IntArray
from scballast.methods.hotspot_modules import local_correlation, local_modules, modules_of
from scballast.models.factor_analysis import rotated_factors

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "hotspot_authors.json").read_text())


def groups(module: IntArray) -> set[frozenset[int]]:
    """Modules as sets of genes."""
    return {frozenset(np.flatnonzero(module == number).tolist()) for number in set(np.asarray(module)) if number >= 0}


def authors_modules(fewest: int) -> set[frozenset[int]]:
    return groups(np.array(REFERENCE["modules"][str(fewest)]))


def test_local_correlation_is_that_of_the_authors_package() -> None:
    counts, latent = modules_example()
    found = local_correlation(latent, csr_matrix(counts), np.arange(36))
    np.testing.assert_allclose(found[np.triu_indices(36, 1)], REFERENCE["local_correlation"], atol=1e-8)
    np.testing.assert_array_equal(found, found.T)
    some = np.array([30, 2, 11])
    np.testing.assert_allclose(local_correlation(latent, csr_matrix(counts), some), found[np.ix_(some, some)])


@pytest.mark.parametrize("fewest", FEWEST)
def test_modules_are_those_of_the_authors_package(fewest: int) -> None:
    """Three planted sets of eight; two genes that follow two of the three are in none."""
    z = np.zeros((36, 36))
    z[np.triu_indices(36, 1)] = REFERENCE["local_correlation"]
    found = modules_of(z + z.T, fewest)
    assert groups(found) == authors_modules(fewest)
    sizes = np.bincount(found[found >= 0])
    assert (np.diff(sizes) <= 0).all()
    if fewest <= 8:
        assert {frozenset(range(start, start + 8)) for start in (0, 8, 16)} < groups(found)
        assert (found[24:26] == -1).all()


def test_two_whole_modules_are_not_joined_and_what_would_join_them_is_in_none() -> None:
    z = np.full((9, 9), 5.0)
    z[:4, :4], z[4:8, 4:8] = 9.0, 8.0
    np.fill_diagonal(z, 0.0)
    np.testing.assert_array_equal(modules_of(z, 4), [0] * 4 + [1] * 4 + [-1])
    np.testing.assert_array_equal(modules_of(z, 5), [0] * 9)  # not whole yet: joined
    np.testing.assert_array_equal(modules_of(np.full((9, 9), 0.5), 2), [-1] * 9)
    assert modules_of(np.zeros((1, 1))).tolist() == [-1]
    assert modules_of(np.zeros((0, 0))).size == 0


def test_rotation_and_order_change_no_module() -> None:
    counts, latent = modules_example()
    rng = np.random.default_rng(0)
    cells, genes = rng.permutation(140), rng.permutation(36)
    found = local_modules(latent, csr_matrix(counts), 6)
    turned = latent @ special_ortho_group.rvs(4, random_state=1)
    other = local_modules(turned[cells], csr_matrix(counts[cells][:, genes]), 6)
    assert {frozenset(genes[other.genes[list(members)]]) for members in groups(other.module)} == {
        frozenset(found.genes[list(members)]) for members in groups(found.module)
    }
    assert len(groups(found.module)) >= 3


def test_genes_that_share_nothing_are_in_no_module() -> None:
    """Where their own counts made the latent space most of them pass as autocorrelated, and yet none go together."""
    rng = np.random.default_rng(3)
    rates = np.exp(rng.normal(-1.0, 1.3, 300)) * rng.lognormal(0.0, 0.3, (300, 1))
    counts = csr_matrix(rng.poisson(rates * rng.gamma(4.0, 0.25, (300, 300))))
    found = local_modules(rotated_factors(counts, 20)[1], counts)
    assert found.genes.size > 150
    assert (found.module == -1).all()
    assert local_modules(rng.normal(size=(300, 20)), counts).genes.size == 0
