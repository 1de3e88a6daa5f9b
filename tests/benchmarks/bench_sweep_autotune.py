"""A sweep of six trials of ten replicates against scvi-tools' own tuner with six trials of one training each.

Wanted: no more time. Both sides run here, one after the other, each as a command with two trials at once, on the same
cells (Kang, all genes, 60 epochs, n_latent and lr searched at random). scvi-tools' tuner needs Ray,
which an environment of its own holds:

    python -m venv autotune && autotune/bin/pip install 'scvi-tools[autotune]'
    SCBALLAST_AUTOTUNE_PYTHON=autotune/bin/python python -m tests.benchmarks sweep_autotune
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.helpers.sweep_helpers import run

N_TRIALS, N_EPOCHS, N_REPLICATES = 6, 60, 10
ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SCBALLAST_TEST_DATA", ROOT.parent / "shared" / "data")) / "kang18_subset.h5ad"

TUNER = """
import sys, time
import anndata, scvi
from scvi.autotune import run_autotune
from ray import tune

def main():
    adata = anndata.read_h5ad(sys.argv[1])
    scvi.model.LinearSCVI.setup_anndata(adata)
    start = time.perf_counter()
    space = {{
        "model_params": {model},
        "train_params": {{"max_epochs": {epochs}, "plan_kwargs": {{"lr": {lr}}}}},
    }}
    result = run_autotune(
        scvi.model.LinearSCVI, adata, metrics="validation_loss", mode="min", search_space=space, num_samples={samples},
        resources={{"cpu": 1, "gpu": 0}}, scheduler="fifo", searcher="random", seed=0, logging_dir=sys.argv[2],
    )
    losses = [r.metrics.get("validation_loss") for r in result.result_grid]
    assert len(losses) == {trials} and all(loss is not None for loss in losses), losses
    print("SECONDS", time.perf_counter() - start)

main()
"""

RANDOM = {"model": '{"n_latent": tune.choice([5, 10, 15, 20])}', "lr": "tune.loguniform(3e-4, 1e-2)"}


def main() -> bool:
    """Measure and print; return whether it is as wanted."""
    tuner = os.environ.get("SCBALLAST_AUTOTUNE_PYTHON")
    if tuner is None or not DATA.is_file():
        print(f"left out: set SCBALLAST_AUTOTUNE_PYTHON, and have {DATA.name} at hand")
        return True
    with tempfile.TemporaryDirectory() as folder:
        own = _time_own(Path(folder))
        script = TUNER.format(epochs=N_EPOCHS, trials=N_TRIALS, samples=N_TRIALS, **RANDOM)
        tuning, theirs = time_tuner(tuner, script, Path(folder))
    print(f"scballast: {N_TRIALS} trials of {N_REPLICATES} replicates, {N_EPOCHS} epochs, all ranked: {own:.0f} s")
    print(
        f"scvi.autotune: {N_TRIALS} trials of one training each: {theirs:.0f} s, of which run_autotune {tuning:.0f} s"
    )
    print("wanted: no more time than scvi.autotune")
    return own <= theirs


def _time_own(folder: Path) -> float:
    start = time.perf_counter()
    run(
        folder / "runs",
        "-m",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "data=h5ad",
        f"data.path={DATA}",
        "data.population_key=cell_type",
        "data.n_top_genes=null",
        "baselines=fast",
        "methods=[axis,contrast,spread,wilcoxon]",
        f"train.max_epochs={N_EPOCHS}",
        f"resample.n_replicates={N_REPLICATES}",
        "sweep=optuna",
        "sweep.search_space=null",
        "sweep.sampler=random",
        f"sweep.n_trials={N_TRIALS}",
        "model.n_latent=choice(5,10,15,20)",
        "train.lr=tag(log,interval(3e-4,1e-2))",
        seconds=3600,
    )
    return time.perf_counter() - start


def time_tuner(python: str, script: str, folder: Path) -> tuple[float, float]:
    """Return the seconds of the tuning itself and of the whole command."""
    path = folder / "tuner.py"
    path.write_text(script, encoding="utf-8")
    words = [python, str(path), str(DATA), str(folder / "tuner")]
    # Ray gives each trial the threads of its cores; a number of its own here would have them wait for each other.
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment["RAY_USAGE_STATS_ENABLED"] = "0"
    start = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=folder)
    lines = [line for line in done.stdout.splitlines() if line.startswith("SECONDS")]
    if not lines:
        raise RuntimeError(done.stderr[-3000:])
    return float(lines[0].split()[1]), time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
