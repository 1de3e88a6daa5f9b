"""Members of an ensemble: independent of each other, and genuine scvi-tools models in the end."""

from __future__ import annotations

import logging
import time
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import scvi
import torch
from scipy import stats
from scipy.special import logsumexp
from tests.helpers.engine_examples import QUIET_SCVI, plan_one, small_adata

from scballast.engine import Member, fit_ensemble, train_ensemble
from scballast.engine import trainer_torch as torch_trainer
from scballast.engine.ensemble import Ensemble
from scballast.engine.kernels import KernelCounts, MemberKernel
from scballast.engine.posterior import heldout_fit
from scballast.engine.to_scvi import initial_state
from scballast.errors import ConfigError, DataError, TrainingError

pytestmark = [pytest.mark.filterwarnings(w) for w in QUIET_SCVI]
MODEL = {"n_hidden": 16, "n_latent": 4}
TRAIN = {"max_epochs": 3, "batch_size": 32}
ADATA = small_adata()
MODEL_CLASSES: dict[str, Any] = {"linear": scvi.model.LinearSCVI, "nonlinear": scvi.model.SCVI}
# Compiled: bit-identical. Torch: a matrix product may round differently in a stack of another size, and what has
# no gradient but rounding (a bias before a batch norm) drifts by it.
TOLERANCE = {"compiled": 0.0, "torch": 1e-3}


def nine_members() -> list[Member]:
    """Different cells, sizes, seeds and settings, of four structures."""
    cells = np.random.default_rng(5).permutation(ADATA.n_obs)
    return [
        Member(None, 1),
        Member(cells[:60], 2),
        Member(cells[:60], 3, {"n_latent": 2, "lr": 0.01}),
        Member(cells[:2], 4, {"max_epochs": 5}),
        Member(cells[50:], 2**40 + 7, {"dropout_rate": 0.0, "kl_warmup_epochs": 0.5}),
        Member(cells[10:90], 6, {"gene_likelihood": "zinb", "n_layers": 2}),
        Member(cells[:80], 7, {"weight_decay": 0.1, "latent_distribution": "ln", "early_stopping": True}),
        Member(cells[5:], 8, {"decoder": "nonlinear", "n_layers": 2}),
        Member(cells[:70], 9, {"decoder": "nonlinear", "n_layers": 2, "n_latent": 2, "max_epochs": 4}),
    ]


def weights(ensemble: Ensemble, member: int) -> dict[str, np.ndarray]:
    return dict(ensemble._result(member).packed.tensors)


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray], tolerance: float) -> None:
    assert set(first) == set(second)
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], rtol=tolerance, atol=tolerance, err_msg=name)


class TestIndependence:
    @pytest.mark.parametrize("kernels", ["compiled", "torch"])
    def test_one_nine_or_permuted(self, kernels: str) -> None:
        members, order = nine_members(), [3, 6, 0, 8, 5, 1, 7, 4, 2]
        together = fit_ensemble(ADATA, members, MODEL, TRAIN, kernels=kernels)
        permuted = fit_ensemble(ADATA, [members[i] for i in order], MODEL, TRAIN, kernels=kernels)
        tolerance = TOLERANCE[kernels]
        for i, member in enumerate(members):
            alone = fit_ensemble(ADATA, [member], MODEL, TRAIN, kernels=kernels)
            assert_same(weights(alone, 0), weights(together, i), tolerance)
            assert_same(weights(alone, 0), weights(permuted, order.index(i)), tolerance)
            np.testing.assert_allclose(
                alone.history(0)["elbo_train"], together.history(i)["elbo_train"], rtol=max(tolerance, 1e-12)
            )

    def test_number_of_threads_changes_nothing(self) -> None:
        threads = torch.get_num_threads()
        results = []
        for n in (1, 3):
            torch.set_num_threads(n)
            results.append(fit_ensemble(ADATA, nine_members(), MODEL, TRAIN))
        torch.set_num_threads(threads)
        for i in range(9):
            assert_same(weights(results[0], i), weights(results[1], i), 0.0)

    def test_compiled_and_torch_train_alike(self) -> None:
        compiled = fit_ensemble(ADATA, nine_members(), MODEL, TRAIN, batch_key="batch", kernels="compiled")
        plain = fit_ensemble(ADATA, nine_members(), MODEL, TRAIN, batch_key="batch", kernels="torch")
        for i in range(9):
            assert_same(weights(compiled, i), weights(plain, i), TOLERANCE["torch"])
            assert compiled.n_steps(i) == plain.n_steps(i)
            for name, curve in compiled.history(i).items():
                np.testing.assert_allclose(curve, plain.history(i)[name], rtol=1e-4)
            cells = np.arange(20, 50)
            np.testing.assert_allclose(compiled.posterior_means(i), plain.posterior_means(i), atol=1e-3)
            trained = compiled.heldout_fit(i, cells, 5)
            assert np.isclose(np.nanmean(trained.nll), np.nanmean(plain.heldout_fit(i, cells, 5).nll), rtol=5e-5)
            # Cell by cell the weights must be the same ones: where they differ by 1e-4, so does a cell's likelihood.
            moved = copy(plain)
            moved.trained = compiled.trained
            evaluated = moved.heldout_fit(i, cells, 5)
            np.testing.assert_allclose(trained.nll, evaluated.nll, rtol=1e-5)
            np.testing.assert_allclose(trained.elbo, evaluated.elbo, rtol=1e-5)

    def test_memory_splits_a_stack_and_changes_nothing(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        whole = fit_ensemble(ADATA, nine_members(), MODEL, TRAIN, kernels="torch")
        monkeypatch.setattr(torch_trainer, "_HOST_BUDGET", 1 << 19)
        with caplog.at_level(logging.INFO, logger="scballast.engine"):
            split = fit_ensemble(ADATA, nine_members(), MODEL, TRAIN, kernels="torch")
        assert "9 members are trained in 5 groups (4 structures; memory for the rest)" in caplog.text
        for i in range(9):
            assert_same(weights(whole, i), weights(split, i), TOLERANCE["torch"])


class TestFailure:
    def test_a_member_that_diverges_is_reported_and_the_others_go_on(self, caplog: pytest.LogCaptureFixture) -> None:
        members = [Member(None, 1), Member(None, 2, {"lr": 1e20}), Member(None, 3)]
        for kernels in ("compiled", "torch"):
            fitted = fit_ensemble(ADATA, members, MODEL, TRAIN, kernels=kernels)
            assert list(fitted.failures) == [1]
            assert "non-finite" in fitted.failures[1]
            assert "lr=1e+20" in fitted.failures[1]
            with pytest.raises(TrainingError, match="member 1 has no result"):
                fitted.loadings(1)
            alone = fit_ensemble(ADATA, [members[2]], MODEL, TRAIN, kernels=kernels)
            assert_same(weights(alone, 0), weights(fitted, 2), TOLERANCE[kernels])
        assert "member 1 of 3 is dropped" in caplog.text

    def test_all_members_lost(self) -> None:
        with pytest.raises(TrainingError, match=r"no member has a result.*Lower train\.lr"):
            fit_ensemble(ADATA, [Member()], MODEL, {**TRAIN, "lr": 1e20})

    def test_a_list_of_models_is_never_short(self) -> None:
        members = [Member(None, 1), Member(None, 2, {"lr": 1e20})]
        with pytest.raises(TrainingError, match=r"1 of 2 members have no result\. member 1"):
            train_ensemble(ADATA, members, MODEL, TRAIN)


class TestRefusals:
    @pytest.mark.parametrize(
        ("model", "train", "overrides", "words"),
        [
            ({"n_latnet": 5}, {}, {}, r"model: unknown key 'n_latnet'; the nearest one is 'n_latent'"),
            ({}, {"learning_rate": 1}, {}, "train: unknown key 'learning_rate'"),
            ({"decoder": "nonlinear", "n_labels": 9}, {}, {}, "its cells have 1 labels, and SCVI counts them itself"),
            ({}, {}, {"dropout": 0.2}, "overrides: unknown key 'dropout'; the nearest one is 'dropout_rate'"),
            ({"gene_likelihood": "normal"}, {}, {}, r"gene_likelihood='normal' cannot be used.*nb \| zinb \| poisson"),
            ({"n_latent": 2.5}, {}, {}, "n_latent=2.5 cannot be used. Allowed: a whole number of at least 1"),
            ({}, {"lr": 0}, {}, "lr=0 cannot be used. Allowed: a positive number"),
            ({}, {"batch_size": 1}, {}, "batch_size=1 cannot be used"),
            ({}, {"train_size": 1.5}, {}, "train_size=1.5 cannot be used"),
            ({}, {"kl_warmup_epochs": 2.5}, {}, "kl_warmup_epochs=2.5 cannot be used"),
            ({}, {"early_stopping": 1}, {}, "early_stopping=1 cannot be used"),
            ({}, {"min_kl_weight": 2}, {}, "min_kl_weight=2.0 is larger than train.max_kl_weight=1.0"),
            ({}, {"early_stopping": True, "train_size": 1.0}, {}, "early stopping needs validation cells"),
        ],
    )
    def test_settings(
        self, model: dict[str, Any], train: dict[str, Any], overrides: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(ConfigError, match=words):
            fit_ensemble(ADATA, [Member(overrides=overrides)], model, train)

    @pytest.mark.parametrize(
        ("cells", "words"),
        [
            ([4], "member 0 has 1 cells. A model needs at least 2"),
            ([0, 120], "cells go from 0 to 120; the data has 0 to 119"),
            ([0.5, 1.0], "cells must be one row of whole numbers"),
        ],
    )
    def test_cells(self, cells: list[float], words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            fit_ensemble(ADATA, [Member(np.array(cells))], MODEL, TRAIN)

    @pytest.mark.parametrize("device", ["cuda", "tpu"])
    def test_a_device_that_is_not_there(self, device: str) -> None:
        if device == "cuda" and torch.cuda.is_available():
            pytest.skip("there is a GPU here")
        with pytest.raises(ConfigError, match=f"device='?{device}"):
            fit_ensemble(ADATA, [Member()], MODEL, TRAIN, device=device)

    def test_data(self) -> None:
        with pytest.raises(ConfigError, match="batch_key='donor' is not a column of obs"):
            fit_ensemble(ADATA, [Member()], MODEL, TRAIN, batch_key="donor")
        with pytest.raises(ConfigError, match="layer='raw' does not exist"):
            fit_ensemble(ADATA, [Member()], MODEL, TRAIN, layer="raw")
        scaled = ADATA.copy()
        scaled.X = scaled.X - sp.csr_matrix(np.eye(*scaled.shape, dtype=np.float32) * 50)
        with pytest.raises(DataError, match="not counts"):
            fit_ensemble(scaled, [Member()], MODEL, TRAIN)
        empty = ADATA.copy()
        empty.X = sp.csr_matrix(empty.X.toarray() * (np.arange(empty.n_obs) != 7)[:, None])
        with pytest.raises(DataError, match="1 of its cells have no counts"):
            fit_ensemble(empty, [Member()], {**MODEL, "use_observed_lib_size": True}, TRAIN)
        assert not fit_ensemble(empty, [Member()], MODEL, TRAIN).failures


class TestExport:
    @pytest.mark.parametrize(
        "model",
        [
            {},
            {"gene_likelihood": "zinb", "latent_distribution": "ln", "dispersion": "gene-batch", "n_layers": 2},
            {"gene_likelihood": "poisson", "use_observed_lib_size": True},
            {"dispersion": "gene-label"},
            {"decoder": "nonlinear", "use_observed_lib_size": True},
            {
                "decoder": "nonlinear",
                "gene_likelihood": "zinb",
                "latent_distribution": "ln",
                "dispersion": "gene-batch",
                "n_layers": 2,
            },
            {"decoder": "nonlinear", "gene_likelihood": "poisson"},
            {"decoder": "nonlinear", "dispersion": "gene-label"},
        ],
        ids=[
            "default",
            "zinb-ln",
            "poisson",
            "gene-label",
            "nonlinear",
            "nonlinear-zinb-ln",
            "nonlinear-poisson",
            "nonlinear-gene-label",
        ],
    )
    def test_scvi_tools_saves_loads_and_agrees(self, model: dict[str, Any], tmp_path: Path) -> None:
        cells = np.random.default_rng(1).permutation(ADATA.n_obs)[:100]
        fitted = fit_ensemble(ADATA, [Member(cells, 9)], {**MODEL, **model}, TRAIN, "batch", "label")
        exported = fitted.export(0)
        exported.save(str(tmp_path / "model"), save_anndata=True)
        linear = model.get("decoder") != "nonlinear"
        loaded = MODEL_CLASSES["linear" if linear else "nonlinear"].load(str(tmp_path / "model"))
        assert list(loaded.adata.obs_names) == list(ADATA.obs_names[cells])
        if linear:
            np.testing.assert_allclose(loaded.get_loadings().to_numpy(), fitted.loadings(0), rtol=1e-5, atol=1e-7)
        else:
            with pytest.raises(ConfigError, match="non-linear decoder, and so no loadings"):
                fitted.loadings(0)
        means = loaded.get_latent_representation()
        # Under ln scvi-tools draws 5,000 samples per cell.
        tolerance = 0.03 if model.get("latent_distribution") == "ln" else 1e-5
        np.testing.assert_allclose(means, fitted.posterior_means(0), atol=tolerance)
        n_draws = 50
        theirs = np.stack([-loaded.get_elbo(return_mean=False).numpy() for _ in range(n_draws)])
        ours = fitted.heldout_fit(0, cells, n_draws)
        error = theirs.std(0) * np.sqrt(2 / n_draws)
        assert np.abs((theirs.mean(0) - ours.elbo) / error).max() < 6
        # The marginal likelihood bounds the ELBO; the non-linear decoder's bound is so tight that draws show.
        assert (ours.nll < ours.elbo + (0 if linear else error)).all()

    @pytest.mark.parametrize("decoder", ["linear", "nonlinear"])
    def test_differential_expression_and_further_training_work(self, decoder: str) -> None:
        model = {**MODEL, "decoder": decoder}
        exported = train_ensemble(ADATA.copy(), [Member(None, 2)], model, TRAIN, batch_key="batch")[0]
        table = exported.differential_expression(groupby="label", group1="x", silent=True)
        assert set(table.index) == set(ADATA.var_names)
        assert np.isfinite(table["bayes_factor"]).all()
        before = len(exported.history["elbo_train"])
        exported.train(max_epochs=2, accelerator="cpu", enable_progress_bar=False, batch_size=32)
        assert len(exported.history["elbo_train"]) == before + 2

    @pytest.mark.parametrize("decoder", ["linear", "nonlinear"])
    def test_history_and_split_are_those_of_scvi(self, decoder: str) -> None:
        adata, model_class = ADATA.copy(), MODEL_CLASSES[decoder]
        train = {**TRAIN, "early_stopping": True, "early_stopping_patience": 2}
        model = {**MODEL, "gene_likelihood": "nb", "use_observed_lib_size": decoder == "nonlinear"}
        exported = train_ensemble(adata, [Member(None, 21)], {**model, "decoder": decoder}, train)[0]
        scvi.settings.seed = 21
        model_class.setup_anndata(adata)
        theirs = model_class(adata, **model)
        theirs.train(max_epochs=3, batch_size=32, early_stopping=True, accelerator="cpu", enable_progress_bar=False)
        np.testing.assert_array_equal(exported.train_indices, theirs.train_indices)
        np.testing.assert_array_equal(exported.validation_indices, theirs.validation_indices)
        np.testing.assert_array_equal(exported.test_indices, theirs.test_indices)
        for name, frame in exported.history.items():
            assert name in theirs.history
            if name == "kl_weight":  # scvi-tools logs it every ten steps
                continue
            assert list(frame.index) == list(theirs.history[name].index), name
            # Same start, same cells, other noise and order: near, but not the same.
            np.testing.assert_allclose(frame[name], theirs.history[name][name].astype(float), rtol=0.1)

    @pytest.mark.parametrize("decoder", ["linear", "nonlinear"])
    def test_weights_start_as_in_scvi_tools(self, decoder: str) -> None:
        adata, model_class = ADATA.copy(), MODEL_CLASSES[decoder]
        model = {**MODEL, "gene_likelihood": "zinb", "use_observed_lib_size": False}
        model_class.setup_anndata(adata, batch_key="batch")
        torch.manual_seed(17)
        theirs = model_class(adata, **model).module.state_dict()
        state_before = torch.random.get_rng_state()
        plan, _ = plan_one(ADATA, {"decoder": decoder, **model}, batch_key="batch", member=Member(None, 17))
        ours = initial_state(plan)
        assert torch.equal(state_before, torch.random.get_rng_state())
        assert list(ours) == list(theirs)
        for name, value in theirs.items():
            # The library prior is summed in another precision.
            np.testing.assert_allclose(ours[name], value.numpy(), rtol=2e-6 if "library" in name else 0, err_msg=name)

    def test_a_member_knows_the_batches_of_its_cells_only(self) -> None:
        two = np.flatnonzero(ADATA.obs["batch"] != "b")
        fitted = fit_ensemble(ADATA, [Member(two, 1), Member(None, 1)], MODEL, TRAIN, "batch")
        exported = fitted.export(0)
        assert exported.summary_stats.n_batch == 2
        assert exported.get_loadings().shape == (ADATA.n_vars, 4)
        unseen = np.flatnonzero(ADATA.obs["batch"] == "b")
        assert np.isnan(fitted.heldout_fit(0, unseen, 3).nll).all()
        assert np.isfinite(fitted.heldout_fit(1, unseen, 3).nll).all()
        # The encoder does not see batches.
        assert np.isfinite(fitted.posterior_means(0, unseen)).all()

    def test_a_batch_with_one_cell(self) -> None:
        cells = np.concatenate(
            [np.flatnonzero(ADATA.obs["batch"] == "a"), np.flatnonzero(ADATA.obs["batch"] == "c")[:1]]
        )
        fitted = fit_ensemble(ADATA, [Member(cells, 1)], MODEL, TRAIN, "batch")
        assert np.isfinite(fitted.heldout_fit(0, cells, 3).nll).all()


class TestHeldoutFit:
    def test_marginal_likelihood_is_distributed_as_that_of_scvi_tools(self) -> None:
        """Twenty estimates from ten samples each way, per cell; compared by ranks, as their tails are heavy."""
        fitted = fit_ensemble(ADATA, [Member(None, 3)], MODEL, {**TRAIN, "max_epochs": 30}, "batch")
        exported, cells, trained = fitted.export(0), np.arange(60), fitted._result(0)
        evaluator = fitted.evaluator(trained.plan)
        torch.manual_seed(0)
        theirs = [
            -exported.get_marginal_ll(indices=cells, n_mc_samples=10, return_mean=False).numpy() for _ in range(20)
        ]
        ours = [
            heldout_fit(evaluator, fitted.counts, trained.packed, replace(trained.plan, seed=seed), cells, 10).nll
            for seed in range(20)
        ]
        pairs = zip(np.transpose(ours), np.transpose(theirs), strict=True)
        p_values = np.array([stats.ks_2samp(*pair).pvalue for pair in pairs])
        assert (p_values < 0.05).sum() <= 9  # of 60; 3 are expected, more than 9 in one of 1,000 trials
        assert p_values.min() > 1e-5

    @pytest.mark.parametrize("latent", ["normal", "ln"])
    @pytest.mark.parametrize("decoder", ["linear", "nonlinear"])
    def test_same_noise_same_likelihood(self, latent: str, decoder: str) -> None:
        from scballast.engine import noise
        from scballast.engine.posterior import _HELDOUT_STEP

        model = {**MODEL, "latent_distribution": latent, "decoder": decoder}
        fitted = fit_ensemble(ADATA, [Member(None, 3)], model, TRAIN, "batch")
        module, cells, n = fitted.export(0).module, np.arange(25), 6
        z_draws = torch.tensor(noise.normals(3, _HELDOUT_STEP, noise.LATENT, (n, 25, 4)), dtype=torch.float32)
        l_draws = torch.tensor(noise.normals(3, _HELDOUT_STEP, noise.LIBRARY, (n, 25)), dtype=torch.float32)[..., None]
        x = torch.tensor(ADATA.X[cells].toarray())
        batch = torch.tensor(ADATA.obs["batch"].cat.codes.to_numpy()[cells], dtype=torch.int64)[:, None]
        standard = torch.distributions.Normal(0.0, 1.0)
        with torch.inference_mode():
            inferred = module.inference(x, batch)
            q_z, q_l = inferred["qz"], inferred["ql"]
            u, library = q_z.loc + q_z.scale * z_draws, q_l.loc + q_l.scale * l_draws
            means, variances = module._compute_local_library_params(batch)
            prior = torch.distributions.Normal(means, variances.sqrt())
            weight = (standard.log_prob(u) - q_z.log_prob(u)).sum(-1)
            weight = weight + (prior.log_prob(library) - q_l.log_prob(library)).sum(-1)
            likelihood = torch.stack(
                [
                    module.generative(module.z_encoder.z_transformation(u[s]), library[s], batch)["px"]
                    .log_prob(x)
                    .sum(-1)
                    for s in range(n)
                ]
            )
            kl = torch.distributions.kl_divergence(q_z, standard).sum(-1)
            kl = kl + torch.distributions.kl_divergence(q_l, prior).sum(-1)
        ours = fitted.heldout_fit(0, cells, n)
        np.testing.assert_allclose(ours.nll, np.log(n) - logsumexp((likelihood + weight).numpy(), axis=0), rtol=1e-5)
        np.testing.assert_allclose(ours.elbo, (kl - likelihood.mean(0)).numpy(), rtol=1e-5)

    def test_chunks_are_the_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from scballast.engine import posterior

        fitted = fit_ensemble(ADATA, [Member(None, 3)], {**MODEL, "latent_distribution": "ln"}, TRAIN)
        whole = fitted.posterior_means(0)
        monkeypatch.setattr(posterior, "_CHUNK_VALUES", 1 << 13)
        np.testing.assert_allclose(fitted.posterior_means(0), whole, rtol=1e-6)
        np.testing.assert_allclose(whole.sum(1), 1, rtol=1e-5)
        np.testing.assert_allclose(fitted.posterior_means(0, np.array([5, 3])), whole[[5, 3]], rtol=1e-6)


def test_progress_counts_members() -> None:
    for kernels in ("compiled", "torch"):
        seen: list[int] = []
        fit_ensemble(ADATA, nine_members(), MODEL, TRAIN, on_progress=seen.append, kernels=kernels)
        assert sum(seen) == 9


def test_an_interruption_ends_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from scballast.engine import trainer_cpu

    def interrupt(*_: Any, **__: Any) -> None:
        time.sleep(0.2)
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer_cpu, "wait", interrupt)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fit_ensemble(ADATA, [Member(None, 1, {"max_epochs": 1_000_000})], MODEL, TRAIN)
    assert time.monotonic() - start < 60  # a million epochs take an hour


def test_evaluation_in_threads_is_the_same() -> None:
    fitted = fit_ensemble(ADATA, [Member(None, 3)], MODEL, TRAIN)
    trained, counts, cells = fitted._result(0), fitted.counts, np.arange(ADATA.n_obs)
    kernels = [MemberKernel(trained.plan, KernelCounts(counts), n_threads=n) for n in (1, 3)]
    one, three = (heldout_fit(kernel, counts, trained.packed, trained.plan, cells, 20) for kernel in kernels)
    np.testing.assert_array_equal(one.nll, three.nll)
    np.testing.assert_array_equal(one.elbo, three.elbo)


def test_without_a_compiler_torch_takes_over_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from scballast.engine import native

    monkeypatch.setenv("CXX", "no-such-compiler")
    native.load_library.cache_clear()
    try:
        with pytest.raises(ConfigError, match="no C\\+\\+ compiler found"):
            fit_ensemble(ADATA, [Member()], MODEL, TRAIN, kernels="compiled")
        fitted = fit_ensemble(ADATA, [Member(None, 1)], MODEL, TRAIN)
    finally:
        native.load_library.cache_clear()
    assert "training runs in plain torch" in caplog.text
    expected = fit_ensemble(ADATA, [Member(None, 1)], MODEL, TRAIN, kernels="torch")
    assert_same(weights(fitted, 0), weights(expected, 0), 0.0)
