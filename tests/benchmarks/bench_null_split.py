"""False alarms: how often lists of two random labels of one population look stable, concordant and trustworthy.

One simulated population with programs is given two labels at random, in many data sets. Marker lists have nothing to
find; program lists find the same programs under either label, and so nothing of the label. Wanted: no method is
trusted in more than 1 of 20 of these data sets.
"""

from __future__ import annotations

import os

from scballast.methods.method import NamedMethod

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is loaded

import logging
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import sparse
from tests.helpers.baseline_examples import score_of

from scballast.config.simulation import SimulationConfig
from scballast.data.replicates import draw_replicates
from scballast.data.simulate import simulate
from scballast.methods.cell_view import CellView
from scballast.methods.registry import METHODS as REGISTRY
from scballast.verdict.answer import answer_table
from scballast.verdict.confirmation import Confirmation, confirm
from scballast.verdict.score_set import ScoreSet, rank_scores
from scballast.verdict.tables import concordance_table, stability_table
from scballast.verdict.unseen import Cells

N_DATA_SETS, N_REPLICATES, TOP_K = 30, 10, 50
METHODS = ("wilcoxon", "t_test", "logreg", "random", "within_pca", "residual_pca", "within_dispersion")
MOST = 0.05


def score(config: SimulationConfig, seed: int) -> tuple[ScoreSet, Confirmation]:
    """Simulate a data set, rank its genes by the baselines on complementary halves of the cells, and test the lists."""
    adata = simulate(config, seed)
    column = adata.obs["population"].astype("category")
    populations = tuple(str(name) for name in column.cat.categories)
    codes = column.cat.codes.to_numpy()
    counts = sparse.csr_matrix(adata.X)
    whole = CellView(
        counts=counts,
        total_counts=np.asarray(counts.sum(axis=1)).ravel(),
        codes=codes,
        n_populations=len(populations),
        populations=populations,
        samples=None,
        seed=seed,
    )
    scores: dict[str, list[np.ndarray]] = {name: [] for name in METHODS}
    replicates = draw_replicates("subsample", N_REPLICATES, codes, populations, seed=seed)
    for replicate in replicates:
        cells = replicate.cells
        view = replace(
            whole,
            counts=counts[cells],
            total_counts=whole.total_counts[cells],
            codes=codes[cells],
            seed=1000 * seed + replicate.number,
        )
        for name in METHODS:
            scores[name].append(score_of(REGISTRY[name], view))
    score_set = rank_scores(
        {name: np.stack(values) for name, values in scores.items()},
        methods=[NamedMethod(name, REGISTRY[name].estimand) for name in METHODS],
        populations=populations,
        genes=[str(gene) for gene in adata.var_names],
        resample_kind="subsample",
        seed=seed,
    )
    return score_set, confirm(score_set, Cells(counts, whole.total_counts, codes), replicates, TOP_K, seed=seed)


def main() -> bool:
    """Print the share of lists above 0 and above their floor, and of data sets with an answer."""
    logging.disable(logging.WARNING)
    config = SimulationConfig(population_sizes=(900,), null_split=True)
    stability, concordance, answers = [], [], []
    for seed in range(N_DATA_SETS):
        score_set, confirmation = score(config, seed)
        own, between = stability_table(score_set, TOP_K), concordance_table(score_set, TOP_K)
        stability.append(own[own["k"] == TOP_K])
        concordance.append(between)
        answers.append(answer_table(own, between, confirmation.summary, top_k=TOP_K).assign(data_set=seed))
    lists, pairs, answer = (pd.concat(tables, ignore_index=True) for tables in (stability, concordance, answers))
    print(f"{N_DATA_SETS} null splits of 900 cells, {N_REPLICATES} replicates, top {TOP_K} of {config.n_genes} genes")
    print(f"{'method':18} {'phi':>6} {'floor':>6} {'disjoint':>9}   lower > 0   lower > floor")
    for name, rows in lists.groupby("method", sort=False):
        above = (rows["lower"] > 0).mean(), (rows["lower"] > rows["floor"]).mean()
        means = rows[["phi", "floor", "disjoint"]].mean()
        print(f"{name:18} {means.phi:6.2f} {means.floor:6.2f} {means.disjoint:9.2f} {above[0]:11.0%} {above[1]:15.0%}")
    print(f"overlaps of two methods with their lower bound above the floor: {(pairs.lower > pairs.floor).mean():.0%}")
    trusted = (answer["method"] != "none").groupby([answer["estimand"], answer["data_set"]]).any()
    shares = trusted.groupby("estimand").mean()
    print(f"data sets with a trusted method: {', '.join(f'{name} {share:.0%}' for name, share in shares.items())}")
    return bool((shares <= MOST).all())


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
