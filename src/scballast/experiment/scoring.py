"""Scores of every method, for every replicate and population."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from scballast.config.schema import Config
from scballast.data.dataset import Dataset
from scballast.data.replicates import Replicate
from scballast.experiment.training import MemberKey, Role, TrainedModels
from scballast.methods.baselines import BASELINES, CellView
from scballast.methods.cache import ScoreCache, array_digest
from scballast.methods.plan import PlannedMethod
from scballast.methods.rankers import RANKERS, FactorView, Ranker, contrast, local_loadings, spread
from scballast.models import FAMILIES
from scballast.progress import progress_bar
from scballast.seeds import Stream, generator_for, integer_for
from scballast.threads import one_thread

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]

# (replicate, population, gene); NaN where a method has no score.
Scores = dict[str, FloatArray]


def baseline_scores(
    config: Config,
    dataset: Dataset,
    replicates: Sequence[Replicate],
    methods: Sequence[PlannedMethod],
    cache: ScoreCache,
) -> Scores:
    """Score the baselines and model-free controls, from the cache where the same cells were scored before."""
    planned = [method for method in methods if method.source == "baseline"]
    genes = array_digest(np.asarray(dataset.adata.var_names, dtype=str))
    scores: Scores = {}
    total = len(planned) * len(replicates)
    with progress_bar("scoring baselines", total, unit="rankings") as advance, one_thread():
        for method in planned:
            rows = []
            for replicate in replicates:
                view = cell_view(config, dataset, replicate)
                origin: dict[str, Any] = {
                    "method": method.name,
                    "data": dataset.digest,
                    "genes": genes,
                    "populations": [population.name for population in dataset.populations],
                    "cells": array_digest(replicate.cells.astype(np.int64)),
                    "sample_key": dataset.sample_key,
                    "n_components": config.rank.n_components,
                }
                if not method.deterministic:
                    origin["seed"] = view.seed
                rows.append(cache.scores(origin, _call(BASELINES[method.name].score, view)))
                advance(1)
            scores[method.name] = np.stack(rows)
    return scores


def model_scores(
    config: Config,
    dataset: Dataset,
    replicates: Sequence[Replicate],
    methods: Sequence[PlannedMethod],
    models: TrainedModels,
) -> Scores:
    """Score the methods that rest on trained models."""
    planned = [method for method in methods if method.source != "baseline"]
    shape = (len(replicates), len(dataset.populations), dataset.adata.n_vars)
    scores: Scores = {method.name: np.full(shape, np.nan) for method in planned}
    with progress_bar("scoring models", len(planned) * len(replicates), unit="rankings") as advance:
        for row, replicate in enumerate(replicates):
            views = _Views(config, dataset, replicate, models)
            for method in planned:
                scores[method.name][row] = _score_one(method, views)
                advance(1)
    return scores


def cell_view(config: Config, dataset: Dataset, replicate: Replicate) -> CellView:
    """Return the cells of a replicate as the baselines see them."""
    samples: IntArray | None = None
    names: tuple[str, ...] = ()
    if dataset.sample_key is not None:
        column = dataset.adata.obs[dataset.sample_key].astype("category")
        samples = column.cat.codes.to_numpy()[replicate.cells]
        names = tuple(str(category) for category in column.cat.categories)
    return CellView(
        counts=sparse.csr_matrix(dataset.adata.X)[replicate.cells],
        total_counts=dataset.total_counts[replicate.cells],
        codes=dataset.population_codes[replicate.cells],
        n_populations=len(dataset.populations),
        populations=tuple(population.name for population in dataset.populations),
        samples=samples,
        seed=integer_for(config.seed, Stream.CONTROLS, replicate.number),
        sample_names=names,
        n_components=config.rank.n_components,
    )


def factor_view(
    config: Config,
    dataset: Dataset,
    replicate: Replicate,
    models: TrainedModels,
    role: Role = "global",
) -> FactorView | None:
    """Return a replicate's model as the rankers see it, or None if it has no result."""
    found = models.find(MemberKey(role, replicate.number))
    if found is None:
        return None
    ensemble, position = found
    family = FAMILIES["scvi" if role == "scvi" else config.model.name]
    return FactorView(
        scores=ensemble.posterior_means(position),
        loadings=ensemble.loadings(position) if family.linear else None,
        counts=sparse.csr_matrix(dataset.adata.X)[replicate.cells],
        codes=dataset.population_codes[replicate.cells],
        softmax=family.softmax,
        simplex=family.likelihood and config.model.latent_distribution == "ln",
        ridge=config.rank.local_ridge,
    )


def local_loadings_of(view: FactorView, n_populations: int) -> list[FloatArray]:
    """Return the population-specific loadings ``B_c`` of every population, each (n_factors, n_genes)."""
    return [local_loadings(view, population)[0] for population in range(n_populations)]


@dataclass
class _Views:
    """The models of one replicate, each read out once."""

    config: Config
    dataset: Dataset
    replicate: Replicate
    models: TrainedModels

    def __post_init__(self) -> None:
        self._views: dict[Role, FactorView | None] = {}

    def of(self, role: Role) -> FactorView | None:
        if role not in self._views:
            self._views[role] = factor_view(self.config, self.dataset, self.replicate, self.models, role)
        return self._views[role]


def _score_one(method: PlannedMethod, views: _Views) -> FloatArray:
    dataset, replicate = views.dataset, views.replicate
    missing = np.full((len(dataset.populations), dataset.adata.n_vars), np.nan)
    if method.source in ("own_de", "scvi_de"):
        return _de_scores(method, views, missing)
    if method.source == "per_population":
        return _per_population(views, missing)
    view = views.of("conditioned" if method.source == "conditioned" else "global")
    if view is None:
        return missing
    score: Ranker = spread if method.source == "conditioned" else contrast
    if method.source == "ranker":
        score = RANKERS[method.name].score
    if method.source == "shuffled":
        generator = generator_for(views.config.seed, Stream.CONTROLS, replicate.number, "shuffled")
        view = replace(view, codes=generator.permutation(view.codes))
    return np.stack([score(view, population) for population in range(len(dataset.populations))])


def _per_population(views: _Views, missing: FloatArray) -> FloatArray:
    config, dataset, replicate = views.config, views.dataset, views.replicate
    family = FAMILIES[config.model.name]
    counts = sparse.csr_matrix(dataset.adata.X)
    scores = missing.copy()
    for population in range(len(dataset.populations)):
        key = MemberKey("per_population", replicate.number, population)
        found = views.models.find(key)
        if found is None:
            continue
        ensemble, position = found
        cells = views.models.cells[key]
        view = FactorView(
            scores=ensemble.posterior_means(position),
            loadings=ensemble.loadings(position),
            counts=counts[cells],
            codes=np.zeros(len(cells), dtype=np.int64),
            softmax=family.softmax,
            simplex=family.likelihood and config.model.latent_distribution == "ln",
        )
        scores[population] = spread(view, 0)
    return scores


def _de_scores(method: PlannedMethod, views: _Views, missing: FloatArray) -> FloatArray:
    from scballast.methods.model_de import model_de_scores

    config, dataset, replicate = views.config, views.dataset, views.replicate
    role: Role = "scvi" if method.source == "scvi_de" and config.model.name != "scvi" else "global"
    found = views.models.find(MemberKey(role, replicate.number))
    if found is None:
        return missing
    ensemble, position = found
    with one_thread():
        return model_de_scores(
            ensemble.export(position),
            dataset.population_codes[replicate.cells],
            [population.name for population in dataset.populations],
            mode=config.rank.de_mode,  # type: ignore[arg-type]  # the configuration allows no other value
            seed=integer_for(config.seed, Stream.DIFFERENTIAL_EXPRESSION, replicate.number, method.name),
        )


def _call(score: Callable[[CellView], FloatArray], view: CellView) -> Callable[[], FloatArray]:
    return lambda: score(view)
