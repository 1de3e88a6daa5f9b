"""Topic models: what scvi-tools' AmortizedLDA finds, in the units that the rankers read."""

from __future__ import annotations

from dataclasses import replace

import anndata
import numpy as np
import pytest
import scvi
from scipy import sparse

from scballast.config.compose import compose_config
from scballast.config.schema import Config
from scballast.engine.interface import Member, TrainedEnsemble
from scballast.errors import TrainingError
from scballast.models import FAMILIES
from scballast.models.family import FitRequest
from scballast.models.topic import TOPIC_LEARNING_RATE, _over_deviation, _read_out

N_CELLS, N_GENES, N_TOPICS = 160, 60, 3

pytestmark = pytest.mark.filterwarnings("default")


def example() -> tuple[anndata.AnnData, np.ndarray]:
    """Counts of cells that are mixtures of three topics, and the mixtures."""
    rng = np.random.default_rng(0)
    topics = rng.dirichlet(np.full(N_GENES, 0.3), N_TOPICS)
    shares = rng.dirichlet(np.full(N_TOPICS, 0.3), N_CELLS)
    counts = rng.poisson(300 * shares @ topics)
    counts[:, 5] = 0
    return anndata.AnnData(sparse.csr_matrix(counts, dtype=np.float32)), shares


def config(*words: str) -> Config:
    return compose_config(["model=topic", f"model.n_latent={N_TOPICS}", "model.n_hidden=32", "device=cpu", *words])


def fitted(members: list[Member], settings: Config) -> TrainedEnsemble:
    return FAMILIES["topic"].fit(FitRequest(example()[0], members, settings))


@pytest.fixture(scope="module")
def trained() -> TrainedEnsemble:
    members = [Member(np.arange(N_CELLS), seed=1), Member(np.arange(65), seed=2, overrides={"n_latent": 2})]
    return fitted(members, config("train.max_epochs=40", "train.batch_size=64", "train.lr=0.015"))


def test_planted_mixtures_are_recovered(trained: TrainedEnsemble) -> None:
    proportions = trained.posterior_means(0)
    np.testing.assert_allclose(proportions.sum(axis=1), 1.0, atol=1e-5)
    correlation = np.corrcoef(example()[1].T, proportions.T)[:N_TOPICS, N_TOPICS:]
    assert sorted(correlation.argmax(axis=1)) == [0, 1, 2]
    assert (correlation.max(axis=1) > 0.9).all()


def test_the_product_is_the_expected_share_in_standard_deviations(trained: TrainedEnsemble) -> None:
    counts = example()[0].X.toarray().astype(float)
    shares = counts / counts.sum(axis=1, keepdims=True)
    seen = counts.any(axis=0)
    expected = (trained.posterior_means(0) @ trained.loadings(0).T)[:, seen] * shares[:, seen].std(axis=0)
    assert np.corrcoef(expected.ravel(), shares[:, seen].ravel())[0, 1] > 0.9
    assert expected.sum(axis=1).mean() == pytest.approx(1.0, abs=0.02)
    assert (trained.loadings(0)[5] == 0).all()


def test_units_are_those_of_a_dense_calculation() -> None:
    counts = example()[0].X.toarray().astype(float)
    topics = np.random.default_rng(1).dirichlet(np.ones(N_GENES), 2).T
    deviation = (counts / counts.sum(axis=1, keepdims=True)).std(axis=0)[:, None]
    expected = np.divide(topics, deviation, out=np.zeros_like(topics), where=deviation > 0)
    np.testing.assert_allclose(_over_deviation(topics, sparse.csr_matrix(counts)), expected, rtol=1e-9)


def test_training_is_told_by_epoch_and_by_cell(trained: TrainedEnsemble) -> None:
    curves = trained.history(0)
    assert len(curves["elbo_train"]) == len(curves["kl_weight"]) == 40
    assert curves["kl_weight"][:2] == pytest.approx([0.0, 1 / 10])
    assert curves["kl_weight"][-1] == 1.0
    # Nats of a cell of 300 counts among 60 genes: below those of equal shares, above those of one gene.
    assert 300 < curves["elbo_train"][-1] < 300 * np.log(N_GENES)
    assert trained.n_steps(0) == 40 * 3
    assert trained.loadings(1).shape == (N_GENES, 2)
    assert trained.n_steps(1) == 40  # of 59 cells to train on


def test_a_member_does_not_depend_on_those_trained_beside_it() -> None:
    """Pyro keeps the parameters of all models of a process in one store."""
    settings, second = config("train.max_epochs=2"), Member(np.arange(80), seed=5)
    alone = fitted([second], settings)
    beside = fitted([Member(np.arange(N_CELLS), seed=4), second, Member(np.arange(40), seed=6)], settings)
    np.testing.assert_array_equal(beside.loadings(1), alone.loadings(0))
    np.testing.assert_array_equal(beside.posterior_means(1), alone.posterior_means(0))


def test_at_one_learning_rate_it_is_scvi_tools_amortized_lda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class and its trainer as a user would call them: the same parameters, and proportions but for draws."""
    monkeypatch.setattr("scballast.models.topic.TOPIC_LEARNING_RATE", 1.0)
    words = ("train.max_epochs=8", "train.batch_size=64", "train.lr=0.05", "train.weight_decay=0")
    ours = fitted([Member(np.arange(N_CELLS), seed=11)], config(*words, "train.kl_warmup_epochs=4"))
    adata = example()[0]
    scvi.settings.seed = 11
    scvi.model.AmortizedLDA.setup_anndata(adata)
    theirs = scvi.model.AmortizedLDA(adata, n_topics=N_TOPICS, n_hidden=32)
    theirs.train(
        max_epochs=8,
        batch_size=64,
        accelerator="cpu",
        train_size=0.9,
        plan_kwargs={"optim_kwargs": {"lr": 0.05}, "n_epochs_kl_warmup": 4},
        enable_progress_bar=False,
    )
    losses = theirs.history["elbo_train"].iloc[:, 0].astype(float) / (0.9 * N_CELLS)
    np.testing.assert_allclose(ours.history(0)["elbo_train"], losses, rtol=1e-6)
    scaled, proportions = _read_out(theirs, 11)
    np.testing.assert_array_equal(ours.loadings(0), scaled)
    np.testing.assert_array_equal(ours.posterior_means(0), proportions)
    topics = theirs.get_feature_by_topic().to_numpy().astype(float)
    np.testing.assert_allclose(ours.loadings(0), _over_deviation(topics, adata.X), rtol=0.3, atol=0.01)
    assert np.corrcoef(ours.loadings(0).ravel(), _over_deviation(topics, adata.X).ravel())[0, 1] > 0.99
    np.testing.assert_allclose(proportions, theirs.get_latent_representation().to_numpy(), atol=0.03)


def test_topics_learn_faster_than_the_encoder() -> None:
    settings = config("train.max_epochs=1", "train.kl_warmup_epochs=null", "train.batch_size=200")
    still = replace(settings, train=replace(settings.train, lr=1e-9))
    start, step = (fitted([Member(np.arange(N_CELLS), seed=1)], one).loadings(0) for one in (still, settings))
    seen = start.any(axis=1)
    change = np.abs(np.log(step[seen] / start[seen]))
    # One step of Adam moves a parameter by its rate; the mean of a softmax follows all of a topic's, means and scales.
    assert 0.5 * TOPIC_LEARNING_RATE < change.max() / settings.train.lr < 3 * TOPIC_LEARNING_RATE


def test_a_loss_that_is_lost_is_a_failure_with_a_reason() -> None:
    with pytest.raises(TrainingError, match=r"topic: not one of 1 models has a result: .*1e\+18\). Lower train\.lr"):
        fitted([Member(np.arange(N_CELLS), seed=1)], config("train.max_epochs=3", "train.lr=1e18"))
