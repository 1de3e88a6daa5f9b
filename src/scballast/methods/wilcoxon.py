"""Wilcoxon rank-sum test of each population against all other cells."""

from __future__ import annotations

import contextlib
import io

import numpy as np

from scballast.arrays import FloatArray
from scballast.methods.cell_view import CellView, comparable_populations


def wilcoxon_scores(view: CellView) -> FloatArray:
    """Return the tie-corrected Wilcoxon rank-sum z statistic on log-normalised counts.

    The z statistic, not the p-value: p-values underflow to 0 for many genes at once and would make ties.
    No continuity correction, as in scanpy.

    Parameters
    ----------
    view
        The replicate's cells.

    Returns
    -------
    (n_populations, n_genes) float
        z, positive where the gene is higher in the population; 0 for a gene that is equal in all cells.

    References
    ----------
    Mann & Whitney (1947); ties: Lehmann (1975), Nonparametrics. Computed by illico (Dubois).
    """
    scores = view.empty_scores()
    populations = comparable_populations(view, "wilcoxon", smallest=1)
    if populations.size == 0:
        return scores

    import pandas as pd
    from anndata import AnnData
    from illico import asymptotic_wilcoxon
    from loguru import logger

    n_cells, n_genes = view.counts.shape
    adata = AnnData(
        view.log_counts,
        # illico sorts groups by label, and codes sort as the populations do; -1 is part of every rest.
        obs=pd.DataFrame({"population": view.codes.astype(np.int64)}, index=np.arange(n_cells).astype(str)),
        var=pd.DataFrame(index=np.arange(n_genes).astype(str)),
    )
    logger.disable("illico")
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar cannot be turned off
        table = asymptotic_wilcoxon(
            adata,
            is_log1p=True,
            group_keys="population",
            groups=[int(code) for code in populations],
            use_continuity=False,
            tie_correct=True,
        )
    scores[populations] = table["z_score"].to_numpy().reshape(populations.size, n_genes)
    return scores
