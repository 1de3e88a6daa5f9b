"""GLM-PCA: the authors' optimum, by an independent likelihood, on planted factors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse, stats
from tests.reference.glm_pca_authors import N_FACTORS, example

from scballast.config.compose import compose_config
from scballast.engine.interface import Member
from scballast.errors import ConfigError, TrainingError
from scballast.models import family_of
from scballast.models.family import FitRequest
from scballast.models.glm_pca import CountFactors, _Fit, glm_pca

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "glm_pca_authors.json").read_text())


def fitted(counts: np.ndarray, **settings: object) -> CountFactors:
    return glm_pca(sparse.csr_matrix(counts), N_FACTORS, **{"tolerance": 1e-12, **settings})  # type: ignore[arg-type]


def penalised(counts: np.ndarray, log_rate: np.ndarray, size: float | None) -> float:
    """The objective by scipy, with the least penalty that any factors of these rates can have."""
    rate = np.exp(log_rate)
    log_mass = (
        stats.poisson.logpmf(counts, rate) if size is None else stats.nbinom.logpmf(counts, size, size / (size + rate))
    )
    beyond_depth = log_rate - np.log(counts.sum(axis=1, keepdims=True))
    return float(log_mass.sum() - np.linalg.svd(beyond_depth - beyond_depth.mean(axis=0), compute_uv=False).sum())


@pytest.mark.parametrize("kind", ["poi", "nb"])
def test_the_optimum_is_that_of_the_authors_package(kind: str) -> None:
    counts, _ = example()
    found, theirs = fitted(counts, poisson=kind == "poi"), REFERENCE[kind]
    log_rate = np.array(theirs["log_rate"])
    assert found.objective[-1] > penalised(counts, log_rate, theirs["size"]) - 0.02
    beyond_depth = log_rate - np.log(counts.sum(axis=1, keepdims=True))
    beyond_depth -= beyond_depth.mean(axis=0)
    # They hold the logarithm of the size near 0 by a prior, and their size is a little smaller for it.
    np.testing.assert_allclose(found.scores @ found.loadings.T, beyond_depth, atol=2e-4 if kind == "poi" else 1e-2)
    if kind == "nb":
        assert theirs["size"] < found.size < 1.05 * theirs["size"]


def test_the_default_tolerance_is_near_the_optimum() -> None:
    counts, _ = example()
    rough, exact = glm_pca(sparse.csr_matrix(counts), N_FACTORS), fitted(counts)
    assert exact.objective[-1] - 0.2 < rough.objective[-1] <= exact.objective[-1]
    assert (
        np.corrcoef((rough.scores @ rough.loadings.T).ravel(), (exact.scores @ exact.loadings.T).ravel())[0, 1] > 0.999
    )


@pytest.mark.parametrize("kind", ["poi", "nb"])
def test_no_direction_leads_up_from_the_optimum(kind: str) -> None:
    """Numerical slopes of an independent objective in loadings, scores and size, against the fall further away."""
    counts, _ = example()
    found = fitted(counts, poisson=kind == "poi")
    size = None if kind == "poi" else found.size
    rng = np.random.default_rng(0)
    levels = np.log(counts.sum(axis=0) / counts.sum())
    for _ in range(200):  # the levels, by their own score equation
        rate = np.exp(np.log(counts.sum(axis=1, keepdims=True)) + levels + found.scores @ found.loadings.T)
        weight = np.ones_like(rate) if size is None else size / (size + rate)
        levels = levels + ((counts - rate) * weight).sum(axis=0) / (rate * weight).sum(axis=0)
    turn, other = rng.normal(size=found.loadings.shape), rng.normal(size=found.scores.shape)

    def value(along: tuple[float, float, float]) -> float:
        scores, loadings = found.scores + along[0] * other, found.loadings + along[1] * turn
        log_rate = np.log(counts.sum(axis=1, keepdims=True)) + levels + scores @ loadings.T
        return penalised(counts, log_rate, None if size is None else size * np.exp(along[2]))

    assert value((0, 0, 0)) == pytest.approx(found.objective[-1], abs=0.02)
    for direction in ((1.0, 0, 0), (0, 1.0, 0), *([(0, 0, 1.0)] if size else [])):
        step = 1e-4
        ahead, behind = (value(tuple(sign * step * part for part in direction)) for sign in (1, -1))  # type: ignore[arg-type]
        far = value(tuple(0.3 * part for part in direction))  # type: ignore[arg-type]
        assert abs(ahead - behind) / (2 * step) < 0.05 * (value((0, 0, 0)) - far)


def test_planted_factors_are_recovered() -> None:
    counts, activity = example()
    scores = fitted(counts).scores
    explained = np.linalg.lstsq(scores, activity - activity.mean(axis=0), rcond=None)[1]
    share = 1 - explained / (activity.var(axis=0) * len(activity))
    assert (share > 0.6).all()


def test_the_form_is_orthonormal_loadings_and_centred_scores_in_order() -> None:
    found = fitted(example()[0])
    np.testing.assert_allclose(found.loadings.T @ found.loadings, np.eye(N_FACTORS), atol=1e-9)
    np.testing.assert_allclose(found.scores.mean(axis=0), 0, atol=1e-9)
    assert (np.diff(np.linalg.norm(found.scores, axis=0)) < 0).all()


def test_differences_between_categories_are_taken_out() -> None:
    counts, _ = example()
    category = np.arange(len(counts)) % 2
    counts[category == 0, 40:] = np.random.default_rng(1).binomial(counts[category == 0, 40:].astype(int), 0.2)
    counts[category == 0, 35] = 0  # no counts in one category
    plain, taken_out = fitted(counts), fitted(counts, covariate=category)
    spread, left = ((found.scores @ found.loadings[40:].T).std(axis=0) for found in (plain, taken_out))
    assert (spread > 1.7 * left).all()
    assert np.abs(np.corrcoef(category, plain.scores.T)[0, 1:]).max() > 0.7
    for inside in (category == 0, category == 1):
        np.testing.assert_allclose(taken_out.scores[inside].mean(axis=0), 0, atol=1e-9)


def test_cells_and_genes_without_counts_get_nothing_and_change_nothing() -> None:
    counts, _ = example()
    whole = fitted(counts)
    wider = np.insert(np.insert(counts, 7, 0.0, axis=0), 3, 0.0, axis=1)
    found = fitted(wider)
    np.testing.assert_array_equal(found.scores[7], 0.0)
    np.testing.assert_array_equal(found.loadings[3], 0.0)
    np.testing.assert_allclose(np.delete(found.scores, 7, axis=0), whole.scores, atol=1e-12)
    with pytest.raises(TrainingError, match="glmpca: the cells have no counts"):
        fitted(np.zeros((5, 4)))


def blocks(seed: int, n_cells: int, n_genes: int) -> np.ndarray:
    """Return counts of depths from 1 to 1e6, each gene 1e10 times as frequent in its third of the cells."""
    generator = np.random.default_rng(seed)
    rate = 10 ** generator.uniform(0, 6, (n_cells, 1)) * 10 ** generator.uniform(-5, 0, n_genes)
    inside = generator.integers(0, 3, (n_cells, 1)) == generator.integers(0, 3, n_genes)
    return generator.poisson(np.minimum(rate * np.where(inside, 1e4, 1e-6), 1e8)).astype(float)


@pytest.mark.parametrize("poisson", [True, False])
@pytest.mark.parametrize("seed", [12, 19, 20])
def test_rates_of_any_size_overflow_nowhere(seed: int, poisson: bool) -> None:
    found = glm_pca(sparse.csr_matrix(blocks(seed, 20, 40)), 7, poisson=poisson)
    assert np.isfinite(found.objective).all()
    assert np.isfinite(found.scores).all()
    assert found.objective[-1] > found.objective[0]


def test_information_without_full_rank_has_a_step_however_large_the_rates() -> None:
    counts = np.full((4, 3), 1e17)
    fit = _Fit(sparse.csr_matrix(counts), np.zeros(4, dtype=np.int64), 2, 1.0, poisson=True)
    still = np.zeros((4, 2))
    # The rates are the counts; both factors are the same, and 3e17 + 1 is 3e17.
    np.testing.assert_allclose(fit._stepped(counts, np.log(counts), still, np.ones((3, 2))), still, atol=1e-9)


def test_models_that_have_not_converged_are_counted_in_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, _ = example()
    assert fitted(counts, tolerance=1e-5).converged
    config = compose_config(["model=glmpca", "model.gene_likelihood=poisson", f"model.n_latent={N_FACTORS}"])
    adata, members = AnnData(sparse.csr_matrix(counts)), [Member(None, 0), Member(np.arange(20), 0)]
    family_of(config).fit(FitRequest(adata, members, config))
    assert not caplog.records
    monkeypatch.setattr("scballast.models.glm_pca.MOST_ITERATIONS", 2)
    family_of(config).fit(FitRequest(adata, members, config))
    assert [record.getMessage() for record in caplog.records] == [
        "glmpca: 2 of 2 models had not converged after 2 iterations; they are used as they are. "
        "Set model.gene_likelihood=nb."
    ]


def test_a_likelihood_that_it_does_not_have_is_refused_at_the_door() -> None:
    assert family_of(compose_config(["model=glmpca", "model.gene_likelihood=poisson"])).name == "glmpca"
    with pytest.raises(ConfigError, match=r"zinb has no meaning for model\.name=glmpca; use nb or poisson"):
        family_of(compose_config(["model=glmpca", "model.gene_likelihood=zinb"]))
