"""The latent space itself: loadings, agreement of factors, and what the dimensions go with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from scballast.agreement.association import Association, association
from scballast.agreement.purity import axis_purity
from scballast.arrays import FloatArray, IntArray
from scballast.data.dataset import Dataset
from scballast.errors import ConfigError
from scballast.experiment.embedding import embedding_table
from scballast.experiment.scoring import factor_view
from scballast.experiment.setup import Setup, sample_codes
from scballast.experiment.training import MemberKey, TrainedModels
from scballast.methods.rankers import FactorView, centred_loadings, local_loadings
from scballast.progress import progress_bar
from scballast.seeds import Stream, generator_for, integer_for
from scballast.threads import one_thread
from scballast.verdict.latent_tables import association_table, axis_purity_table, factors_table

_MOST_CATEGORIES = 200


def latent_tables(setup: Setup, models: TrainedModels) -> dict[str, pd.DataFrame]:
    """Return the tables of the global models' latent spaces.

    Returns
    -------
    dict
        ``loadings`` (gene, dimension, loading) and ``local_loadings`` (population, dimension, gene, loading)
        of the first replicate, ``factors`` (agreement between replicates), ``embedding`` (the cells of the first
        replicate in the plane), ``association`` of dimensions with groups, ``axis_purity``, and ``region_de``
        (the extremes of each axis against the rest); those that the model does not have are left out.
    """
    config, family = setup.config, setup.family
    views: dict[int, FactorView] = {}
    for replicate in setup.replicates:
        view = factor_view(setup, replicate, models)
        if view is not None:
            # The counts of the first alone are needed, and those of all are several times the data.
            views[replicate.number] = replace(view, counts=view.counts[:0]) if views else view
    if not views:
        return {}
    tables: dict[str, pd.DataFrame] = {}
    first = views[min(views)]
    if family.linear:
        centred = {number: centred_loadings(view) for number, view in views.items()}
        tables["loadings"] = _loadings_table(setup.dataset, centred[min(views)])
        with one_thread():
            tables["factors"] = factors_table({config.model.name: centred}, seed=config.seed)
    tables["local_loadings"] = _local_table(setup.dataset, first)
    tables["embedding"] = embedding_table(setup, min(views), first.scores)
    if config.association.n_permutations:
        tables |= _group_tables(setup, views)
    if config.association.region_de and family.likelihood:
        tables["region_de"] = _region_table(setup, views, models)
    return tables


def grouping(dataset: Dataset, key: str) -> tuple[IntArray, tuple[str, ...]]:
    """Return the code of each cell and the names of the categories of an obs column; -1 where it is missing.

    Raises
    ------
    ConfigError
        The column is not there, or it is no grouping.
    """
    if key == dataset.population_key:
        return dataset.label_codes, dataset.labels
    if key not in dataset.adata.obs:
        columns = ", ".join(map(repr, dataset.adata.obs.columns))
        message = f"association.keys: {key!r} is no column of obs. Columns: {columns}."
        raise ConfigError(message)
    column = dataset.adata.obs[key]
    is_measurement = pd.api.types.is_float_dtype(column.dtype)
    categories = column.astype("category").cat.remove_unused_categories()
    n_categories = len(categories.cat.categories)
    if is_measurement or not 1 < n_categories <= _MOST_CATEGORIES:
        what = "measurements" if is_measurement else f"{n_categories} values"
        message = (
            f"association.keys: {key!r} holds {what}; a grouping of 2 to {_MOST_CATEGORIES} categories is needed, "
            "such as a condition or a batch."
        )
        raise ConfigError(message)
    return categories.cat.codes.to_numpy(), tuple(str(name) for name in categories.cat.categories)


def _group_tables(setup: Setup, views: Mapping[int, FactorView]) -> dict[str, pd.DataFrame]:
    config, dataset = setup.config, setup.dataset
    conditions = () if dataset.condition_key is None else (dataset.condition_key,)
    keys = dict.fromkeys((dataset.population_key, *conditions, *config.association.keys))
    groupings = {key: grouping(dataset, key) for key in keys}
    donors = sample_codes(dataset)
    associations: dict[tuple[str, int], tuple[Sequence[str], Association]] = {}
    purities = {}
    with progress_bar("latent dimensions against groups", len(views), unit="replicates") as advance:
        for replicate in [replicate for replicate in setup.replicates if replicate.number in views]:
            view = views[replicate.number]
            for key, (codes, names) in groupings.items():
                group_association = association(
                    view.scores,
                    codes[replicate.cells],
                    len(names),
                    n_permutations=config.association.n_permutations,
                    generator=generator_for(config.seed, Stream.ASSOCIATION, replicate.number, key),
                    donors=None if donors is None else donors[replicate.cells],
                )
                associations[key, replicate.number] = (names, group_association)
            codes, names = groupings[dataset.population_key]
            purities[replicate.number] = axis_purity(
                view.scores,
                codes[replicate.cells],
                len(names),
                generator=generator_for(config.seed, Stream.ASSOCIATION, replicate.number, "axis purity"),
            )
            advance(1)
    return {
        "association": association_table(associations),
        "axis_purity": axis_purity_table(purities, dataset.labels),
    }


def _region_table(setup: Setup, views: Mapping[int, FactorView], models: TrainedModels) -> pd.DataFrame:
    """Differential expression of the axes' extremes in the first replicate that has a model."""
    from scballast.methods.region_de import region_differential_expression

    number = min(views)
    trained = models.find(MemberKey("global", number))
    assert trained is not None, "a view without its model"
    seed = integer_for(setup.config.seed, Stream.DIFFERENTIAL_EXPRESSION, number, "regions")
    with one_thread():
        return region_differential_expression(trained[0].export(trained[1]), views[number].scores, seed=seed)


def _loadings_table(dataset: Dataset, loadings: FloatArray) -> pd.DataFrame:
    n_genes, n_factors = loadings.shape
    return pd.DataFrame(
        {
            "gene": np.repeat(dataset.adata.var_names.to_numpy(dtype=str), n_factors),
            "dimension": np.tile(np.arange(n_factors), n_genes),
            "loading": loadings.ravel(),
        }
    )


def _local_table(dataset: Dataset, view: FactorView) -> pd.DataFrame:
    names = [population.name for population in dataset.populations]
    loadings = np.stack([local_loadings(view, code)[0] for code in range(len(names))])  # (population, factor, gene)
    n_populations, n_factors, n_genes = loadings.shape
    populations = np.repeat(np.arange(n_populations, dtype=np.int32), n_factors * n_genes)
    return pd.DataFrame(
        {
            "population": pd.Categorical.from_codes(populations, categories=names),
            "dimension": np.tile(np.repeat(np.arange(n_factors), n_genes), n_populations),
            "gene": np.tile(dataset.adata.var_names.to_numpy(dtype=object), n_populations * n_factors),
            "loading": loadings.ravel(),
        }
    )
