"""Who finds what was planted: every method of the registry, every model family, every simulator, in one command.

    python -m tests.benchmarks arena [--families ldvae …] [--cells-only] [--simulators …] [--depths …] [--seeds …]
        [--trained-seeds …] [--folder runs/bench_arena] [--store] [--overrides train.max_epochs=800 …]

Genes of markers and of programs are judged by average precision; beside it stand seconds of processor time and peak
memory. A unit is all methods of cells alone, or one model family with all that reads it, on one data set: it runs in a
process of its own and its figures are appended to a file in the folder, so that an interrupted benchmark goes on, and
a method that has joined since is run alone.
The tables are written there as csv and Markdown. ``--store`` writes what is there into ``tests/reference/arena.csv``,
``docs/arena.md`` and its picture. Nothing is wanted of any row but that controls stay at chance.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is loaded

import argparse
import ctypes
import dataclasses
import hashlib
import itertools
import json
import logging
import multiprocessing
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tests.benchmarks import arena_table
from tests.benchmarks.arena_data import SIMULATORS, Judged, Size, data_set, planted_by, setup_of

from scballast.errors import ConfigError, TrainingError
from scballast.experiment.scoring import ReplicateEvidence
from scballast.experiment.setup import Setup
from scballast.experiment.training import plan_members, train_models
from scballast.methods.method import DataHave, Role
from scballast.methods.registry import METHODS
from scballast.models import FAMILIES

DEPTHS = (2000, 600)
SEEDS, TRAINED_SEEDS = (8001, 8002, 8003), (8001, 8002)
ESTIMANDS = ("marker", "program")
CELLS = "cells"  # in place of a family: methods that look at cells alone
# Consensus NMF takes 20 runs in place of its authors' 100, whose cost is five times as much.
SETTINGS = {"cnmf": ("model.n_runs=20",)}
OMITTED = {
    "cnmf": ("per_population",),  # as many runs again for every population
    "topic": ("per_population",),  # one and a half times the cost of all that is read from the model of all cells
}
LEAST_ABOVE_CHANCE = 0.1  # a control that finds more than this above chance sees what it should not


@dataclasses.dataclass
class Cost:
    """Processor seconds, and the peak of memory above what was held before (MB)."""

    seconds: float = 0.0
    megabytes: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure what a block takes of this process."""
    cost = Cost()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # freed memory that is kept would hide what the block needs
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    held, start = _memory("VmRSS"), time.process_time()
    try:
        yield cost
    finally:
        cost.seconds = time.process_time() - start
        cost.megabytes = max(_memory("VmHWM") - held, 0.0)


def _memory(kind: str) -> float:
    (kilobytes,) = re.findall(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(kilobytes) / 1000


def of_cells() -> list[str]:
    """Return the methods that look at cells alone and can run on these data."""
    pca = FAMILIES["pca"]
    return [
        method.name
        for method in METHODS.values()
        if method.estimand in ESTIMANDS and not method.roles and method.obstacle(pca, DataHave()) is None
    ]


def of_family(name: str) -> list[str]:
    """Return the methods that read models of a family."""
    return [
        method.name
        for method in METHODS.values()
        if method.estimand in ESTIMANDS
        and method.roles
        and method.obstacle(FAMILIES[name], DataHave()) is None
        and method.name not in OMITTED.get(name, ())
    ]


def score_cells(judged: Judged, setup: Setup) -> list[dict[str, Any]]:
    """Return a row for each method of cells alone."""
    rows = []
    for method in setup.methods:
        evidence = ReplicateEvidence(setup, setup.replicates[0])
        scores = method.score(evidence)  # the first time loads and compiles
        with measured() as cost:
            method.score(evidence)
        rows.append(_row(judged, CELLS, method.name, scores, cost.seconds, cost.megabytes))
    return rows


def score_family(judged: Judged, setup: Setup) -> list[dict[str, Any]]:
    """Return a row for each method that reads the family's models, with the cost of those models and of the reading."""
    costs: list[Cost] = []
    for name in {setup.family.name, "scvi"}:
        # This process ends with the unit; the families of others stay as they are.
        FAMILIES[name] = dataclasses.replace(FAMILIES[name], fit=_timed(FAMILIES[name].fit, costs))
    models = train_models(setup)
    of_role: dict[Role, Cost] = dict(
        zip((role for role, members in plan_members(setup).items() if members), costs, strict=True)
    )
    evidence, rows = ReplicateEvidence(setup, setup.replicates[0], models), []
    evidence.cells.counts.sum()  # put together before the first method is timed
    for method in setup.methods:
        for role in method.roles:
            evidence.factors(role)  # read out once for all methods
        with measured() as cost:
            scores = method.score(evidence)
        trained = [of_role["global" if role == setup.family.name else role] for role in method.roles]
        seconds = cost.seconds + sum(role.seconds for role in trained)
        megabytes = max(cost.megabytes, *(role.megabytes for role in trained))
        rows.append(_row(judged, setup.family.name, method.name, scores, seconds, megabytes))
    return rows


def _timed(fit: Any, costs: list[Cost]) -> Any:
    def timed(*args: Any, **kwargs: Any) -> Any:
        with measured() as cost:
            costs.append(cost)
            return fit(*args, **kwargs)

    return timed


def _row(
    judged: Judged, model: str, method: str, scores: np.ndarray, seconds: float, megabytes: float
) -> dict[str, Any]:
    estimand = METHODS[method].estimand
    return {
        "estimand": estimand,
        "model": model,
        "method": method,
        "precision": judged.precision(estimand, scores),
        "without_scores": int(np.isnan(scores).all(axis=1).sum()),
        "seconds": seconds,
        "megabytes": megabytes,
    }


@dataclasses.dataclass(frozen=True)
class Unit:
    """What is run at once: a family, or all methods of cells alone, on one data set."""

    model: str
    simulator: str
    depth: int
    seed: int

    def methods(self) -> list[str]:
        """Return its methods: those that estimate what the simulator plants."""
        names = of_cells() if self.model == CELLS else of_family(self.model)
        return [name for name in names if METHODS[name].estimand in planted_by(self.simulator)]

    def rows(self, methods: Sequence[str], size: Size, overrides: Sequence[str]) -> list[dict[str, Any]]:
        """Run some of its methods in this process."""
        judged = data_set(self.simulator, self.depth, self.seed, size)
        model = "pca" if self.model == CELLS else self.model
        setup = setup_of(judged, model, methods, [*SETTINGS.get(model, ()), *overrides], self.seed)
        return score_cells(judged, setup) if self.model == CELLS else score_family(judged, setup)

    def append(self, path: Path, methods: Sequence[str], size: Size, overrides: Sequence[str]) -> None:
        """Run some of its methods, and append what came of it to a file, in one write."""
        try:
            result: dict[str, Any] = {"rows": self.rows(methods, size, overrides)}
        except (ConfigError, TrainingError) as error:
            result = {"rows": [], "failure": str(error)}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**dataclasses.asdict(self), **result}) + "\n")


def stored(path: Path) -> dict[Unit, dict[str, Any]]:
    """Return the units of a file with their results, the last of each method; a line that was cut off is none."""
    found: dict[Unit, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with suppress(json.JSONDecodeError):
            result = json.loads(line)
            unit = Unit(*(result[field.name] for field in dataclasses.fields(Unit)))
            rows = [*(found[unit]["rows"] if unit in found else ()), *result["rows"]]
            found[unit] = {**result, "rows": list({row["method"]: row for row in rows}.values())}
    return found


def missing(unit: Unit, known: dict[Unit, dict[str, Any]]) -> list[str]:
    """Return the methods of a unit that have no row yet."""
    there = {row["method"] for row in known[unit]["rows"]} if unit in known else set()
    return [name for name in unit.methods() if name not in there]


def as_table(results: dict[Unit, dict[str, Any]]) -> pd.DataFrame:
    """Return one row for each method and data set; precision by cells of the population in columns of its own."""
    rows = [
        {
            **{key: row[key] for key in ("estimand", "model", "method")},
            **{key: value for key, value in dataclasses.asdict(unit).items() if key != "model"},
            **{f"{arena_table.CELLS}{cells}": value for cells, value in row["precision"].items()},
            "seconds": row["seconds"],
            "megabytes": row["megabytes"],
        }
        for unit, result in results.items()
        for row in result["rows"]
        if row["method"] not in OMITTED.get(unit.model, ())
    ]
    return arena_table.in_order(pd.DataFrame(rows))


def run(units: Sequence[Unit], path: Path, size: Size, overrides: Sequence[str]) -> dict[Unit, dict[str, Any]]:
    """Run the units that the file does not have, each in a process of its own, and return all of its results."""
    import scvi  # noqa: F401  # here, so that no unit pays for loading it
    import sklearn.cluster
    import sklearn.decomposition
    import sklearn.linear_model  # noqa: F401

    context = multiprocessing.get_context("fork")
    known = stored(path)
    for number, unit in enumerate(units, start=1):
        methods = missing(unit, known)
        if not methods:
            continue
        process = context.Process(target=unit.append, args=(path, methods, size, overrides))
        process.start()
        process.join()
        known = stored(path)
        if missing(unit, known) and "failure" not in known.get(unit, {}):
            message = f"{unit} ended with {process.exitcode} and left nothing"
            raise RuntimeError(message)
        failure = known[unit].get("failure")
        print(f"{number} of {len(units)}: {unit}{f' FAILED: {failure}' if failure else ''}", flush=True)
    return {unit: known[unit] for unit in units if unit in known}


def controls_at_chance(table: pd.DataFrame) -> bool:
    """Say whether what can find nothing finds nothing."""
    means = arena_table.with_mean(table).groupby("method")["mean"].mean()
    chance = means.get("random", np.nan)
    held = [means[name] <= chance + LEAST_ABOVE_CHANCE for name in METHODS if METHODS[name].control and name in means]
    return all(held)


def main(words: list[str] | None = None) -> bool:
    """Run what is missing, write the tables, return whether the controls stay at chance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=tuple(FAMILIES))
    parser.add_argument("--cells-only", action="store_true")
    parser.add_argument("--simulators", nargs="+", default=SIMULATORS, choices=SIMULATORS)
    parser.add_argument("--depths", nargs="+", type=int, default=DEPTHS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--trained-seeds", nargs="+", type=int, default=TRAINED_SEEDS)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench_arena"))
    parser.add_argument("--store", action="store_true", help="store what is there already, and run nothing")
    parser.add_argument("--overrides", nargs="+", default=[], help="of the configuration")
    options = parser.parse_args(words or [])
    logging.disable(logging.WARNING)
    options.folder.mkdir(parents=True, exist_ok=True)
    size = Size()
    # Other settings are other results.
    suffix = hashlib.blake2b(f"{size} {SETTINGS} {options.overrides}".encode(), digest_size=4).hexdigest()
    path = options.folder / f"arena_{suffix}.jsonl"
    models = [(CELLS, options.seeds)]
    models += [] if options.cells_only else [(name, options.trained_seeds) for name in options.families]
    units = [
        Unit(model, simulator, depth, seed)
        for model, seeds in models
        for seed, depth, simulator in itertools.product(seeds, options.depths, options.simulators)
    ]
    if options.store:
        results = {unit: result for unit, result in stored(path).items() if unit in units}
        arena_table.store(as_table(results))
    else:
        results = run(units, path, size, options.overrides)
    table = as_table(results)
    table.to_csv(options.folder / "arena.csv", index=False)
    text = arena_table.markdown(table)
    (options.folder / "arena.md").write_text(text, encoding="utf-8")
    print(text)
    for unit, result in results.items():
        if "failure" in result:
            print(f"failed: {unit}: {result['failure']}")
    return controls_at_chance(table)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
