"""A grid of 27 configurations of ten replicates in one command: trained together, one by one, and by scvi-tools' tuner.

    python -m tests.benchmarks fused [--epochs 60] [--fused 27] [--replicates 10] [--sides fused alone autotune]

Kang, n_latent by likelihood by lr, three values each, none of them raced. `fused` trains the models of so many trials
as one ensemble (``sweep.fused``), `alone` those of one trial at a time; both rank genes and report every trial.
`autotune` is scvi-tools' own tuner on the same grid with one training each, two trials at once; it needs Ray in an
environment of its own, as `sweep_autotune` says, and is left out without. Wanted: fused no slower than alone, with the
same values of every trial to the last bit, and both sides no slower than autotune. Each side is kept in the folder as
it ends: an interrupted benchmark goes on. On few cores there is little to gain by training together.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.bench_sweep_autotune import DATA, TUNER, time_tuner
from tests.helpers.sweep_helpers import rows, run

GRID = (
    "model.n_latent=5,10,20",
    "model.gene_likelihood=nb,zinb,poisson",
    "train.lr=1e-3,2e-3,5e-3",
)
TUNED = {
    "model": '{"n_latent": tune.grid_search([5, 10, 20]), '
    '"gene_likelihood": tune.grid_search(["nb", "zinb", "poisson"])}',
    "lr": "tune.grid_search([1e-3, 2e-3, 5e-3])",
}
N_TRIALS = 27


def of_package(folder: Path, options: argparse.Namespace, fused: int) -> dict[str, Any]:
    """Run the grid as one command; return its seconds, and the objectives of every trial by its parameters."""
    runs = folder / f"fused{fused}" / "runs"
    runs.parent.mkdir(parents=True, exist_ok=True)
    words = ["-m", "data=h5ad", f"data.path={DATA}", "data.population_key=cell_type", "baselines=fast", *GRID]
    words += [f"data.n_top_genes={options.genes}", "methods=[contrast,wilcoxon]", f"train.max_epochs={options.epochs}"]
    words += [f"resample.n_replicates={options.replicates}", "sweep.racing=false", "sweep.name=grid"]
    start = time.perf_counter()
    run(runs, *words, f"sweep.fused={fused}", seconds=7200)
    seconds = time.perf_counter() - start
    query = (
        "SELECT trials.number, objective, value FROM trial_values JOIN trials USING (trial_id) "
        "WHERE state = 'COMPLETE' ORDER BY 1, 2"
    )
    values = [list(row) for row in rows(runs / "optuna.db", query)]
    assert len({number for number, *_ in values}) == N_TRIALS, "not every trial finished"
    return {"seconds": seconds, "values": values}


def of_tuner(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run scvi-tools' tuner over the same grid; return the seconds of the whole command, and of the tuning."""
    folder.mkdir(parents=True, exist_ok=True)
    script = TUNER.format(epochs=options.epochs, trials=N_TRIALS, samples=1, **TUNED)
    tuning, whole = time_tuner(os.environ["SCBALLAST_AUTOTUNE_PYTHON"], script, folder)
    return {"seconds": whole, "tuning": tuning}


def side(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return a side from the folder, or run it."""
    what = f"{name}_{options.epochs}_{options.replicates}_{options.genes}_{options.fused}"
    path = options.folder / f"{what}.json"
    if not path.exists():
        load = os.getloadavg()[0]
        folder = options.folder / what
        if name == "autotune":
            found = of_tuner(folder, options)
        else:
            found = of_package(folder, options, options.fused if name == "fused" else 1)
        path.write_text(json.dumps({**found, "load": [load, os.getloadavg()[0]]}), encoding="utf-8")
    found = json.loads(path.read_text(encoding="utf-8"))
    before, after = found["load"]
    print(f"{name}: {found['seconds']:.0f} s, load {before:.1f} before and {after:.1f} after", flush=True)
    return dict(found)


def main(words: Sequence[str] = ()) -> bool:
    """Measure and print; return whether it is as wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--replicates", type=int, default=10)
    parser.add_argument("--genes", default="null", help="data.n_top_genes; the tuner has all in any case")
    parser.add_argument("--fused", type=int, default=N_TRIALS)
    parser.add_argument("--sides", nargs="+", default=["fused", "alone", "autotune"])
    parser.add_argument("--folder", type=Path, default=Path("runs/bench_fused"))
    options = parser.parse_args(words)
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))  # tests run their commands on one thread
    sides = [name for name in options.sides if name != "autotune" or "SCBALLAST_AUTOTUNE_PYTHON" in os.environ]
    found = {name: side(name, options) for name in sides}
    fine = True
    if {"fused", "alone"} <= set(found):
        same = found["fused"]["values"] == found["alone"]["values"]
        print(f"values of all {N_TRIALS} trials are {'the same' if same else 'NOT THE SAME'} fused and alone")
        fine = same and found["fused"]["seconds"] <= found["alone"]["seconds"]
    if "autotune" in found:
        fine &= all(own["seconds"] <= found["autotune"]["seconds"] for own in found.values())
    return fine


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
