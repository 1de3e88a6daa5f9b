"""What should be tuned? Every objective that a sweep can have, against the planted truth, over many configurations.

    python -m tests.benchmarks objectives [--families …] [--seeds …] [--configurations 60] [--folder …]

Configurations are drawn at random from the space of ``experiment=tune``, widened by the epochs and the ridge of
``local``. Each is trained on the same replicates of one simulated data set, and its metrics are kept: an interrupted
benchmark goes on. Printed: within a data set, the rank correlation over configurations of an objective (higher is
better; held-out loss with its sign changed) with the average precision of the planted genes, method by method; then
what choosing by it costs: the best average precision less that of the chosen configuration. ``objectives.csv`` in the
folder has both; README's numbers are those of ``--families latent switch`` (``tests/reference/readme_objectives.csv``).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import itertools
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from scballast.config.compose import compose_config
from scballast.experiment.run import prepare_dataset, run_experiment

DATA_SETS = (("latent", 2000), ("switch", 1200), ("additive", 2000), ("path", 1200))
SIZES = (400, 200, 100, 60)
SEEDS = (7001,)  # no method and no setting was chosen on it
N_CONFIGURATIONS, N_REPLICATES = 60, 4
METHODS = {"contrast": "marker", "axis": "marker", "local": "program", "spread": "program"}
SPACE = {
    "model.n_latent": (5, 10, 15, 20, 25, 30),
    "model.gene_likelihood": ("nb", "zinb", "poisson"),
    "model.latent_distribution": ("normal", "ln"),
    "model.n_hidden": (64, 128, 256),
    "train.kl_warmup_epochs": (0.1, 0.3, 0.5, 1.0),
    "train.max_epochs": (50, 100, 200),
    "rank.local_ridge": (1, 10, 100, 1000, 10000),
}
LEARNING_RATES = (3e-4, 1e-2)


def draw(n: int) -> list[dict[str, Any]]:
    """Return ``n`` configurations, the same ones whatever ``n`` is beyond them."""
    configurations = []
    for number in range(n):
        rng = np.random.default_rng([20, number])
        configuration: dict[str, Any] = {key: values[rng.integers(len(values))] for key, values in SPACE.items()}
        low, high = np.log(LEARNING_RATES)
        configurations.append({**configuration, "train.lr": float(f"{np.exp(rng.uniform(low, high)):.3g}")})
    return configurations


def measure(family: str, depth: int, seed: int, configuration: dict[str, Any], cache: Path) -> dict[str, float]:
    """Return the metrics of one configuration on one data set; ``cache`` keeps what does not depend on models."""
    config = compose_config(
        [
            "data=simulated",
            f"seed={seed}",
            f"data.simulation.programs={family}",
            f"data.simulation.mean_counts={depth}",
            "data.simulation.n_genes=800",
            f"data.simulation.population_sizes=[{','.join(map(str, SIZES))}]",
            "data.simulation.doublet_share=0.03",
            "data.simulation.ambient_share=0.05",
            f"resample.n_replicates={N_REPLICATES}",
            f"methods=[{','.join(METHODS)},wilcoxon,residual_pca,sparse_factors]",
            "fit.n_mc_samples=16",
            "association.n_permutations=0",
            "programs.find=false",
            *(f"{key}={value}" for key, value in configuration.items()),
        ]
    )
    return dict(run_experiment(config, prepare_dataset(config), cache_dir=cache).results.metrics)


def objectives(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Return every objective by name, higher is better."""
    loss = {"fit/heldout_nll", "fit/heldout_elbo"}
    names = [*sorted(loss), "axis/purity"]
    names += [f"{group}/{method}" for group in ("stability", "confirmed") for method in METHODS]
    return {name: -table[name] if name in loss else table[name] for name in names if name in table}


def correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Return, for every objective and method, the Spearman correlation over configurations and the regret."""
    rows = []
    for name, values in objectives(table).items():
        for method in METHODS:
            truth = table[f"truth/{method}/average_precision"]
            known = values.notna() & truth.notna()
            if values[known].nunique() < 2:
                continue
            rho = stats.spearmanr(values[known], truth[known])[0]
            regret = truth[known].max() - truth[known].loc[values[known].idxmax()]
            rows.append({"objective": name, "method": method, "spearman": rho, "regret": regret})
    return pd.DataFrame(rows)


def main(words: list[str] | None = None) -> bool:
    """Run what is missing and print the correlations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=[family for family, _ in DATA_SETS])
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--configurations", type=int, default=N_CONFIGURATIONS)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench_objectives"))
    options = parser.parse_args(words or [])
    logging.disable(logging.WARNING)
    options.folder.mkdir(parents=True, exist_ok=True)
    configurations = draw(options.configurations)
    found = []
    for (family, depth), seed in itertools.product(DATA_SETS, options.seeds):
        if family not in options.families:
            continue
        path = options.folder / f"{family}_{depth}_{seed}.jsonl"
        known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        for number in range(len(known), len(configurations)):
            row = {
                **configurations[number],
                **measure(family, depth, seed, configurations[number], options.folder / "cache"),
            }
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            known.append(row)
            print(f"{path.stem}: {number + 1} of {len(configurations)}", flush=True)
        table = pd.DataFrame(known[: len(configurations)])
        found.append(correlations(table).assign(data=f"{family} {depth}", seed=seed))
        print(table[[f"truth/{method}/average_precision" for method in METHODS]].describe().round(3).to_string())
    every = pd.concat(found, ignore_index=True)
    every.round(4).to_csv(options.folder / "objectives.csv", index=False, lineterminator="\n")
    for value in ("spearman", "regret"):
        mean = every.pivot_table(index="objective", columns="method", values=value, aggfunc="mean", sort=False)
        print(f"\n{value}, mean over {len(found)} data sets, {len(configurations)} configurations\n{mean.round(3)}")
        by_data = every.pivot_table(index="objective", columns=["method", "data"], values=value, sort=False)
        print(by_data.round(2).to_string())
    return True


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
