"""How much of each program a model's latent space holds: which number of dimensions has room for all of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scballast.arrays import FloatArray
from scballast.experiment.scoring import factor_view
from scballast.experiment.setup import Setup
from scballast.experiment.training import MemberKey, TrainedModels
from scballast.threads import one_thread

COLUMNS = ("population", "program", "replicate", "n_cells", "r_squared")
FEWEST_CELLS = 10
_PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)


def program_models_table(setup: Setup, models: TrainedModels, activity: pd.DataFrame) -> pd.DataFrame:
    """Return how well the global model of each replicate tells each program's activity in the cells it was trained on.

    Parameters
    ----------
    setup
        The experiment.
    models
        Its trained models.
    activity
        ``program_activity`` of :func:`scballast.experiment.programs.program_tables`: per population and program a row
        for each of its cells that was looked at.

    Returns
    -------
    DataFrame
        ``population``, ``program``, ``replicate``, ``n_cells``, ``r_squared`` (:func:`held_share`; NaN with fewer than
        ten cells).
    """
    names = setup.dataset.adata.obs_names
    of_cell = np.full(len(names), np.nan)
    rows = []
    views = [(replicate, factor_view(setup, replicate, models)) for replicate in setup.replicates]
    with one_thread():
        for (population, program), program_rows in activity.groupby(["population", "program"], sort=False):
            of_cell[:] = np.nan
            of_cell[names.get_indexer(program_rows["cell"])] = program_rows["activity"]
            for replicate, view in views:
                if view is None:
                    continue
                # A cell that a bootstrap drew twice would tell of itself.
                cells, first = np.unique(models.cells[MemberKey("global", replicate.number)], return_index=True)
                inside = ~np.isnan(of_cell[cells])
                r_squared = held_share(view.scores[first[inside]], of_cell[cells[inside]])
                rows.append((population, program, replicate.number, int(inside.sum()), r_squared))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def held_share(latent: FloatArray, activity: FloatArray) -> float:
    r"""Share of an activity's variance that a linear function of the latent space tells, each cell left out in turn.

    .. math:: 1 - \frac{\sum_i (a_i - \hat a_{-i})^2}{\sum_i (a_i - \bar a_{-i})^2}

    Ridge regression on standardised dimensions, its penalty the best of six by the same errors.

    Parameters
    ----------
    latent
        (n_cells, n_factors).
    activity
        (n_cells,).

    Returns
    -------
    float
        At most 1; below 0 where the latent space tells less than the mean. NaN with fewer than ten cells, or an
        activity that does not vary.
    """
    from sklearn.linear_model import RidgeCV

    n_cells = activity.size
    if n_cells < FEWEST_CELLS or np.ptp(activity) == 0.0:
        return float("nan")
    scale = latent.std(axis=0)
    used = scale > 0.0
    if not used.any():
        return 0.0
    standardised = (latent[:, used] - latent[:, used].mean(axis=0)) / scale[used]
    left_out_errors = -RidgeCV(alphas=_PENALTIES).fit(standardised, activity).best_score_
    return float(1.0 - left_out_errors / (activity.var() * (n_cells / (n_cells - 1)) ** 2))


def programs_in_models(summary: pd.DataFrame, held: pd.DataFrame) -> float:
    """Return how many of the programs without a flag the models hold: the sum of their shares, mean over replicates.

    Parameters
    ----------
    summary
        ``program_summary``.
    held
        From :func:`program_models_table`; a share below 0 counts as 0.
    """
    clean = summary.loc[summary["flags"] == "", ["population", "program"]]
    shares = held.merge(clean, on=["population", "program"])
    by_program = shares.assign(share=shares["r_squared"].clip(lower=0.0)).groupby(["population", "program"])["share"]
    return float(by_program.mean().sum())
