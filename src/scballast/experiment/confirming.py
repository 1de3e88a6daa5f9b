"""What confirmation needs of an experiment: its cells as arrays, and the methods whose models saw too few steps."""

from __future__ import annotations

import pandas as pd

from scballast.experiment.setup import Setup, column_codes
from scballast.verdict.caveats import FEWEST_STEPS
from scballast.verdict.unseen import Cells


def cells_of(setup: Setup) -> Cells:
    """Return all cells of an experiment as arrays."""
    dataset = setup.dataset
    return Cells(
        counts=setup.counts,
        total_counts=dataset.total_counts,
        codes=dataset.population_codes,
        batches=column_codes(dataset, dataset.batch_key),
        samples=column_codes(dataset, dataset.sample_key),
        conditions=dataset.condition_codes,
        null_conditions=setup.null_conditions,
    )


def undertrained_methods(setup: Setup, training: pd.DataFrame | None) -> frozenset[tuple[str, str]]:
    """Return (method, population) of the methods that rest on models of fewer than 500 gradient steps.

    Parameters
    ----------
    setup
        The experiment's methods and populations.
    training
        ``TrainedModels.table``: one row per model; models that take no gradient steps have no epochs. None: no models.
    """
    if training is None:
        return frozenset()
    few = training[(training["failure"] == "") & (training["epochs"] > 0) & (training["n_steps"] < FEWEST_STEPS)]
    by_role = {str(role): set(rows["population"].astype(str)) for role, rows in few.groupby("role", sort=False)}
    distrusted = set()
    for method in setup.methods:
        # With model.name=scvi the global model is the scVI model itself.
        roles = {"global" if role == setup.family.name else role for role in method.roles}
        populations = {population for role in roles for population in by_role.get(role, ())}
        distrusted |= {(method.name, name) for name in setup.populations if "" in populations or name in populations}
    return frozenset(distrusted)
