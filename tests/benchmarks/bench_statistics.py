"""Speed of all statistics, and the memory of large rankings, on one core.

Wanted: every table of 10 replicates, 10 populations, 2,000 genes and 12 methods within 10 seconds; the rankings of
100 replicates, 50 populations and 5,000 genes in memory. Processor time is judged, since others may use the machine.
"""

from __future__ import annotations

import os

from scballast.methods.method import NamedMethod

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is loaded

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from scballast.config.schema import ResampleConfig
from scballast.data.replicates import Replicate, draw_replicates
from scballast.verdict.answer import answer_table
from scballast.verdict.confirmation import confirm
from scballast.verdict.score_set import ScoreSet, rank_scores, rankings_table, score_set_from_rankings
from scballast.verdict.tables import concordance_table, consensus_table, differences_table, stability_table
from scballast.verdict.unseen import Cells

MARKERS = ("axis", "contrast", "ldvae_de", "scvi_de", "wilcoxon", "t_test", "logreg")
PROGRAMS = ("spread", "local", "conditioned", "per_population", "residual_pca")
WANTED_SECONDS = 10.0
MEGABYTE = 1e6


def scores(n_replicates: int, n_populations: int, n_genes: int, *, ties: bool, seed: int) -> Any:
    """Draw scores with signal; ties as genes without counts make them."""
    rng = np.random.default_rng(seed)
    signal = 2.0 * np.random.default_rng(0).standard_normal((n_populations, n_genes), dtype=np.float32)
    values = signal + rng.standard_normal((n_replicates, n_populations, n_genes), dtype=np.float32)
    return np.maximum(values, 0.5) if ties else values


def example(n_replicates: int, n_populations: int, n_genes: int, names: tuple[str, ...]) -> ScoreSet:
    return rank_scores(
        {
            name: scores(n_replicates, n_populations, n_genes, ties=number % 2 == 1, seed=number)
            for number, name in enumerate(names)
        },
        methods=[NamedMethod(name, "program" if name in PROGRAMS else "marker") for name in names],
        populations=[f"population {position}" for position in range(n_populations)],
        genes=[f"gene{gene}" for gene in range(n_genes)],
        resample_kind="subsample",
        seed=0,
    )


def counts_of(score_set: ScoreSet) -> tuple[Cells, tuple[Replicate, ...]]:
    """Return counts of 500 cells in each population, and the halves of a score set's replicates."""
    rng = np.random.default_rng(0)
    n_populations, n_genes = len(score_set.populations), len(score_set.genes)
    codes = np.repeat(np.arange(n_populations), 500)
    counts = sparse.csr_matrix(rng.poisson(rng.lognormal(-1.5, 1.0, n_genes), (codes.size, n_genes)).astype(np.float32))
    cells = Cells(counts, np.asarray(counts.sum(axis=1), dtype=float).ravel(), codes)
    return cells, draw_replicates("subsample", score_set.n_replicates, codes, score_set.populations, seed=0)


def timed(name: str, function: Callable[[], Any]) -> tuple[Any, float]:
    start, wall = time.process_time(), time.perf_counter()
    result = function()
    seconds, wall = time.process_time() - start, time.perf_counter() - wall
    print(f"  {name:22} {seconds:6.2f} s ({wall:.2f} s by the clock)", flush=True)
    return result, seconds


def speed() -> bool:
    """Time every table of a full experiment."""
    print("10 replicates, 10 populations, 2,000 genes, 12 methods (every other one with ties), one core")
    score_set, total = timed("ranks", lambda: example(10, 10, 2000, MARKERS + PROGRAMS))
    tables = {}
    for table in (rankings_table, stability_table, differences_table, concordance_table, consensus_table):
        tables[table.__name__], seconds = timed(table.__name__, lambda table=table: table(score_set))
        total += seconds
    cells, replicates = counts_of(score_set)
    found, seconds = timed("confirm", lambda: confirm(score_set, cells, replicates, 50, seed=0))
    total += seconds
    own, between = tables["stability_table"], tables["concordance_table"]
    _, seconds = timed("answer_table", lambda: answer_table(own, between, found.summary))
    total += seconds
    print(f"  {'all':22} {total:6.2f} s; wanted: under {WANTED_SECONDS:.0f}")
    return total < WANTED_SECONDS


def memory() -> bool:
    """Build the rankings of a large experiment, and its stability from the table."""
    print("100 replicates, 50 populations, 5,000 genes, 1 method: 25 million rows")
    score_set, _ = timed("ranks", lambda: example(100, 50, 5000, ("contrast",)))
    table, _ = timed("rankings_table", lambda: rankings_table(score_set))
    size = table.memory_usage(index=True, deep=True).sum() / MEGABYTE
    print(f"  table {size:.0f} MB, {size * MEGABYTE / len(table):.0f} bytes a row")
    again, _ = timed(
        "score set from table",
        lambda: score_set_from_rankings(table, ResampleConfig("subsample", score_set.n_replicates)),
    )
    same = bool((again.ranks["contrast"] == score_set.ranks["contrast"]).all())
    timed("stability_table", lambda: stability_table(again))
    timed("consensus_table", lambda: consensus_table(again))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  peak memory of the process {peak:.0f} MB, scores and ranks included")
    return same


def main() -> bool:
    """Run both; True when they hold."""
    return all([speed(), memory()])


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
