"""The genes of all lists and of the answers for readers: with flags and levels, without unwanted classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from scballast.arrays import FloatArray
from scballast.experiment.setup import Setup
from scballast.verdict.answer_genes import answer_genes_table, level_sums, with_levels
from scballast.verdict.gene_classes import with_flags, without_classes
from scballast.verdict.unseen import Cells

MOST_SHOWN = 60
"""Genes of the table of levels: what fits beside each other in a figure."""


def gene_list_tables(setup: Setup, cells: Cells, tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the genes of all lists and of the answers, and the levels of the first of these in every population.

    Parameters
    ----------
    setup
        Data set and ``genes.exclude``.
    cells
        All cells.
    tables
        ``answer``, ``consensus``.

    Returns
    -------
    dict
        ``consensus`` with ``symbol``, the levels of each gene (``verdict.answer_genes.with_levels``) and ``flags``;
        ``answer_genes`` (see ``verdict.answer_genes``, with ``flags``); and ``answer_expression``: gene, of (the
        population of whose marker list it is among the first), population, mean (counts per 10,000), pct. The classes
        of ``genes.exclude`` are in none of them.
    """
    dataset, unwanted = setup.dataset, setup.config.genes.exclude
    names = [str(gene) for gene in dataset.adata.var_names]
    symbols = dict(zip(names, dataset.gene_symbols or names, strict=True))
    sums = level_sums(cells, cells.codes, len(setup.populations))
    consensus = with_levels(tables["consensus"], cells, sums, setup.populations, names, symbols)
    table = answer_genes_table(tables["answer"], consensus)
    sizes = np.maximum(sums.n_cells[:-1], 1.0)[:, None]
    means, percents = sums.scaled[:-1] / sizes, 100.0 * sums.seen[:-1] / sizes
    by_population = dict(zip(setup.populations, means, strict=True))
    consensus = with_flags(consensus, by_population, names, markers=table)
    table = without_classes(with_flags(table, by_population, names), unwanted)
    return {
        "consensus": without_classes(consensus, unwanted),
        "answer_genes": table,
        "answer_expression": _levels(table, names, setup.populations, means, percents),
    }


def _levels(
    table: pd.DataFrame, names: Sequence[str], populations: Sequence[str], means: FloatArray, percents: FloatArray
) -> pd.DataFrame:
    """Take turns between the marker lists, best genes first, until the figure is full."""
    of_markers = table[table["estimand"] == "marker"]
    each = max(1, min(5, MOST_SHOWN // max(1, of_markers["population"].nunique())))
    chosen: dict[str, str] = {}
    for population in populations:
        best_markers = of_markers[of_markers["population"] == population].sort_values("rank").head(each)
        for gene in best_markers["gene"]:
            if len(chosen) < MOST_SHOWN:
                chosen.setdefault(str(gene), population)
    place = {gene: position for position, gene in enumerate(names)}
    rows = [
        {"gene": gene, "of": owner, "population": name, "mean": means[p, place[gene]], "pct": percents[p, place[gene]]}
        for gene, owner in chosen.items()
        for p, name in enumerate(populations)
    ]
    return pd.DataFrame(rows, columns=["gene", "of", "population", "mean", "pct"])
