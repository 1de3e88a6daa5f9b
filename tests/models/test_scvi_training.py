"""scvi-tools' own trainer behind the interface, and held-out fit against scvi-tools' figures."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import numpy as np
import pytest

from scballast.config.schema import Config
from scballast.engine.interface import Member
from scballast.engine.scvi_compat import quiet_scvi
from scballast.models import scvi_training
from scballast.models.family import FitRequest
from scballast.models.scvi_training import fit_sequential, seeded

MODEL = {
    "n_latent": 3,
    "gene_likelihood": "nb",
    "latent_distribution": "normal",
    "n_hidden": 16,
    "n_layers": 1,
    "dropout_rate": 0.1,
    "dispersion": "gene",
    "use_observed_lib_size": False,
}
TRAIN = {
    "max_epochs": 4,
    "batch_size": 32,
    "lr": 1e-3,
    "weight_decay": 1e-6,
    "train_size": 0.9,
    "kl_warmup_epochs": 0.5,
    "early_stopping": False,
    "early_stopping_patience": 45,
}

pytestmark = pytest.mark.filterwarnings("default")


def fit(adata: Any, members: list[Member], model: dict[str, Any], train: dict[str, Any]) -> Any:
    return fit_sequential(FitRequest(adata, members, Config()), model, train)


@pytest.fixture(scope="module")
def adata() -> Any:
    import anndata
    from scipy import sparse

    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.lognormal(0, 1, size=25) * rng.lognormal(0, 0.3, size=(90, 1)))
    return anndata.AnnData(sparse.csr_matrix(counts, dtype=np.float32))


@pytest.fixture(scope="module")
def trained(adata: Any) -> Any:
    members = [Member(cells=np.arange(60), seed=1), Member(cells=np.arange(37), seed=2, overrides={"n_latent": 2})]
    return fit(adata, members, MODEL, TRAIN)


def test_members_keep_their_own_settings(trained: Any) -> None:
    assert trained.loadings(0).shape == (25, 3)
    assert trained.loadings(1).shape == (25, 2)
    assert trained.n_steps(0) == 4 * 2
    np.testing.assert_allclose(trained.loadings(0), trained.export(0).get_loadings().to_numpy())


def test_posterior_means_are_those_of_scvi_tools(trained: Any, adata: Any) -> None:
    model = trained.export(0)
    with quiet_scvi():
        expected = model.get_latent_representation(model.adata)
    np.testing.assert_allclose(trained.posterior_means(0), expected, rtol=1e-6)
    assert trained.posterior_means(0, np.arange(60, 90)).shape == (30, 3)


def test_the_kl_weight_reaches_one_after_its_share_of_the_epochs(trained: Any) -> None:
    assert trained.history(0)["kl_weight"] == pytest.approx([0.0, 0.5, 1.0, 1.0])


def test_the_number_of_epochs_defaults_to_the_rule(adata: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scvi_training, "default_max_epochs", lambda n_cells: 2 if n_cells == 40 else 0)
    fitted = fit(adata, [Member(cells=np.arange(40), seed=0)], MODEL, {**TRAIN, "max_epochs": None})
    assert len(fitted.history(0)["elbo_train"]) == 2


def test_a_last_minibatch_of_one_cell_is_left_out(adata: Any) -> None:
    fitted = fit(adata, [Member(cells=np.arange(72), seed=0)], MODEL, TRAIN)  # 65 train: 32 + 32 + 1
    assert fitted.n_steps(0) == 4 * 2


@pytest.mark.parametrize("observed", [True, False])
def test_heldout_fit_is_that_of_scvi_tools(adata: Any, *, observed: bool) -> None:
    """Under a normal latent scvi-tools' own estimator is right, so both must agree."""
    settings = {**MODEL, "use_observed_lib_size": observed}
    fitted = fit(adata, [Member(cells=np.arange(60), seed=3)], settings, {**TRAIN, "max_epochs": 30})
    heldout = np.arange(60, 90)
    own = fitted.heldout_fit(0, heldout, 4000)
    with quiet_scvi(), seeded(5):
        model = fitted.export(0)
        part = model._validate_anndata(adata[heldout].copy())
        expected = -np.asarray(model.get_marginal_ll(part, n_mc_samples=4000, return_mean=False))
        elbo = -np.mean([float(model.get_elbo(part)) for _ in range(60)])
    assert own.nll.shape == own.elbo.shape == (30,)
    # While the library encoder is far from its posterior the weights are heavy-tailed, so estimates scatter by 1%.
    assert own.nll.mean() == pytest.approx(expected.mean(), rel=0.03)
    assert own.elbo.mean() == pytest.approx(elbo, rel=0.02)
    assert (own.nll <= own.elbo + 0.5).all()


def test_more_draws_bring_the_bound_down_under_ln(adata: Any) -> None:
    """The importance-weighted bound tightens with its draws; with one draw its mean is the ELBO."""
    settings = {**MODEL, "latent_distribution": "ln", "use_observed_lib_size": True}
    fitted = fit(adata, [Member(cells=np.arange(60), seed=3)], settings, TRAIN)
    heldout = np.arange(60, 90)
    few = fitted.heldout_fit(0, heldout, 2)
    many = fitted.heldout_fit(0, heldout, 500)
    assert many.nll.mean() < few.nll.mean()
    assert few.elbo.mean() == pytest.approx(many.elbo.mean(), rel=0.05)
    np.testing.assert_allclose(fitted.posterior_means(0).sum(axis=1), 1.0, rtol=1e-5)


def test_an_interrupt_ends_training_as_an_interrupt(adata: Any) -> None:
    handler = signal.getsignal(signal.SIGINT)
    timer = threading.Timer(3.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fit(adata, [Member(seed=1)], MODEL, {**TRAIN, "max_epochs": 100_000})
    timer.join()
    assert signal.getsignal(signal.SIGINT) is handler
