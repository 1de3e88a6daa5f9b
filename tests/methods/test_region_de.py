from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scballast.config.schema import Config, ModelConfig, TrainConfig
from scballast.config.simulation import SimulationConfig
from scballast.methods.region_de import extreme_cells, region_differential_expression

N_CELLS = 300


@pytest.fixture(scope="module", params=["LinearSCVI", "SCVI"])
def trained(request):
    """A model of either kind on two populations far apart, and the latent positions of its cells."""
    from scballast.data.simulate import simulate
    from scballast.data.simulation_fit import SimulationParameters
    from scballast.engine.interface import Member
    from scballast.engine.scvi_compat import quiet_scvi
    from scballast.models.family import FitRequest
    from scballast.models.scvi_training import fit_sequential

    config = SimulationConfig(
        n_genes=120,
        population_sizes=(200, 100),
        mean_counts=1500,
        n_markers=15,
        marker_log_fold_change=2.0,
        n_programs=0,
    )
    parameters = SimulationParameters(np.linspace(-7.0, -3.5, 120), np.full(120, -2.0), 0.2)
    adata = simulate(config, 0, parameters=parameters)
    settings = dataclasses.asdict(ModelConfig(n_latent=2, n_hidden=32))
    del settings["name"], settings["n_runs"]
    # The linear decoder's batch norm needs some 500 steps to forget where it began.
    epochs = 120 if request.param == "LinearSCVI" else 50
    train = dataclasses.asdict(TrainConfig(max_epochs=epochs, lr=1e-2, batch_size=64, kl_warmup_epochs=20))
    of = FitRequest(adata, [Member(seed=0)], Config(device="cpu"))
    ensemble = fit_sequential(of, settings, train, kind=request.param)
    model = ensemble.export(0)
    with quiet_scvi():
        scores = np.asarray(model.get_latent_representation())
    return model, scores


def region(scores, dimension, end):
    return extreme_cells(scores[:, dimension], end, 0.05, np.random.default_rng(0))


def test_agrees_with_scvi_tools(trained):
    from scballast.engine.scvi_compat import quiet_scvi

    model, scores = trained
    table = region_differential_expression(model, scores, n_top_genes=120)
    for dimension in range(2):
        for end in ("low", "high"):
            inside = region(scores, dimension, end)
            np.random.seed(0)  # noqa: NPY002 - scvi-tools draws the pairs from the global generator
            with quiet_scvi():
                expected = model.differential_expression(
                    idx1=inside, idx2=~inside, mode="change", weights="uniform", silent=True, pseudocounts=None
                )
            own = table[(table["dimension"] == dimension) & (table["end"] == end)].set_index("gene")
            expected = expected.loc[own.index]
            # Both are means over 5,000 draws of what varies by some 0.5 to 2 between draws.
            spread = np.sqrt(own["lfc_mean"].var())
            np.testing.assert_allclose(own["lfc_mean"], expected["lfc_mean"], atol=0.1 * max(spread, 1.0))
            np.testing.assert_allclose(own["proba_de"], expected["proba_de"], atol=0.06)


def test_fold_changes_follow_the_counts_of_the_region(trained):
    model, scores = trained
    # The axis along which the populations part: its ends hold one population each.
    codes = model.adata.obs["population"].cat.codes.to_numpy()
    apart = np.abs(scores[codes == 0].mean(axis=0) - scores[codes == 1].mean(axis=0)) / scores.std(axis=0)
    axis = int(apart.argmax())
    table = region_differential_expression(model, scores, fraction=0.2, n_top_genes=120, n_samples=2_000)
    counts = model.adata.X.toarray()
    shares = counts / counts.sum(axis=1, keepdims=True)
    plentiful = counts.mean(axis=0) > 8
    assert plentiful.sum() > 40
    for end in ("low", "high"):
        own = table[(table["dimension"] == axis) & (table["end"] == end)].set_index("gene")
        inside = extreme_cells(scores[:, axis], end, 0.2, np.random.default_rng(0))
        counted = np.log2(shares[inside].mean(axis=0) / shares[~inside].mean(axis=0))
        found = own.loc[model.adata.var_names, "lfc_mean"].to_numpy()
        # The scarce genes have too few counts in the region to compare with.
        assert np.corrcoef(found[plentiful], counted[plentiful])[0, 1] > 0.7
        assert own["n_cells"].unique().tolist() == [60]


def test_table_holds_the_highest_scores_in_order(trained):
    model, scores = trained
    whole = region_differential_expression(model, scores, n_top_genes=200, n_samples=500)
    assert len(whole) == 2 * 2 * 120
    top = region_differential_expression(model, scores, n_top_genes=7, n_samples=500)
    for (dimension, end), rows in whole.groupby(["dimension", "end"]):
        assert rows["rank"].tolist() == list(range(1, 121))
        assert rows["score"].is_monotonic_decreasing
        own = top[(top["dimension"] == dimension) & (top["end"] == end)]
        assert own["gene"].tolist() == rows["gene"].head(7).tolist()
    assert (np.sign(whole["score"]) == np.sign(whole["lfc_mean"])).mean() > 0.9


def test_draws_follow_the_seed_and_the_region_alone(trained):
    model, scores = trained
    first = region_differential_expression(model, scores, seed=4, n_samples=300)
    again = region_differential_expression(model, scores, seed=4, n_samples=300)
    assert first.equals(again)
    other = region_differential_expression(model, scores, seed=5, n_samples=300)
    assert not first["score"].equals(other["score"])
    alone = region_differential_expression(model, scores[:, :1], seed=4, n_samples=300)
    assert alone.equals(first[first["dimension"] == 0].reset_index(drop=True))


def test_every_cell_needs_a_place(trained):
    model, scores = trained
    with pytest.raises(ValueError, match="for 300 cells"):
        region_differential_expression(model, scores[::2])


@pytest.mark.parametrize(("end", "expected"), [("low", [0, 1]), ("high", [8, 9])])
def test_extreme_cells_are_those_at_the_end(end, expected):
    scores = np.arange(10.0)
    order = np.random.default_rng(0).permutation(10)
    selected = extreme_cells(scores[order], end, 0.2, np.random.default_rng(1))
    assert sorted(scores[order][selected]) == expected


def test_extreme_cells_among_ties_are_chosen_evenly():
    rng = np.random.default_rng(0)
    scores = np.array([0.0, 1.0, 1.0, 1.0, 1.0, 2.0])
    times = np.sum([extreme_cells(scores, "high", 0.5, rng) for _ in range(2_000)], axis=0)
    assert times[5] == 2_000
    assert times[0] == 0
    np.testing.assert_allclose(times[1:5], 1_000, atol=120)


@pytest.mark.parametrize(
    ("scores", "end", "fraction", "message"),
    [
        (np.zeros(4), "middle", 0.1, "end must be"),
        (np.zeros(4), "low", 0.0, "fraction"),
        (np.zeros(1), "low", 0.1, "at least 2 cells"),
        (np.array([0.0, np.nan]), "low", 0.1, "finite"),
    ],
)
def test_extreme_cells_refuses_wrong_input(scores, end, fraction, message):
    with pytest.raises(ValueError, match=message):
        extreme_cells(scores, end, fraction, np.random.default_rng(0))
