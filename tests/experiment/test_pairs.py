"""A pair of replicates has the figures that it has in the whole experiment."""

from __future__ import annotations

import numpy as np
import pytest

from scballast.config.compose import compose_config
from scballast.experiment.pairs import pair_setup, setup_objectives
from scballast.experiment.run import prepare_dataset, run_experiment
from scballast.sweep.objectives import objectives_word

METRICS = ("confirmed/wilcoxon", "confirmed/residual_pca", "truth/residual_pca/average_precision")


def test_confirmed_share_and_truth_of_pairs_average_to_those_of_the_whole_experiment() -> None:
    config = compose_config(
        [
            *("data=simulated", "data.simulation.n_genes=300", "data.simulation.population_sizes=[120,80]"),
            *("data.simulation.n_markers=40", "data.simulation.n_program_genes=30", "resample.n_replicates=4"),
            *("methods=[wilcoxon,residual_pca]", "model=pca", "association.n_permutations=0", "programs.find=false"),
            objectives_word([(metric, "maximize") for metric in METRICS], quote=""),
        ]
    )
    dataset = prepare_dataset(config)
    whole = run_experiment(config, dataset, cache_dir=None).results.metrics
    pairs = [setup_objectives(pair_setup(config, dataset, pair), cache_dir=None) for pair in range(2)]
    for metric in METRICS:
        values = [pair[metric] for pair in pairs]
        assert np.mean(values) == pytest.approx(whole[metric], abs=1e-12)
        assert 0.0 < np.mean(values) <= 1.0
