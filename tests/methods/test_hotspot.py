"""Local autocorrelation is that of its authors' package, and what it does not say is known."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import special_ortho_group
from tests.helpers.baseline_examples import PROGRAM, WITHOUT_COUNTS, of_cells, planted_view, ranked
from tests.reference.hotspot_authors import example

from scballast.methods.cell_view import CellView
from scballast.methods.hotspot import hotspot_scores, local_autocorrelation, nearest_cells
from scballast.methods.method import Role
from scballast.methods.rankers import FactorView
from scballast.methods.registry import METHODS
from scballast.models.factor_analysis import rotated_factors

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "hotspot_authors.json").read_text())


@dataclass(frozen=True)
class OneModel:
    """The evidence of a replicate with a global model that has no loadings."""

    cells: CellView
    scores: np.ndarray

    def factors(self, role: Role, population: int = -1) -> FactorView:
        assert (role, population) == ("global", -1)
        return FactorView(self.scores, None, self.cells.counts, self.cells.codes)


@pytest.fixture(scope="module")
def evidence() -> OneModel:
    view = planted_view()
    return OneModel(view, rotated_factors(view.counts, 8)[1])


def test_it_is_that_of_the_authors_package() -> None:
    counts, latent = example()
    found = local_autocorrelation(latent, csr_matrix(counts))
    np.testing.assert_allclose(found.z, REFERENCE["Z"], atol=1e-8)
    np.testing.assert_allclose(found.p_value, REFERENCE["Pval"], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.q_value, REFERENCE["FDR"], rtol=1e-7, atol=1e-9)


def test_its_neighbours_are_the_nearest_other_cells_by_brute_force() -> None:
    latent = np.random.default_rng(0).normal(size=(40, 3))
    distance = np.linalg.norm(latent[:, None] - latent, axis=2)
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_array_equal(nearest_cells(latent, 7), np.argsort(distance, axis=1)[:, :7])
    together = nearest_cells(np.zeros((9, 2)), 3)
    assert all(cell not in others and len(set(others)) == 3 for cell, others in enumerate(together.tolist()))


def test_genes_of_a_program_come_first_in_their_population_alone(evidence: OneModel) -> None:
    scores = METHODS["hotspot"].score(evidence)
    for code, genes in PROGRAM.items():
        assert set(ranked(scores[code])[: len(genes)]) == set(genes)
        assert scores[(code + 1) % 3, list(genes)].max() < 0.5 * scores[code, list(genes)].min()
    assert (scores[:, WITHOUT_COUNTS] == 0).all()


def test_rotation_and_order_of_cells_and_genes_change_nothing(evidence: OneModel) -> None:
    scores = hotspot_scores(evidence)
    rng = np.random.default_rng(1)
    turned = replace(evidence, scores=evidence.scores @ special_ortho_group.rvs(8, random_state=1))
    np.testing.assert_allclose(hotspot_scores(turned), scores, atol=1e-9)
    order = rng.permutation(evidence.cells.codes.size)
    np.testing.assert_allclose(
        hotspot_scores(OneModel(of_cells(evidence.cells, order), evidence.scores[order])), scores, atol=1e-9
    )
    genes = rng.permutation(scores.shape[1])
    other = replace(evidence.cells, counts=evidence.cells.counts[:, genes])
    np.testing.assert_allclose(hotspot_scores(replace(evidence, cells=other)), scores[:, genes], atol=1e-9)


def test_a_cell_that_is_drawn_twice_is_not_its_own_neighbour(evidence: OneModel) -> None:
    twice = np.repeat(np.arange(evidence.cells.codes.size), 2)
    drawn = OneModel(of_cells(evidence.cells, twice), evidence.scores[twice])
    np.testing.assert_allclose(hotspot_scores(drawn), hotspot_scores(evidence), atol=1e-9)


def test_few_cells_get_no_score_and_a_reason(evidence: OneModel, caplog: pytest.LogCaptureFixture) -> None:
    codes = evidence.cells.codes.copy()
    codes[np.flatnonzero(codes == 1)[9:]] = -1
    few = replace(evidence, cells=replace(evidence.cells, codes=codes))
    with caplog.at_level(logging.WARNING):
        scores = hotspot_scores(few)
    assert np.isnan(scores[1]).all()
    assert not np.isnan(scores[[0, 2]]).any()
    assert caplog.messages == ["hotspot: no score for population 'T/NK +': 9 different cells, at least 10 needed."]


def test_its_false_discovery_rate_holds_for_other_positions_and_not_for_the_counts_own() -> None:
    """Genes that share nothing: near in a space that was found from their own counts means alike by construction."""
    rng = np.random.default_rng(3)
    rates = np.exp(rng.normal(-1.0, 1.3, 300)) * rng.lognormal(0.0, 0.3, (300, 1))
    counts = csr_matrix(rng.poisson(rates * rng.gamma(4.0, 0.25, (300, 300))))
    outside = local_autocorrelation(rng.normal(size=(300, 20)), counts)
    own = local_autocorrelation(rotated_factors(counts, 20)[1], counts)
    assert (outside.q_value < 0.05).mean() < 0.01
    assert (outside.p_value < 0.05).mean() < 0.08
    assert (own.q_value < 0.05).mean() > 0.5
