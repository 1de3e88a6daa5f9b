"""What confirmation needs of an experiment: its cells as arrays, and the methods whose models saw too few steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scballast.verdict.caveats import FEWEST_STEPS
from scballast.verdict.confirmation import Cells

if TYPE_CHECKING:
    import pandas as pd

    from scballast.agreement.ranking import IntArray
    from scballast.data.dataset import Dataset
    from scballast.methods.plan import PlannedMethod


def cells_of(dataset: Dataset) -> Cells:
    """Return the cells of a data set as arrays."""
    return Cells(
        counts=sparse.csr_matrix(dataset.adata.X),
        total_counts=dataset.total_counts,
        codes=dataset.population_codes,
        batches=_codes(dataset, dataset.batch_key),
        samples=_codes(dataset, dataset.sample_key),
    )


def undertrained_methods(
    methods: Sequence[PlannedMethod], training: pd.DataFrame | None, dataset: Dataset
) -> frozenset[tuple[str, str]]:
    """Return (method, population) of the methods that rest on models of fewer than 500 gradient steps.

    Parameters
    ----------
    methods
        The methods of the experiment.
    training
        ``TrainedModels.table``: one row per model; models that take no gradient steps have no epochs. None: no models.
    dataset
        Its populations.
    """
    if training is None:
        return frozenset()
    few = training[(training["failure"] == "") & (training["epochs"] > 0) & (training["n_steps"] < FEWEST_STEPS)]
    by_role = {role: set(rows["population"].astype(str)) for role, rows in few.groupby("role", sort=False)}
    found = set()
    for method in methods:
        populations = set().union(*(by_role.get(role, set()) for role in _roles(method, by_role)))
        for population in dataset.populations:
            if "" in populations or population.name in populations:
                found.add((method.name, population.name))
    return frozenset(found)


def _roles(method: PlannedMethod, known: dict[str, set[str]]) -> tuple[str, ...]:
    """Return the roles of the models behind a method's scores."""
    if method.source == "baseline":
        return ()
    if method.source == "scvi_de":
        # With model.name=scvi the global model is the scVI model itself.
        return ("scvi",) if "scvi" in known else ("global",)
    return (method.source,) if method.source in ("conditioned", "per_population") else ("global",)


def _codes(dataset: Dataset, key: str | None) -> IntArray | None:
    if key is None:
        return None
    return np.asarray(dataset.adata.obs[key].astype("category").cat.codes, dtype=np.int64)
