"""Modules of genes that go together among the cells of a population that a model places near each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from scballast.arrays import FloatArray, IntArray
from scballast.experiment.scoring import factor_view
from scballast.experiment.setup import Setup
from scballast.experiment.training import TrainedModels
from scballast.methods.cell_view import MOST_CELLS, evenly_over_depth
from scballast.methods.hotspot import SMALLEST_POPULATION, first_of_each
from scballast.methods.hotspot_modules import GeneModules, local_modules
from scballast.methods.rankers import FactorView
from scballast.progress import progress_bar
from scballast.threads import one_thread

METHOD = "hotspot"
"""The method whose genes are grouped."""
COLUMNS = (
    *("population", "module", "gene", "local_correlation_z", "autocorrelation_z", "q_value"),
    *("together_again", "n_replicates"),
)


def hotspot_modules_table(setup: Setup, models: TrainedModels) -> pd.DataFrame:
    """Return the modules of the first replicate that has a model, and how far the other replicates make them again.

    Parameters
    ----------
    setup
        Data, replicates and populations.
    models
        Their trained models; the positions of cells are read.

    Returns
    -------
    DataFrame
        population, module (from 1, the largest first), gene, local_correlation_z (mean over pairs with the other genes
        of the module), autocorrelation_z (of the gene alone) with its q_value, together_again (of the other genes of
        the module, the share that is in one module with it in another replicate, mean over these; NaN without any),
        n_replicates (the others, with a model). In each module the largest local_correlation_z first; no rows for a
        population without modules.
    """
    of_replicates: list[list[GeneModules | None]] = []
    with progress_bar("modules of genes", len(setup.replicates), unit="replicates") as advance, one_thread():
        for replicate in setup.replicates:
            view = factor_view(setup, replicate, models)
            if view is not None:
                depth = setup.dataset.total_counts[replicate.cells]
                of_replicates.append([_of_population(view, depth, code) for code in range(len(setup.populations))])
            advance(1)
    rows: list[tuple[object, ...]] = []
    genes = setup.dataset.adata.var_names.to_numpy(dtype=str)
    for population, (first, *others) in zip(setup.populations, zip(*of_replicates, strict=True), strict=False):
        if first is not None:
            rows += [(population, *row) for row in _rows(first, others, genes)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _of_population(view: FactorView, total_counts: FloatArray, position: int) -> GeneModules | None:
    cells = evenly_over_depth(np.flatnonzero(view.codes == position), total_counts, view.counts, MOST_CELLS)
    cells = first_of_each(view.counts, cells)
    return None if cells.size < SMALLEST_POPULATION else local_modules(view.scores[cells], view.counts[cells])


def _rows(first: GeneModules, others: list[GeneModules | None], names: Any) -> list[tuple[object, ...]]:
    again = [_owner(other, names.size) for other in others]
    rows: list[tuple[object, ...]] = []
    for module in range(first.module.max(initial=-1) + 1):
        inside = np.flatnonzero(first.module == module)
        genes = first.genes[inside]
        correlation = first.z[np.ix_(inside, inside)].sum(axis=1) / (inside.size - 1)
        together = np.mean([_share_together(owner[genes]) for owner in again], axis=0) if again else None
        for place in np.argsort(-correlation, kind="stable"):
            rows.append(
                (
                    module + 1,
                    names[genes[place]],
                    float(correlation[place]),
                    float(first.autocorrelation.z[genes[place]]),
                    float(first.autocorrelation.q_value[genes[place]]),
                    float("nan") if together is None else float(together[place]),
                    len(again),
                )
            )
    return rows


def _owner(modules: GeneModules | None, n_genes: int) -> IntArray:
    """(n_genes,) Module of every gene; -1: in none."""
    owner = np.full(n_genes, -1, dtype=np.int64)
    if modules is not None:
        owner[modules.genes] = modules.module
    return owner


def _share_together(owner: IntArray) -> FloatArray:
    """(n_genes,) Of the other genes, the share that has the gene's own module."""
    same = (owner[:, None] == owner) & (owner >= 0)
    return np.asarray((same.sum(axis=1) - same.diagonal()) / (owner.size - 1))
