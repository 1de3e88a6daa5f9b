"""What the shipped defaults find of planted genes at 600 counts per cell; ``bench_planted`` compares it all."""

from __future__ import annotations

import pytest

from scballast.config.compose import compose_config
from scballast.experiment.run import prepare_dataset, run_experiment

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

SEED = 101  # no setting was chosen on these cells


def test_sparse_factors_find_more_planted_programs_than_the_ldvae_and_than_components() -> None:
    config = compose_config(
        [
            "data=simulated",
            "data.simulation.mean_counts=600",
            f"seed={SEED}",
            "resample.n_replicates=2",
            "methods=[contrast,axis,local,residual_pca,cross_covariance,sparse_factors]",
            "fit.n_mc_samples=0",
            "association.n_permutations=0",
        ]
    )
    truth = run_experiment(config, prepare_dataset(config), cache_dir=None).results.tables["truth"]
    precision = truth.groupby("method")["average_precision"].mean()
    for other in ("local", "residual_pca", "cross_covariance"):
        assert precision["sparse_factors"] > precision[other] + 0.03
    assert precision["contrast"] > 1.5 * precision["axis"]
