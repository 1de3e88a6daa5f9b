"""The genes of the answer: all that are confirmed, with what a reader asks of a gene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from scballast.arrays import BoolArray, FloatArray, IntArray, divided, membership
from scballast.verdict.unseen import Cells

TARGET_COUNTS = 1e4
_CELLS_AT_ONCE = 2**15
_PSEUDO_COUNT = 1.0
"""Added to counts per 10,000 before the ratio, so that a gene seen once is no tenfold change."""

LEVELS = ("log2_fold_change", "pct_in", "pct_out", "mean_in", "mean_out")
COLUMNS = (
    *("population", "estimand", "method", "rank", "gene", "symbol", *LEVELS),
    *("selection_frequency", "q_value", "confirmed"),
)


def answer_genes_table(answer: pd.DataFrame, consensus: pd.DataFrame) -> pd.DataFrame:
    """List the confirmed genes of each answer.

    Parameters
    ----------
    answer
        From ``answer.answer_table``.
    consensus
        From ``tables.consensus_table``, with ``symbol`` and the columns of :func:`with_levels`.

    Returns
    -------
    DataFrame
        population, estimand, method, rank (in the consensus list), gene, symbol, log2_fold_change (of the mean counts
        per 10,000 in the population over those in all other cells, 1 added to both), pct_in, pct_out (percent of
        cells with a count), mean_in, mean_out (counts per 10,000), selection_frequency, q_value, confirmed. For
        ``response`` "in" are the population's cells of the condition, "out" those of the reference. Only confirmed
        genes: they may be more or fewer than the top k; without a trusted method, none.
    """
    confirmed = consensus[consensus["confirmed"]]
    parts = []
    for row in answer.itertuples():
        confirmed_rows = confirmed[(confirmed["population"] == row.population) & (confirmed["method"] == row.method)]
        if len(confirmed_rows):
            named = confirmed_rows.assign(
                population=str(row.population), estimand=str(row.estimand), method=str(row.method)
            )
            parts.append(named.sort_values("rank")[list(COLUMNS)])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def with_levels(
    table: pd.DataFrame,
    cells: Cells,
    sums: LevelSums,
    populations: Sequence[str],
    genes: Sequence[str],
    symbols: Mapping[str, str],
) -> pd.DataFrame:
    """Return a table of genes with the symbol of each and its levels in and outside of the row's population.

    Parameters
    ----------
    table
        With columns ``population``, ``estimand``, ``gene`` and ``rank``.
    cells
        All cells.
    sums
        :func:`level_sums` of their populations.
    populations, genes
        Names by population code, and in the order of the counts.
    symbols
        Gene symbol by gene; a gene without one goes by its name.

    Returns
    -------
    DataFrame
        The same rows; ``symbol`` after ``gene``, and after ``rank`` the columns of :func:`expression_levels`, for
        ``response`` of :func:`response_levels`.
    """
    code = {name: position for position, name in enumerate(populations)}
    place = {gene: position for position, gene in enumerate(genes)}
    names = [str(gene) for gene in table["gene"]]
    at = np.array([place[name] for name in names], dtype=np.intp)
    level_columns = {name: np.zeros(at.size) for name in LEVELS}
    groups = table.groupby(["population", table["estimand"] == "response"], observed=True).indices
    for (population, of_response), rows in groups.items():
        position = code[str(population)]
        levels = response_levels(cells, position) if of_response else expression_levels(sums, position)
        for name in LEVELS:
            level_columns[name][rows] = levels[name][at[rows]]
    with_all = table.assign(symbol=[symbols.get(name) or name for name in names], **level_columns)
    columns = [name for name in table.columns if name != "symbol"]
    columns.insert(columns.index("gene") + 1, "symbol")
    after = columns.index("rank") + 1
    return with_all[[*columns[:after], *LEVELS, *columns[after:]]]


@dataclass(frozen=True, eq=False)
class LevelSums:
    """What groups of cells add up to; the last group is of the cells that are in none.

    Attributes
    ----------
    scaled
        (n_groups + 1, n_genes) counts per 10,000.
    seen
        (n_groups + 1, n_genes) cells with a count.
    n_cells
        (n_groups + 1,)
    """

    scaled: FloatArray
    seen: FloatArray
    n_cells: FloatArray


def level_sums(cells: Cells, codes: IntArray, n_groups: int) -> LevelSums:
    """Add up groups of cells, all in one pass over the counts, of some cells at a time.

    Parameters
    ----------
    cells
        All cells.
    codes
        (n_cells,) group of each, such as its population; negative: in none.
    n_groups
        Number of groups.
    """
    groups = np.where(codes < 0, n_groups, codes)
    scaled, seen = (np.zeros((n_groups + 1, cells.counts.shape[1])) for _ in range(2))
    for start in range(0, groups.size, _CELLS_AT_ONCE):
        part = slice(start, start + _CELLS_AT_ONCE)
        members, counts, totals = membership(groups[part], n_groups + 1), cells.counts[part], cells.total_counts[part]
        scale = divided(TARGET_COUNTS, totals)
        values = counts.data * np.repeat(scale, np.diff(counts.indptr))
        scaled += (members @ sparse.csr_matrix((values, counts.indices, counts.indptr), counts.shape)).toarray()
        there = (counts.data > 0).astype(np.float64)
        seen += (members @ sparse.csr_matrix((there, counts.indices, counts.indptr), counts.shape)).toarray()
    return LevelSums(scaled, seen, np.bincount(groups, minlength=n_groups + 1).astype(np.float64))


def expression_levels(sums: LevelSums, population: int) -> dict[str, FloatArray]:
    """Return how strongly, and in how many cells, genes are seen in a population and outside it.

    Parameters
    ----------
    sums
        :func:`level_sums` of the populations of all cells.
    population
        Code of the population.

    Returns
    -------
    dict
        log2_fold_change, pct_in, pct_out (percent), mean_in, mean_out (counts per 10,000), each (n_genes,).
    """
    others = np.arange(sums.n_cells.size) != population
    return _levels(sums, ~others, others)


def response_levels(cells: Cells, population: int) -> dict[str, FloatArray]:
    """Return how strongly, and in how many cells, genes are seen under both conditions within a population.

    Parameters
    ----------
    cells
        All cells, with conditions.
    population
        Code of the population.

    Returns
    -------
    dict
        As :func:`expression_levels`: in the cells of the condition, against those of the reference.
    """
    conditions = np.full(cells.codes.size, -1) if cells.conditions is None else cells.conditions
    known = (cells.codes == population) & (conditions >= 0)
    sums = level_sums(cells, np.where(known, conditions, -1), 2)
    return _levels(sums, np.array([False, True, False]), np.array([True, False, False]))


def _levels(sums: LevelSums, inside: BoolArray, outside: BoolArray) -> dict[str, FloatArray]:
    """Compare groups, chosen by masks."""
    n_cells = [max(float(sums.n_cells[chosen].sum()), 1.0) for chosen in (inside, outside)]
    mean = [sums.scaled[chosen].sum(axis=0) / n for chosen, n in zip((inside, outside), n_cells, strict=True)]
    percent = [100.0 * sums.seen[chosen].sum(axis=0) / n for chosen, n in zip((inside, outside), n_cells, strict=True)]
    return {
        "log2_fold_change": np.log2((mean[0] + _PSEUDO_COUNT) / (mean[1] + _PSEUDO_COUNT)),
        "pct_in": percent[0],
        "pct_out": percent[1],
        "mean_in": mean[0],
        "mean_out": mean[1],
    }
