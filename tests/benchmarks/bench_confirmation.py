"""Confirmation in unseen cells against planted truth: programs of five families and markers.

Populations of 60 to 500 cells (halves of 30 to 250), 1,200 genes, depths of 600 to 3,500 counts, without and with 3%
doublets and 5% ambient counts; ten replicates of complementary halves. Per population the confirmed share of each
method's lists is set beside their precision. Truth of programs: the planted sets. Truth of markers: E_c[log rho] -
E_rest[log rho] above 0.1, in the rates before doublets and ambient counts; programs shift means too, so the planted
sets are only a part of it.

``python -m tests.benchmarks confirmation``; ``--seeds 0`` for a look. The depth of a data set is the one at the place
``seed`` modulo four. An interrupted benchmark goes on where it stopped: each data set is kept in ``--folder``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is loaded

import argparse
import itertools
import logging
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse, stats
from tests.helpers.baseline_examples import score_of
from tests.helpers.kept_tables import kept

from scballast.config.simulation import SimulationConfig
from scballast.data.replicates import draw_replicates
from scballast.data.simulate import simulate, truth_from_adata
from scballast.methods.cell_view import CellView
from scballast.methods.method import NamedMethod
from scballast.methods.registry import METHODS
from scballast.verdict.answer import answer_table
from scballast.verdict.confirmation import confirm
from scballast.verdict.score_set import rank_scores
from scballast.verdict.tables import concordance_table, stability_table
from scballast.verdict.unseen import Cells

FAMILIES = ("additive", "switch", "path", "shared", "latent", "none")
SEEDS, N_REPLICATES = (0, 1, 2, 3), 10
TOP_K, DEPTHS = 50, (600.0, 1200.0, 2500.0, 3500.0)
# Name in the tables, method, leading components where they are not chosen by the data.
LISTS: tuple[tuple[str, str, int | None], ...] = (
    ("residual_pca", "residual_pca", None),
    ("residual_pca_1", "residual_pca", 1),
    ("residual_pca_5", "residual_pca", 5),
    ("residual_pca_20", "residual_pca", 20),
    ("within_pca_5", "within_pca", 5),
    ("cross_covariance", "cross_covariance", None),
    ("within_dispersion", "within_dispersion", None),
    ("random", "random", None),
    ("wilcoxon", "wilcoxon", None),
    ("t_test", "t_test", None),
    ("logreg", "logreg", None),
)
MARKERS = ("wilcoxon", "t_test", "logreg", "log_ratio", "random_marker", "level")
EFFECT = 0.1
SPEARMAN, BIAS, CLEAN, CONTAMINATED, REGRET = 0.9, 0.05, 0.08, 0.12, 0.01


def one_data_set(family: str, seed: int, contaminated: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a row per population and method, and the answers."""
    sizes = tuple(int(n) for n in np.random.default_rng(seed).permutation([60, 120, 200, 300, 500]))
    shares = {} if contaminated else {"doublet_share": 0.0, "ambient_share": 0.0}
    if contaminated:
        shares = {"doublet_share": 0.03, "ambient_share": 0.05}
    config = SimulationConfig(
        n_genes=1200, population_sizes=sizes, mean_counts=DEPTHS[seed % 4], programs=family, **shares
    )
    adata = simulate(config, seed)
    truth = truth_from_adata(adata)
    counts = sparse.csr_matrix(adata.X)
    codes = np.asarray(pd.Categorical(adata.obs["population"], categories=truth.populations).codes)
    cells = Cells(counts, np.asarray(counts.sum(axis=1)).ravel(), codes)
    replicates = draw_replicates("subsample", N_REPLICATES, codes, truth.populations, seed=seed)
    scores: dict[str, list[Any]] = {name: [] for name in (*(name for name, _, _ in LISTS), *MARKERS[3:])}
    for replicate in replicates:
        view = CellView(
            counts=counts[replicate.cells],
            total_counts=cells.total_counts[replicate.cells],
            codes=codes[replicate.cells],
            n_populations=len(sizes),
            populations=truth.populations,
            samples=None,
            seed=1000 * seed + replicate.number,
        )
        for name, method, n_components in LISTS:
            scores[name].append(score_of(METHODS[method], replace(view, n_components=n_components)))
        profiles = np.array([view.counts[view.codes == c].sum(axis=0).A1 for c in range(len(sizes))])
        level = profiles / profiles.sum(axis=1, keepdims=True)
        rest = (profiles.sum(axis=0) - profiles) / (profiles.sum() - profiles.sum(axis=1, keepdims=True))
        scores["log_ratio"].append(np.log((level + 1e-5) / (rest + 1e-5)))
        scores["random_marker"].append(np.random.default_rng(replicate.number).standard_normal(level.shape))
        scores["level"].append(level)
    genes = [str(gene) for gene in adata.var_names]
    score_set = rank_scores(
        {name: np.stack(values) for name, values in scores.items()},
        methods=[NamedMethod(name, "marker" if name in MARKERS else "program") for name in scores],
        populations=truth.populations,
        genes=genes,
        resample_kind="subsample",
        seed=seed,
    )
    found = confirm(score_set, cells, replicates, TOP_K, seed=seed)
    positive = {"program": truth.program_sets, "marker": truth.marker_effect > EFFECT}
    rows = []
    for row in found.summary.itertuples():
        position = truth.populations.index(row.population)
        true = positive[row.estimand][position]
        own = found.genes[(found.genes["population"] == row.population) & (found.genes["method"] == row.method)]
        right = true[[genes.index(gene) for gene in own["gene"]]]
        called = (own["q_value"] <= 0.05).to_numpy()
        over = found.q_values[row.method][position] <= 0.05
        rows.append(
            {
                "family": family, "seed": seed, "depth": DEPTHS[seed % 4], "contaminated": contaminated,
                "population": row.population, "n_cells": row.n_cells_unseen,
                "estimand": row.estimand, "method": row.method, "confirmed": row.confirmed, "lower": row.lower,
                "precision": right.mean(), "planted": true.any(), "called": called.sum(),
                "wrong": (called & ~right).sum(), "found": (called & right).sum(), "right": right.sum(),
                "wrong_below_5%": ((own["p_value"] <= 0.05).to_numpy() & ~right).sum(),
                "wrong_in_lists": (~right).sum(),
                "over": over.sum(), "over_wrong": (over & ~true).sum(),
            }
        )  # fmt: skip
    summary = found.summary[~found.summary["method"].isin(["random", "random_marker", "level"])]
    answers = answer_table(stability_table(score_set, TOP_K), concordance_table(score_set, TOP_K), summary, top_k=TOP_K)
    return pd.DataFrame(rows), answers.assign(family=family, seed=seed, depth=DEPTHS[seed % 4])


def figures(table: pd.DataFrame, answers: pd.DataFrame, estimand: str) -> dict[str, float]:
    """Sum up one estimand."""
    own = table[(table["estimand"] == estimand)]
    key = ["family", "seed", "population"]
    planted = own[own["planted"]]
    groups = [rows for _, rows in planted.groupby(key) if rows["precision"].nunique() > 1]
    spearman = [stats.spearmanr(rows["confirmed"], rows["precision"])[0] for rows in groups]
    named = answers[(answers["estimand"] == estimand) & (answers["method"] != "none")]
    both = named.merge(own, on=[*key, "estimand", "method"], suffixes=("", "_of_list"))
    best = planted.groupby(key)["precision"].max()
    regret = [best[tuple(row)] - value for *row, value in both[both["planted"]][[*key, "precision"]].to_numpy()]
    empty = own[~own["planted"]].groupby(key).ngroups
    return {
        "populations": planted.groupby(key).ngroups,
        "spearman": float(np.nanmean(spearman)) if spearman else np.nan,
        "bias": float((planted["confirmed"] - planted["precision"]).mean()),
        "false_discovery_rate": own["wrong"].sum() / max(own["called"].sum(), 1),
        "over_replicates": own["over_wrong"].sum() / max(own["over"].sum(), 1),
        "wrong_below_5%": own["wrong_below_5%"].sum() / max(own["wrong_in_lists"].sum(), 1),
        "power": planted["found"].sum() / max(planted["right"].sum(), 1),
        "regret": float(np.mean(regret)) if regret else np.nan,
        "answered": len(both[both["planted"]]) / max(planted.groupby(key).ngroups, 1),
        "empty": empty,
        "false_alarms": float((~both["planted"]).sum()),
        "bound_too_high": float((planted["lower"] > planted["precision"] + 1e-9).mean()),
    }


def report(table: pd.DataFrame, answers: pd.DataFrame, title: str) -> bool:
    """Print the figures of both estimands, whole and by depth; return whether the whole is as wanted."""
    good = True
    contaminated = bool(table["contaminated"].iloc[0])
    for estimand in ("program", "marker"):
        values = figures(table, answers, estimand)
        print(f"{estimand}, {title}:\n  " + ", ".join(f"{name} {value:.3f}" for name, value in values.items()))
        good &= values["spearman"] >= SPEARMAN and abs(values["bias"]) <= BIAS and values["false_alarms"] == 0
        good &= values["false_discovery_rate"] <= (CONTAMINATED if contaminated else CLEAN)
        good &= values["regret"] <= REGRET
    return bool(good)


def main(words: list[str] | None = None) -> bool:
    """Run what is missing; print the figures for either estimand, without and with contamination."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench_confirmation"))
    options = parser.parse_args(words or [])
    logging.disable(logging.WARNING)
    options.folder.mkdir(parents=True, exist_ok=True)
    good = True
    # Depth by depth, without and with contamination: an interrupted benchmark has all families.
    parts: dict[bool, list[tuple[pd.DataFrame, pd.DataFrame]]] = {False: [], True: []}
    for seed, contaminated, family in itertools.product(options.seeds, (False, True), options.families):
        stem = f"{family}_{seed}_{'contaminated' if contaminated else 'clean'}"
        parts[contaminated].append(
            kept(
                options.folder, (f"{stem}_lists", f"{stem}_answers"), partial(one_data_set, family, seed, contaminated)
            )
        )
    for contaminated, tables in parts.items():
        table, answers = (pd.concat(each, ignore_index=True) for each in zip(*tables, strict=True))
        title = "doublets and ambient counts" if contaminated else "clean"
        good &= report(table, answers, title)
        for depth, rows in table.groupby("depth"):
            report(rows, answers[answers["depth"] == depth], f"{title}, {depth:.0f} counts")
        shown = table[table["planted"]].groupby(["estimand", "method"])[["precision", "confirmed", "lower"]].mean()
        print(shown.round(3).to_string(), flush=True)
    return good


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
