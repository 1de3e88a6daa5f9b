"""The genes of somebody's lists, one by one: what became of each, and what the methods found instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scballast.arrays import FloatArray
from scballast.data.gene_match import Match
from scballast.methods.method import LIST_ESTIMANDS
from scballast.verdict.answer_genes import LEVELS, LevelSums, expression_levels, level_sums
from scballast.verdict.gene_classes import with_flags
from scballast.verdict.unseen import FALSE_DISCOVERY_RATE, Cells

_SELDOM = 2.0
"""Per cent of the population's cells below which a gene that fails is said to be seldom seen."""

COLUMNS = (
    *("population", "rank", "listed", "gene", "symbol", "found"),
    *("confirmed_marker", "q_marker", "confirmed_program", "q_program", *LEVELS, "flags", "why"),
)


def list_genes_table(
    matches: Mapping[str, Sequence[Match]],
    q_values: Mapping[tuple[str, str], FloatArray],
    cells: Cells,
    populations: Sequence[str],
    genes: Sequence[str],
    symbols: Sequence[str],
) -> pd.DataFrame:
    """Say of every gene of every list whether it holds, with its levels.

    Parameters
    ----------
    matches
        By population, what became of each name, the best gene first; no two of one gene.
    q_values
        By estimand and population: (n_found,) q-values of those that have a gene, in the same order.
    cells
        The cells.
    populations, genes, symbols
        Names by code, and names and symbols in the order of the counts.

    Returns
    -------
    DataFrame
        population, rank, listed (as in the file), gene, symbol, found (how it was found under another name),
        confirmed_marker, confirmed_program, q_marker, q_program, log2_fold_change, pct_in, pct_out, mean_in, mean_out
        (see ``answer_genes``), flags, why (it is not tested, or fails as a marker).
    """
    rows: list[dict[str, Any]] = []
    sums = level_sums(cells, cells.codes, len(populations))
    for population, names in matches.items():
        levels = expression_levels(sums, populations.index(population))
        number = 0
        for rank, match in enumerate(names, 1):
            row: dict[str, Any] = {"population": population, "rank": rank, "listed": match.name, "why": match.how}
            row |= dict.fromkeys((f"confirmed_{estimand}" for estimand in LIST_ESTIMANDS), False)
            if match.gene is not None:
                q = {estimand: float(q_values[estimand, population][number]) for estimand in LIST_ESTIMANDS}
                number += 1
                row |= {"gene": genes[match.gene], "symbol": symbols[match.gene], "found": match.how}
                row |= {name: float(levels[name][match.gene]) for name in LEVELS}
                row |= {f"q_{estimand}": value for estimand, value in q.items()}
                row |= {f"confirmed_{estimand}": value <= FALSE_DISCOVERY_RATE for estimand, value in q.items()}
                row["why"] = "" if row["confirmed_marker"] else _why_no_marker(row)
            rows.append(row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    text = ["gene", "symbol", "found", "flags", "why"]
    table[text] = table[text].astype(object).fillna("")
    return _flagged(table, sums, populations, genes)


def _why_no_marker(row: Mapping[str, Any]) -> str:
    if np.isnan(row["q_marker"]):
        return "too few unseen cells for a test"
    if row["pct_in"] < _SELDOM:
        return f"seen in {row['pct_in']:.1f}% of its cells"
    if row["log2_fold_change"] <= 0:
        return "not higher than in the other cells"
    return f"higher by {row['log2_fold_change']:.1f} (log2), which may be chance (q {row['q_marker']:.2f})"


def _flagged(table: pd.DataFrame, sums: LevelSums, populations: Sequence[str], genes: Sequence[str]) -> pd.DataFrame:
    """Add what a reader should know of a gene; other populations' markers are those of their lists."""
    known = table[table["gene"] != ""].assign(estimand="marker")
    if known.empty:
        return table
    means = {
        name: expression_levels(sums, position)["mean_in"]
        for position, name in enumerate(populations)
        if (known["population"] == name).any()
    }
    flags = with_flags(known, means, genes)["flags"]
    return table.assign(flags=flags.reindex(table.index).fillna(""))


def missed_genes(table: pd.DataFrame, answer_genes: pd.DataFrame) -> pd.DataFrame:
    """Return the confirmed genes of the answers that somebody's lists do not have.

    Parameters
    ----------
    table
        From :func:`list_genes_table`.
    answer_genes
        Of the experiment; only of populations with a list.
    """
    populations, listed = set(table["population"]), set(zip(table["population"], table["gene"], strict=True))
    answered = zip(answer_genes["population"].astype(str), answer_genes["gene"].astype(str), strict=True)
    wanted = [key[0] in populations and key not in listed for key in answered]
    # An empty list would be taken for a choice of no columns.
    return answer_genes.loc[wanted].reset_index(drop=True)
