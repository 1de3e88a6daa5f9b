"""Which models an experiment trains, and what happens when some of them have no result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scballast.config.compose import compose_config
from scballast.config.schema import Config
from scballast.data.dataset import Dataset, Population
from scballast.data.replicates import Replicate
from scballast.engine import ensemble
from scballast.engine.member_cache import MemberCache
from scballast.errors import TrainingError
from scballast.experiment import training
from scballast.experiment.setup import Setup
from scballast.experiment.training import MemberKey, condition_column, known_members, train_ahead, train_models
from scballast.methods.plan import plan_methods


def make_dataset(batches: list[str] | None = None) -> Dataset:
    import anndata
    import pandas as pd
    from scipy import sparse

    codes = np.repeat([0, 1, -1], [30, 20, 10])
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(2.0, size=(60, 12)).astype(np.float32))
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(60)])
    if batches is not None:
        obs["batch"] = pd.Categorical(batches)
    return Dataset(
        name="toy",
        digest="0",
        adata=anndata.AnnData(counts, obs=obs),
        total_counts=np.asarray(counts.sum(axis=1)).ravel(),
        populations=(Population("A", "A", 30), Population("B", "B", 20)),
        population_codes=codes,
        label_codes=codes,
        labels=("A", "B"),
        population_key="label",
        batch_key=None if batches is None else "batch",
    )


REPLICATES = [Replicate(0, np.arange(0, 60, 2), np.arange(1, 60, 2)), Replicate(1, np.arange(1, 60, 2), np.arange(2))]


def make_setup(config: Config, replicates: Sequence[Replicate] = REPLICATES) -> Setup:
    return Setup(config, make_dataset(), tuple(replicates), plan_methods(config, has_samples=False))


def test_conditions_cross_population_and_batch_where_there_are_cells() -> None:
    batches = ["x"] * 15 + ["y"] * 15 + ["x"] * 17 + ["y"] * 3 + ["x"] * 10
    condition = condition_column(make_dataset(batches))
    assert len(set(condition[:30])) == 2
    assert len(set(condition[30:50])) == 2  # B in x; and B in y, whose 3 cells are too few for a batch of their own
    assert condition[47] == "B"
    assert len(set(condition[50:])) == 1
    assert not set(condition[:30]) & set(condition[30:])


def test_members_see_the_cells_of_their_replicate_and_population() -> None:
    config = compose_config(["methods=[contrast,per_population,conditioned]"])
    members = training.plan_members(make_setup(config))
    assert [len(member.cells) for member in members["global"].values()] == [30, 30]
    for key, member in members["per_population"].items():
        codes = make_dataset().population_codes[member.cells]
        assert set(codes) == {key.population}
        assert set(member.cells) <= set(REPLICATES[key.replicate].cells)
    seeds = [member.seed for role in members.values() for member in role.values()]
    assert len(set(seeds)) == len(seeds)


def test_models_too_small_to_validate_train_without_early_stopping(caplog: pytest.LogCaptureFixture) -> None:
    config = compose_config(["methods=[per_population]", "train.early_stopping=true", "train.max_epochs=2"])
    few = [Replicate(0, np.array([*range(0, 15), *range(30, 39)]), np.arange(40, 50))]  # 15 cells of A, 9 of B
    members = list(training.plan_members(make_setup(config, few))["per_population"].values())
    assert [dict(member.overrides) for member in members] == [{}, {"early_stopping": False}]
    assert caplog.text == ""  # a plan says nothing
    assert not train_models(make_setup(config, few)).ensembles["per_population"].failures
    assert "the 9 cells of 'B' in replicate 0 leave none to validate on" in caplog.text


def test_the_experiment_goes_on_when_all_models_of_a_role_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = training._fit

    def fit(role: str, *rest: Any) -> Any:
        if role == "per_population":
            message = "the loss of all 4 members became non-finite"
            raise TrainingError(message)
        return genuine(role, *rest)

    monkeypatch.setattr(training, "_fit", fit)
    config = compose_config(["model=pca", "model.n_latent=2", "methods=[contrast,per_population]"])
    models = train_models(make_setup(config))
    assert models.find(MemberKey("global", 0)) is not None
    assert models.find(MemberKey("per_population", 0, 1)) is None
    failed = models.table[models.table["failure"] != ""]
    assert set(failed["role"]) == {"per_population"}
    assert len(failed) == 4


def test_without_a_global_model_there_is_no_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: Any) -> Any:
        message = "all failed"
        raise TrainingError(message)

    monkeypatch.setattr(training, "_fit", fit)
    config = compose_config(["model=pca", "methods=[contrast]"])
    with pytest.raises(TrainingError, match="all failed"):
        train_models(make_setup(config))


def test_trials_trained_together_have_the_models_that_each_trains_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["methods=[contrast,per_population,conditioned,scvi_de]", "train.max_epochs=2", "train.batch_size=16"]
    varied = (
        ["model.n_latent=2"],
        ["model.n_latent=3", "train.lr=1e-2", "train.max_epochs=3"],
        ["model.gene_likelihood=zinb", "model.latent_distribution=ln", "model.n_hidden=16", "train.kl_warmup_epochs=1"],
        ["model.n_latent=2", "rank.top_k=3"],
    )
    setups = [make_setup(compose_config([*words, *own])) for own in varied]
    alone = [train_models(setup) for setup in setups]
    cache = MemberCache(tmp_path, 2**30)
    trained: list[int] = []

    def counted(counts: Any, kernel_counts: Any, plans: Sequence[Any], *rest: Any) -> Any:
        trained.append(len(plans))
        return train(counts, kernel_counts, plans, *rest)

    train = ensemble.train_on_cpu
    monkeypatch.setattr(ensemble, "train_on_cpu", counted)
    train_ahead(setups, cache)
    # Two replicates of three different trials in each role, and a model for each of two populations.
    assert trained == [6, 12, 6, 6]
    for setup, expected in zip(setups, alone, strict=True):
        found = train_models(setup, cache)
        assert found.table.equals(expected.table)
        assert found.positions == expected.positions
        for key, position in expected.positions.items():
            if key.role != "scvi":
                loadings = expected.ensembles[key.role].loadings(position)
                assert found.ensembles[key.role].loadings(position).tobytes() == loadings.tobytes()
            means = expected.ensembles[key.role].posterior_means(position)
            assert found.ensembles[key.role].posterior_means(position).tobytes() == means.tobytes()
    assert trained == [6, 12, 6, 6]


def test_models_of_the_cache_are_named_as_such_and_are_no_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["methods=[contrast,per_population]", "train.max_epochs=2", "train.batch_size=16", "model.n_latent=2"]
    cache, config = MemberCache(tmp_path, 2**30), compose_config(words)
    one, other = "training ldvae (global)", "training ldvae per population"

    def said(replicates: Sequence[Replicate]) -> list[str]:
        train_models(make_setup(config, replicates), cache)
        return capsys.readouterr().err.splitlines()

    assert said(REPLICATES[:1]) == [f"{one}: 1 model", f"{other}: 2 models"]
    assert said(REPLICATES) == [
        f"{one}: 1 of 2 models are taken from the cache",
        f"{one}: 1 model",
        f"{other}: 2 of 4 models are taken from the cache",
        f"{other}: 2 models",
    ]
    assert said(REPLICATES) == [
        f"{name}: {n} of {n} models are taken from the cache" for name, n in ((one, 2), (other, 4))
    ]


def test_from_disk_the_models_of_populations_share_the_passes_of_the_global_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["methods=[contrast,per_population,conditioned]", "train.max_epochs=2", "train.batch_size=16"]
    words += ["model.n_latent=2", "train.early_stopping=true"]
    trained: list[int] = []
    real = ensemble.train_streamed

    def counted(counts: Any, windows: Any, plans: Any, *rest: Any) -> Any:
        trained.append(len(plans))
        return real(counts, windows, plans, *rest)

    monkeypatch.setattr(ensemble, "train_streamed", counted)
    expected = train_models(make_setup(compose_config(words)))
    capsys.readouterr()
    found = train_models(make_setup(compose_config([*words, "train.data=stream"])))
    assert capsys.readouterr().err.splitlines() == [
        "training ldvae (global) and per population: 6 models",
        "training ldvae conditioned on the population: 2 models",
    ]
    assert trained == [6, 2]
    # One window holds all cells: the models are those that are trained in memory.
    assert found.table.equals(expected.table)
    for key in expected.positions:
        one, other = expected.find(key), found.find(key)
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one[0].loadings(one[1]), other[0].loadings(other[1]))


def test_without_a_global_model_those_of_the_populations_are_no_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = training._population_members

    def members(*args: Any) -> Any:
        return {key: replace(member, overrides={"lr": 1e-3}) for key, member in genuine(*args).items()}

    monkeypatch.setattr(training, "_population_members", members)
    words = ["methods=[contrast,per_population]", "train.max_epochs=2", "train.lr=1e18", "train.data=stream"]
    with pytest.raises(TrainingError, match=r"no global model has a result; the first: the loss became non-finite"):
        train_models(make_setup(compose_config(words)))


def test_what_the_cache_holds_is_known_without_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["methods=[contrast,per_population]", "train.max_epochs=2", "train.batch_size=16", "model.n_latent=2"]
    cache, config = MemberCache(tmp_path, 2**30), compose_config(words)
    train_models(make_setup(config, REPLICATES[:1]), cache)
    monkeypatch.setattr("scballast.engine.ensemble.train_on_cpu", lambda *_: pytest.fail("it was trained"))
    known = known_members(make_setup(config), cache)
    assert known == {key: key.replicate == 0 for key in known}
    assert len(known) == 6
    assert not any(known_members(make_setup(compose_config([*words, "model.n_latent=3"])), cache).values())
    assert not any(known_members(make_setup(config), MemberCache(tmp_path / "none", 2**30)).values())


def test_what_an_ensemble_does_not_hold_is_left_to_its_trial(tmp_path: Path) -> None:
    setups = [make_setup(compose_config([word])) for word in ("model=pca", "train.engine=scvi", "model=nmf")]
    train_ahead(setups, MemberCache(tmp_path, 2**30))
    assert not list(tmp_path.iterdir())


def test_a_role_without_members_is_not_trained_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    monkeypatch.setattr(training, "_fit", lambda role, *rest, **more: trained.append(role))
    few = [Replicate(0, np.array([0, 1, 30, 31]), np.arange(40, 50))]  # two cells of each population
    setup = make_setup(compose_config(["methods=[contrast,per_population]"]), few)
    train_ahead([setup, setup], MemberCache(tmp_path, 2**30))
    assert trained == ["global"]
