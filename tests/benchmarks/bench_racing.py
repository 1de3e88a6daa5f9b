"""Raced sweeps against full ones: what racing trains, and what of the front it keeps.

    python -m tests.benchmarks racing [--data planted kang pbmc3k] [--seeds …] [--trials 40] [--check] [--folder …]

For each data set and seed two sweeps of `experiment=tune`, one raced and one not, on a few hundred genes and with few
epochs (``DATA``): a few minutes of processor time each, where those of whole data sets with 400 epochs take hours. Real
in them: data, replicates, trained models, held-out fit, stability, the sampler (which learns of stopped trials), the
study, and every decision to stop, all by the package's own functions. Left out: the processes of trials, MLflow,
reports, and models that no objective needs. ``--check`` runs the first data set's first seed once more as the command
``scballast -m``, raced, and compares: the same parameters, states, rungs and values, and the share of steps by the
tables of its runs, models of every role counted.

Wanted, over all seeds of a data set: the raced sweeps train at most 40 % of the members of the full ones, and their
fronts have at least 98 % of the hypervolume. The worst values among the full sweep's trials, failed fits left out,
bound the volume, as for ``sweep.stop``. Beside that:

- *trained for 98 %*: what the raced sweep had trained when its front had that hypervolume. The samplers go different
  ways: stopped trials are no good ones to that of a raced sweep, where that of a full one takes failed fits for part
  of the front;
- *same trials*: the full sweep's own trials, asked again in their order;
- *whole front*: the same with `sweep.tolerance=0`. Wanted: at most 5 % of its front stopped;
- *foreseen*: the share of these that is trained by one who knows all values beforehand, and runs the first three and
  all that no earlier one beats, and one pair of the others. No rule that stops only what cannot reach the front trains
  less.

Every sweep is kept in the folder as it ends: an interrupted benchmark goes on.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is loaded

import argparse
import contextlib
import io
import itertools
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState, create_trial
from tests.helpers import sweep_helpers

from scballast.config import keys
from scballast.config.compose import compose_config
from scballast.config.schema import Config
from scballast.data.dataset import Dataset
from scballast.experiment.pairs import pair_setup, setup_objectives
from scballast.experiment.run import prepare_dataset
from scballast.experiment.setup import Setup
from scballast.sweep.front import pareto_front, score_trials
from scballast.sweep.identity import Identity
from scballast.sweep.optuna_compat import hypervolume
from scballast.sweep.racing import judge, n_pairs
from scballast.sweep.space import Point, Space, describe, split_words
from scballast.sweep.storage import storage_address
from scballast.sweep.study import SweepStudy

REAL = Path(os.environ.get("SCBALLAST_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
DATA = {
    "planted": (
        "data=simulated",
        "data.simulation.n_genes=300",
        "data.simulation.population_sizes=[300,200,150,100]",
        "train.max_epochs=30",
    ),
    "kang": (
        "data=h5ad",
        f"data.path={REAL / 'kang18_subset.h5ad'}",
        "data.population_key=cell_type",
        "data.n_top_genes=150",
        "train.max_epochs=15",
    ),
    "pbmc3k": (
        "data=h5ad",
        f"data.path={REAL / 'pbmc3k.h5ad'}",
        "data.population_key=cell_type",
        "data.n_top_genes=150",
        "train.max_epochs=10",
    ),
}
SHARED = ("experiment=tune", "fit.n_mc_samples=8", "fit.max_cells=250")
MOST_TRAINED, LEAST_VOLUME, MOST_LOST = 0.40, 0.98, 0.05
# A trial as it is kept: its parameters, its state, the values of its pairs by metric, and its own values.
Record = dict[str, Any]


def words_of(name: str, seed: int, n_trials: int) -> list[str]:
    return [*DATA[name], *SHARED, f"seed={seed}", f"sweep.n_trials={n_trials}"]


def at(config: Config, point: Point) -> Config:
    """Return the configuration at a point of the space, whose keys are all ``section.key``."""
    for key, value in point.items():
        section, name = key.split(".")
        config = replace(config, **{section: replace(getattr(config, section), **{name: value})})
    return config


def swept(config: Config, space: Space, dataset: Dataset, cache: Path, *, raced: bool) -> list[Record]:
    """Run a sweep in this process and return its trials."""
    identity = Identity("optuna", dataset.name, dataset.digest, describe(space), [])
    with tempfile.TemporaryDirectory() as folder:
        address = storage_address(None, Path(folder))
        study = SweepStudy.create_or_resume("sweep", address, config, space, identity, [], raced=raced)
        while (claim := study.claim(lambda _: None)) is not None:
            own, values = at(config, claim.point), dict[str, list[float]]()
            with contextlib.redirect_stderr(io.StringIO()):
                for pair in range(n_pairs(own)):
                    for metric, value in setup_objectives(pair_setup(own, dataset, pair), cache_dir=cache).items():
                        values.setdefault(metric, []).append(value)
                    study.note(claim.number, {keys.PAIRS: json.dumps(values)})
                    if raced and judge(config, values, study.trials()) is not None:
                        study.stop(claim.number, {})
                        break
                else:
                    whole = replace(pair_setup(own, dataset, 0), replicates=Setup.of(own, dataset).replicates)
                    study.complete(claim.number, setup_objectives(whole, cache_dir=cache), {})
        return [record(trial) for trial in study.trials()]


def record(trial: FrozenTrial) -> Record:
    values = json.loads(trial.user_attrs[keys.PAIRS])
    return {"params": trial.params, "state": trial.state.name, "pairs": values, "values": trial.values}


def frozen(records: Sequence[Record]) -> list[FrozenTrial]:
    """Return kept trials as a study has them."""
    trials = []
    for number, own in enumerate(records):
        trial = create_trial(
            state=TrialState[own["state"]], values=own["values"], user_attrs={keys.PAIRS: json.dumps(own["pairs"])}
        )
        trial.number = number
        trials.append(trial)
    return trials


def again(config: Config, full: Sequence[Record]) -> list[Record]:
    """Race a full sweep's own trials in their order."""
    told: list[Record] = []
    for own in full:
        rivals = frozen(told)
        stopped = None
        for pairs in range(1, n_pairs(config)):
            stopped = judge(config, {metric: values[:pairs] for metric, values in own["pairs"].items()}, rivals)
            if stopped is not None:
                break
        if stopped is None:
            told.append(own)
        else:
            seen = {metric: values[: stopped.pairs] for metric, values in own["pairs"].items()}
            told.append({**own, "state": "PRUNED", "pairs": seen, "values": None})
    return told


def share_trained(records: Sequence[Record], pairs: int) -> float:
    """Return the pairs of replicates that trials had, as a share of all; a pair's steps are the same in every trial."""
    return sum(max(map(len, own["pairs"].values())) for own in records) / (len(records) * pairs)


def share_of_volume(config: Config, raced: Sequence[Record], full: Sequence[Record]) -> float:
    scores, own = (score_trials(frozen(records), config.objectives) for records in (full, raced))
    worst = [max(column) for column in zip(*map(scores.costs, scores.values), strict=True)]
    return hypervolume([*map(own.costs, own.values)], worst) / hypervolume([*map(scores.costs, scores.values)], worst)


def share_until(config: Config, raced: Sequence[Record], full: Sequence[Record]) -> float:
    """Return the pairs after which a raced sweep's front has the wanted hypervolume, as a share of the full sweep's."""
    for n_trials in range(1, len(raced) + 1):
        if share_of_volume(config, raced[:n_trials], full) >= LEAST_VOLUME:
            return share_trained(raced[:n_trials], n_pairs(config)) * n_trials / len(full)
    return float("nan")


def share_foreseen(config: Config, full: Sequence[Record]) -> float:
    """Return the least share of pairs that stopping what an earlier trial beats could train."""
    scores, whole = score_trials(frozen(full), config.objectives), list[int]()
    for number in range(len(full)):
        beaten = number in scores.failed_fits or any(
            all(a < b for a, b in zip(scores.costs(rival), scores.costs(number), strict=True))
            for rival in whole
            if rival in scores.values
        )
        if number < 3 or not beaten:
            whole.append(number)
    pairs = n_pairs(config)
    return (len(whole) * pairs + len(full) - len(whole)) / (len(full) * pairs)


def compare(config: Config, raced: Sequence[Record], full: Sequence[Record]) -> dict[str, float]:
    pairs = n_pairs(config)
    same = again(config, full)
    whole_front = again(replace(config, sweep=replace(config.sweep, tolerance=0.0)), full)
    front = pareto_front(score_trials(frozen(full), config.objectives))
    return {
        "trained": share_trained(raced, pairs),
        "volume": share_of_volume(config, raced, full),
        "trained for 98 %": share_until(config, raced, full),
        "whole": sum(own["state"] == "COMPLETE" for own in raced),
        "foreseen": share_foreseen(config, full),
        "same trials: trained": share_trained(same, pairs),
        "same trials: volume": share_of_volume(config, same, full),
        "front": len(front),
        "same trials: front stopped": sum(same[number]["state"] == "PRUNED" for number in front),
        "whole front: trained": share_trained(whole_front, pairs),
        "whole front: stopped": sum(whole_front[number]["state"] == "PRUNED" for number in front),
    }


def kept(folder: Path, name: str, seed: int, n_trials: int, *, raced: bool) -> list[Record]:
    """Return a sweep from the folder, run if it is not there."""
    path = folder / f"{name}_{seed}_{n_trials}_{'raced' if raced else 'full'}.json"
    if not path.exists():
        start = time.process_time()
        config = compose_config(words_of(name, seed, n_trials))
        _, space = split_words([], config.sweep.search_space or {})
        # Of models that both sweeps of a seed ask for, the second one finds them in the cache.
        cache = folder / f"cache-{name}-{seed}"
        records = swept(config, space, prepare_dataset(config), cache, raced=raced)
        path.with_suffix(".part").write_text(json.dumps(records), encoding="utf-8")
        path.with_suffix(".part").rename(path)
        print(f"finished {path.name}, {time.process_time() - start:.0f} s of processor time", flush=True)
        if raced:
            shutil.rmtree(cache)
    found: list[Record] = json.loads(path.read_text(encoding="utf-8"))
    return found


def check(folder: Path, name: str, seed: int, n_trials: int) -> bool:
    """Return whether the command's raced sweep is the one that ran in this process."""
    records = json.loads((folder / f"{name}_{seed}_{n_trials}_raced.json").read_text(encoding="utf-8"))
    runs = folder / f"command-{name}-{seed}-{n_trials}" / "runs"
    runs.parent.mkdir(exist_ok=True)
    words = ["-m", *words_of(name, seed, n_trials), "sweep.name=racing"]
    start = time.perf_counter()
    sweep_helpers.run(runs, *words, seconds=7200)
    config = compose_config(words[1:])
    _, space = split_words([], config.sweep.search_space or {})
    address = storage_address(None, runs)
    trials = SweepStudy.join("racing", address, config, space, n_trials).trials()
    same = all(_is_same(record(trial), own) for trial, own in zip(trials, records, strict=True))
    n_steps = {True: 0, False: 0}
    for folder_of_run in (runs / "results").iterdir():
        steps = pd.read_parquet(folder_of_run / "tables" / "training.parquet")
        state = trials[int(folder_of_run.name.removeprefix("trial").split("-")[0])].state.name
        n_steps[state == "COMPLETE"] += int(steps["n_steps"].sum())
    whole = n_steps[True] / sum(trial.state.name == "COMPLETE" for trial in trials)
    share = (n_steps[True] + n_steps[False]) / (whole * len(trials))
    print(f"the command, {time.perf_counter() - start:.0f} s: {'the same' if same else 'ANOTHER'} sweep;")
    print(
        f"steps of all its models {share:.1%} of a full sweep's, by pairs {share_trained(records, n_pairs(config)):.1%}"
    )
    return same


def _is_same(one: Record, other: Record) -> bool:
    if (one["params"], one["state"]) != (other["params"], other["state"]):
        return False
    values = [one["pairs"].values(), [one["values"] or []]], [other["pairs"].values(), [other["values"] or []]]
    return all(
        np.allclose(a, b, rtol=1e-9) for own, its in zip(*values, strict=True) for a, b in zip(own, its, strict=True)
    )


def main(words: list[str] | None = None) -> bool:
    """Run what is missing, print the table, return whether it is as wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--check", action="store_true", help="run the command itself too, and compare")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench_racing"))
    options = parser.parse_args(words or [])
    logging.disable(logging.WARNING)
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed, name in itertools.product(options.seeds, options.data):  # an interrupted benchmark has all data sets
        full, raced = (kept(options.folder, name, seed, options.trials, raced=way) for way in (False, True))
        config = compose_config(words_of(name, seed, options.trials))
        rows.append({"data": name, "seed": seed, **compare(config, raced, full)})
    table = pd.DataFrame(rows)
    print(table.round(3).to_string(index=False))
    means = table.drop(columns="seed").groupby("data").mean()
    print(f"\nmeans over seeds\n{means.round(3).to_string()}")
    lost = table["whole front: stopped"].sum() / table["front"].sum()
    print(f"of {table['front'].sum()} trials of the full fronts {lost:.1%} are stopped where the whole front is wanted")
    fine = bool((means["trained"] <= MOST_TRAINED).all() and (means["volume"] >= LEAST_VOLUME).all())
    if options.check:
        fine &= check(options.folder, options.data[0], options.seeds[0], options.trials)
    return fine and bool(lost <= MOST_LOST)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
