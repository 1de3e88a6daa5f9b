"""The latent space itself: loadings, agreement of factors, and what the dimensions go with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scballast.config import Config
from scballast.data.dataset import Dataset
from scballast.evaluation import factors_table
from scballast.models import FAMILIES
from scballast.rankers import FactorView
from scballast.resample import Replicate
from scballast.scoring import factor_view, local_loadings_of
from scballast.training import TrainedModels

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.floating[Any]]


def latent_tables(
    config: Config, dataset: Dataset, replicates: Sequence[Replicate], models: TrainedModels
) -> dict[str, pd.DataFrame]:
    """Return the tables of the global models' latent spaces.

    Returns
    -------
    dict
        ``loadings`` (gene, dimension, loading) and ``local_loadings`` (population, dimension, gene, loading)
        of the first replicate, ``factors`` (agreement between replicates), ``association`` and
        ``axis_purity``; those that the model does not have are left out.
    """
    views = {
        replicate.number: view
        for replicate in replicates
        if (view := factor_view(config, dataset, replicate, models)) is not None
    }
    if not views:
        return {}
    tables: dict[str, pd.DataFrame] = {}
    first = views[min(views)]
    if FAMILIES[config.model.name].linear:
        centred = {number: _centred(view) for number, view in views.items()}
        tables["loadings"] = _loadings_table(dataset, centred[min(views)])
        tables["factors"] = factors_table({config.model.name: centred}, seed=config.seed)
    tables["local_loadings"] = _local_table(dataset, first)
    return tables


def _centred(view: FactorView) -> FloatArray:
    """Return loadings without the freedoms that the likelihood does not fix, (n_genes, n_factors)."""
    loadings = np.asarray(view.loadings, dtype=np.float64)
    if view.simplex:
        loadings = loadings - loadings.mean(axis=1, keepdims=True)
    return loadings - loadings.mean(axis=0) if view.softmax else loadings


def _loadings_table(dataset: Dataset, loadings: FloatArray) -> pd.DataFrame:
    import pandas as pd

    n_genes, n_factors = loadings.shape
    return pd.DataFrame(
        {
            "gene": np.repeat(dataset.adata.var_names.to_numpy(dtype=str), n_factors),
            "dimension": np.tile(np.arange(n_factors), n_genes),
            "loading": loadings.ravel(),
        }
    )


def _local_table(dataset: Dataset, view: FactorView) -> pd.DataFrame:
    import pandas as pd

    genes = dataset.adata.var_names.to_numpy(dtype=str)
    names = [population.name for population in dataset.populations]
    parts = []
    for name, loadings in zip(names, local_loadings_of(view, len(names)), strict=True):
        n_factors, n_genes = loadings.shape
        parts.append(
            pd.DataFrame(
                {
                    "population": pd.Categorical.from_codes(
                        np.full(loadings.size, names.index(name)), categories=names
                    ),
                    "dimension": np.repeat(np.arange(n_factors), n_genes),
                    "gene": np.tile(genes, n_factors),
                    "loading": loadings.ravel(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
