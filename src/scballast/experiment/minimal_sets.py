"""The smallest set of genes that tells each population apart, chosen in a replicate and scored in its unseen cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from scballast.agreement.minimal_set import MinimalSet, Separation, separation, smallest_set
from scballast.arrays import FloatArray, IntArray, divided
from scballast.experiment.setup import Setup
from scballast.methods.cell_view import log_of, mean_log_counts
from scballast.progress import progress_bar
from scballast.threads import one_thread

CANDIDATES_FROM = "min_rank_auc"
"""The method whose first genes are looked at: those of its first ranks tell a population from every other one."""
N_LOOKED_AT, N_CANDIDATES = 15, 10

_COLUMNS = (
    *("population", "gene", "threshold", "gene_recurrence", "n_genes", "recurrence"),
    *("heldout_f", "precision", "recall", "n_replicates"),
)


@dataclass(frozen=True)
class _Found:
    """A replicate's set, by columns of the counts, and what it is worth in unseen cells."""

    genes: tuple[int, ...]
    thresholds: FloatArray
    worth: Separation


def minimal_sets_table(setup: Setup, scores: Mapping[str, FloatArray]) -> pd.DataFrame:
    """Return the set that comes out most often for each population, one row for each of its genes.

    Candidates are, of the first 15 genes of ``min_rank_auc``, the 10 with the highest binary score: the mean over other
    populations of 1 less the ratio of their mean log counts to the population's, at least 0 (Aevermann et al. 2021).

    Parameters
    ----------
    setup
        Data, replicates and populations.
    scores
        By method name (replicate, population, gene); ``min_rank_auc`` gives the candidates.

    Returns
    -------
    DataFrame
        population, gene, threshold (counts per 10,000 above which it counts as seen, median over the replicates with
        this set), gene_recurrence (share of the replicates whose set has the gene), n_genes (in the set), recurrence
        (share of the replicates with this very set), heldout_f, precision, recall (means over all replicates, each with
        its own set and thresholds in the cells that it did not see: what the way of choosing is worth), n_replicates.
        Populations without candidates have no rows.
    """
    rows: list[dict[str, Any]] = []
    genes = setup.dataset.adata.var_names.to_numpy(dtype=str)
    sets_of_population: dict[int, list[_Found]] = {position: [] for position in range(len(setup.populations))}
    with progress_bar("minimal sets", len(setup.replicates), unit="replicates") as advance, one_thread():
        for row, replicate in enumerate(setup.replicates):
            codes = [setup.dataset.population_codes[cells] for cells in (replicate.cells, replicate.heldout)]
            counts, totals = setup.counts[replicate.cells], setup.dataset.total_counts[replicate.cells]
            means = mean_log_counts(counts, totals, codes[0], len(setup.populations))
            ranked = scores[CANDIDATES_FROM][row]
            candidates = {
                position: _candidates(ranked[position], means, position)
                for position in sets_of_population
                if not np.isnan(ranked[position]).all() and (codes[0] == position).any()
            }
            looked_at = np.unique(np.concatenate([*candidates.values(), np.zeros(0, dtype=np.int64)]))
            seen, unseen = (_logs(setup, cells, looked_at) for cells in (replicate.cells, replicate.heldout))
            for position, genes_tried in candidates.items():
                chosen = smallest_set(seen[:, np.searchsorted(looked_at, genes_tried)].toarray(), codes[0] == position)
                columns = genes_tried[chosen.genes]
                values = unseen[:, np.searchsorted(looked_at, columns)].toarray()
                taken = np.logical_and.reduce(values > chosen.thresholds, axis=1)
                gene_set = _of_counts(chosen, columns.tolist(), separation(taken, codes[1] == position))
                sets_of_population[position].append(gene_set)
            advance(1)
    for position, sets in sets_of_population.items():
        rows += _rows(setup.populations[position], sets, genes)
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _logs(setup: Setup, cells: IntArray, genes: IntArray) -> sparse.csc_matrix:
    """(n_cells, n_genes) Log counts of some genes, CSC."""
    return log_of(setup.counts[:, genes][cells], setup.dataset.total_counts[cells]).tocsc()


def _candidates(ranked: FloatArray, means: FloatArray, position: int) -> IntArray:
    """Of the first genes of a ranking those that are on here and off elsewhere: NS-Forest's binary score, of means."""
    first = np.argsort(-ranked, kind="stable")[:N_LOOKED_AT]
    inside, others = means[position, first], np.delete(means[:, first], position, axis=0)
    ratio = divided(others, inside, np.inf)
    binary = np.maximum(0.0, 1.0 - ratio).mean(axis=0)
    return np.asarray(first[np.argsort(-binary, kind="stable")[:N_CANDIDATES]])


def _of_counts(chosen: MinimalSet, columns: list[int], worth: Separation) -> _Found:
    order = np.argsort(columns)
    levels = np.expm1(chosen.thresholds)  # log counts are of counts per 10,000
    return _Found(tuple(int(columns[i]) for i in order), levels[order], worth)


def _rows(population: str, sets: list[_Found], names: Any) -> list[dict[str, Any]]:
    if not sets:
        return []
    times = Counter(minimal_set.genes for minimal_set in sets)
    # Of sets that come out equally often, the smaller, then the one that comes first by its columns.
    genes = min(times, key=lambda columns: (-times[columns], len(columns), columns))
    thresholds = np.median([minimal_set.thresholds for minimal_set in sets if minimal_set.genes == genes], axis=0)
    worth = {
        name: _mean([getattr(minimal_set.worth, attribute) for minimal_set in sets])
        for name, attribute in (("heldout_f", "f_score"), ("precision", "precision"), ("recall", "recall"))
    }
    return [
        {
            "population": population,
            "gene": names[gene],
            "threshold": float(threshold),
            "gene_recurrence": float(np.mean([gene in minimal_set.genes for minimal_set in sets])),
            "n_genes": len(genes),
            "recurrence": times[genes] / len(sets),
            **worth,
            "n_replicates": len(sets),
        }
        for gene, threshold in zip(genes, thresholds, strict=True)
    ]


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
