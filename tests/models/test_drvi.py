"""DRVI of scvi-tools: its directions against its own functions, and against a calculation from its weights."""

from __future__ import annotations

from functools import cache
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.special import logsumexp

from scballast.config.compose import compose_config
from scballast.config.schema import Config
from scballast.engine.interface import Member, TrainedEnsemble
from scballast.engine.scvi_compat import quiet_scvi
from scballast.errors import ConfigError
from scballast.models import FAMILIES, family_of
from scballast.models.drvi import _obstacle, direction_loadings
from scballast.models.family import FitRequest
from scballast.models.saved import load_saved_model, save_model
from scballast.models.scvi_training import seeded

N_CELLS, N_GENES, N_PROGRAMS, OF_PROGRAM = 480, 60, 4, 8

pytestmark = pytest.mark.filterwarnings("default")
trains = pytest.mark.skipif(FAMILIES["drvi"].obstacle is not None, reason=str(FAMILIES["drvi"].obstacle))


@cache
def example() -> tuple[anndata.AnnData, np.ndarray]:
    """Counts in two batches, in which programs of eight genes each are on or off by themselves; and who has which."""
    rng = np.random.default_rng(0)
    active = rng.random((N_CELLS, N_PROGRAMS)) < 0.3
    rates = np.tile(rng.lognormal(0.5, 0.5, N_GENES), (N_CELLS, 1))
    for program in range(N_PROGRAMS):
        genes = slice(program * OF_PROGRAM, (program + 1) * OF_PROGRAM)
        rates[:, genes] *= np.where(active[:, [program]], 6.0, 1.0)
    batch = np.where(np.arange(N_CELLS) % 3 == 0, "a", "b")
    rates[batch == "a", -10:] *= 3.0
    adata = anndata.AnnData(sparse.csr_matrix(rng.poisson(2 * rates), dtype=np.float32))
    adata.obs["batch"] = pd.Categorical(batch)
    return adata, active


def config(*words: str) -> Config:
    return compose_config(["model=drvi", "model.n_latent=6", "model.n_hidden=32", "device=cpu", *words])


def fitted(members: list[Member], settings: Config, batch_key: str | None = "batch") -> TrainedEnsemble:
    return FAMILIES["drvi"].fit(FitRequest(example()[0], members, settings, batch_key))


@pytest.fixture(scope="module")
def trained() -> TrainedEnsemble:
    return fitted([Member(np.arange(400), seed=1)], config("train.max_epochs=150", "train.lr=0.005"))


def contributions(model: Any, latent: np.ndarray, batch: int) -> np.ndarray:
    """What each dimension alone gives each gene, (n, dimension, gene), from the weights of one shared layer."""
    weights = {name: value.double().numpy() for name, value in model.module.decoder.state_dict().items()}
    hidden, head = "px_decoder.fc_layers.Layer 0.0", "px_scale_decoder"
    entered = latent[:, :, None] * weights["split_transform.weight"][:, :, 0]
    codes = np.broadcast_to(np.eye(2)[batch], (*entered.shape[:2], 2))
    values = np.concatenate([entered, codes], axis=2) @ weights[f"{hidden}.weight"].T + weights[f"{hidden}.bias"]
    values = values - values.mean(axis=2, keepdims=True)
    values = values / np.sqrt((values**2).mean(axis=2, keepdims=True) + 1e-5)
    values = np.where(values > 0, values, np.expm1(np.minimum(values, 0.0)))
    return values @ weights[f"{head}.weight"].T + weights[f"{head}.bias"]


@trains
def test_loadings_are_the_combined_scores_of_a_traversal_computed_from_the_weights(trained: TrainedEnsemble) -> None:
    means, expected = trained.posterior_means(0), []
    for batch in range(2):
        sides = []
        for ends in (np.maximum(means.max(axis=0), 0), np.minimum(means.min(axis=0), 0)):
            sides.append(contributions(trained.export(0), np.linspace(0.1, 1.0, 10)[:, None] * ends, batch))
        lowest, highest = np.min(sides, axis=(0, 1)), np.max(sides, axis=(0, 1))  # (dimension, gene)
        pseudo = np.exp(logsumexp(highest)) / 1e6
        others_least = np.exp(lowest).sum(axis=0) - np.exp(lowest) + pseudo
        others_most = np.exp(highest).sum(axis=0) - np.exp(highest) + pseudo
        scores = []
        for side in sides:
            top, bottom = np.exp(side.max(axis=0)), np.exp(lowest)
            folds = [np.log((others + top) / (others + bottom)) for others in (others_least, others_most)]
            scores.append((folds[0] * folds[1]).T)
        expected.append(scores[0] - scores[1])
    mean = np.mean(expected, axis=0)
    np.testing.assert_allclose(trained.loadings(0), mean, rtol=1e-3, atol=1e-4 * mean.max())


@trains
def test_loadings_are_the_table_that_scvi_tools_shows(trained: TrainedEnsemble) -> None:
    model, adata = trained.export(0), example()[0]
    with quiet_scvi():
        embedded = anndata.AnnData(model.get_latent_representation())
        model.set_latent_dimension_stats(embedded)
        model.calculate_interpretability_scores(embedded)
        table = model.get_interpretability_scores(embedded, adata, hide_vanished=False)
    titles = embedded.var["title"]
    expected = table[titles + "+"].to_numpy() - table[titles + "-"].to_numpy()
    np.testing.assert_allclose(trained.loadings(0), expected, rtol=1e-4, atol=1e-5 * expected.max())
    np.testing.assert_allclose(trained.posterior_means(0), embedded.X, atol=1e-6)


@trains
def test_programs_that_are_on_by_themselves_have_a_dimension_each(trained: TrainedEnsemble) -> None:
    scores, active = trained.posterior_means(0), example()[1][:400]
    correlation = np.corrcoef(active.T, scores.T)[:N_PROGRAMS, N_PROGRAMS:]
    found = np.abs(correlation).argmax(axis=1)
    assert (np.abs(correlation).max(axis=1) > 0.8).all()
    assert len(set(found)) == N_PROGRAMS
    for program, dimension in enumerate(found):
        upwards = np.sign(correlation[program, dimension]) * trained.loadings(0)[:, dimension]
        first = np.argsort(-upwards)[:OF_PROGRAM]
        assert set(first) == set(range(program * OF_PROGRAM, (program + 1) * OF_PROGRAM))


@trains
def test_heldout_fit_is_that_of_scvi_tools(trained: TrainedEnsemble) -> None:
    cells = np.arange(400, 480)
    fit = trained.heldout_fit(0, cells, 200)
    model, part = trained.export(0), example()[0][cells].copy()
    with quiet_scvi(), seeded(3):
        likelihood = model.get_marginal_ll(part, n_mc_samples=200, n_mc_samples_per_pass=20)
        bound = np.mean([float(model.get_elbo(part)) for _ in range(200)])
    assert fit.nll.mean() == pytest.approx(-float(likelihood), abs=0.2)
    assert fit.elbo.mean() == pytest.approx(-bound, abs=0.5)
    assert (fit.nll < fit.elbo).mean() > 0.95


@trains
@pytest.mark.parametrize("likelihood", ["nb", "zinb", "poisson"])
def test_likelihoods_are_those_of_the_other_models(likelihood: str) -> None:
    """``nb`` is the negative binomial that scvi-tools calls by that name, though DRVI writes it in logarithms."""
    import torch
    from scvi.distributions import NegativeBinomial

    settings = config(f"model.gene_likelihood={likelihood}", "train.max_epochs=1")
    model = fitted([Member(np.arange(64), seed=1)], settings).export(0)
    assert model.module.gene_likelihood == {"nb": "pnb"}.get(likelihood, likelihood)
    assert model.module.n_split_latent == model.module.n_latent == 6
    if likelihood == "nb":
        counts = torch.tensor(example()[0].X[:64].toarray())
        batch = torch.zeros((64, 1), dtype=torch.long)
        generated = model.module.generative(torch.zeros((64, 6)), torch.full((64, 1), 5.0), batch)["px"]
        same = NegativeBinomial(mu=generated.mu, theta=generated.theta)
        torch.testing.assert_close(generated.log_prob(counts), same.log_prob(counts), rtol=1e-4, atol=1e-4)


@trains
def test_a_member_does_not_depend_on_those_trained_beside_it() -> None:
    settings, second = config("train.max_epochs=2"), Member(np.arange(80), seed=5)
    alone = fitted([second], settings)
    beside = fitted([Member(np.arange(200), seed=4), second], settings)
    np.testing.assert_array_equal(beside.loadings(1), alone.loadings(0))
    np.testing.assert_array_equal(beside.posterior_means(1), alone.posterior_means(0))


@trains
def test_a_traversal_leaves_the_draws_of_others_as_they_were(trained: TrainedEnsemble) -> None:
    model, means, drawn = trained.export(0), trained.posterior_means(0), []
    for read in (lambda: None, lambda: direction_loadings(model, means)):
        np.random.seed(11)  # noqa: NPY002 - the generator that scvi-tools chooses batches by
        read()
        drawn.append(np.random.random())  # noqa: NPY002
    assert drawn[0] == drawn[1]


@trains
def test_a_saved_model_opens_without_running_what_it_holds(trained: TrainedEnsemble, tmp_path: Any) -> None:
    model = trained.export(0)
    save_model(model, tmp_path)
    again = load_saved_model(tmp_path, example()[0][:400])
    assert type(again).__name__ == "DRVI"
    np.testing.assert_allclose(again.get_latent_representation(), model.get_latent_representation(), atol=1e-6)


@pytest.mark.parametrize(
    ("installed", "missing"), [("1.4.2", True), ("1.5.1", False), ("1.10.0", False), ("2.0.0rc1", False)]
)
def test_what_it_needs_is_said_where_it_is_not_there(
    installed: str, missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scballast.models.drvi.version", lambda _: installed)
    obstacle = _obstacle()
    assert (obstacle is not None) == missing
    if obstacle is not None:
        assert "scvi-tools 1.5 or later, which need Python 3.12 or later; here is scvi-tools 1.4.2." in obstacle


def test_a_likelihood_or_a_latent_distribution_that_it_does_not_have_is_refused() -> None:
    if FAMILIES["drvi"].obstacle is None:
        with pytest.raises(
            ConfigError, match=r"latent_distribution: ln has no meaning for model\.name=drvi; use normal"
        ):
            family_of(compose_config(["model=drvi", "++model.latent_distribution=ln"]))
    else:
        with pytest.raises(ConfigError, match=r"^model\.name: drvi is the DRVI of scvi-tools 1\.5"):
            family_of(compose_config(["model=drvi"]))


@trains
def test_expression_shares_are_what_the_model_generates(trained: TrainedEnsemble) -> None:
    import torch

    from scballast.methods.model_de import expression_shares

    module, latent = trained.export(0).module, torch.tensor(trained.posterior_means(0)[:50], dtype=torch.float32)
    batch = (torch.arange(50) % 2)[:, None]
    with torch.inference_mode():
        generated = module.generative(latent, torch.full((50, 1), 5.0), batch)["px"]
        torch.testing.assert_close(expression_shares(module, latent, batch), generated.scale)
