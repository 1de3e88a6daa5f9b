"""Circularity: how much of a population is left when its labels have not seen the counts that test it.

Counts are thinned into two independent matrices. Cells are clustered again on the first, into as many clusters as there
are populations, each named after the population that it shares most cells with; the whole experiment then runs on the
second, whose counts took no part in the labels. Beside it, one marker method (``wilcoxon``) is run on the same second
matrix with the labels as given: what it finds there and not under the new labels exists by circularity only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import sparse

from scballast.agreement.stability import jackknife_interval, pairwise_kuncheva
from scballast.arrays import FloatArray, IntArray, divided
from scballast.config.schema import Config
from scballast.data.dataset import Dataset
from scballast.data.thinning import gene_dispersions, thin_counts
from scballast.experiment.confirming import cells_of
from scballast.experiment.scoring import baseline_scores, score_set_of
from scballast.experiment.setup import Setup, replicates_of
from scballast.methods.cache import ScoreCache
from scballast.methods.reclustering import cluster_again, match_labels
from scballast.methods.registry import METHODS
from scballast.seeds import Stream, generator_for, integer_for
from scballast.verdict.answer import SMALLEST_SHARE
from scballast.verdict.confirmation import confirm

MARKER_METHOD = "wilcoxon"
MOST_IN_COMMON = 0.5
"""Recurrence below which a population is another one when it is found again; two random halves have 1/3."""


@dataclass(frozen=True, eq=False)
class Thinned:
    """The second half of thinned counts, under two sets of labels.

    Attributes
    ----------
    again
        With labels from clustering the first half.
    given
        With the labels as they came.
    recurrence
        (n_populations,) cells that a population and its cluster have in common, over cells in either.
    """

    again: Dataset
    given: Dataset
    recurrence: FloatArray


def thin_dataset(dataset: Dataset, seed: int) -> Thinned:
    """Thin the counts, cluster the first half again, and keep the second.

    Parameters
    ----------
    dataset
        The data with the labels as given; cells without a ranked population are left out of the clustering and stay
        without one.
    seed
        The experiment's seed.
    """
    counts = sparse.csr_matrix(dataset.adata.X)
    labelled = np.flatnonzero(dataset.population_codes >= 0)
    dispersion = gene_dispersions(counts, dataset.total_counts, dataset.population_codes)
    first, second = thin_counts(counts, dispersion, generator_for(seed, Stream.CELLS, "thinning"))
    clusters = cluster_again(first[labelled], len(dataset.populations), integer_for(seed, Stream.CELLS, "clustering"))
    matched, recurrence = match_labels(dataset.population_codes[labelled], clusters, len(dataset.populations))
    codes = np.full(dataset.population_codes.size, -1, dtype=np.int64)
    codes[labelled] = matched
    # Depth of the second half: its own counts, and half of those of genes that are not analysed.
    others = dataset.total_counts - np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    total = np.asarray(second.sum(axis=1), dtype=np.float64).ravel() + np.maximum(others, 0.0) / 2.0
    adata = dataset.adata.copy()
    adata.X = second
    given = replace(dataset, adata=adata, total_counts=total, digest=f"{dataset.digest}-thinned-{seed}", truth=None)
    return Thinned(_relabelled(given, codes), given, recurrence)


def circularity_table(config: Config, thinned: Thinned) -> pd.DataFrame:
    """Compare the populations as given with the same found again in counts that do not test them.

    Returns
    -------
    DataFrame
        population, n_cells (as given), n_cells_again, recurrence, phi_given, phi_again (stability of the markers),
        confirmed_given, confirmed_again, lower_given, lower_again (shares of the top k), phi_left, confirmed_left
        (again over given), circular (no markers are confirmed under the labels found again, though they are under
        those given, or its cells are not found together again either), reason.
    """
    given, again = (_markers(config, dataset) for dataset in (thinned.given, thinned.again))
    rows = []
    for position, population in enumerate(thinned.given.populations):
        row_given, row_again = given.loc[population.name], again.loc[population.name]
        gone = row_again["lower"] < SMALLEST_SHARE  # False where nothing could be tested
        circular = bool(
            gone and (row_given["lower"] >= SMALLEST_SHARE or thinned.recurrence[position] < MOST_IN_COMMON)
        )
        untested = row_given["reason"] or row_again["reason"]
        rows.append(
            {
                "population": population.name,
                "n_cells": population.n_cells,
                "n_cells_again": int((thinned.again.population_codes == position).sum()),
                "recurrence": float(thinned.recurrence[position]),
                **{f"{name}_given": row_given[name] for name in ("phi", "confirmed", "lower")},
                **{f"{name}_again": row_again[name] for name in ("phi", "confirmed", "lower")},
                "phi_left": float(divided(row_again["phi"], row_given["phi"], math.nan)),
                "confirmed_left": float(divided(row_again["confirmed"], row_given["confirmed"], math.nan)),
                "circular": circular,
                "reason": untested or ("no markers under labels that have not seen the test" if circular else ""),
            }
        )
    return pd.DataFrame(rows)


def circular_warnings(table: pd.DataFrame) -> tuple[str, ...]:
    """Name the populations that exist only by circularity."""
    names = ", ".join(map(str, table.loc[table["circular"], "population"]))
    if not names:
        return ()
    return (
        f"Populations that exist only by circularity: {names}. No markers hold for them under labels found again in "
        "counts that take no part in the test; what the labels as given show comes from having seen the same counts.",
    )


def _markers(config: Config, dataset: Dataset) -> pd.DataFrame:
    """Stability and confirmation of the marker method, by population."""
    setup = Setup(config, dataset, replicates_of(config, dataset), (METHODS[MARKER_METHOD],))
    score_set = score_set_of(setup, baseline_scores(setup, ScoreCache(None)))
    top_k = config.rank.top_k
    confirmation = confirm(score_set, cells_of(setup), setup.replicates, top_k, seed=config.seed)
    ranks = score_set.ranks[MARKER_METHOD]
    scored = score_set.scored(MARKER_METHOD)
    phi = []
    for position in range(len(setup.populations)):
        selected = ranks[scored[:, position], position] <= top_k
        phi.append(jackknife_interval(pairwise_kuncheva(selected)).estimate if len(selected) else math.nan)
    return confirmation.summary.set_index("population")[["confirmed", "lower", "reason"]].assign(phi=phi)


def _relabelled(dataset: Dataset, codes: IntArray) -> Dataset:
    """Return the data set with other populations under the same names."""
    names = [population.name for population in dataset.populations]
    adata = dataset.adata.copy()
    adata.obs[dataset.population_key] = pd.Categorical.from_codes(codes, categories=names)
    populations = tuple(
        replace(population, n_cells=int((codes == position).sum()))
        for position, population in enumerate(dataset.populations)
    )
    return replace(
        dataset,
        adata=adata,
        populations=populations,
        population_codes=codes,
        label_codes=codes,
        labels=tuple(names),
        digest=f"{dataset.digest}-again",
    )
