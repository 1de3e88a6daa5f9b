"""Differential expression by the models' own test against scvi-tools' ``differential_expression``."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix
from scipy.stats import ks_2samp, spearmanr

from scballast.engine import scvi_compat
from scballast.methods import model_de
from scballast.methods.model_de import ChangeStatistics, change_score, change_statistics, model_de_scores

pytestmark = [
    pytest.mark.slow,
    # Lightning's own use of torch.
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated"),
]

POPULATIONS = ("a", "b")
N_GENES = 40


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat([0, 1, -1], [60, 90, 50]))


@pytest.fixture(scope="module")
def adata(codes: np.ndarray) -> AnnData:
    rng = np.random.default_rng(1)
    level = np.tile(rng.lognormal(0.0, 1.0, N_GENES), (codes.size, 1))
    level[np.ix_(codes == 0, range(5))] *= 6
    level[np.ix_(codes == 1, range(5, 10))] *= 6
    level[:, -4:] = 0.002  # next to unexpressed: they set scvi-tools' pseudocount
    counts = rng.poisson(level).astype(np.float32)
    obs = pd.DataFrame(
        {
            "label": pd.Categorical(np.array(["a", "b", "none"])[codes]),
            "batch": pd.Categorical(rng.choice(["x", "y"], codes.size)),
        },
        index=[f"cell{cell}" for cell in range(codes.size)],
    )
    return AnnData(csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"g{gene}" for gene in range(N_GENES)]))


@pytest.fixture(scope="module", params=["linear_ln", "linear_zinb", "scvi_batch"])
def model(request: pytest.FixtureRequest, adata: AnnData):
    import scvi

    scvi.settings.verbosity = logging.ERROR
    scvi.settings.seed = 0
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "enable_model_summary": False}
    data = adata.copy()
    if request.param == "scvi_batch":
        scvi.model.SCVI.setup_anndata(data, batch_key="batch")
        trained = scvi.model.SCVI(data, n_latent=4, n_hidden=16)
    else:
        scvi.model.LinearSCVI.setup_anndata(data)
        options = (
            {"latent_distribution": "ln", "gene_likelihood": "nb"}
            if request.param == "linear_ln"
            else {"gene_likelihood": "zinb", "use_observed_lib_size": False}
        )
        trained = scvi.model.LinearSCVI(data, n_latent=4, n_hidden=16, **options)
    trained.train(40, batch_size=50, plan_kwargs={"lr": 1e-2, "n_epochs_kl_warmup": None}, **quiet)
    return trained


def by_scvi(model, mode: str, seed: int) -> list[pd.DataFrame]:
    """scvi-tools' own tables, in the order of the genes."""
    import scvi

    scvi.settings.seed = seed
    table = model.differential_expression(
        groupby="label", group1=list(POPULATIONS), mode=mode, weights="uniform", silent=True
    )
    return [table[table["group1"] == name].loc[model.adata.var_names] for name in POPULATIONS]


class TestAgainstDifferentialExpression:
    """The same distribution: as far from scvi-tools' result as that is from itself at another seed."""

    def test_change(self, model, codes: np.ndarray) -> None:
        scores = model_de_scores(model, codes, POPULATIONS, mode="change", seed=3)
        for row, table, again in zip(scores, by_scvi(model, "change", 0), by_scvi(model, "change", 1), strict=True):
            # Where the median is a draw away from zero its sign is a coin toss, there as here.
            settled = np.abs(table["lfc_median"] / table["lfc_std"]).to_numpy() > 0.2
            expected, other = ((np.sign(t["lfc_median"]) * t["proba_de"]).to_numpy() for t in (table, again))
            assert settled.sum() > 15
            # 5,000 draws, and scvi-tools' own are fewer than that: each cell's are drawn once and then resampled.
            np.testing.assert_allclose(row[settled], expected[settled], atol=0.06)
            own = np.abs(other - expected)[settled].mean()
            assert np.abs(row - expected)[settled].mean() < 2 * own + 0.005
            assert spearmanr(row[settled], expected[settled]).statistic > 0.98

    def test_vanilla(self, model, codes: np.ndarray) -> None:
        scores = model_de_scores(model, codes, POPULATIONS, mode="vanilla", seed=3)
        for row, table in zip(scores, by_scvi(model, "vanilla", 0), strict=True):
            probability = 1 / (1 + np.exp(-row))
            np.testing.assert_allclose(probability, table["proba_m1"], atol=0.05)
            assert spearmanr(row, table["bayes_factor"]).statistic > 0.98

    def test_planted_markers_lead(self, model, codes: np.ndarray) -> None:
        scores = model_de_scores(model, codes, POPULATIONS)
        for row, planted in zip(scores, (range(5), range(5, 10)), strict=True):
            assert len(set(np.argsort(-row)[:7]) & set(planted)) >= 4

    def test_draws_follow_the_posterior_of_scvi_tools(self, model, codes: np.ndarray) -> None:
        import scvi

        cells = np.flatnonzero(codes == 1)
        scvi.settings.seed = 5
        expected = model.get_normalized_expression(
            indices=cells, n_samples_overall=4_000, return_numpy=True, weights="uniform"
        )
        drawn = torch.empty(4_000, N_GENES)
        posterior = model_de.encode_cells(model, np.arange(codes.size))
        model_de.draw_scales(model, posterior, cells, torch.Generator().manual_seed(5), drawn)
        np.testing.assert_allclose(drawn.sum(dim=1), 1.0, rtol=1e-5)
        # At 4,000 against 4,000 the 0.1% point of the distance is 0.044; scvi-tools' resampling adds a little.
        distances = [ks_2samp(drawn[:, gene].numpy(), expected[:, gene]).statistic for gene in range(N_GENES)]
        assert max(distances) < 0.06

    def test_shares_are_those_of_the_whole_generative_model(self, model) -> None:
        latent = torch.rand((30, 4), generator=torch.Generator().manual_seed(2))
        batch = torch.arange(30)[:, None] % model.summary_stats.n_batch
        with torch.inference_mode():
            whole = model.module.eval().generative(latent, torch.ones(30, 1), batch, y=torch.zeros(30, 1, dtype=int))
            shares = model_de.expression_shares(model.module, latent, batch)
        assert torch.equal(shares, whole["px"].get_normalized("scale"))

    @pytest.mark.parametrize("mode", ["change", "vanilla"])
    def test_same_draws_same_statistics(self, model, codes: np.ndarray, mode: str) -> None:
        """scvi-tools' own computation, fed with our draws."""
        from scvi.model.base._differential import DifferentialComputation

        posterior = model_de.encode_cells(model, np.arange(codes.size))
        generator = torch.Generator().manual_seed(1)
        draws = torch.empty(2, 501, N_GENES)
        for side, out in zip((codes == 0, codes != 0), draws, strict=True):
            model_de.draw_scales(model, posterior, np.flatnonzero(side), generator, out)
        given = iter(draws.numpy())
        computation = DifferentialComputation(lambda *_, **__: next(given), None, model.adata_manager)
        expected = computation.get_bayes_factors(
            codes == 0, codes != 0, mode=mode, delta=0.25, use_observed_batches=True, n_samples_overall=501
        )
        if mode == "vanilla":
            np.testing.assert_allclose(model_de.bayes_factor(*draws), expected["bayes_factor"], rtol=1e-6)
            return
        mean_counts = model_de._MeanCounts.of(model, np.arange(codes.size), codes, 2)
        pseudocount = scvi_compat.estimated_pseudocount(*draws, *mean_counts.unexpressed(0))
        assert pseudocount == pytest.approx(float(expected["pseudocounts"]), rel=1e-6)
        ours = change_statistics(*draws, pseudocount)
        np.testing.assert_allclose(ours.proba_de, expected["proba_de"], atol=1.1 / 501)  # one draw at the threshold
        np.testing.assert_allclose(ours.lfc_mean, expected["lfc_mean"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(ours.lfc_std, expected["lfc_std"], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(ours.lfc_median_sign, np.sign(expected["lfc_median"]))


class TestIdentity:
    def test_seed_decides_and_nothing_else_random_is_touched(self, model, codes: np.ndarray) -> None:
        before = torch.random.get_rng_state()
        first = model_de_scores(model, codes, POPULATIONS, seed=1, n_samples=200)
        torch.rand(3)
        torch.random.set_rng_state(before)
        again = model_de_scores(model, codes, POPULATIONS, seed=1, n_samples=200)
        assert first.tobytes() == again.tobytes()
        assert torch.equal(torch.random.get_rng_state(), before)
        assert not np.array_equal(first, model_de_scores(model, codes, POPULATIONS, seed=2, n_samples=200))

    def test_other_populations_do_not_matter(self, model, codes: np.ndarray) -> None:
        alone = model_de_scores(model, codes, POPULATIONS, n_samples=200)
        named = model_de_scores(model, (codes + 1) % 3, ("none", *POPULATIONS), n_samples=200)
        np.testing.assert_array_equal(named[1:], alone)

    def test_cells_may_be_chosen_and_repeated(self, model, codes: np.ndarray) -> None:
        chosen = np.random.default_rng(2).choice(codes.size, 120)
        scores = model_de_scores(model, codes[chosen], POPULATIONS, cells=chosen, n_samples=300)
        counts = model.adata.X.toarray()[chosen]
        unexpressed, unexpressed_rest = model_de._MeanCounts.of(model, chosen, codes[chosen], 2).unexpressed(0)
        np.testing.assert_array_equal(unexpressed, counts[codes[chosen] == 0].mean(axis=0) < 0.01)
        np.testing.assert_array_equal(unexpressed_rest, counts[codes[chosen] != 0].mean(axis=0) < 0.01)
        whole = model_de_scores(model, codes, POPULATIONS, n_samples=300)
        assert spearmanr(scores[0], whole[0]).statistic > 0.8

    def test_population_without_cells(self, model, codes: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
        scores = model_de_scores(model, codes, ("a", "b", "empty"), n_samples=50)
        assert np.isnan(scores[2]).all()
        assert np.isfinite(scores[:2]).all()
        assert "'empty': 0 of 200 cells" in caplog.text
        assert np.isnan(model_de_scores(model, np.zeros(200, int), ("all",), n_samples=50)).all()

    def test_one_code_per_cell(self, model) -> None:
        with pytest.raises(ValueError, match="3 population codes for 200 cells"):
            model_de_scores(model, np.zeros(3, int), POPULATIONS)


class TestStatistics:
    @pytest.mark.parametrize("n_samples", [1, 2, 5, 6])
    def test_sign_of_the_median_without_a_majority(self, n_samples: int) -> None:
        scales, rest = torch.from_numpy(np.random.default_rng(n_samples).lognormal(size=(2, n_samples, 300)))
        rest[:, :30] = scales[:, :30]
        statistics = change_statistics(scales, rest, 1e-9)
        change = np.log2(scales.numpy() + 1e-12) - np.log2(rest.numpy() + 1e-12)
        np.testing.assert_array_equal(statistics.lfc_median_sign, np.sign(np.median(change, axis=0)))
        np.testing.assert_allclose(statistics.lfc_std, change.std(axis=0), atol=1e-9)

    def test_blocks_do_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        scales, rest = torch.from_numpy(np.random.default_rng(0).lognormal(size=(2, 400, 30)))
        whole = change_statistics(scales, rest, 1e-3)
        monkeypatch.setattr(model_de, "_NUMBERS_PER_BLOCK", 7 * 30)
        parts = change_statistics(scales, rest, 1e-3)
        for name in ("proba_de", "lfc_mean", "lfc_std", "lfc_median_sign"):
            np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-9, atol=1e-12)


@given(
    draws=arrays(np.int64, 12, elements=st.integers(0, 50)),
    sign=arrays(np.int64, 12, elements=st.integers(-1, 1)),
    mean=arrays(np.float64, 12, elements=st.floats(-20, 20)),
    std=arrays(np.float64, 12, elements=st.floats(0.01, 5)),
)
@settings(max_examples=100, deadline=None)
def test_change_score_is_lexicographic(draws: np.ndarray, sign: np.ndarray, mean: np.ndarray, std: np.ndarray) -> None:
    score = change_score(ChangeStatistics(draws / 50, mean, std, sign.astype(float)), 50)
    first, second = sign * draws, mean / std
    for i in range(12):
        for j in range(12):
            if first[i] != first[j]:
                assert (score[i] > score[j]) == (first[i] > first[j])
            elif abs(second[i] - second[j]) > 1e-6:
                assert (score[i] > score[j]) == (second[i] > second[j])


def test_change_score_of_a_gene_that_never_changes() -> None:
    zeros = np.zeros(2)
    assert change_score(ChangeStatistics(zeros, zeros, zeros, zeros), 10).tolist() == [0.0, 0.0]
