"""What every family of models promises, whoever adds it: what its members return, and what its entry claims of them."""

from __future__ import annotations

from functools import cache

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scballast.config.compose import compose_config
from scballast.engine.interface import Member, TrainedEnsemble
from scballast.models import FAMILIES, ModelFamily
from scballast.models.family import FitRequest

N_CELLS, N_GENES, N_LATENT = 120, 40, 2
CELLS = np.arange(20, 120)
TRAINABLE = [family for family in FAMILIES.values() if family.obstacle is None]

# scvi-tools warns of so few cells.
pytestmark = pytest.mark.filterwarnings("default")


@cache
def trained(name: str, *, covariate: int | None = None) -> TrainedEnsemble:
    """Return the same cells under two seeds, and other cells; conditioned on groups that a seed draws."""
    rng = np.random.default_rng(0)
    activity = rng.normal(size=(N_CELLS, 2))
    log_rate = rng.normal(1.5, 0.5, N_GENES) + activity @ rng.normal(0, 0.5, (2, N_GENES))
    adata = anndata.AnnData(sparse.csr_matrix(rng.poisson(np.exp(log_rate)), dtype=np.float32))
    if covariate is not None:
        groups = np.random.default_rng(covariate).choice(["a", "b"], N_CELLS)
        adata.obs["group"] = pd.Categorical(groups)
    family, words = FAMILIES[name], ["device=cpu", f"model={name}", f"model.n_latent={N_LATENT}"]
    words += ["train.max_epochs=2", "train.batch_size=50"] if family.epochs else []
    words += ["++model.n_runs=3"] if name == "cnmf" else []
    members = [Member(CELLS, seed=1), Member(CELLS, seed=2), Member(np.arange(90), seed=1)]
    batch_key = None if covariate is None else "group"
    return family.fit(FitRequest(adata, members, compose_config(words), batch_key))


@pytest.mark.parametrize("family", TRAINABLE, ids=lambda family: family.name)
def test_scores_and_loadings_have_a_row_for_each_cell_and_gene(family: ModelFamily) -> None:
    ensemble = trained(family.name)
    assert dict(ensemble.failures) == {}
    for member, n_cells in ((0, len(CELLS)), (2, 90)):
        scores = ensemble.posterior_means(member)
        assert scores.shape == (n_cells, N_LATENT)
        assert np.isfinite(scores).all()
        if family.likelihood:
            assert ensemble.posterior_means(member, np.arange(30)).shape == (30, N_LATENT)
        if family.linear:
            assert ensemble.loadings(member).shape == (N_GENES, N_LATENT)
            assert np.isfinite(ensemble.loadings(member)).all()
        if family.simplex:
            np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("family", TRAINABLE, ids=lambda family: family.name)
def test_the_cells_alone_decide_the_result_where_the_family_says_so(family: ModelFamily) -> None:
    ensemble = trained(family.name)
    one, other = (np.abs(ensemble.posterior_means(member)) for member in (0, 1))
    assert np.allclose(one, other, rtol=1e-6) == family.deterministic


@pytest.mark.parametrize("family", [f for f in TRAINABLE if f.conditional], ids=lambda family: family.name)
def test_a_model_that_can_be_conditioned_depends_on_the_covariate(family: ModelFamily) -> None:
    one, other = (trained(family.name, covariate=groups).posterior_means(0) for groups in (1, 2))
    assert np.isfinite(one).all()
    assert not np.allclose(one, other, rtol=1e-3)


@pytest.mark.parametrize("family", TRAINABLE, ids=lambda family: family.name)
def test_a_model_of_counts_has_a_fit_of_cells_that_it_has_not_seen(family: ModelFamily) -> None:
    if not family.likelihood:
        return
    fit = trained(family.name).heldout_fit(0, np.arange(20), 4)
    assert fit.nll.shape == fit.elbo.shape == (20,)
    assert (fit.nll > 0).all()
    # The bound is on the other side of the likelihood, but for the noise of its draws.
    assert fit.elbo.mean() > fit.nll.mean() - 1.0
