"""Rankers: oracles by hand, and the freedoms of the model that must change nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.special import softmax
from scipy.stats import special_ortho_group

from scballast.agreement.residuals import pearson_residuals
from scballast.methods import rankers
from scballast.methods.rankers import (
    FactorView,
    axis,
    contrast,
    local,
    local_loadings,
    mean_expression,
    spread,
)
from scballast.methods.registry import METHODS

N_GENES, N_FACTORS = 60, 4
OF_A_RANKER = ["FactorView", "int", "FloatArray"]
RANKERS = {
    name: score
    for name, score in vars(rankers).items()
    if name[0] != "_" and list(getattr(score, "__annotations__", {}).values()) == OF_A_RANKER
}
# What reads single axes sees which way they are turned.
OF_AXES = {"axis"}


def make_view(seed: int = 0, *, simplex: bool = False) -> FactorView:
    rng = np.random.default_rng(seed)
    codes = np.repeat([0, 1, 2, -1], [40, 30, 20, 15])
    scores = rng.normal(size=(codes.size, N_FACTORS)) + rng.normal(size=(4, N_FACTORS))[codes]
    if simplex:
        scores = softmax(scores, axis=1)
    loadings = rng.normal(size=(N_GENES, N_FACTORS))
    rates = softmax(scores @ loadings.T * 0.5, axis=1) * 800
    return FactorView(scores, loadings, sparse.csr_matrix(rng.poisson(rates)), codes, simplex=simplex)


def rotated(view: FactorView, seed: int = 1) -> FactorView:
    turn = special_ortho_group.rvs(N_FACTORS, random_state=seed)
    assert view.loadings is not None
    return replace(view, scores=view.scores @ turn, loadings=view.loadings @ turn)


def test_these_are_the_rankers() -> None:
    assert set(RANKERS) >= {"axis", "contrast", "local", "spread"}
    assert set(RANKERS) <= set(METHODS), "a function of a ranker that has no entry in the registry"


@pytest.mark.parametrize("name", sorted(set(RANKERS) - OF_AXES))
@pytest.mark.parametrize("population", [0, 1, 2])
def test_rotation_changes_nothing(name: str, population: int) -> None:
    view = make_view()
    score = RANKERS[name]
    np.testing.assert_allclose(score(rotated(view), population), score(view, population), rtol=1e-6, atol=1e-9)


def test_rotation_changes_the_axis() -> None:
    view = make_view()
    assert np.abs(axis(rotated(view), 0) - axis(view, 0)).max() > 0.1


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_order_and_sign_of_axes_change_nothing(name: str) -> None:
    view = make_view()
    assert view.loadings is not None
    order, sign = [2, 0, 3, 1], np.array([1, -1, -1, 1])
    other = replace(view, scores=view.scores[:, order] * sign, loadings=view.loadings[:, order] * sign)
    score = RANKERS[name]
    np.testing.assert_allclose(score(other, 1), score(view, 1), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_shift_of_columns_changes_nothing(name: str) -> None:
    """Softmax over genes: L → L + 1aᵀ is the same model."""
    view = make_view()
    assert view.loadings is not None
    other = replace(view, loadings=view.loadings + np.array([5.0, -3.0, 0.7, 2.0]))
    score = RANKERS[name]
    np.testing.assert_allclose(score(other, 0), score(view, 0), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_gene_offset_changes_nothing_on_the_simplex(name: str) -> None:
    """Scores that sum to one: L → L + b1ᵀ is the same model."""
    view = make_view(simplex=True)
    assert view.loadings is not None
    offset = np.random.default_rng(3).normal(size=(N_GENES, 1))
    other = replace(view, loadings=view.loadings + offset)
    score = RANKERS[name]
    np.testing.assert_allclose(score(other, 0), score(view, 0), rtol=1e-6, atol=1e-8)


def test_gene_offset_changes_the_axis_off_the_simplex() -> None:
    view = make_view()
    assert view.loadings is not None
    other = replace(view, loadings=view.loadings + np.random.default_rng(3).normal(size=(N_GENES, 1)))
    assert np.abs(axis(other, 0) - axis(view, 0)).max() > 0.1


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_permuting_genes_permutes_scores(name: str) -> None:
    view = make_view()
    assert view.loadings is not None
    order = np.random.default_rng(2).permutation(N_GENES)
    other = replace(view, loadings=view.loadings[order], counts=view.counts[:, order])
    score = RANKERS[name]
    np.testing.assert_allclose(score(other, 2), score(view, 2)[order], rtol=1e-9, atol=1e-12)


def test_contrast_is_the_difference_of_mean_log_expression() -> None:
    view = make_view()
    assert view.loadings is not None
    log_rho = np.log(softmax(view.scores @ view.loadings.T, axis=1))
    inside = view.codes == 1
    expected = log_rho[inside].mean(axis=0) - log_rho[~inside].mean(axis=0)
    np.testing.assert_allclose(contrast(view, 1), expected - expected.mean(), rtol=1e-9)


def test_spread_is_the_spread_of_log_expression_for_small_variation() -> None:
    """To first order Var(log ρ_g) with weights ρ̄: exact as the variation goes to zero."""
    view = make_view()
    assert view.loadings is not None
    scale = 1e-4
    log_rho = np.log(softmax(scale * view.scores @ view.loadings.T, axis=1))
    inside = view.codes == 0
    flat = sparse.csr_matrix(np.ones((view.codes.size, N_GENES)))  # at scale 0 every gene has the same share
    small = replace(view, scores=scale * view.scores, counts=flat)
    np.testing.assert_allclose(spread(small, 0), log_rho[inside].std(axis=0), rtol=1e-3)


def test_spread_of_a_model_without_softmax_is_not_centred() -> None:
    view = replace(make_view(), softmax=False)
    assert view.loadings is not None
    covariance = np.cov(view.scores[view.codes == 0], rowvar=False, bias=True)
    expected = np.sqrt(np.diag(view.loadings @ covariance @ view.loadings.T))
    np.testing.assert_allclose(spread(view, 0), expected, rtol=1e-9)


def test_axis_is_the_one_that_separates_best() -> None:
    view = make_view()
    assert view.loadings is not None
    inside = view.codes == 0
    scores = view.scores.copy()
    scores[inside, 2] -= 50.0
    expected = -(view.loadings[:, 2] - view.loadings[:, 2].mean())
    np.testing.assert_allclose(axis(replace(view, scores=scores), 0), expected)


def test_local_is_ridge_regression() -> None:
    from sklearn.linear_model import Ridge

    view = make_view()
    inside = view.codes == 1
    values, vectors = np.linalg.eigh(np.cov(view.scores, rowvar=False))
    whitened = (view.scores @ vectors) / np.sqrt(values)
    residuals = pearson_residuals(view.counts[inside])
    ridge = Ridge(alpha=view.ridge).fit(whitened[inside], residuals)
    explained = ridge.predict(whitened[inside]) - residuals.mean(axis=0)
    np.testing.assert_allclose(local(view, 1), np.sqrt((explained**2).mean(axis=0)), rtol=1e-8)
    loadings, _ = local_loadings(view, 1)
    np.testing.assert_allclose(np.linalg.norm(loadings, axis=0), np.linalg.norm(ridge.coef_, axis=1), rtol=1e-8)


def test_local_finds_the_genes_of_a_program_only_where_it_is_active() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], 200)
    activity = rng.normal(size=400)
    log_rate = np.full((400, N_GENES), 1.0)
    log_rate[:200, :6] += 0.6 * activity[:200, None]
    view = FactorView(activity[:, None], None, sparse.csr_matrix(rng.poisson(np.exp(log_rate))), codes)
    assert set(np.argsort(-local(view, 0))[:6]) == set(range(6))
    assert local(view, 1)[:6].max() < 0.5 * local(view, 0)[:6].min()


def test_mean_expression_is_the_mean_share() -> None:
    counts = sparse.csr_matrix(np.array([[1.0, 3.0], [2.0, 2.0], [0.0, 0.0]]))
    np.testing.assert_allclose(mean_expression(counts, np.array([True, True, True])), [0.375, 0.625])


def test_a_non_linear_model_has_no_contrast() -> None:
    with pytest.raises(AssertionError, match="needs loadings"):
        contrast(replace(make_view(), loadings=None), 0)
