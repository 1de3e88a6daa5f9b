"""What the methods find of planted genes, through the whole experiment, by population size and depth.

    python -m tests.benchmarks.bench_planted [overrides of the configuration]

Simulated cells of the default size, 2,500 and 600 counts per cell, in data sets that no choice of a setting has
seen. Wanted, at 600 counts: ``sparse_factors`` above what the LDVAE and residual PCA find in each of them. Then the
null split: one population under two random labels, with trained models. Wanted: no method is trusted. Programs of
other forms than the LDVAE's: ``bench_truth``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import logging
import sys
from collections.abc import Sequence

import pandas as pd

from scballast.config.compose import compose_config
from scballast.experiment.run import prepare_dataset, run_experiment

SEEDS = (101, 102, 103)  # settings were chosen on data sets of seeds below 100
NULL_SEEDS = tuple(range(201, 206))
N_REPLICATES, N_NULL_REPLICATES = 4, 10
MARKER = ("contrast", "axis", "wilcoxon", "t_test")
PROGRAM = (
    *("spread", "local", "conditioned", "per_population"),
    *("residual_pca", "cross_covariance", "sparse_factors", "within_pca", "within_dispersion"),
)
SHALLOW = 600


def run(seed: int, n_replicates: int, overrides: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the tables of one experiment on simulated cells."""
    config = compose_config(
        [
            "data=simulated",
            f"seed={seed}",
            f"resample.n_replicates={n_replicates}",
            f"methods=[{','.join(MARKER + PROGRAM)}]",
            "fit.n_mc_samples=0",
            "association.n_permutations=0",
            *overrides,
        ]
    )
    return dict(run_experiment(config, prepare_dataset(config), cache_dir=None).results.tables)


def planted(counts: int, overrides: Sequence[str]) -> pd.DataFrame:
    """Print average precision by method and number of cells trained on; return the means by method and seed."""
    parts = []
    for seed in SEEDS:
        tables = run(seed, N_REPLICATES, [f"data.simulation.mean_counts={counts}", *overrides])
        sizes = tables["populations"].set_index("population")["n_cells"] // 2
        parts.append(tables["truth"].assign(seed=seed, cells=lambda table, s=sizes: table["population"].map(s)))
    truth = pd.concat(parts)
    wide = truth.pivot_table(
        index=["estimand", "method"], columns="cells", values="average_precision", sort=False
    ).sort_index(axis=1, ascending=False)
    print(f"\naverage precision, {counts:,} counts per cell, by number of cells trained on ({len(SEEDS)} data sets)")
    print(wide.assign(mean=wide.mean(axis=1)).sort_values(["estimand", "mean"]).round(2).to_string())
    return truth.pivot_table(index="method", columns="seed", values="average_precision")


def null_split(overrides: Sequence[str]) -> int:
    """Print what two random labels of one population look like; return the number of lists that are trusted."""
    sizes = ["data.simulation.population_sizes=[900]", "data.simulation.null_split=true"]
    stability, answers = [], []
    for seed in NULL_SEEDS:
        tables = run(seed, N_NULL_REPLICATES, [*sizes, *overrides])
        stability.append(tables["stability"][tables["stability"]["k"] == 50])
        answers.append(tables["answer"])
    lists, answer = pd.concat(stability), pd.concat(answers)
    lists = lists.assign(above_floor=lists["lower"] > lists["floor"])
    print(f"\nnull split, {len(NULL_SEEDS)} data sets: mean of both labels")
    columns = ["phi", "other_populations", "floor", "above_floor"]
    print(lists.groupby(["estimand", "method"])[columns].mean().round(2).to_string())
    trusted = int((answer["method"] != "none").sum())
    print(f"trusted: {trusted} of {len(answer)} answers")
    return trusted


def main(overrides: Sequence[str] = ()) -> bool:
    """Measure and print; return whether it is as wanted."""
    logging.disable(logging.WARNING)
    planted(2500, overrides)
    shallow = planted(SHALLOW, overrides)
    gain = shallow.loc["sparse_factors"] - shallow.loc[["local", "conditioned", "residual_pca", "cross_covariance"]]
    print(f"\n{SHALLOW} counts, average precision of sparse_factors less that of others, by data set")
    print(gain.round(3).to_string())
    trusted = null_split(overrides)
    print("wanted: sparse_factors above each of them in every data set; no answer trusted in a null split")
    return bool((gain > 0).all(axis=None)) and trusted == 0


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
